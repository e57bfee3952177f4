"""What a run stands on: machine, versions, sources and settings. No host names, no users' paths."""

import hashlib
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, cast, get_args, get_type_hints

import psutil
import torch

from suite.bench.probes import accelerators
from suite.bench.request import Request, accelerator
from suite.core import folders
from suite.core.devices import Kind
from suite.core.errors import UserError
from suite.core.records import shown

FILE = folders.ENVIRONMENT
ROOT = Path(__file__).parents[2]
_MEASURING = ("variants/**/*.py", "variants/**/*.json", "suite/**/*.py", "suite/**/*.json")
"""Sources that a number may depend on: how it is taken, what it is checked by, and when."""
_PRESENTING = ROOT / "suite" / "report"
"""Pages are made from records, as often as wanted."""
_SETTINGS = (
    *("ATEN_", "CUBLAS_", "CUDA_", "CUDNN_", "DNNL_", "GLIBC_TUNABLES", "GOMP_", "KMP_", "LD_PRELOAD", "MALLOC_"),
    *("MKL_", "NVIDIA_", "OMP_", "ONEDNN_", "OPENBLAS_", "PYTHONMALLOC", "PYTORCH_", "TORCH", "TRITON_", "_MALLOC"),
)
"""How variables begin that change what a processor does for the same code."""
_OWN = ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")
"""Variables that every worker has for itself."""
_VERSIONS = ("torch", "numpy", "scipy", "triton")


def describe(request: Request, nodes: Mapping[str, Mapping[str, Any]] | None = None) -> dict[str, object]:
    """Everything about this moment that a reader, a comparison or a resumption may want to know.

    Args:
        request: what is asked for.
        nodes: where it is done, by name, where that is not this machine; as `suite.bench.nodes.identity` has them.
    """
    described: dict[str, object] = {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "device": (here := machine(request.device)).get("gpu") or here["processor"],
        **versions(),
        "sources": sources(request.files),
        "machine": here,
        "settings": settings(),
        "details": _details(),
        "request": asdict(request) | {"files": [Path(path).name for path in request.files]},
    }
    if nodes:
        first = next(iter(nodes.values()))
        described |= {key: first[key] for key in ("machine", "settings")} | {"nodes": nodes}
        described["device"] = ", ".join(dict.fromkeys(str(node["device"]) for node in nodes.values()))
    return described


def versions() -> dict[str, str]:
    """The version of Python, and of each library that a number depends on; empty where one is not there."""
    return {"python": platform.python_version(), **{name: _version(name) for name in _VERSIONS}}


def write(folder: Path, described: Mapping[str, object]) -> None:
    """Write ``environment.json`` into a run folder."""
    (folder / FILE).write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8")


def read(folder: Path) -> dict[str, Any]:
    """The environment of a run folder.

    Raises:
        UserError: there is none, or it cannot be read.
    """
    return folders.environment(folder)


def request_of(described: Mapping[str, object], files: Sequence[str]) -> Request:
    """The request that a run was started with.

    Args:
        described: the run's environment.
        files: the user's own files, given again; the run keeps only their names.

    Raises:
        UserError: it needs files that were not given, or its request is of another program.
    """
    stored = described.get("request")
    if not isinstance(stored, dict):
        raise UserError(f"{FILE} holds no request: this run was not started by run_all.py")
    values = checked(Request, stored)
    named = [Path(path).name for path in files]
    if sorted(named) != sorted(values.get("files", ())):
        raise UserError(
            f"the run used --with {' '.join(values.get('files', ())) or 'nothing'}: give the same files again"
        )
    return Request(**(values | {"files": tuple(files)}))


def checked(kind: type[Any], stored: Mapping[str, object]) -> dict[str, Any]:
    """What was stored of a request, each field known and of its type.

    Args:
        kind: a dataclass, of a run or of an ablation.
        stored: as JSON holds it.

    Raises:
        UserError: a field is unknown or of another type; says which.
    """
    kinds = get_type_hints(kind)
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in stored.items()}
    for key, value in values.items():
        if key not in kinds:
            raise UserError(f"{FILE} holds a request of another version, which asks for {shown(key)}")
        if not _fits(value, kinds[key]):
            raise UserError(f"{FILE} holds a request whose {key!r} is {shown(stored[key])}: expected {kinds[key]}")
    return values


def _fits(value: object, kind: Any) -> bool:
    """Whether what was stored is what a field of a request holds."""
    if get_args(kind)[1:] == (...,):
        return isinstance(value, tuple) and all(_fits(item, get_args(kind)[0]) for item in value)
    if get_args(kind):
        return any(_fits(value, choice) for choice in get_args(kind))
    return isinstance(value, (int, float) if kind is float else kind) and (kind is bool or not isinstance(value, bool))


