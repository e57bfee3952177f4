"""Known ways to get a mask wrong, each planted in a correct mechanism by the smallest change; never benchmarked."""

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from suite.audit.subject import Call, Scene, Subject, as_batch, from_module
from variants import Attended, Batch, CoAttention
from variants.build import initialise
from variants.masking import blank, compact, masked_softmax, pool, restore
from variants.variant import check_batch


class Sound(CoAttention):
    """Parallel co-attention, equations 3 to 5 of Lu et al. 2016, with a method for each step that a mask can fail in.

    The planted defects are its subclasses, each with one step replaced.
    """

    source = "Lu et al. 2016, arXiv:1606.00061, section 3.3, equations 3 to 5"

    def __init__(self, *, image_width: int, question_width: int, without: Collection[str] = ()) -> None:
        super().__init__(image_width=image_width, question_width=question_width, without=without)
        hidden = min(image_width, question_width)
        self.affinity = nn.Linear(image_width, question_width, bias=False)
        self.image_hidden = nn.Linear(image_width, hidden)
        self.question_hidden = nn.Linear(question_width, hidden)
        self.image_score = nn.Linear(hidden, 1)
        self.question_score = nn.Linear(hidden, 1)

    def forward(self, batch: Batch) -> Attended:
        batch = self.arrive(batch)
        image_valid, question_valid = batch.image_valid, batch.question_valid
        image = self.enter(batch.image, image_valid)  # [B, N, V]
        question = self.encode(self.enter(batch.question, question_valid), question_valid)  # [B, T, Q]
        affinity = torch.tanh(self.correlate(question, image))  # [B, T, N]
        image_hidden = self.project(self.image_hidden, image, image_valid)  # [B, N, K]
        question_hidden = self.project(self.question_hidden, question, question_valid)  # [B, T, K]
        image_mixed = self.mix(image_hidden, affinity.mT, question_hidden)  # [B, N, K]
        question_mixed = self.mix(question_hidden, affinity, image_hidden)  # [B, T, K]
        image_scores = self.image_score(image_mixed).squeeze(-1)  # [B, N]
        question_scores = self.question_score(question_mixed).squeeze(-1)  # [B, T]
        image_weights = self.distribute(image_scores, image_valid, image)
        question_weights = self.distribute(question_scores, question_valid, question)
        return self.leave(
            Attended(
                self.collect(image_weights, image, image_valid).unsqueeze(1),
                self.collect(question_weights, question, question_valid).unsqueeze(1),
                self.show(image_weights, image_scores, image_valid).unsqueeze(1),
                self.show(question_weights, question_scores, question_valid).unsqueeze(1),
            )
        )

    def arrive(self, batch: Batch) -> Batch:
        return batch

    def enter(self, features: Tensor, valid: Tensor) -> Tensor:
        return blank(features, valid)

    def encode(self, question: Tensor, valid: Tensor) -> Tensor:
        return question

    def correlate(self, question: Tensor, image: Tensor) -> Tensor:
        return (question @ self.affinity.weight) @ image.mT

    def project(self, layer: nn.Linear, features: Tensor, valid: Tensor) -> Tensor:
        return blank(layer(features), valid)

    def mix(self, own: Tensor, affinity: Tensor, other: Tensor) -> Tensor:
        return torch.tanh(own + affinity @ other)

    def distribute(self, scores: Tensor, valid: Tensor, features: Tensor) -> Tensor:
        return masked_softmax(scores, valid)

    def collect(self, weights: Tensor, features: Tensor, valid: Tensor) -> Tensor:
        return pool(weights, features)

    def show(self, weights: Tensor, scores: Tensor, valid: Tensor) -> Tensor:
        return weights

    def leave(self, attended: Attended) -> Attended:
        return attended


def _off_empty(weights: Tensor, valid: Tensor) -> Tensor:
    """Zeros where a row has nothing valid, and the weights as they are elsewhere."""
    return weights.masked_fill(~valid.any(-1, keepdim=True), 0)


class NoMask(Sound):
    def arrive(self, batch: Batch) -> Batch:
        return batch._replace(
            image_valid=torch.ones_like(batch.image_valid), question_valid=torch.ones_like(batch.question_valid)
        )


