"""atulkum/co-attention, dynamic coattention for question answering, as it behaves."""

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from variants.published.checkpoint import Checkpoint


class Encoder(nn.Module):
    """One LSTM for both texts, with a learned sentinel behind each; the embedding is frozen.

    Args:
        vocabulary: words known.
        embedding: width of a word's vector.
        hidden: of the LSTM.
    """

    def __init__(self, vocabulary: int, embedding: int, hidden: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, embedding)
        self.embedding.weight.requires_grad_(False)
        self.encoder = nn.LSTM(embedding, hidden, batch_first=True)
        self.sentinel = nn.Parameter(torch.rand(hidden))

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """``[B, longest + 1, hidden]``: states, the sentinel behind the last, zeros after it."""
        lengths = mask.sum(1)
        packed = pack_padded_sequence(self.embedding(ids), lengths.cpu(), batch_first=True, enforce_sorted=False)
        states, _ = pad_packed_sequence(self.encoder(packed)[0], batch_first=True)
        wide = torch.cat([states, states.new_zeros(len(ids), 1, states.shape[-1])], dim=1)
        behind = lengths[:, None, None].expand(-1, 1, states.shape[-1])
        return wide.scatter(1, behind, self.sentinel.expand(len(ids), 1, -1))


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

    def __init__(self, hidden: int, encoder: Encoder | None = None, fusion: FusionBiLSTM | None = None) -> None:
        super().__init__()
        self.q_proj = nn.Linear(hidden, hidden)
        self.encoder = encoder
        self.fusion_bilstm = fusion

    def coattention(self, question: Tensor, document: Tensor) -> Tensor:
        """``[B, N, 3 hidden]`` of a question ``[B, T, hidden]`` and a document ``[B, N, hidden]``."""
        question = torch.tanh(self.q_proj(question))
        affinity = question @ document.mT  # [B, T, N]
        over_question, over_document = torch.softmax(affinity, dim=1), torch.softmax(affinity, dim=2)
        context = over_question @ document  # [B, T, hidden]
        read = over_document.mT @ torch.cat([question, context], dim=2)  # [B, N, 2 hidden]
        return torch.cat([read, document], dim=2)


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
        assert self.encoder is not None
        assert self.fusion_bilstm is not None
        question, document = self.encoder(q_seq, q_mask), self.encoder(d_seq, d_mask)
        features = self.coattention(question, document)
        return {"Q": question, "D": document, "bilstm_in": features, "U": self.fusion_bilstm(features, d_mask)}


def coattn_from_checkpoint(checkpoint: Checkpoint) -> Coattention:
    """The coattention in the sizes of its weights."""
    return Coattention(checkpoint.size("q_proj.weight", 0, config="hidden_dim"))


def encoder_from_checkpoint(checkpoint: Checkpoint) -> Reader:
    """The reader in the sizes of its weights."""
    hidden = checkpoint.size("q_proj.weight", 0, config="hidden_dim")
    vocabulary, embedding = (checkpoint.size("encoder.embedding.weight", axis) for axis in (0, 1))
    return Reader(hidden, Encoder(vocabulary, embedding, hidden), FusionBiLSTM(hidden))
