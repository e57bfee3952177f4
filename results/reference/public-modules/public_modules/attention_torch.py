"""PyTorch's own attention, as ``torch.nn`` has it."""

from torch import nn

from public_modules.truth import Case, Given, Out, Side, tokens

D, H = 32, 4
TWO = (Side("query", D, 7), Side("key", D, 9))
TARGET = (Side("tgt", D, 7), Side("memory", D, 9))
ONE = (Side("src", D, 9),)


def _attention(module: nn.Module, x: Given, valid: Given) -> dict[str, Out]:
    out, weights = module(x["query"], x["key"], x["key"], key_padding_mask=~valid["key"])
    return {"out": tokens(out, "query"), "weights": Out(weights, ((1, "query"), (2, "key")))}


def _decoder(module: nn.Module, x: Given, valid: Given) -> dict[str, Out]:
    masks = {"tgt_key_padding_mask": ~valid["tgt"], "memory_key_padding_mask": ~valid["memory"]}
    return {"out": tokens(module(x["tgt"], x["memory"], **masks), "tgt")}


def _decoder_slots_first(module: nn.Module, x: Given, valid: Given) -> dict[str, Out]:
    masks = {"tgt_key_padding_mask": ~valid["tgt"], "memory_key_padding_mask": ~valid["memory"]}
    out = module(x["tgt"].transpose(0, 1), x["memory"].transpose(0, 1), **masks)
    return {"out": tokens(out.transpose(0, 1), "tgt")}


def _transformer(module: nn.Module, x: Given, valid: Given) -> dict[str, Out]:
    out = module(
        x["src"],
        x["tgt"],
        src_key_padding_mask=~valid["src"],
        tgt_key_padding_mask=~valid["tgt"],
        memory_key_padding_mask=~valid["src"],
    )
    return {"out": tokens(out, "tgt")}


def _transformer_two_masks(module: nn.Module, x: Given, valid: Given) -> dict[str, Out]:
    """Without the third mask, which many callers forget: padding of the source reaches the target."""
    out = module(x["src"], x["tgt"], src_key_padding_mask=~valid["src"], tgt_key_padding_mask=~valid["tgt"])
    return {"out": tokens(out, "tgt")}


def _encoder(module: nn.Module, x: Given, valid: Given) -> dict[str, Out]:
    return {"out": tokens(module(x["src"], src_key_padding_mask=~valid["src"]), "src")}


def _transformer_module() -> nn.Module:
    return nn.Transformer(D, H, 1, 1, 64, batch_first=True)


CASES = (
    Case(
        name="torch.nn.MultiheadAttention",
        package="torch",
        make=lambda: nn.MultiheadAttention(D, H, batch_first=True),
        sides=(TWO[0]._replace(padded=False), TWO[1]),
        call=_attention,
    ),
    Case(
        name="torch.nn.MultiheadAttention, key and value of other widths",
        package="torch",
        make=lambda: nn.MultiheadAttention(D, H, batch_first=True, kdim=24, vdim=24, add_zero_attn=True),
        sides=(TWO[0]._replace(padded=False), Side("key", 24, 9)),
        call=lambda module, x, valid: {"out": _attention(module, x, valid)["out"]},
        why="add_zero_attn adds a slot to the weights; the output is right.",
    ),
    Case(
        name="torch.nn.TransformerDecoderLayer",
        package="torch",
        make=lambda: nn.TransformerDecoderLayer(D, H, 64, batch_first=True),
        sides=TARGET,
        call=_decoder,
    ),
    Case(
        name="torch.nn.TransformerDecoderLayer, slots first",
        package="torch",
        make=lambda: nn.TransformerDecoderLayer(D, H, 64),
        sides=TARGET,
        call=_decoder_slots_first,
    ),
    Case(
        name="torch.nn.TransformerDecoder",
        package="torch",
        make=lambda: nn.TransformerDecoder(nn.TransformerDecoderLayer(D, H, 64, batch_first=True), 2, nn.LayerNorm(D)),
        sides=TARGET,
        call=_decoder,
    ),
    Case(
        name="torch.nn.Transformer",
        package="torch",
        make=_transformer_module,
        sides=(Side("src", D, 9), Side("tgt", D, 7)),
        call=_transformer,
    ),
    Case(
        name="torch.nn.Transformer, called without memory_key_padding_mask",
        package="torch",
        make=_transformer_module,
        sides=(Side("src", D, 9), Side("tgt", D, 7)),
        call=_transformer_two_masks,
        right="wrong",
        breaks=("count", "trimmed", "gradient", "train"),
        why="The module is right; this way to call it leaves the decoder's cross-attention without a mask: "
        "in eval mode its encoder gives zeros for padding, which take their share of the softmax. "
        "The module as it is has the mask, so only the adapter is wrong.",
        line="the call: pass memory_key_padding_mask too",
        bare=False,
    ),
    Case(
        name="torch.nn.TransformerEncoderLayer",
        package="torch",
        make=lambda: nn.TransformerEncoderLayer(D, H, 64, batch_first=True),
        sides=ONE,
        call=_encoder,
    ),
    Case(
        name="torch.nn.TransformerEncoder",
        package="torch",
        make=lambda: nn.TransformerEncoder(
            nn.TransformerEncoderLayer(D, H, 64, batch_first=True, norm_first=True), 2, enable_nested_tensor=False
        ),
        sides=ONE,
        call=_encoder,
    ),
)