class DeadMask(Sound):
    """The question's mask is taken and never used; the image's works."""

    def arrive(self, batch: Batch) -> Batch:
        return batch._replace(question_valid=torch.ones_like(batch.question_valid))


class SoftmaxOnly(Sound):
    """Nothing but the softmax is masked."""

    def enter(self, features: Tensor, valid: Tensor) -> Tensor:
        return features

    def project(self, layer: nn.Linear, features: Tensor, valid: Tensor) -> Tensor:
        hidden: Tensor = layer(features)
        return hidden


class SoftmaxTwice(Sound):
    def distribute(self, scores: Tensor, valid: Tensor, features: Tensor) -> Tensor:
        return masked_softmax(masked_softmax(scores, valid), valid)


class InvertedSign(Sound):
    """An additive mask of the wrong sign: padding gets all the weight."""

    def distribute(self, scores: Tensor, valid: Tensor, features: Tensor) -> Tensor:
        return _off_empty(torch.softmax(scores + 1e4 * (~valid).to(scores.dtype), dim=-1), valid)


class MaskAfterSoftmax(Sound):
    def distribute(self, scores: Tensor, valid: Tensor, features: Tensor) -> Tensor:
        return torch.softmax(scores, dim=-1).masked_fill(~valid, 0)


class MultipliedScores(Sound):
    """Scores of padding become 0, which is a score like any other."""

    def distribute(self, scores: Tensor, valid: Tensor, features: Tensor) -> Tensor:
        return _off_empty(torch.softmax(scores * valid, dim=-1), valid)


class FillTen(Sound):
    def distribute(self, scores: Tensor, valid: Tensor, features: Tensor) -> Tensor:
        return _off_empty(torch.softmax(scores.masked_fill(~valid, -10.0), dim=-1), valid)


class FillTenThousand(Sound):
    def distribute(self, scores: Tensor, valid: Tensor, features: Tensor) -> Tensor:
        return _off_empty(torch.softmax(scores.masked_fill(~valid, -1e4), dim=-1), valid)


class FillBillion(Sound):
    def distribute(self, scores: Tensor, valid: Tensor, features: Tensor) -> Tensor:
        return _off_empty(torch.softmax(scores.masked_fill(~valid, -1e9), dim=-1), valid)


class FillSmallest(Sound):
    """Finite, so an empty row becomes uniform over padding."""

    def distribute(self, scores: Tensor, valid: Tensor, features: Tensor) -> Tensor:
        return torch.softmax(scores.masked_fill(~valid, torch.finfo(scores.dtype).min), dim=-1)


class AddedSmallest(Sound):
    """The smallest number plus a negative score is -inf in fp16; a row of those is NaN."""

    def distribute(self, scores: Tensor, valid: Tensor, features: Tensor) -> Tensor:
        added = scores + (~valid).to(scores.dtype) * torch.finfo(scores.dtype).min
        weights = torch.softmax(added, dim=-1)
        return torch.where(valid.any(-1, keepdim=True), weights, 0 * weights)


class FillInfinity(Sound):
    def distribute(self, scores: Tensor, valid: Tensor, features: Tensor) -> Tensor:
        return torch.softmax(scores.masked_fill(~valid, -math.inf), dim=-1)


class AddedInfinity(Sound):
    """The row of NaN is hidden afterwards, and is in the gradient all the same."""

    def distribute(self, scores: Tensor, valid: Tensor, features: Tensor) -> Tensor:
        added = scores + torch.zeros_like(scores).masked_fill(~valid, -math.inf)
        return _off_empty(torch.softmax(added, dim=-1), valid)


class InferredFromZeros(Sound):
    def arrive(self, batch: Batch) -> Batch:
        return batch._replace(
            image_valid=batch.image_valid & (batch.image != 0).any(-1),
            question_valid=batch.question_valid & (batch.question != 0).any(-1),
        )


