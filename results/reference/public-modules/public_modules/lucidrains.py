"""x-transformers, perceivers, flamingo, bidirectional cross-attention and their kin, much copied from."""

import torch
from torch import nn

from public_modules.truth import Case, Given, Out, Side, pooled, tokens

D = 32
PAIR = (Side("x", D, 7), Side("context", D, 9))
HALF = (PAIR[0]._replace(padded=False), PAIR[1])
ONE = (Side("x", D, 9),)


def _masked_pair(module: nn.Module, x: Given, valid: Given) -> dict[str, Out]:
    out = module(x["x"], context=x["context"], mask=valid["x"], context_mask=valid["context"])
    return {"out": tokens(out, "x")}


def _both_ways(module: nn.Module, x: Given, valid: Given) -> dict[str, Out]:
    out = module(x["x"], x["context"], mask=valid["x"], context_mask=valid["context"])
    return {"x": tokens(out[0], "x"), "context": tokens(out[1], "context")}


def _context_mask(module: nn.Module, x: Given, valid: Given) -> dict[str, Out]:
    return {"out": tokens(module(x["x"], x["context"], mask=valid["context"]), "x")}


def _prefix(module: nn.Module, x: Given, valid: Given) -> dict[str, Out]:
    return {"out": tokens(module(x["x"], x["context"], context_mask=valid["context"]), "x")}


def _alone(module: nn.Module, x: Given, valid: Given) -> dict[str, Out]:
    return {"out": tokens(module(x["x"], mask=valid["x"]), "x")}


def _by_lengths(module: nn.Module, x: Given, valid: Given) -> dict[str, Out]:
    return {"out": tokens(module(x["x"], lens=valid["x"].sum(1)), "x")}


def _perceiver(module: nn.Module, x: Given, valid: Given) -> dict[str, Out]:
    return {"out": pooled(module(x["data"], mask=valid["data"]))}


def _media(module: nn.Module, x: Given, valid: Given) -> dict[str, Out]:
    return {"out": tokens(module(x["x"], x["media"][:, None]), "x")}


def _crossing(module: nn.Module, x: Given, valid: Given) -> dict[str, Out]:
    return {"out": tokens(module(x["x"], x["context"]), "x")}


def _x_layers(name: str, **settings: object) -> nn.Module:
    import x_transformers

    made: nn.Module = getattr(x_transformers, name)(dim=D, depth=2, heads=4, attn_dim_head=8, **settings)
    return made


def _x_attention(name: str) -> nn.Module:
    from x_transformers import x_transformers as inner

    made: nn.Module = getattr(inner, name)(dim=D, heads=4, dim_head=8)
    return made


def _continuous() -> nn.Module:
    import x_transformers

    return x_transformers.ContinuousTransformerWrapper(
        dim_in=D, dim_out=D, max_seq_len=32, attn_layers=_x_layers("Encoder")
    )


def _perceiver_class(name: str, **settings: object) -> nn.Module:
    import perceiver_pytorch
    from perceiver_pytorch import perceiver_pytorch as inner

    made: nn.Module = getattr(perceiver_pytorch, name, None) or getattr(inner, name)
    return made(**settings)


def _gated() -> nn.Module:
    import flamingo_pytorch

    block: nn.Module = flamingo_pytorch.GatedCrossAttentionBlock(dim=D, dim_head=8, heads=4)
    for name in ("attn_gate", "ff_gate"):  # they start at zero, where the block is the identity
        nn.init.ones_(getattr(block, name))
    return block


def _resampler() -> nn.Module:
    import flamingo_pytorch

    made: nn.Module = flamingo_pytorch.PerceiverResampler(dim=D, depth=1, dim_head=8, heads=4, num_latents=5)
    return made


def _bidirectional(name: str, **settings: object) -> nn.Module:
    import bidirectional_cross_attention as package

    made: nn.Module = getattr(package, name)(dim=D, heads=4, dim_head=8, **settings)
    return made


def _nystrom() -> nn.Module:
    from nystrom_attention import NystromAttention

    made: nn.Module = NystromAttention(dim=D, dim_head=8, heads=4, num_landmarks=4, residual_conv_kernel=3)
    return made


def _causal_prefix() -> nn.Module:
    from perceiver_ar_pytorch.perceiver_ar_pytorch import CausalPrefixAttention

    made: nn.Module = CausalPrefixAttention(dim=D, dim_head=8, heads=4)
    return made


def _coca() -> nn.Module:
    from coca_pytorch.coca_pytorch import CrossAttention

    made: nn.Module = CrossAttention(dim=D, dim_head=8, heads=4)
    return made


NO_MASK = "It takes no mask of padding: its caller promises that every slot is real."
PERCEIVER = {"latent_dim": D, "num_latents": 5, "cross_dim_head": 8, "latent_dim_head": 8, "latent_heads": 4}

