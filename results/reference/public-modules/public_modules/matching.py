"""Local feature matching in ``kornia``: two sets of key points."""

import torch
from torch import Tensor, nn

from public_modules.truth import Case, Given, Out, Side, tokens

D, H = 32, 4
FEATURES = (Side("feat0", D, 7), Side("feat1", D, 9))


def _angles(descriptors: Tensor) -> Tensor:
    """Cosines and sines of a rotary encoding, each slot its own: ``[2, B, 1, L, D / H]``."""
    phases = torch.arange(descriptors.shape[1], dtype=descriptors.dtype)[:, None] * torch.arange(1, D // H // 2 + 1)
    turned = phases.repeat_interleave(2, -1) / 10
    return torch.stack((turned.cos(), turned.sin()))[:, None, None].expand(-1, descriptors.shape[0], -1, -1, -1)


def _lightglue(module: nn.Module, x: Given, valid: Given) -> dict[str, Out]:
    first, second = x["desc0"], x["desc1"]
    masks = valid["desc0"][:, None, :, None], valid["desc1"][:, None, :, None]
    out = module(first, second, _angles(first), _angles(second), *masks)
    return {"desc0": tokens(out[0], "desc0"), "desc1": tokens(out[1], "desc1")}


def _lightglue_one_mask(module: nn.Module, x: Given, valid: Given) -> dict[str, Out]:
    first, second = x["desc0"], x["desc1"]
    out = module(first, second, _angles(first), _angles(second), mask1=valid["desc1"][:, None, :, None])
    return {"desc0": tokens(out[0], "desc0"), "desc1": tokens(out[1], "desc1")}


def _cross_block(module: nn.Module, x: Given, valid: Given) -> dict[str, Out]:
    pairs = valid["x0"][:, None, :, None] & valid["x1"][:, None, None, :]
    out = module(x["x0"], x["x1"], pairs)
    return {"x0": tokens(out[0], "x0"), "x1": tokens(out[1], "x1")}


def _loftr_layer(module: nn.Module, x: Given, valid: Given) -> dict[str, Out]:
    return {"out": tokens(module(x["x"], x["source"], valid["x"], valid["source"]), "x")}


def _loftr_layer_source_mask(module: nn.Module, x: Given, valid: Given) -> dict[str, Out]:
    return {"out": tokens(module(x["x"], x["source"], source_mask=valid["source"]), "x")}


def _loftr(module: nn.Module, x: Given, valid: Given) -> dict[str, Out]:
    out = module(x["feat0"], x["feat1"], valid["feat0"], valid["feat1"])
    return {"feat0": tokens(out[0], "feat0"), "feat1": tokens(out[1], "feat1")}


def _light(name: str) -> nn.Module:
    from kornia.feature import lightglue

    made: nn.Module = getattr(lightglue, name)(D, H)
    return made


def _loftr_module(attention: str) -> nn.Module:
    from kornia.feature.loftr.loftr_module.transformer import LocalFeatureTransformer

    names = ["self", "cross"] * 2
    made: nn.Module = LocalFeatureTransformer({"d_model": D, "nhead": H, "layer_names": names, "attention": attention})
    return made


def _loftr_one(attention: str) -> nn.Module:
    from kornia.feature.loftr.loftr_module.transformer import LoFTREncoderLayer

    made: nn.Module = LoFTREncoderLayer(D, H, attention)
    return made


GRADIENT = (
    "answers are right, and its gradients are NaN on any batch in which an example has padding: NaN of rows that are "
    "wholly -inf is taken out behind the product with the values, where the backward pass meets it again."
)
LIGHT_ROWS = (
    'feature/lightglue.py, CrossBlock.forward: `sim.masked_fill(~mask, -float("inf"))` leaves rows of padded slots '
    "wholly -inf, and `m0.nan_to_num()` behind the product with v comes too late for v's gradient. Blank the weights "
    "(`attn01.nan_to_num()`) before the product, or mask the keys alone."
)
ROWS = (
    "feature/loftr/loftr_module/linear_attention.py, FullAttention.forward: the masked_fill with -inf covers whole "
    "rows, those of padded queries, so their softmax is NaN; the next layer multiplies them by weights of 0, which is "
    "NaN again. Mask the keys alone, or fill the rows of padded queries after the softmax."
)

CASES = (
    Case(
        name="LightGlue TransformerLayer",
        package="kornia",
        make=lambda: _light("TransformerLayer"),
        sides=(Side("desc0", D, 7), Side("desc1", D, 9)),
        call=_lightglue,
        right="wrong",
        breaks=("gradient",),
        line=LIGHT_ROWS,
        why=f"Its {GRADIENT} "
        "Masks are [B, 1, N, 1]. In the form [B, N, 1], which the package's own pad_to_length makes, they fit one "
        "example; of several, they raise, or where there are as many examples as heads, hide slots of other examples.",
    ),
    Case(
        name="LightGlue TransformerLayer, given one mask of two",
        package="kornia",
        make=lambda: _light("TransformerLayer"),
        sides=(Side("desc0", D, 7, padded=False), Side("desc1", D, 9)),
        call=_lightglue_one_mask,
        right="wrong",
        breaks=("content", "count", "trimmed", "gradient", "train"),
        why="Each mask is optional on its own, and a single one is ignored without a word.",
        line="feature/lightglue.py, TransformerLayer.forward: `if mask0 is not None and mask1 is not None`; "
        "a missing mask could be made of ones, or one alone refused.",
        bare=False,
    ),
    Case(
        name="LightGlue CrossBlock",
        package="kornia",
        make=lambda: _light("CrossBlock"),
        sides=(Side("x0", D, 7), Side("x1", D, 9)),
        call=_cross_block,
        right="wrong",
        breaks=("gradient",),
        line=LIGHT_ROWS,
        why=f"Its {GRADIENT} One mask for both sides, [B, 1, M, N], True where a pair of real slots.",
    ),
    Case(
        name="LoFTREncoderLayer, linear attention",
        package="kornia",
        make=lambda: _loftr_one("linear"),
        sides=(Side("x", D, 7), Side("source", D, 9)),
        call=_loftr_layer,
        why="Linear attention with an epsilon of 1e-6 in its divisor.",
    ),
    Case(
        name="LoFTREncoderLayer, full attention",
        package="kornia",
        make=lambda: _loftr_one("full"),
        sides=(Side("x", D, 7), Side("source", D, 9)),
        call=_loftr_layer,
        right="wrong",
        breaks=("gradient",),
        line=ROWS,
        why="Rows of padded queries are NaN. Real ones are right; the gradients of the weights are NaN all the same.",
    ),
    Case(
        name="LoFTREncoderLayer, full attention, given one mask of two",
        package="kornia",
        make=lambda: _loftr_one("full"),
        sides=(Side("x", D, 7, padded=False), Side("source", D, 9)),
        call=_loftr_layer_source_mask,
        right="wrong",
        breaks=("content", "count", "trimmed", "gradient", "train"),
        why="Each mask is optional on its own, and with full attention a single one is ignored without a word.",
        line="feature/loftr/loftr_module/linear_attention.py, FullAttention.forward: "
        "`if kv_mask is not None and q_mask is not None`; linear attention beside it uses each alone.",
        bare=False,
    ),
    Case(
        name="LocalFeatureTransformer, linear attention",
        package="kornia",
        make=lambda: _loftr_module("linear"),
        sides=FEATURES,
        call=_loftr,
        why="The epsilon of 1e-6 in the divisor is the same with padding and without.",
    ),
    Case(
        name="LocalFeatureTransformer, full attention",
        package="kornia",
        make=lambda: _loftr_module("full"),
        sides=FEATURES,
        call=_loftr,
        right="wrong",
        breaks=("finite", "content", "count", "trimmed", "gradient", "train"),
        why="Every example of an ordinary padded batch is NaN from the second layer on.",
        line=ROWS,
    ),
)