class Swapped(Sound):
    """Each side gets the other's validity, cut or filled to fit."""

    def arrive(self, batch: Batch) -> Batch:
        def fit(valid: Tensor, width: int) -> Tensor:
            return nn.functional.pad(valid, (0, max(0, width - valid.shape[1])), value=False)[:, :width]

        return batch._replace(
            image_valid=fit(batch.question_valid, batch.image.shape[1]),
            question_valid=fit(batch.image_valid, batch.question.shape[1]),
        )


class ToldApartByWidth(Sound):
    """Masks are assigned to the side that is as wide, the question first."""

    def arrive(self, batch: Batch) -> Batch:
        masks = (batch.image_valid, batch.question_valid)
        question_valid = next(mask for mask in masks if mask.shape[1] == batch.question.shape[1])
        return batch._replace(
            question_valid=question_valid,
            image_valid=next(mask for mask in reversed(masks) if mask.shape[1] == batch.image.shape[1]),
        )


class BlankedByProduct(Sound):
    def enter(self, features: Tensor, valid: Tensor) -> Tensor:
        return features * valid.unsqueeze(-1)


class Laundered(Sound):
    def enter(self, features: Tensor, valid: Tensor) -> Tensor:
        return blank(torch.nan_to_num(features), valid)


class Recurrent(Sound):
    """Words pass through a bidirectional LSTM, packed to their lengths."""

    word_order_matters = True

    def __init__(self, *, image_width: int, question_width: int, without: Collection[str] = ()) -> None:
        super().__init__(image_width=image_width, question_width=question_width, without=without)
        self.lstm = nn.LSTM(question_width, question_width // 2, batch_first=True, bidirectional=True)

    def encode(self, question: Tensor, valid: Tensor) -> Tensor:
        words = compact(question, valid)
        # a packed row cannot be empty; what one blank word gives is blanked again
        lengths = words.valid.sum(-1).clamp(min=1).cpu()
        packed = pack_padded_sequence(words.features, lengths, batch_first=True, enforce_sorted=False)
        states, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=valid.shape[1])
        return restore(blank(states, words.valid), words)


class NotPacked(Recurrent):
    def encode(self, question: Tensor, valid: Tensor) -> Tensor:
        words = compact(question, valid)
        return restore(blank(self.lstm(words.features)[0], words.valid), words)


class Convolved(Sound):
    """Words pass through a convolution over trigrams that sees zeros beyond a row's last word."""

    word_order_matters = True

    def __init__(self, *, image_width: int, question_width: int, without: Collection[str] = ()) -> None:
        super().__init__(image_width=image_width, question_width=question_width, without=without)
        self.first = nn.Conv1d(question_width, question_width, 3, padding=1)
        self.second = nn.Conv1d(question_width, question_width, 3, padding=1)

    def encode(self, question: Tensor, valid: Tensor) -> Tensor:
        words = compact(question, valid)
        once = self.between(torch.tanh(self.first(words.features.mT).mT), words.valid)
        twice = torch.tanh(self.second(once.mT).mT)
        return restore(blank(twice, words.valid), words)

    def between(self, features: Tensor, valid: Tensor) -> Tensor:
        return blank(features, valid)


class BiasOverPads(Convolved):
    """The first convolution's bias fills the padding, and the second reads it."""

    def between(self, features: Tensor, valid: Tensor) -> Tensor:
        return features


class Normalised(Sound):
    """Words are normalised by the statistics of the valid ones."""

    def __init__(self, *, image_width: int, question_width: int, without: Collection[str] = ()) -> None:
        super().__init__(image_width=image_width, question_width=question_width, without=without)
        self.normalisation = nn.BatchNorm1d(question_width)

    def encode(self, question: Tensor, valid: Tensor) -> Tensor:
        normal = torch.zeros_like(question)
        normal[valid] = self.normalisation(question[valid])
        return normal


class NormalisedOverPads(Normalised):
    def encode(self, question: Tensor, valid: Tensor) -> Tensor:
        return blank(self.normalisation(question.mT).mT, valid)


class MeanOverWidth(Sound):
    """The vector is divided by the padded width, as a mean of weighted slots is."""

    def collect(self, weights: Tensor, features: Tensor, valid: Tensor) -> Tensor:
        return (weights.unsqueeze(-1) * features).mean(1)


