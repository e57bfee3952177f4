"""Choose blocks for families of GPUs that nobody has measured, and keep them in the table as predicted.

The model's short list is compiled for each family, the quickest by the model first. What spills, or does not fit into
shared memory, is passed over. The registers and the shared memory of the compiled program take the place of the model's
own guess, and the search ends where nothing that is left could be quicker by it. It needs no device and times nothing:
what is chosen stays an estimate. A process of its own, since one process cannot both interpret and compile::

    python -m tests.kernels.predict                                     # print what came of each
    python -m tests.kernels.predict --family sm_90 --program scored --write  # and put what is chosen into the table

The table is written after each program, so that a run which is stopped has lost one program and no more.
"""

import argparse
import json
import math
from collections.abc import Iterator
from functools import partial

import torch
import triton
from triton.runtime.errors import OutOfResources
from triton.runtime.jit import JITFunction

from tests.kernels.compiled import Compilations, Pretended, described, step
from variants.kernels.configurations import TABLE, Configuration, safe, trying
from variants.kernels.shortlist import ARCHITECTURES, IN_REGISTERS, PROGRAMS, Resources, estimated_s, shortlist

CAPABILITIES = {"sm_80": 80, "sm_86": 86, "sm_90": 90}
TYPES = {16: torch.bfloat16, 32: torch.float32}
CASES = (("hierarchical", 26), ("parallel", 80))
"""One block of words holds the first, and not the second. Three levels take more than one."""
DRAWS = ("parallel[dropout=0.1]", 26)


def takes(program: str, bits: int, entry: Configuration, launches: Compilations) -> Resources | None:
    """The most that any form of a program takes with an entry; None where one spills."""
    launches.chosen, launches.found = (program,), {}
    # what draws gives a tile that stands up
    cases = (*CASES, DRAWS) if program in IN_REGISTERS and not entry.standing else CASES
    with trying({f"{program}/{bits}": entry}):
        for name, words in cases:
            step(name, words, TYPES[bits])
    forms = [described(one) for one in launches.found.values()]
    if not forms or any(form["local_accesses"] for form in forms):
        return None
    return Resources(*(max(int(str(form[name])) for form in forms) for name in ("registers", "shared_bytes")))


def tried(family: str, program: str, bits: int, most: int) -> Iterator[tuple[float, Configuration]]:
    """What was compiled, with its estimated seconds; what is safe everywhere is compiled where nothing else is left."""
    launches = Compilations()
    triton.runtime.driver.set_active(Pretended(CAPABILITIES[family]))
    JITFunction.__getitem__ = lambda one, grid: partial(launches, one, grid)
    quickest_s = math.inf
    for entry in dict.fromkeys([*shortlist(program, bits // 8, family, most=most), safe(program, bits // 8)]):
        if estimated_s(program, entry, bits // 8, family) >= quickest_s:
            continue
        try:
            own = takes(program, bits, entry, launches)
        except OutOfResources:
            own = None
        seconds = math.inf if own is None else estimated_s(program, entry, bits // 8, family, compiled=own)
        what = "spills or does not fit" if own is None else f"{own.registers} registers, {own.shared_b} B"
        print(f"{family} {program}/{bits} {entry}: {what}, {1e6 * seconds:.0f} us by the model", flush=True)
        quickest_s = min(quickest_s, seconds)
        yield seconds, entry


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.kernels.predict")
    parser.add_argument("--most", type=int, default=6, help="how many entries of a short list are compiled at most")
    parser.add_argument("--family", choices=ARCHITECTURES, action="append", help="all if left out; may be repeated")
    parser.add_argument("--program", choices=PROGRAMS, action="append", help="all if left out; may be repeated")
    parser.add_argument("--write", action="store_true", help="put what is chosen into the table")
    asked = parser.parse_args()
    for family in asked.family or ARCHITECTURES:
        for program in asked.program or PROGRAMS:
            for bits in TYPES:
                seconds, entry = min(tried(family, program, bits, asked.most))
                if math.isfinite(seconds) and asked.write:
                    table = json.loads(TABLE.read_text())
                    table["predicted"].setdefault(family, {})[f"{program}/{bits}"] = entry._asdict()
                    TABLE.write_text(json.dumps(table, indent=2) + "\n")


if __name__ == "__main__":
    main()
