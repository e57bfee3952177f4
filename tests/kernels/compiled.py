"""Compile what the fused kernels launch for an architecture, without a device, and print what came out as JSON lines.

A process of its own: one process cannot both interpret and compile. The launches are those of real forward and backward
passes at the paper's shape; each is compiled as a device that nobody has measured would have it, and then nothing
runs. The argument is a JSON array of jobs: the device's capability, the type, mechanisms with a number of words each,
and the programs that are wanted, all where none is named; one in brackets comes with the entry that it is to have::

    python -m tests.kernels.compiled '[[90, "bf16", "parallel:26;hierarchical:80"], [80, "fp16", "parallel:26"]]'
    python -m tests.kernels.compiled '[[90, "bf16", "parallel:26", ["scored", 128, 32, 64, 32, 8, 4, true]]]'

A line for each job holds what became of its programs.
"""

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import CompiledKernel
from triton.runtime.jit import JITFunction

from variants import Batch, build, valid_from_lengths
from variants.alternating import Alternating
from variants.hierarchical import Hierarchical
from variants.kernels import fused
from variants.kernels.configurations import Configuration, configuration, trying
from variants.kernels.shortlist import PROGRAMS, architecture
from variants.parallel import Parallel

TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
WIDTH = 512


class Pretended:
    """A driver for a device that is not there, as far as compilation asks."""

    def __init__(self, capability: int) -> None:
        self.target = GPUTarget("cuda", capability, 32)

    def get_current_target(self) -> GPUTarget:
        return self.target

    def get_current_device(self) -> int:
        return self.target.arch  # Triton keeps what it has compiled by device

    def get_current_stream(self, device: int) -> int:
        return device


class Compilations:
    """Takes the place of launching."""

    def __init__(self) -> None:
        self.chosen: tuple[str, ...] = ()
        self.found: dict[str, CompiledKernel] = {}
        self.standing: set[str] = set()

    def __call__(self, program: JITFunction, grid: tuple[int, ...], *arguments: object, **options: object) -> None:
        if not self.chosen or program.__name__ in self.chosen:
            compiled = program.warmup(*arguments, grid=grid, **options)
            self.found.setdefault(compiled.hash, compiled)
            if "form" in options and options["form"].standing.value:
                self.standing.add(compiled.hash)


def step(name: str, words: int, dtype: torch.dtype) -> None:
    """A forward and a backward pass, whose launches compile and leave their outputs as they are."""
    module = build(name, width=WIDTH).module.to(dtype).train()
    batch = Batch(
        torch.randn(2, 196, WIDTH, dtype=dtype, requires_grad=True),
        torch.randn(2, words, WIDTH, dtype=dtype, requires_grad=True),
        valid_from_lengths(torch.tensor([196, 196]), 196),
        valid_from_lengths(torch.tensor([words, 1]), words),
    )
    match module:
        case Parallel():
            attended = fused.parallel(module, batch)
        case Alternating():
            attended = fused.alternating(module, batch)
        case Hierarchical():
            attended = fused.hierarchical(module, batch)
    torch.autograd.grad(attended, (batch.image, batch.question), [torch.ones_like(field) for field in attended])


def entries(capability: int, dtype: torch.dtype) -> dict[str, Configuration]:
    """What a device of that capability which nobody has measured would launch with, by program."""
    family = architecture(*divmod(capability, 10))
    return {
        f"{program}/{8 * dtype.itemsize}": configuration(program, dtype.itemsize, "", family) for program in PROGRAMS
    }


def described(compiled: CompiledKernel) -> dict[str, object]:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        assembly, usage = (
            subprocess.run([TOOLS / "cuobjdump", flag, file.name], capture_output=True, text=True, check=True).stdout
            for flag in ("-sass", "-res-usage")
        )
    return {
        "program": compiled.metadata.name,
        "shared_bytes": compiled.metadata.shared,
        "registers": int(re.search(r"REG:(\d+)", usage)[1]),
        "local_accesses": len(re.findall(r"\b(?:LDL|STL)\b", assembly)),
        "warpgroup_products": len(re.findall(r"\bHGMMA\b", assembly)),
        "warp_products": len(re.findall(r"\bHMMA\b", assembly)),
        "atomics": len(re.findall(r"\b(?:ATOM|ATOMG|RED)\b", assembly)),
        "narrow_products": list(narrow_products(compiled.asm["ttir"])),
    }


def narrow_products(code: str) -> Iterator[str]:
    """Products of two unknown numbers in 32 bits: an offset that is one of them ends at 2^31 elements.

    Those with a constant are tiles times their size, which stay within one axis.
    """
    for line in code.splitlines():
        product = re.search(r"arith\.muli (%[\w#]+), (%[\w#]+)[^:]*: (?:tensor<[\dx]+x)?i32\b", line)
        if product and not any(operand.startswith(("%c", "%cst")) for operand in product.groups()):
            yield line.strip()


@triton.jit
def planted(features, width):  # type: ignore[no-untyped-def]
    """What `narrow_products` is there to find."""
    tl.store(features + tl.program_id(0) * width + tl.arange(0, 16), 1.0)


if __name__ == "__main__":
    launches = Compilations()
    for capability, dtype, cases, *chosen in json.loads(sys.argv[1]):
        triton.runtime.driver.set_active(Pretended(capability))
        if cases == "planted":
            compiled = planted.warmup(torch.zeros(64), 33, grid=(4,))
            print(json.dumps([{"narrow_products": list(narrow_products(compiled.asm["ttir"]))}]), flush=True)
            continue
        JITFunction.__getitem__ = lambda program, grid: partial(launches, program, grid)
        own = {name: Configuration(*sizes) for name, *sizes in (one for one in chosen if not isinstance(one, str))}
        launches.chosen = tuple(one if isinstance(one, str) else one[0] for one in chosen)
        launches.found, launches.standing = {}, set()
        bits = 8 * DTYPES[dtype].itemsize
        with trying(entries(capability, DTYPES[dtype]) | {f"{name}/{bits}": entry for name, entry in own.items()}):
            for case in cases.split(";"):
                name, words = case.split(":")
                step(name, int(words), DTYPES[dtype])
        reports = [
            described(compiled) | {"standing": key in launches.standing} for key, compiled in launches.found.items()
        ]
        print(json.dumps(reports), flush=True)