class Squeezed(Sound):
    """At B = 1 the batch axis goes as well."""

    def leave(self, attended: Attended) -> Attended:
        return attended._replace(image=attended.image.squeeze().unsqueeze(1))


class WidthFromLengths(Sound):
    """The mask is as wide as the longest row, not as the features."""

    def distribute(self, scores: Tensor, valid: Tensor, features: Tensor) -> Tensor:
        lengths = valid.sum(-1)
        mask = torch.arange(int(lengths.max()), device=valid.device) < lengths[:, None]
        return masked_softmax(scores, mask)


class WrongAxis(Sound):
    """The softmax runs over the examples of the batch."""

    def distribute(self, scores: Tensor, valid: Tensor, features: Tensor) -> Tensor:
        return masked_softmax(scores.mT, valid.mT).mT


class ViewForTranspose(Sound):
    """Same shape, other examples' numbers."""

    def project(self, layer: nn.Linear, features: Tensor, valid: Tensor) -> Tensor:
        hidden = layer(features)  # [B, L, K]
        mixed = hidden.transpose(0, 1).reshape(hidden.shape)  # should have been transposed back
        return blank(mixed, valid)


class WrittenInPlace(Sound):
    def arrive(self, batch: Batch) -> Batch:
        with torch.no_grad():
            batch.image.masked_fill_(~batch.image_valid.unsqueeze(-1), 0)
        return batch


class LastResult(Sound):
    """A cache whose key is the shape alone."""

    def __init__(self, *, image_width: int, question_width: int, without: Collection[str] = ()) -> None:
        super().__init__(image_width=image_width, question_width=question_width, without=without)
        self.results: dict[tuple[int, ...], Attended] = {}

    def leave(self, attended: Attended) -> Attended:
        if torch.is_grad_enabled():
            return attended
        key = (*attended.image_weights.shape, *attended.question_weights.shape)
        return self.results.setdefault(key, attended)


class ConstantGuide(Sound):
    """The other side is one vector for the whole row, added to the scores: it cancels in the softmax."""

    def mix(self, own: Tensor, affinity: Tensor, other: Tensor) -> Tensor:
        return torch.tanh(own)

    def distribute(self, scores: Tensor, valid: Tensor, features: Tensor) -> Tensor:
        return masked_softmax(scores + scores.detach().sum(-1, keepdim=True), valid)


class CastDown(Sound):
    """The softmax is taken in float32, whatever came in, as many libraries do on purpose."""

    def distribute(self, scores: Tensor, valid: Tensor, features: Tensor) -> Tensor:
        return masked_softmax(scores.float(), valid).to(scores.dtype)


class Detached(Sound):
    def distribute(self, scores: Tensor, valid: Tensor, features: Tensor) -> Tensor:
        return masked_softmax(scores.detach(), valid)


class FixedMaskBuffer(Sound):
    """Masks are kept in a buffer of 64 slots; what lies beyond counts as valid."""

    def arrive(self, batch: Batch) -> Batch:
        def fit(valid: Tensor) -> Tensor:
            beyond = torch.arange(valid.shape[1], device=valid.device) >= 64
            return valid | (beyond & valid.any(-1, keepdim=True))

        return batch._replace(image_valid=fit(batch.image_valid), question_valid=fit(batch.question_valid))


class SharedMaximum(Sound):
    """The softmax is stabilised by the largest score of the whole batch: a row's last bits depend on its mates."""

    def distribute(self, scores: Tensor, valid: Tensor, features: Tensor) -> Tensor:
        powers = torch.exp(scores - scores.masked_fill(~valid, -math.inf).max()).masked_fill(~valid, 0)
        return powers / powers.sum(-1, keepdim=True).clamp(min=torch.finfo(scores.dtype).tiny)


class LongestLength(Sound):
    """Scores are scaled by the longest length in the batch."""

    def distribute(self, scores: Tensor, valid: Tensor, features: Tensor) -> Tensor:
        return masked_softmax(scores / valid.sum(-1).max().clamp(min=1).sqrt(), valid)


