"""A label of a device says what runs where, and reads back to the same."""

import pytest

from suite.core.devices import Device, model_named, parse
from suite.core.errors import UserError


@pytest.mark.parametrize(
    ("label", "device"),
    [
        ("cpu", Device("cpu")),
        ("cpu[threads=2]", Device("cpu", threads=2)),
        ("cpu[model=xeon-8488c]", Device("cpu", model="xeon-8488c")),
        ("cpu[model=xeon-8488c,threads=16]", Device("cpu", threads=16, model="xeon-8488c")),
        ("cuda", Device("cuda")),
        ("cuda:1", Device("cuda", index=1)),
        ("cuda[model=nvidia-h100-80gb-hbm3]", Device("cuda", model="nvidia-h100-80gb-hbm3")),
        ("cuda:3[model=a10]", Device("cuda", index=3, model="a10")),
        ("mps", Device("mps")),
    ],
)
def test_a_label_reads_back_to_the_same(label: str, device: Device) -> None:
    assert parse(label) == device
    assert str(device) == label


@pytest.mark.parametrize(
    "label",
    ["", "gpu", "cpu:1", "cuda[threads=2]", "cpu[]", "cpu[threads=0]", "cpu[threads=2,model=a]", "cpu[model=A b]",
     "cpu[model=../..]", "cpu[model=a,model=b]", "cuda[model=a]]", "xpu:0", "cpu\n"],
)  # fmt: skip
def test_what_is_no_label_is_refused(label: str) -> None:
    with pytest.raises(UserError, match="is no device: expected cpu"):
        parse(label)


@pytest.mark.parametrize(
    ("text", "model"),
    [
        ("NVIDIA H100 80GB HBM3", "nvidia-h100-80gb-hbm3"),
        ("Intel(R) Xeon(R) Platinum 8488C", "intel-r-xeon-r-platinum-8488c"),
        (" ../../etc ", "etc"),
        ("", "unknown"),
        ("é" * 9, "unknown"),
    ],
)
def test_what_a_device_calls_itself_makes_a_label(text: str, model: str) -> None:
    assert model_named(text) == model
    assert parse(f"cuda[model={model}]").model == model
