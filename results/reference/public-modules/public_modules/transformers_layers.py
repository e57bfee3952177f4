"""Layers of ``transformers`` that see one set, as the encoders beneath a pair do."""

from typing import Any

import torch
from torch import Tensor, nn

from public_modules.transformers_pairs import BERT, D, H, _config, _part
from public_modules.truth import Case, Given, Out, Side, additive, tokens

ONE = (Side("hidden_states", D, 9),)


def _layer(module: nn.Module, x: Given, valid: Given) -> dict[str, Out]:
    states = x["hidden_states"]
    out = module(states, attention_mask=additive(valid["hidden_states"], states.dtype))
    return {"out": tokens(out if isinstance(out, Tensor) else out[0], "hidden_states")}


def _case(name: str, folder: str, config: str, *, rounds_in: torch.dtype = torch.float64, **settings: Any) -> Case:
    return Case(
        name=name,
        package="transformers",
        make=lambda: _part(f"{folder}.modeling_{folder}", name)(
            _config(f"{folder}.configuration_{folder}", config, **settings)
        ),
        sides=ONE,
        call=_layer,
        rounds_in=rounds_in,
    )


CLIP = {"hidden_size": D, "num_attention_heads": H, "intermediate_size": 64}
CASES = (
    _case("LxmertLayer", "lxmert", "LxmertConfig", **CLIP),
    _case("ViltLayer", "vilt", "ViltConfig", **CLIP),
    _case("VisualBertLayer", "visual_bert", "VisualBertConfig", **BERT),
    _case("FlavaLayer", "flava", "FlavaMultimodalConfig", **CLIP),
    _case("CLIPEncoderLayer", "clip", "CLIPTextConfig", rounds_in=torch.float32, **CLIP),
    _case("ClapTextLayer", "clap", "ClapTextConfig", rounds_in=torch.float32, **CLIP),
    _case("AlignTextLayer", "align", "AlignTextConfig", rounds_in=torch.float32, **CLIP),
    _case("BartEncoderLayer", "bart", "BartConfig", d_model=D, encoder_attention_heads=H, encoder_ffn_dim=64),
    _case("LayoutLMv3Layer", "layoutlmv3", "LayoutLMv3Config", **CLIP),
)