class NotNormalised(Sound):
    """The weights that are shown are not those that were used."""

    def show(self, weights: Tensor, scores: Tensor, valid: Tensor) -> Tensor:
        return 2 * weights


class FirstSlotValid(Sound):
    """Takes the first slot for a special token that is always there."""

    def arrive(self, batch: Batch) -> Batch:
        def first(valid: Tensor) -> Tensor:
            forced = valid.clone()
            forced[:, 0] |= valid.any(-1)
            return forced

        return batch._replace(image_valid=first(batch.image_valid), question_valid=first(batch.question_valid))


class LengthsForMask(Sound):
    """A mask with holes is read as a count."""

    def arrive(self, batch: Batch) -> Batch:
        def counted(valid: Tensor) -> Tensor:
            return torch.arange(valid.shape[1], device=valid.device) < valid.sum(-1, keepdim=True)

        return batch._replace(image_valid=counted(batch.image_valid), question_valid=counted(batch.question_valid))


class _FirstGradient(torch.autograd.Function):
    """Blanks padding forwards, and hands every example the first one's gradient backwards."""

    @staticmethod
    def forward(ctx: object, features: Tensor, valid: Tensor) -> Tensor:
        return blank(features, valid)

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient[:1].expand_as(gradient), None


class HandWrittenBackward(Sound):
    """One example's gradient is used for all, padding included."""

    def enter(self, features: Tensor, valid: Tensor) -> Tensor:
        entered: Tensor = _FirstGradient.apply(features, valid)  # type: ignore[no-untyped-call]
        return entered


class _Encoder(nn.Module):
    """Takes a mask, as the one around it expects, and has no use for it."""

    def forward(self, words: Tensor, valid: Tensor) -> Tensor:
        return torch.tanh(words + words.mean(1, keepdim=True))


class DroppedInside(Sound):
    """The question's mask is handed on to a part that does not use it, and nobody else does."""

    def __init__(self, *, image_width: int, question_width: int, without: Collection[str] = ()) -> None:
        super().__init__(image_width=image_width, question_width=question_width, without=without)
        self.encoder = _Encoder()

    def arrive(self, batch: Batch) -> Batch:
        words = self.encoder(batch.question, batch.question_valid)
        return batch._replace(question=words, question_valid=torch.ones_like(batch.question_valid))


class HeadsInOtherOrder(Sound):
    """Scores of two heads are laid out example by example, and the mask head by head."""

    def distribute(self, scores: Tensor, valid: Tensor, features: Tensor) -> Tensor:
        heads = scores.repeat_interleave(2, dim=0)  # [B H, L]
        weights = masked_softmax(heads, valid.repeat(2, 1))
        return weights.view(len(scores), 2, -1).mean(1)


class TinyEpsilon(Sound):
    """What keeps an empty row from 0 / 0 is 0 itself in fp16."""

    def distribute(self, scores: Tensor, valid: Tensor, features: Tensor) -> Tensor:
        powers = torch.softmax(scores, dim=-1).masked_fill(~valid, 0)
        seen = masked_softmax(scores, valid)
        return seen * (powers.sum(-1, keepdim=True) / (powers.sum(-1, keepdim=True) + 1e-9))


class Shortened(Sound):
    """Words go through a layer and are brought to length one, with the epsilon under the root."""

    def __init__(self, *, image_width: int, question_width: int, without: Collection[str] = ()) -> None:
        super().__init__(image_width=image_width, question_width=question_width, without=without)
        self.turn = nn.Linear(question_width, question_width, bias=False)

    def encode(self, question: Tensor, valid: Tensor) -> Tensor:
        words: Tensor = self.turn(question)
        return words / (words.square().sum(-1, keepdim=True) + 1e-6).sqrt()


class RootOfNothing(Shortened):
    """The length of blanked padding is the root of zero, whose slope is infinite."""

    def encode(self, question: Tensor, valid: Tensor) -> Tensor:
        words: Tensor = self.turn(question)
        return words / (words.square().sum(-1, keepdim=True).sqrt() + 1e-6)


