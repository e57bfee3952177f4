"""atulkum/co-attention, dynamic coattention for question answering, as it behaves."""

from collections.abc import Collection

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from variants.interface import Attended, Batch, CoAttention, one_width
from variants.masking import blank, masked_softmax, valid_from_lengths
from variants.origin import Origin
from variants.published.checkpoint import Adapted, Checkpoint
from variants.published.defects import known
from variants.published.rows import RowScores
from variants.registry import register


class Sentinel(nn.Module):
    """A learned row behind each side's last one.

    Args:
        hidden: its width.
    """

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.sentinel = nn.Parameter(torch.rand(hidden))

    def behind(self, states: Tensor, lengths: Tensor) -> Tensor:
        """``[B, L + 1, hidden]`` of ``[B, L, hidden]``, the sentinel at index ``lengths`` ``[B]``."""
        wide = torch.cat([states, states.new_zeros(len(states), 1, states.shape[-1])], dim=1)
        place = lengths[:, None, None].expand(-1, 1, states.shape[-1])
        return wide.scatter(1, place, self.sentinel.expand(len(states), 1, -1))


class Encoder(Sentinel):
    """One LSTM for both texts, with a learned sentinel behind each; the embedding is frozen.

    Args:
        vocabulary: words known.
        embedding: width of a word's vector.
        hidden: of the LSTM.
    """

    def __init__(self, vocabulary: int, embedding: int, hidden: int) -> None:
        super().__init__(hidden)
        self.embedding = nn.Embedding(vocabulary, embedding)
        self.embedding.weight.requires_grad_(False)
        self.encoder = nn.LSTM(embedding, hidden, batch_first=True)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """``[B, longest + 1, hidden]``: states, the sentinel behind the last, zeros after it."""
        lengths = mask.sum(1)
        packed = pack_padded_sequence(self.embedding(ids), lengths.cpu(), batch_first=True, enforce_sorted=False)
        states, _ = pad_packed_sequence(self.encoder(packed)[0], batch_first=True)
        return self.behind(states, lengths)