def changes(before: Mapping[str, object], now: Mapping[str, object]) -> list[str]:
    """What a number depends on and is no longer the same, each as a phrase; empty where a run may be resumed."""
    changed = [
        f"{key} was {before.get(key) or 'absent'} and is {now.get(key) or 'absent'}"
        for key in ("python", *_VERSIONS)
        if before.get(key) != now.get(key)
    ]
    old, new = map(folders.kind_of_nodes, (before, now))
    if old is not None and new is not None:  # which of many like it was asked is chance
        changed += [
            f"the {key} of the nodes was {old[key] or 'unknown'} and is {new[key] or 'unknown'}"
            for key in old
            if old[key] != new[key]
        ]
    elif before.get("machine") != now.get("machine"):
        changed.append(f"the machine was {before.get('machine')} and is {now.get('machine')}")
    changed += folders.changed_settings(before, now)
    if before.get("sources") != now.get("sources"):
        changed.append("the sources of this program or the --with files have changed")
    return changed


def settings() -> dict[str, str]:
    """What changes how this machine does the same work: variables of libraries, and what follows from others."""
    found = {
        name: _without_folders(value)
        for name, value in os.environ.items()
        if name.startswith(_SETTINGS) and name not in _OWN
    }
    return found | {
        "usable cores": str(usable_cores()),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "precision of products": torch.get_float32_matmul_precision(),
    }


def _without_folders(value: str) -> str:
    """A value with files by their names alone: folders may name people."""
    return re.sub(r"[^\s:;,=]*/", "", value)


def sources(files: Sequence[str]) -> str:
    """A hash of every source that a number depends on."""
    digest = hashlib.sha256()
    measuring = {path for pattern in _MEASURING for path in ROOT.glob(pattern)}
    for path in sorted(path for path in measuring if _PRESENTING not in path.parents):
        digest.update(str(path.relative_to(ROOT)).encode())
        digest.update(path.read_bytes())
    # the order in which they are given changes nothing, nor does the folder
    for name, contents in sorted((Path(text).name, Path(text).read_bytes()) for text in files):
        digest.update(name.encode(errors="surrogateescape"))
        digest.update(contents)
    return digest.hexdigest()[:16]


def usable_cores() -> int:
    """CPUs that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine(device: str | None = None) -> dict[str, object]:
    """What this computer is, without its name.

    Args:
        device: which of several GPUs is looked at, such as ``cuda:1``; the first if it does not say.
    """
    described: dict[str, object] = {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_B": psutil.virtual_memory().total,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
    }
    if torch.cuda.is_available():
        index = (device or "").partition(":")[2]
        properties = torch.cuda.get_device_properties(int(index) if index.isdigit() else None)
        described |= {
            "gpu": properties.name,
            "gpu_memory_B": properties.total_memory,
            "compute_capability": f"{properties.major}.{properties.minor}",
            "cuda": torch.version.cuda,
            **({"hip": torch.version.hip} if torch.version.hip else {}),
            "driver": _driver(),
        }
    elif (kind := accelerator()) in ("mps", "xpu"):
        described |= {"gpu": _other_gpu(kind), "gpu_memory_B": accelerators.total_b(cast(Kind, kind))}
    return described


def _other_gpu(kind: str) -> str:
    """What an accelerator that is none of CUDA's is called."""
    return str(torch.xpu.get_device_name()) if kind == "xpu" else f"MPS of {_processor()}"


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _driver() -> str:
    try:
        import pynvml  # only where there is a GPU

        pynvml.nvmlInit()
        return str(pynvml.nvmlSystemGetDriverVersion())
    except Exception as error:  # NVML's own errors, or no such module
        return f"unknown: {error}"


def _details() -> dict[str, object]:
    cpuinfo = Path("/proc/cpuinfo")
    flags = ""
    if cpuinfo.exists():
        flags = next((line for line in cpuinfo.read_text().splitlines() if line.startswith("flags")), "")
    kept = ("avx", "amx", "fma", "f16c", "asimd", "sve", "bf16")
    governor = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    return {
        "flags": sorted({flag for flag in flags.partition(":")[2].split() if flag.startswith(kept)}),
        "governor": governor.read_text().strip() if governor.exists() else "unknown",
        # without its build settings, which hold the paths of whoever built it
        "torch_build": [
            line.removeprefix("  - ")
            for line in torch.__config__.show().splitlines()[1:]
            if not line.startswith("  - Build settings")
        ],
        "byte_order": sys.byteorder,
    }


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _commit() -> str:
    """The commit of the sources, with a plus sign where they differ from it; empty outside a repository."""
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.strip()
        status = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return ""
    return commit + ("+" if status.strip() else "")