def _without_tanh(module: nn.Module) -> Call:
    """Another execution of `Sound`, such as a hand-written kernel, that leaves the affinity's tanh out."""

    def call(scene: Scene) -> dict[str, Tensor]:
        assert isinstance(module, Sound)
        batch = as_batch(scene)
        check_batch(batch, image_width=module.image_width, question_width=module.question_width)
        image, question = blank(batch.image, batch.image_valid), blank(batch.question, batch.question_valid)
        affinity = module.correlate(question, image)
        image_hidden = module.project(module.image_hidden, image, batch.image_valid)
        question_hidden = module.project(module.question_hidden, question, batch.question_valid)
        image_scores = module.image_score(module.mix(image_hidden, affinity.mT, question_hidden)).squeeze(-1)
        question_scores = module.question_score(module.mix(question_hidden, affinity, image_hidden)).squeeze(-1)
        image_weights = masked_softmax(image_scores, batch.image_valid)
        question_weights = masked_softmax(question_scores, batch.question_valid)
        return {
            "image": pool(image_weights, image).unsqueeze(1),
            "question": pool(question_weights, question).unsqueeze(1),
            "image_weights": image_weights.unsqueeze(1),
            "question_weights": question_weights.unsqueeze(1),
        }

    return call


class Cause(NamedTuple):
    """What a defect is, in a sentence, and what to change."""

    what: str
    remedy: str


@dataclass(frozen=True, kw_only=True)
class Defect:
    """A planted defect: the mechanism that has it, and the properties that have to catch it."""

    name: str
    mechanism: type[Sound]
    cause: Cause
    caught_by: tuple[str, ...]
    """At least these; the first is the one that exists because of it."""
    execution: Callable[[nn.Module], Call] | None = None
    """Another way of running the correct mechanism, where the defect is in that."""


def plant(name: str, *, image_width: int, question_width: int, seed: int = 0) -> CoAttention:
    """The mechanism with the planted defect of that name, its weights seeded.

    Raises:
        ValueError: there is no such defect; names those there are.
    """
    if name not in DEFECTS:
        raise ValueError(f"{name!r} is no planted defect; there are {', '.join(DEFECTS)}")
    return _seeded(DEFECTS[name].mechanism, image_width, question_width, seed)


def sound(kind: type[Sound] = Sound, *, image_width: int, question_width: int, seed: int = 0) -> CoAttention:
    """The correct mechanism that a defect is planted in."""
    return _seeded(kind, image_width, question_width, seed)


def subject_of(defect: Defect, *, width: int = 32, seed: int = 0) -> Subject:
    """A planted defect, ready for the audit."""
    module = plant(defect.name, image_width=width, question_width=width, seed=seed)
    subject = from_module(module, name=defect.name)
    if defect.execution is None:
        return subject
    return replace(subject, call=defect.execution(module), eager=False)


def _seeded(kind: type[Sound], image_width: int, question_width: int, seed: int) -> CoAttention:
    module = kind(image_width=image_width, question_width=question_width)
    initialise(module, seed)
    return module


def _defect(
    name: str,
    mechanism: type[Sound],
    caught_by: str,
    what: str,
    remedy: str,
    execution: Callable[[nn.Module], Call] | None = None,
) -> Defect:
    return Defect(
        name=name,
        mechanism=mechanism,
        cause=Cause(what, remedy),
        caught_by=tuple(caught_by.split()),
        execution=execution,
    )