class FusionBiLSTM(nn.Module):
    """The bidirectional LSTM over what the document has read.

    Args:
        hidden: of each direction.
    """

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.fusion_bilstm = nn.LSTM(3 * hidden, hidden, batch_first=True, bidirectional=True)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        lengths = mask.sum(1).cpu()
        packed = pack_padded_sequence(features, lengths, batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(self.fusion_bilstm(packed)[0], batch_first=True)[0]


class CoattentionNet(nn.Module):
    """The coattention, and around it the encoders where there are any.

    The two softmaxes are each over the axis that the paper gives to the other, and nothing is masked, though the
    lengths are known.

    Args:
        hidden: width of both sides.
        encoder: of both texts; without one the sides come encoded.
        fusion: what reads the result.
    """

    def __init__(self, hidden: int, encoder: Sentinel | None = None, fusion: FusionBiLSTM | None = None) -> None:
        super().__init__()
        self.q_proj = nn.Linear(hidden, hidden)
        self.encoder = encoder
        self.fusion_bilstm = fusion

    def coattention(self, question: Tensor, document: Tensor) -> Tensor:
        """``[B, N, 3 hidden]`` of a question ``[B, T, hidden]`` and a document ``[B, N, hidden]``."""
        return self.both(question, document)[1]

    def both(
        self, question: Tensor, document: Tensor, valid: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """The question's rows ``[B, T, 2 hidden]`` and the document's ``[B, N, 3 hidden]``.

        Args:
            question: ``[B, T, hidden]``.
            document: ``[B, N, hidden]``.
            valid: ``[B, T]`` and ``[B, N]``, True on real rows, with zeros in the others; the published code has none.
        """
        question = torch.tanh(self.q_proj(question))
        affinity = question @ document.mT  # [B, T, N]
        if valid is None:
            over_question, over_document = torch.softmax(affinity, dim=1), torch.softmax(affinity, dim=2)
        else:  # still over those axes: the masks are mended, and not the mechanism
            over_question = masked_softmax(affinity.mT, valid[0].unsqueeze(1)).mT
            over_document = masked_softmax(affinity, valid[1].unsqueeze(1))
            question = question.masked_fill(~valid[0].unsqueeze(-1), 0)  # the bias fills its padding
            over_document = over_document.masked_fill(~valid[0].unsqueeze(-1), 0)
        context = over_question @ document  # [B, T, hidden]
        words = torch.cat([question, context], dim=2)  # [B, T, 2 hidden]
        return words, torch.cat([over_document.mT @ words, document], dim=2)


class Coattention(CoattentionNet):
    """The coattention alone."""

    def forward(self, Q: Tensor, D: Tensor) -> dict[str, Tensor]:  # the published names
        """``bilstm_in`` ``[B, N, 3 hidden]`` of ``Q`` ``[B, T, hidden]`` and ``D`` ``[B, N, hidden]``."""
        return {"bilstm_in": self.coattention(Q, D)}


class Reader(CoattentionNet):
    """From words to what the document has read of the question."""

    def forward(self, q_seq: Tensor, q_mask: Tensor, d_seq: Tensor, d_mask: Tensor) -> dict[str, Tensor]:
        """``Q``, ``D``, ``bilstm_in`` and ``U`` ``[B, N, 2 hidden]``.

        Args:
            q_seq: ids of the question's words ``[B, T]``.
            q_mask: ``[B, T]`` integers, 1 on real words; they serve to count.
            d_seq: ids of the document's words ``[B, N]``.
            d_mask: ``[B, N]``, likewise.
        """
        assert isinstance(self.encoder, Encoder)
        assert self.fusion_bilstm is not None
        question, document = self.encoder(q_seq, q_mask), self.encoder(d_seq, d_mask)
        features = self.coattention(question, document)
        return {"Q": question, "D": document, "bilstm_in": features, "U": self.fusion_bilstm(features, d_mask)}


@register("published_coatt")
class PublishedCoatt(CoAttention):
    """The port's coattention on a batch of encoded rows; a score of ours pools the rows that it gives back.

    As its encoder leaves them, a learned sentinel stands behind each side's last row and zeros behind that. Rows are
    counted, so that a mask with holes is read as a length.

    Options: ``sentinel=false`` for weights that have none; ``corrected`` has masks, with the same weights and the
    published axes.
    """

    source = "atulkum/co-attention, model.py, CoattentionNet; after Xiong et al. 2017, arXiv:1611.01604, section 2.2"
    origin = Origin(
        where="atulkum/co-attention",
        differs="each softmax over the axis that the paper gives to the other; lengths serve its encoder alone",
        ours="published_coatt[corrected=true]",
        nearest="dynamic",
    )
    known_defects = (
        *known(
            "zeros stand behind the sentinels of short rows, and are read",
            {
                "P2": (("pads added", "image"), ("pads added", "question")),
                "P3": ("alone",),
                "P6": (("hidden or removed", "image"), ("hidden or removed", "question")),
                "P8": ("gradients alone",),
                "P11": ("sides of one width",),
                "P13": (("no row full", "image"), ("no row full", "question")),
            },
        ),
        *known(
            "it takes lengths, so that rows have to stand on the left",
            {
                "P5": tuple(
                    (done, side)
                    for done in ("slots moved apart", "slots permuted", "pads on the left")
                    for side in ("image", "question")
                )
            },
        ),
    )

    def __init__(
        self,
        *,
        image_width: int,
        question_width: int,
        without: Collection[str] = (),
        sentinel: bool = True,
        corrected: bool = False,
    ) -> None:
        super().__init__(image_width=image_width, question_width=question_width, without=without)
        width = one_width("published_coatt", image_width=image_width, question_width=question_width)
        self.network = CoattentionNet(width, Sentinel(width) if sentinel else None)
        self.scores = RowScores(3 * width, 2 * width)
        self.corrected = corrected
        if corrected:
            self.known_defects = ()

    def forward(self, batch: Batch) -> Attended:
        (question, words), (document, regions) = (
            self._encoded(features, valid)
            for features, valid in ((batch.question, batch.question_valid), (batch.image, batch.image_valid))
        )
        asked, read = self.network.both(question, document, (words, regions) if self.corrected else None)
        slots = batch.question.shape[1], batch.image.shape[1]
        return self.scores.attended(read[:, : slots[1]], asked[:, : slots[0]], batch)

    def _encoded(self, features: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """The rows with the sentinel, and which of them are real."""
        if self.corrected:
            features = blank(features, valid)
            if self.network.encoder is None:
                return features, valid
            last = self.network.encoder.sentinel.to(features.dtype).expand(len(features), 1, -1)
            return torch.cat([features, last], dim=1), torch.cat([valid, valid.new_ones(len(valid), 1)], dim=1)
        lengths = valid.sum(-1)
        counted = valid_from_lengths(lengths, valid.shape[1])
        states = blank(features, counted)
        return states if self.network.encoder is None else self.network.encoder.behind(states, lengths), counted


def coattn_from_checkpoint(checkpoint: Checkpoint) -> Coattention:
    """The coattention in the sizes of its weights."""
    return Coattention(checkpoint.size("q_proj.weight", 0, config="hidden_dim"))


def encoder_from_checkpoint(checkpoint: Checkpoint) -> Reader:
    """The reader in the sizes of its weights."""
    hidden = checkpoint.size("q_proj.weight", 0, config="hidden_dim")
    vocabulary, embedding = (checkpoint.size("encoder.embedding.weight", axis) for axis in (0, 1))
    return Reader(hidden, Encoder(vocabulary, embedding, hidden), FusionBiLSTM(hidden))


def adapted(checkpoint: Checkpoint) -> Adapted:
    """What `PublishedCoatt` has to be built with for the coattention's weights, or for the reader's."""
    width = checkpoint.size("q_proj.weight", 0)
    return Adapted(
        options={"sentinel": "encoder.sentinel" in checkpoint.state_dict},
        image_width=width,
        question_width=width,
        left_out=("encoder.embedding.", "encoder.encoder.", "fusion_bilstm."),
    )
