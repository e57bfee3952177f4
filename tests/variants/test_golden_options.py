"""Files of the golden format replay whatever options, shapes and masks their module was built with."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.variants.test_golden import check
from variants.published import ban, blip2, drugban, gdino, lightglue, lxmert, mcat, perceiver, vilbert
from variants.published.allennlp import BidirectionalAttentionFlow

Inputs = dict[str, Tensor]
Config = dict[str, object]


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def added(valid: Tensor) -> Tensor:
    return (~valid).float()[:, None, None] * -10000


FULL_AND_EMPTY = torch.tensor([[True, True, True], [False, False, False]])
ONE_OF_FOUR = torch.tensor([[True, False, False, False], [False, True, True, False]])  # holes, and padding in front


def _bcnet(*, act: str, place: int, maps: int | None, k: int, normed: bool = False) -> ban.BCNet:
    nets = (ban.FCNet(width, 2 * k, act, place) for width in (5, 4))
    return ban.BCNet(*nets, rank=2 * k, k=k, maps=maps, normed=normed)


def _tied() -> perceiver.PerceiverIO:
    def own() -> tuple[perceiver.PreNorm, perceiver.PreNorm]:
        attention = perceiver.PreNorm(6, perceiver.Attention(6, 6, 1, 3))
        return attention, perceiver.PreNorm(6, perceiver.FeedForward(6, 24))

    cross = perceiver.PreNorm(6, perceiver.Attention(6, 4, 3, 2), 4)
    layer = own()
    return perceiver.PerceiverIO(torch.zeros(1, 6), (cross, own()[1]), [layer, layer, layer], None, None, None)


CASES: dict[str, Callable[[], tuple[str, nn.Module, Config, Inputs]]] = {
    "maps without an activation and without a dropout": lambda: (
        "ban/bcnet_forward",
        _bcnet(act="", place=0, maps=1, k=1),
        {"act": "", "k": 1},
        {"v": noise(1, 1, 5), "q": noise(1, 1, 4)},
    ),
    "pooling with tanh": lambda: (
        "ban/bcnet_weights",
        _bcnet(act="Tanh", place=1, maps=None, k=4),
        {"act": "Tanh", "k": 4},
        {"v": noise(2, 3, 5), "q": noise(2, 2, 4), "w": noise(2, 3, 2)},
    ),
    "scores and weights with a finite fill": lambda: (
        "ban/biattention",
        ban.BiAttention(_bcnet(act="ReLU", place=1, maps=5, k=3, normed=True), v_mask=True, mask_with=-99.0),
        {"v_mask": True, "mask_with": -99, "mode": "forward_all", "logit": False},
        {"v": noise(2, 3, 5) * FULL_AND_EMPTY.flip(0).unsqueeze(-1), "q": noise(2, 2, 4)},
    ),
    "one map without a softmax": lambda: (
        "drugban/banlayer",
        drugban.BANLayer(
            _bcnet(act="ReLU", place=0, maps=1, k=2, normed=True),
            2,
            softmax=False,
            momentum=0.3,
            eps=1e-3,
            by_batch=True,
        ),
        {"k": 2, "softmax": False, "bn": "train", "bn_momentum": 0.3, "bn_eps": 1e-3},
        {"v": noise(3, 1, 5), "q": noise(3, 2, 4, seed=1)},
    ),
    "one head, ReLU, and a row of padding alone": lambda: (
        "lxmert/xlayer",
        lxmert.LXRTXLayer(hidden_size=6, heads=1, intermediate_size=5, activation="relu"),
        {"num_attention_heads": 1, "hidden_act": "relu", "intermediate_size": 5},
        {"lang": noise(2, 3, 6), "visn": noise(2, 1, 6), "lang_mask": added(FULL_AND_EMPTY)},
    ),
    "an activation for each side": lambda: (
        "vilbert/connection",
        vilbert.BertConnectionLayer(
            v_width=3,
            t_width=5,
            hidden=4,
            heads=4,
            v_intermediate=1,
            t_intermediate=2,
            v_activation="relu",
            t_activation="swish",
        ),
        {"bi_num_attention_heads": 4, "v_hidden_act": "relu", "hidden_act": "swish"},
        {
            "v": noise(2, 4, 3),
            "v_mask": added(ONE_OF_FOUR),
            "t": noise(2, 3, 5),
            "t_mask": added(torch.ones(2, 3, dtype=torch.bool)),
        },
    ),
    "a mask on the image alone": lambda: (
        "gdino/bimha",
        gdino.BiMultiHeadAttention(3, 2, 5, 5),
        {"num_heads": 5},
        {"v": noise(2, 4, 3), "l": noise(2, 3, 2), "mask_v": ~ONE_OF_FOUR},
    ),
    "projections without biases": lambda: (
        "lightglue/crossblock",
        lightglue.CrossBlock(6, 3, bias=False),
        {"num_heads": 3, "bias": False},
        {"x0": noise(1, 1, 6), "x1": noise(1, 2, 6)},
    ),
    "scores linear in other terms": lambda: (
        "allennlp/bidaf",
        BidirectionalAttentionFlow(4, "x,x-y,y*x"),
        {"combination": "x,x-y,y*x", "encoding_dim": 4},
        {
            "question": noise(2, 3, 4),
            "passage": noise(2, 4, 4),
            "question_mask": FULL_AND_EMPTY,
            "passage_mask": ONE_OF_FOUR,
        },
    ),
    "weights of two heads beside the first slots": lambda: (
        "mcat/coattn",
        mcat.CoAttn(4, 2, need_raw=True),
        {"num_heads": 2, "need_raw": True},
        {"query": noise(1, 2, 4), "key": noise(4, 2, 4), "key_padding_mask": ~ONE_OF_FOUR},
    ),
    "rows of text with an activation of their own": lambda: (
        "blip2/qformer",
        blip2.QFormer([blip2.QFormerLayer(4, 4, 3, 5, text=True, activation="relu")], 4, 1),
        {"heads": 4, "hidden_act": "relu", "query_length": 1},
        {
            "query_embeds": noise(2, 3, 4),
            "encoder_hidden_states": noise(2, 1, 5),
            "attention_mask": torch.tril(torch.ones(3, 3, dtype=torch.long)).expand(2, 3, 3),
        },
    ),
    "one latent and one medium": lambda: (
        "flamingo/resampler",
        perceiver.PerceiverResampler(width=4, head_width=3, heads=1, latents=1, media=1, hidden=2, layers=1),
        {"dim_head": 3},
        {"x": noise(2, 1, 4)},
    ),
    "layers that share their weights": lambda: (
        "perceiver/io",
        _tied(),
        {"depth": 3, "cross_heads": 3, "latent_heads": 1, "weight_tie_layers": True},
        {"data": noise(2, 4, 4), "mask": ONE_OF_FOUR},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_file_replays_whatever_its_module_was_built_with(tmp_path: Path, case: str) -> None:
    source, module, config, inputs = CASES[case]()
    with torch.no_grad():
        for number, (name, parameter) in enumerate(module.named_parameters()):
            gain = name.rpartition(".")[2] in ("weight_g", "h_mat_g", "bn.weight")
            parameter.copy_(torch.full_like(parameter, 1.5) if gain else 0.4 * noise(*parameter.shape, seed=number + 2))
    arrays = {f"param.{name}": value.detach().numpy().copy() for name, value in module.named_parameters()}
    arrays |= {f"param.{name}": value.numpy().copy() for name, value in module.named_buffers() if value.dim()}
    arrays |= {f"in.{name}": value.numpy() for name, value in inputs.items()}
    module.double()
    given = {
        name: value.double().requires_grad_("mask" not in name) if value.is_floating_point() else value
        for name, value in inputs.items()
    }
    outputs = {name: value.clone() for name, value in module(**given).items()}
    total = torch.zeros((), dtype=torch.float64)
    for number, (name, value) in enumerate(outputs.items()):
        cotangent = noise(*value.shape, seed=number).double()
        if not value.requires_grad:
            cotangent = torch.zeros_like(cotangent)
        cotangent[~value.isfinite()] = 0
        total = total + torch.where(value.isfinite(), value, 0.0).mul(cotangent).sum()
        arrays |= {f"cot.{name}": cotangent.float().numpy(), f"out.{name}": value.detach().numpy()}
    total.backward()
    recorded = [("gin", name, value) for name, value in given.items()]
    recorded += [("gparam", name, value) for name, value in module.named_parameters()]
    for kind, name, value in recorded:
        if value.requires_grad:
            gradient = value.grad if value.grad is not None else torch.zeros_like(value)
            arrays[f"{kind}.{name}"] = gradient.numpy()
    peer, _, component = source.partition("/")
    meta = {"peer": peer, "component": component, "config": config, "structurally_zero_grads": []}
    meta["f64_vs_f32"] = {key: {"max_abs": 1e-4} for key in arrays}  # other sums in float32; what is read is the point
    path = tmp_path / "written.npz"
    np.savez(path, **arrays, meta=np.array(json.dumps(meta)))
    holds, line = check(path)
    assert holds, line
