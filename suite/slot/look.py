"""What machine this is, into ``look.json``: the first step of a slot. Needs torch alone, and says what else is there.

python -m suite.slot.look FOLDER
"""

import json
import os
import platform
import subprocess
import sys
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

FILE = "look.json"
MODULES = (
    *("torch", "triton", "numpy", "pandas", "seaborn", "matplotlib", "scipy", "psutil", "pynvml", "typer", "rich"),
    *("jinja2", "tensorboard", "torch_tb_profiler", "pytest", "pytest_benchmark", "pytest_timeout", "hypothesis"),
)
_DISTRIBUTIONS = {"pynvml": "nvidia-ml-py", "torch_tb_profiler": "torch-tb-profiler"}


def look() -> dict[str, object]:
    """Versions, devices and tools, as plain data."""
    import torch

    found: dict[str, object] = {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "modules": {name: _version(name) for name in MODULES},
        "devices": [],
    }
    if torch.cuda.is_available():
        found["cuda"], found["hip"] = torch.version.cuda, torch.version.hip
        found["devices"] = [_device(index) for index in range(torch.cuda.device_count())]
    try:
        told = subprocess.run(["nvidia-smi"], capture_output=True, text=True, timeout=20, check=False)
        found["nvidia-smi"] = told.stdout.splitlines()[:40]
    except (OSError, subprocess.TimeoutExpired) as error:
        found["nvidia-smi"] = [f"not to be had: {error}"]
    return found


def _device(index: int) -> dict[str, object]:
    import torch

    properties = torch.cuda.get_device_properties(index)
    return {
        "name": properties.name,
        "memory_B": properties.total_memory,
        "processors": properties.multi_processor_count,
        "capability": f"{properties.major}.{properties.minor}",
        "l2_B": properties.L2_cache_size,
    }


def _version(name: str) -> str:
    if find_spec(name) is None:
        return ""
    try:
        return metadata.version(_DISTRIBUTIONS.get(name, name))
    except metadata.PackageNotFoundError:
        return "there"


def main() -> None:
    found = look()
    Path(sys.argv[1], FILE).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    devices = found["devices"]
    assert isinstance(devices, list)
    print(", ".join(str(device["name"]) for device in devices) or "torch sees no CUDA device here")


if __name__ == "__main__":
    main()
