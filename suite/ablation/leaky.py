"""Hierarchical co-attention with the masking of a published port: what its leaks cost in accuracy."""

import torch

from variants import Attended, Batch
from variants.hierarchical import Hierarchical
from variants.masking import masked_softmax, pool
from variants.parallel import Parallel


class LeakyParallel(Parallel):
    """`Parallel` with the mask handling of the CSDN article 117292683.

    Images are not masked at all; padded words take part in the affinity, in what regions read from the words, and in
    a first softmax, and only a second softmax of its result leaves them out.
    """

    def attend(self, batch: Batch) -> Attended:
        image, question = batch.image, batch.question
        affinity = torch.tanh((question @ self.affinity.weight) @ image.mT)  # [B, T, N]
        image_hidden, question_hidden = self.image_hidden(image), self.question_hidden(question)
        image_mixed = torch.tanh(image_hidden + affinity.mT @ question_hidden)  # [B, N, K]
        question_mixed = torch.tanh(question_hidden + affinity @ image_hidden)  # [B, T, K]
        image_weights = torch.softmax(self.image_score(image_mixed).squeeze(-1), dim=-1)  # [B, N]
        first = torch.softmax(self.question_score(question_mixed).squeeze(-1), dim=-1)
        question_weights = masked_softmax(first, batch.question_valid)  # [B, T]
        return Attended(
            pool(image_weights, image).unsqueeze(1),
            pool(question_weights, question).unsqueeze(1),
            image_weights.unsqueeze(1),
            question_weights.unsqueeze(1),
        )


class LeakyHierarchical(Hierarchical):
    """Three levels of `LeakyParallel` over a text encoder that reads padding as words.

    It has the parameters of `Hierarchical`, by name and by initial value, so that the two differ in masking alone.
    """

    def __init__(self, *, image_width: int, question_width: int) -> None:
        super().__init__(image_width=image_width, question_width=question_width)
        for name in ("word_level", "phrase_level", "question_level"):
            setattr(self, name, LeakyParallel(image_width=image_width, question_width=question_width))

    def forward(self, batch: Batch) -> Attended:
        words = batch.question
        phrases = self.phrases(words)
        levels = [
            level.attend(batch._replace(question=features))
            for level, features in zip(self.attentions(), (words, phrases, self.recurrence(phrases)), strict=True)
        ]
        return Attended(*(torch.cat(glimpses, dim=1) for glimpses in zip(*levels, strict=True)))