DEFECTS: dict[str, Defect] = {
    defect.name: defect
    for defect in (
        _defect("no mask", NoMask, "P1 P3 P4", "nothing is masked", "pass validity to every step that mixes slots"),
        _defect(
            "mask argument dead",
            DeadMask,
            "P6 P1 P4",
            "the mask is taken and never used",
            "follow the argument to the softmax and to every sum over slots",
        ),
        _defect(
            "mask on the softmax only",
            SoftmaxOnly,
            "P1 P3 P8",
            "the affinity sums over padded slots, and only the softmax is masked",
            "zero the projected features, or the affinity's rows, on padding before the two sides are mixed",
        ),
        _defect(
            "softmax twice",
            SoftmaxTwice,
            "P4c",
            "a softmax is applied to weights that are a softmax already",
            "mask the scores, and apply one softmax",
        ),
        _defect(
            "sign-inverted additive mask",
            InvertedSign,
            "P4 P2",
            "padding gets the weight and valid slots get none: the mask has the opposite sign or polarity",
            "add a large negative number on padding, or invert the mask",
        ),
        _defect(
            "mask after the softmax",
            MaskAfterSoftmax,
            "P4 P2",
            "padding takes its share of the softmax and is zeroed afterwards, so that rows do not sum to 1",
            "mask the scores before the softmax",
        ),
        _defect(
            "scores multiplied by the mask",
            MultipliedScores,
            "P4 P2",
            "padding has the score 0, which is a score like any other",
            "fill the scores of padding with -inf, where the row has another entry",
        ),
        _defect(
            "fill of -10",
            FillTen,
            "P4 P2",
            "the fill is not far enough below the scores",
            "fill with -inf, where the row has another entry",
        ),
        _defect(
            "fill of -1e4",
            FillTenThousand,
            "P17",
            "the fill is finite, and scores can fall below it",
            "fill with -inf, where the row has another entry",
        ),
        _defect(
            "fill of -1e9",
            FillBillion,
            "P10",
            "the fill is larger than fp16 can hold",
            "fill with -inf, or compute the softmax in float32",
        ),
        _defect(
            "fill with finfo.min",
            FillSmallest,
            "P9",
            "the fill is finite, so an empty row becomes uniform over padding",
            "zero the weights of rows without a valid slot",
        ),
        _defect(
            "finfo.min added",
            AddedSmallest,
            "P10",
            "the smallest number plus a score overflows to -inf in fp16, and an empty row becomes NaN",
            "fill instead of adding, and compute the softmax in float32",
        ),
        _defect(
            "masked_fill(-inf)",
            FillInfinity,
            "P9",
            "a row of -inf alone has no softmax: NaN, forwards and backwards",
            "fill with -inf only where the row has another entry, and zero the weights of empty rows",
        ),
        _defect(
            "additive -inf",
            AddedInfinity,
            "P9b",
            "the NaN of an empty row is hidden after the softmax and still in its gradient",
            "fill with -inf only where the row has another entry, before the softmax",
        ),
        _defect(
            "mask inferred from zeros",
            InferredFromZeros,
            "P7",
            "a slot whose features are all zero is taken for padding",
            "take validity from counts, never from the features",
        ),
        _defect(
            "question and image masks swapped",
            Swapped,
            "P1 P4",
            "each side is masked with the other's validity",
            "exchange the two masks",
        ),
        _defect(
            "masks told apart by width",
            ToldApartByWidth,
            "P11",
            "with as many words as regions each side is masked with the other's validity",
            "tell the masks apart by name, not by shape",
        ),
        _defect(
            "pads zeroed by a product",
            BlankedByProduct,
            "P1n",
            "padding meets a product with zero, of the mask or of a weight, and 0 * NaN is NaN",
            "blank the features of padding with where or masked_fill before anything else",
        ),
        _defect(
            "NaN laundered into zeros",
            Laundered,
            "P1v",
            "nan_to_num hides what goes wrong in valid slots",
            "blank padding alone, and let a NaN in a valid slot show",
        ),
        _defect(
            "bidirectional LSTM not packed",
            NotPacked,
            "P2 P3",
            "the backward direction of the recurrence starts in the padding",
            "pack the rows to their lengths",
        ),
        _defect(
            "convolution with bias over pads",
            BiasOverPads,
            "P2 P3",
            "a convolution's bias fills padded slots, and the next one reads them",
            "blank padding after each convolution",
        ),
        _defect(
            "BatchNorm over pads",
            NormalisedOverPads,
            "P18",
            "normalisation takes its statistics over padding too",
            "normalise the valid slots alone",
        ),
        _defect(
            "mean over the padded length",
            MeanOverWidth,
            "P2 P3",
            "a mean divides by the padded width",
            "divide by the number of valid slots",
        ),
        _defect(
            "squeeze() without a dimension",
            Squeezed,
            "P13 P3",
            "squeeze() takes the batch axis with it where there is one example",
            "name the dimension: squeeze(1)",
        ),
        _defect(
            "mask width from max(lengths)",
            WidthFromLengths,
            "P13 P2",
            "the mask is as wide as the longest row, not as the features",
            "build the mask with the features' width",
        ),
        _defect(
            "softmax along the wrong axis",
            WrongAxis,
            "P4 P3o",
            "the softmax runs over another axis than the slots",
            "softmax over the axis of the slots",
        ),
        _defect(
            "view for a transpose",
            ViewForTranspose,
            "P3o",
            "examples are mixed by a view or reshape that should be a transpose",
            "transpose the axes back before reshaping",
        ),
        _defect(
            "input modified in place",
            WrittenInPlace,
            "P16",
            "the caller's tensors are written to",
            "use masked_fill, not masked_fill_",
        ),
        _defect(
            "result of the last call",
            LastResult,
            "P6 P19",
            "a result is kept and returned for other inputs",
            "keep nothing on the module between calls",
        ),
        _defect(
            "constant guide",
            ConstantGuide,
            "P19",
            "the other side is added as one constant per row, which cancels in the softmax: no co-attention at all",
            "mix the other side in before the nonlinearity",
        ),
        _defect("scores detached", Detached, "P8g", "the scores carry no gradient", "remove the detach"),
        _defect(
            "mask buffer of 64 slots",
            FixedMaskBuffer,
            "P2",
            "slots beyond a fixed width count as valid",
            "build the mask for the width at hand",
        ),
        _defect(
            "scores lowered by the batch's maximum",
            SharedMaximum,
            "P3o",
            "the softmax is stabilised by the maximum of the whole batch, so that bits depend on batch mates",
            "take the maximum of each row",
        ),
        _defect(
            "scores scaled by the longest length",
            LongestLength,
            "P3",
            "a number of the whole batch enters each example",
            "use the example's own length, or a constant",
        ),
        _defect(
            "weights not normalised",
            NotNormalised,
            "P4",
            "the weights that are returned are not those that pooled",
            "return the softmax itself",
        ),
        _defect(
            "first slot always valid",
            FirstSlotValid,
            "P5",
            "the first slot is taken for valid whatever the mask says",
            "use the mask as it is",
        ),
        _defect(
            "mask read as a length",
            LengthsForMask,
            "P5 P6",
            "a mask with holes or left padding is read as a count",
            "use the mask as it is",
        ),
        _defect(
            "hand-written backward",
            HandWrittenBackward,
            "P8 P8g",
            "a hand-written backward gives padding, or the wrong example, a gradient",
            "mask the gradient as the forward masks the features",
        ),
        _defect(
            "mask handed on and dropped",
            DroppedInside,
            "P6 P1",
            "the mask is handed on to a part that does not use it",
            "follow the argument into that part, to the softmax and to every sum over slots",
        ),
        _defect(
            "heads in another order than their mask",
            HeadsInOtherOrder,
            "P3o P4",
            "heads and examples share an axis, and the mask is repeated in the other order",
            "repeat the mask with repeat_interleave where scores are laid out example by example",
        ),
        _defect(
            "epsilon of 1e-9",
            TinyEpsilon,
            "P10",
            "the epsilon is smaller than fp16 can hold",
            "use the type's own smallest number, or compute in float32",
        ),
        _defect(
            "root of blanked padding",
            RootOfNothing,
            "P8",
            "the gradient of a square root at zero is infinite, and 0 * inf is NaN",
            "put the epsilon under the root",
        ),
        _defect(
            "another function when executed otherwise",
            Sound,
            "P15",
            "the compiled, captured or fused form computes another function than the eager one",
            "compare the two step by step on a padded batch",
            _without_tanh,
        ),
    )
}
"""Every planted defect by name."""

PLANTED_IN: tuple[type[Sound], ...] = (Sound, Recurrent, Convolved, Normalised, Shortened)
"""The correct mechanisms that they are planted in."""
SOUND: tuple[type[Sound], ...] = (*PLANTED_IN, CastDown)
"""Every correct mechanism here: none may be accused."""
