"""Compile every device program for an architecture, without a device, and print what came out as JSON lines.

A process of its own: one process cannot both interpret and compile.
"""

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from variants.kernels import programs
from variants.kernels.configurations import configuration

TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
SIZES = {"count": 196, "words_total": 26, "width": 512, "hidden": 512, "summand_width": 512, "tiles": 2}
WIDE = {"scores", "maxima", "sums", "pooled", "delta", "score_slope", "wide_vectors"}
AFFINITY = programs.AFFINITY.value


def cases(bits: int) -> Iterator[tuple[str, Mapping[str, object]]]:
    """Each program as the fused backends launch it at the paper's shape, with one and with many blocks of words."""
    numerics = {"ACC": tl.float32, "APPROXIMATE": bits == 16, "WIDEN": False}
    for one in (True, False):
        words = {"WORDS": 32, "ONE_BLOCK_OF_WORDS": one, "SATURATING": True}
        for program, pool in (("scored", True), ("scored_backward", True)):
            yield program, {"GUIDE": AFFINITY, "POOL": pool, **words, **numerics}
        yield "image_gradient", {"AFFINE": True, **words, **numerics}
    words = {"WORDS": 32, "SATURATING": True}
    for slope in (False, True):
        yield "sum_over_regions", {"SLOPE": slope, **words, **numerics}
    words = {"WORDS": 16, "ONE_BLOCK_OF_WORDS": True, "SATURATING": False}
    for guide in (programs.NOTHING.value, programs.VECTOR.value, programs.MATRIX.value):
        yield "scored", {"GUIDE": guide, "POOL": guide != programs.MATRIX.value, **words, **numerics}
    yield "combine", {"ACC": tl.float32, "COLUMNS": 512, "ROWS": 256}
    yield "attend_rows", {"ACC": tl.float32, "COLUMNS": 128, "ROWS": 32}


def compile_case(
    program: str, constants: Mapping[str, object], capability: int, bits: int, dtype: str
) -> dict[str, object]:
    function = getattr(programs, program)
    options: dict[str, int] = {"num_warps": 4}
    constants = dict(constants)
    if program not in ("combine", "attend_rows"):
        entry = configuration(program, bits // 8, "unknown")
        options = {"num_warps": entry.warps, "num_stages": entry.stages}
        names = {"ROWS": entry.rows, "HIDDEN": entry.outer, "OUTER": entry.outer, "INNER": entry.inner}
        if "WORDS" in constants and constants.get("GUIDE", AFFINITY) == AFFINITY:
            constants["WORDS"] = entry.words
        constants |= {name: size for name, size in names.items() if name in function.arg_names}
    signature, attributes = {}, {}
    for position, name in enumerate(function.arg_names):
        if name in constants:
            signature[name] = "constexpr"
        elif name in SIZES:
            signature[name] = "i32"
            if SIZES[name] % 16 == 0:
                attributes[(position,)] = [["tt.divisibility", 16]]
        else:
            pointee = "u8" if name == "valid_pointer" else "i32" if name.startswith("used_") else dtype
            if name in WIDE and not (program == "sum_over_regions" and name == "sums"):
                pointee = "fp32"
            signature[name] = f"*{pointee}"
            attributes[(position,)] = [["tt.divisibility", 16]]
    source = ASTSource(function, signature, constants, attributes)
    found = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(found.asm["cubin"])
        file.flush()
        assembly = subprocess.run(
            [TOOLS / "cuobjdump", "-sass", file.name], capture_output=True, text=True, check=True
        ).stdout
        usage = subprocess.run(
            [TOOLS / "cuobjdump", "-res-usage", file.name], capture_output=True, text=True, check=True
        ).stdout
    return {
        "program": program,
        "case": {name: str(value) for name, value in constants.items()},
        "dtype": dtype,
        "capability": capability,
        "shared_bytes": found.metadata.shared,
        "registers": int(re.search(r"REG:(\d+)", usage)[1]),
        "stack_bytes": int(re.search(r"STACK:(\d+)", usage)[1]),
        "local_accesses": len(re.findall(r"\b(?:LDL|STL)\b", assembly)),
        "warpgroup_products": len(re.findall(r"\bHGMMA\b", assembly)),
        "warp_products": len(re.findall(r"\bHMMA\b", assembly)),
        "atomics": len(re.findall(r"\b(?:ATOM|ATOMG|RED)\b", assembly)),
    }


if __name__ == "__main__":
    capability, dtype, *chosen = sys.argv[1:]
    bits = 32 if dtype == "fp32" else 16
    for program, constants in cases(bits):
        if chosen and program not in chosen:
            continue
        print(json.dumps(compile_case(program, constants, int(capability), bits, dtype)), flush=True)
