"""What a published network that gives rows back is read by: a score for each row, masked right."""

from torch import Tensor, nn

from variants.interface import Attended, Batch
from variants.masking import blank
from variants.scored import scored_pool


class RowScores(nn.Module):
    """Both sides' rows in a vector each. The score is ours, and no padded row enters, so leaks are the network's own.

    Args:
        image_width: of the image's rows.
        question_width: of the question's rows.
    """

    def __init__(self, image_width: int, question_width: int) -> None:
        super().__init__()
        self.image = nn.Linear(image_width, 1, bias=False)
        self.question = nn.Linear(question_width, 1, bias=False)

    def attended(self, image: Tensor, question: Tensor, batch: Batch) -> Attended:
        """One glimpse of rows ``[B, N, D]`` and ``[B, T, E]`` with the validity of ``batch``."""
        vector, weights = scored_pool(self.image, blank(image, batch.image_valid), batch.image_valid)
        other_vector, other_weights = scored_pool(
            self.question, blank(question, batch.question_valid), batch.question_valid
        )
        return Attended(
            vector.unsqueeze(1), other_vector.unsqueeze(1), weights.unsqueeze(1), other_weights.unsqueeze(1)
        )
