"""Modules of public packages that pair two sets, each with a padding test of its own: what is true of them."""

from public_modules import (
    attention_torch,
    lucidrains,
    matching,
    more,
    multimodal,
    transformers_layers,
    transformers_pairs,
)
from public_modules.truth import Case

CASES: tuple[Case, ...] = (
    *attention_torch.CASES,
    *transformers_pairs.CASES,
    *transformers_layers.CASES,
    *lucidrains.CASES,
    *matching.CASES,
    *multimodal.CASES,
    *more.CASES,
)
