"""Published modules without a mechanism on a batch: what they raise on, leak and lose, as their authors' code does."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from variants import load_published

GOLDEN = Path(__file__).parents[1] / "golden"


def loaded(name: str, rename: Callable[[str], str] = str, **config: object) -> tuple[nn.Module, dict[str, Tensor]]:
    """The module of a golden file, and the file's inputs."""
    with np.load(GOLDEN / f"{name}.npz") as archive:
        arrays: Mapping[str, Any] = {key: archive[key] for key in archive.files}
    meta = json.loads(str(arrays["meta"]))
    weights = {
        rename(key.removeprefix("param.")): torch.from_numpy(arrays[key]) for key in arrays if key.startswith("param.")
    }
    module = load_published(f"{meta['peer']}/{meta['component']}", weights, config=meta["config"] | config)
    return module, {key.removeprefix("in."): torch.from_numpy(arrays[key]) for key in arrays if key.startswith("in.")}


def parametrised(name: str) -> str:
    """The name of a weight under `torch.nn.utils.parametrizations.weight_norm`."""
    for end, number in (("_g", 0), ("_v", 1)):
        if name.endswith(end):
            owner, _, weight = name.removesuffix(end).rpartition(".")
            return f"{owner}.parametrizations.{weight}.original{number}".lstrip(".")
    return name


@pytest.mark.parametrize(
    "name", ["ban__residual__b2_d9_h6_g2_n8_l6", "drugban__banlayer__b3_d14_d10_h6_o2_k3_n9_l7_raw"]
)
def test_both_spellings_of_weight_norm_load(name: str) -> None:
    old, inputs = loaded(name)
    new, _ = loaded(name, parametrised)
    for output, value in old(**inputs).items():
        assert torch.equal(new(**inputs)[output], value)


def test_bilinear_attention_takes_regions_of_zeros_for_padding_and_the_last_glimpse_sums_padded_words() -> None:
    module, inputs = loaded("ban__residual__b2_d9_h6_g2_n8_l6")
    assert (module(**inputs)["att"][1, :, 5:] == 0).all()
    changed = module(inputs["v"], inputs["q"].index_fill(1, torch.tensor([5]), 3.0))
    assert not torch.allclose(changed["q_sum"][0], module(**inputs)["q_sum"][0])


def test_more_than_32_glimpses_cannot_be_built_as_published() -> None:
    state = loaded("ban__biattention__b3_d14_d10_h6_g3_n9_l7")[0].state_dict()
    state["logits.h_mat_v"] = torch.ones(1, 33, 1, 18)
    state["logits.h_bias"] = torch.ones(1, 33, 1, 1)
    with pytest.raises(ValueError, match="33 glimpses"):
        load_published("ban/biattention", state)


def test_the_scores_alone_are_filled_with_what_the_configuration_says() -> None:
    module, inputs = loaded("ban__biattention__b3_d14_d10_h6_g3_n9_l7", mode="forward_all", mask_with=-99)
    outputs = module(**inputs)
    assert list(outputs) == ["logits"]
    assert (outputs["logits"][2, :, 2:] == -99).all()


def test_one_example_raises_in_the_attention_flow() -> None:
    module, inputs = loaded("bidaf__attflow__b3_h8_n9_l7")
    with pytest.raises((RuntimeError, IndexError)):
        module(**{name: value[:1] for name, value in inputs.items()})


def test_weights_over_real_words_sum_to_less_than_one_where_their_scores_are_low() -> None:
    module, inputs = loaded("allennlp__bidaf__b3_d12_n8_l6_lowlogits")
    assert module(**inputs)["passage_question_attention"].sum(-1).min() < 0.9
    with pytest.raises(TypeError, match="tiny value"):
        module.bfloat16()(*(value.bfloat16() if value.is_floating_point() else value for value in inputs.values()))


def test_padding_gives_gradients_of_nan_in_lightglue_though_its_outputs_are_finite() -> None:
    module, inputs = loaded("lightglue__crossblock__b3_d16_h2_n9_t7_ragged")
    outputs = module(**inputs)
    assert all(value.isfinite().all() for value in outputs.values())
    sum(value.sum() for value in outputs.values()).backward()
    assert module.get_parameter("to_v.weight").grad.isnan().any()  # type: ignore[union-attr]


def test_a_score_far_above_in_another_example_makes_attention_uniform_in_grounding_dino() -> None:
    module, inputs = loaded("gdino__bimha__b3_d14_d10_e12_h4_n9_l7")
    before = module(**inputs)["v"][1]
    far = inputs | {"v": torch.cat([inputs["v"][:1] * 1e7, inputs["v"][1:]])}
    assert not torch.allclose(module(**far)["v"][1], before, atol=1e-2)


def test_text_beside_a_ragged_image_raises_in_the_q_former() -> None:
    module, inputs = loaded("blip2__qformer__b2_d10_h2_n8_q3_text4")
    whole = torch.ones(2, 8, dtype=torch.int64)
    assert torch.equal(
        module(**inputs)["last_hidden_state"], module(**inputs, encoder_attention_mask=whole)["last_hidden_state"]
    )
    whole[0, 5:] = 0
    with pytest.raises(RuntimeError, match="must match"):
        module(**inputs, encoder_attention_mask=whole)


def test_a_perceiver_without_a_decoder_says_so() -> None:
    module, inputs = loaded("perceiver__io__b2_n12_k5_nomask")
    with pytest.raises(ValueError, match="decoder_cross_attn"):
        module(**inputs, queries=torch.zeros(2, 10))


def test_genes_under_other_names_are_refused() -> None:
    module, inputs = loaded("mcat__net__b1_d8_n12")
    with pytest.raises(ValueError, match="x_omic6"):
        module(**{name: value for name, value in inputs.items() if name != "x_omic6"})