CASES = (
    Case(
        name="x_transformers.CrossAttender",
        package="x-transformers",
        rounds_in=torch.float32,
        make=lambda: _x_layers("CrossAttender"),
        sides=PAIR,
        call=_masked_pair,
    ),
    Case(
        name="x_transformers.Decoder, cross_attend",
        package="x-transformers",
        rounds_in=torch.float32,
        make=lambda: _x_layers("Decoder", cross_attend=True),
        sides=PAIR,
        call=_masked_pair,
    ),
    Case(
        name="x_transformers.Encoder",
        package="x-transformers",
        rounds_in=torch.float32,
        make=lambda: _x_layers("Encoder"),
        sides=ONE,
        call=_alone,
    ),
    Case(
        name="x_transformers.Encoder, rotary positions and attn_flash",
        package="x-transformers",
        make=lambda: _x_layers("Encoder", rotary_pos_emb=True, attn_flash=True),
        sides=ONE,
        call=_alone,
        rounds_in=torch.float32,
    ),
    Case(
        name="x_transformers.ContinuousTransformerWrapper",
        package="x-transformers",
        rounds_in=torch.float32,
        make=_continuous,
        sides=ONE,
        call=_alone,
    ),
    Case(
        name="x_transformers.ContinuousTransformerWrapper, by lengths",
        package="x-transformers",
        rounds_in=torch.float32,
        make=_continuous,
        sides=ONE,
        call=_by_lengths,
        bare=False,
    ),
    Case(
        name="perceiver_pytorch.Attention",
        package="perceiver-pytorch",
        make=lambda: _perceiver_class("Attention", query_dim=D, context_dim=24, heads=4, dim_head=8),
        sides=(HALF[0], Side("context", 24, 9)),
        call=_context_mask,
    ),
    Case(
        name="perceiver_pytorch.PerceiverBlock",
        package="perceiver-pytorch",
        make=lambda: _perceiver_class("PerceiverBlock", dim=D, context_dim=24, cross_dim_head=8, latent_dim_head=8),
        sides=(HALF[0], Side("context", 24, 9)),
        call=_context_mask,
    ),
    Case(
        name="perceiver_pytorch.Perceiver",
        package="perceiver-pytorch",
        make=lambda: _perceiver_class(
            "Perceiver",
            num_freq_bands=2,
            depth=2,
            max_freq=4.0,
            input_channels=24,
            input_axis=1,
            num_classes=6,
            fourier_encode_data=False,
            **PERCEIVER,
        ),
        sides=(Side("data", 24, 9),),
        call=_perceiver,
    ),
    Case(
        name="perceiver_pytorch.PerceiverIO",
        package="perceiver-pytorch",
        make=lambda: _perceiver_class("PerceiverIO", depth=2, dim=24, queries_dim=16, logits_dim=6, **PERCEIVER),
        sides=(Side("data", 24, 9),),
        call=_perceiver,
    ),
    Case(
        name="flamingo_pytorch.PerceiverResampler",
        package="flamingo-pytorch",
        make=_resampler,
        sides=ONE,
        call=lambda module, x, valid: {"out": pooled(module(x["x"]))},
        right="cannot be judged",
        why=NO_MASK,
    ),
    Case(
        name="flamingo_pytorch.GatedCrossAttentionBlock",
        package="flamingo-pytorch",
        make=_gated,
        sides=(HALF[0], Side("media", D, 9)),
        call=_media,
        right="cannot be judged",
        why="media_locations says where an image stands in the text, not which slots are real: " + NO_MASK,
    ),
    Case(
        name="BidirectionalCrossAttention",
        package="bidirectional-cross-attention",
        make=lambda: _bidirectional("BidirectionalCrossAttention"),
        sides=PAIR,
        call=_both_ways,
    ),
    Case(
        name="BidirectionalCrossAttentionTransformer",
        package="bidirectional-cross-attention",
        make=lambda: _bidirectional("BidirectionalCrossAttentionTransformer", depth=2, context_dim=24),
        sides=(PAIR[0], Side("context", 24, 9)),
        call=_both_ways,
    ),
    Case(
        name="NystromAttention",
        package="nystrom-attention",
        make=_nystrom,
        sides=ONE,
        call=_alone,
        right="wrong",
        breaks=("count", "trimmed"),
        why="What stands in the padding reaches nothing. How much of it there is moves the landmarks, which are means "
        "over equal shares of the padded length: what an example gets depends on its neighbours in the batch.",
        line="nystrom_attention.py, NystromAttention.forward: `l = ceil(n / m)`, the share of a landmark, counts "
        "padding. An approximation that its author may well mean; batches of equal lengths do not show it.",
    ),
    Case(
        name="perceiver_ar_pytorch.CausalPrefixAttention",
        package="perceiver-ar-pytorch",
        make=_causal_prefix,
        sides=HALF,
        call=_prefix,
    ),
    Case(
        name="coca_pytorch.CrossAttention",
        package="coca-pytorch",
        make=_coca,
        sides=HALF,
        call=_crossing,
        right="cannot be judged",
        why=NO_MASK,
    ),
)
