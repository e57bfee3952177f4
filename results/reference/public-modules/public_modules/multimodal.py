"""``torchmultimodal``: encoders that pair an image with a text."""

from torch import nn

from public_modules.truth import Case, Given, Out, Side, pooled, tokens

D, H = 32, 4
PAIR = (Side("hidden_states", D, 7), Side("encoder_hidden_states", D, 9))


def _attention(module: nn.Module, x: Given, valid: Given) -> dict[str, Out]:
    mask = valid["kv"][:, None, None, :].expand(-1, H, x["q"].shape[1], -1)
    return {"out": tokens(module(x["q"], x["kv"], attention_mask=mask), "q")}


def _cross_layer(module: nn.Module, x: Given, valid: Given) -> dict[str, Out]:
    text, image = x["hidden_states"], x["encoder_hidden_states"]
    out = module(
        text,
        image,
        attention_mask=valid["hidden_states"][:, None, None, :],
        cross_attention_mask=valid["encoder_hidden_states"][:, None, None, :],
    )
    return {"out": tokens(out, "hidden_states")}


def _albef(module: nn.Module, x: Given, valid: Given) -> dict[str, Out]:
    image = "encoder_hidden_states"
    out = module(x["hidden_states"], valid["hidden_states"], x[image], valid[image])
    return {"out": tokens(out, "hidden_states")}


def _cached(module: nn.Module, x: Given, valid: Given) -> dict[str, Out]:
    key = x["key"]
    return {"out": tokens(module(x["query"], key, key, attn_mask=valid["key"][:, None, None, :]), "query")}


def _qformer(module: nn.Module, x: Given, valid: Given) -> dict[str, Out]:
    """Its attention_mask hides text behind the queries; the image has no mask."""
    return {"out": tokens(module(x["hidden_states"], x["encoder_hidden_states"], query_length=5)[0], "hidden_states")}


def _mdetr(module: nn.Module, x: Given, valid: Given) -> dict[str, Out]:
    out = module(x["src"].transpose(0, 1), src_key_padding_mask=~valid["src"])
    return {"out": tokens(out.transpose(0, 1), "src")}


def _mdetr_decoder(module: nn.Module, x: Given, valid: Given) -> dict[str, Out]:
    out = module(x["tgt"].transpose(0, 1), x["memory"].transpose(0, 1), memory_key_padding_mask=~valid["memory"])
    return {"out": tokens(out.transpose(0, 1), "tgt")}


def _pooler(module: nn.Module, x: Given, valid: Given) -> dict[str, Out]:
    return {"out": pooled(module(x["x"]))}


def _made(path: str, name: str, **settings: object) -> nn.Module:
    import importlib

    made: nn.Module = getattr(importlib.import_module(f"torchmultimodal.{path}"), name)(**settings)
    return made


PACKAGE = "torchmultimodal-nightly"
CASES = (
    Case(
        name="torchmultimodal MultiHeadAttention",
        package=PACKAGE,
        make=lambda: _made("modules.layers.attention", "MultiHeadAttention", dim_q=D, dim_kv=D, n_head=H),
        sides=(Side("q", D, 7, padded=False), Side("kv", D, 9)),
        call=_attention,
        bare=False,
    ),
    Case(
        name="torchmultimodal MultiHeadAttentionWithCache",
        package=PACKAGE,
        make=lambda: _made(
            "modules.layers.multi_head_attention", "MultiHeadAttentionWithCache", dim_q=D, dim_kv=24, num_heads=H
        ),
        sides=(Side("query", D, 7, padded=False), Side("key", 24, 9)),
        call=_cached,
    ),
    Case(
        name="ALBEF TransformerCrossAttentionLayer",
        package=PACKAGE,
        make=lambda: _made(
            "models.albef.multimodal_encoder",
            "TransformerCrossAttentionLayer",
            d_model=D,
            n_head=H,
            dim_feedforward=64,
        ),
        sides=PAIR,
        call=_cross_layer,
    ),
    Case(
        name="ALBEFMultimodalEncoder",
        package=PACKAGE,
        make=lambda: _made(
            "models.albef.multimodal_encoder",
            "ALBEFMultimodalEncoder",
            hidden_size=D,
            num_hidden_layers=2,
            num_attention_heads=H,
            intermediate_size=64,
        ),
        sides=PAIR,
        call=_albef,
    ),
    Case(
        name="BLIP-2 QformerLayer",
        package=PACKAGE,
        make=lambda: _made(
            "models.blip2.qformer_layers",
            "QformerLayer",
            dim_q=D,
            dim_feedforward=64,
            num_heads=H,
            has_cross_attention=True,
            dim_kv=D,
        ),
        sides=(Side("hidden_states", D, 5, padded=False), PAIR[1]),
        call=_qformer,
        right="cannot be judged",
        why="The image side has no mask: every patch is promised to be real.",
        bare=False,
    ),
    Case(
        name="MDETR TransformerEncoderLayer, slots first",
        package=PACKAGE,
        make=lambda: _made(
            "models.mdetr.transformer", "TransformerEncoderLayer", d_model=D, num_heads=H, dim_feedforward=64
        ),
        sides=(Side("src", D, 9),),
        call=_mdetr,
    ),
    Case(
        name="MDETR TransformerDecoderLayer, slots first",
        package=PACKAGE,
        make=lambda: _made(
            "models.mdetr.transformer", "TransformerDecoderLayer", d_model=D, num_heads=H, dim_feedforward=64
        ),
        sides=(Side("tgt", D, 7, padded=False), Side("memory", D, 9)),
        call=_mdetr_decoder,
    ),
    Case(
        name="torchmultimodal AttentionPooler",
        package=PACKAGE,
        make=lambda: _made(
            "modules.layers.attention_pooler",
            "AttentionPooler",
            input_embed_dim=D,
            output_embed_dim=D,
            n_head=H,
            n_queries=5,
        ),
        sides=(Side("x", D, 9),),
        call=_pooler,
        right="cannot be judged",
        why="It takes no mask: its caller promises that every slot is real.",
    ),
)
