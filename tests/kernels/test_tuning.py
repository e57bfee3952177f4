"""Tuning finds the fastest entry, goes on where it was stopped, and changes one device's entry alone."""

import json
import math
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

pytest.importorskip("triton")

from tests import warm
from variants import tune
from variants.kernels import configurations
from variants.kernels.configurations import TABLE, Configuration, configuration, measured, trying
from variants.kernels.shortlist import (
    ARCHITECTURES,
    Resources,
    Shape,
    architecture,
    demand,
    estimated_s,
    registers,
    shared_b,
    shortlist,
)
from variants.tune import Bench, Journal, Tuning, descend, enter

ROOT = Path(__file__).parents[2]
SAFE = configuration("scored", 2, "no such device")


def time_s(tried: Configuration) -> float:
    """As if 64 rows, 256 columns and 4 stages were best, and 512 columns did not fit."""
    if tried.outer == 512:
        return math.inf
    return 1e-3 * (1 + abs(tried.rows - 64) / 64 + abs(tried.outer - 256) / 256 + abs(tried.stages - 4))


def anything(_: Configuration) -> bool:
    return True


def test_the_search_goes_down_to_the_fastest() -> None:
    assert descend(SAFE, time_s, anything) == SAFE._replace(rows=64, outer=256, stages=4)


def test_what_is_fast_and_wrong_elsewhere_is_not_taken() -> None:
    asked: list[Configuration] = []

    def right(entry: Configuration) -> bool:
        asked.append(entry)
        return entry.outer != 256

    assert descend(SAFE, time_s, right).outer != 256
    assert len(asked) == len(set(asked))


def test_noise_does_not_keep_the_search_going() -> None:
    assert descend(SAFE, lambda tried: 1e-3 * (1 + 0.009 * (hash(tried) % 2)), anything) == SAFE


def test_a_stopped_run_goes_on_where_it_was(tmp_path: Path) -> None:
    path = tmp_path / "tuning.jsonl"
    first = Journal(path)
    tried = [SAFE, SAFE._replace(outer=512)]
    times = [first.time_s("scored/16", entry, lambda entry=entry: time_s(entry)) for entry in tried]
    with path.open("a") as file:
        file.write('{"key": "scored/16", "configu')
    again = Journal(path)
    assert [again.time_s("scored/16", entry, lambda: pytest.fail("timed twice")) for entry in tried] == times
    assert times[1] == math.inf


class LosingBench(Bench):
    """Loses the device with 512 columns."""

    def __init__(self) -> None:
        pass

    def time_s(self, key: str, tried: Configuration) -> float:
        if tried.outer == 512:
            raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
        return time_s(tried)

    def accepts(self, key: str, tried: Configuration) -> bool:
        return True


def test_what_takes_the_device_away_is_passed_over_next_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "tuning.jsonl"
    lost: list[Configuration] = []
    found = None
    while found is None:
        tuning = Tuning("scored/16", LosingBench(), Journal(path))
        try:
            found = descend(SAFE, tuning.time_s, tuning.accepts)
        except SystemExit:
            lost.append(Configuration(*json.loads(path.read_text().splitlines()[-1])["configuration"]))
    assert found == SAFE._replace(rows=64, outer=256, stages=4)
    assert len(lost) == len(set(lost)) > 0
    printed = capsys.readouterr().out
    assert "illegal memory access" in printed
    assert "(journal)" in printed


def test_the_measuring_process_is_started_again_until_it_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    codes = [tune.DEVICE_LOST, tune.DEVICE_LOST, 0]
    started: list[list[str]] = []

    def run(command: list[str], *, check: bool) -> subprocess.CompletedProcess[str]:
        started.append(command)
        return subprocess.CompletedProcess(command, codes.pop(0))

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(tune.subprocess, "run", run)
    monkeypatch.setattr(sys, "argv", ["tune"])
    with pytest.raises(SystemExit) as ended:
        tune.main()
    assert ended.value.code == 0
    # the same deadline for all of them
    assert started == [[sys.executable, "-m", "variants.tune", "--measure-until", "inf"]] * 3


def test_only_the_devices_own_entry_changes(tmp_path: Path) -> None:
    table = tmp_path / "configurations.json"
    shutil.copy(TABLE, table)
    before = json.loads(table.read_text())
    enter(table, "A device", {"scored/16": SAFE})
    after = json.loads(table.read_text())
    assert after["measured"].pop("A device") == {"scored/16": SAFE._asdict()}
    assert after == before


def test_programs_are_entered_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = tmp_path / "configurations.json"
    shutil.copy(TABLE, table)
    monkeypatch.setattr(configurations, "TABLE", table)
    keys = json.loads(TABLE.read_text())["safe"]
    said = []
    for key in keys:
        enter(table, "A device", {key: SAFE._replace(warps=4)})
        configurations._table.cache_clear()
        said.append(measured("A device"))
    assert said == ["some"] * (len(keys) - 1) + ["all"]
    assert configuration("scored", 2, "A device").warps == 4
    monkeypatch.undo()
    configurations._table.cache_clear()


class CountingBench(LosingBench):
    """Knows how often it was asked."""

    asked = 0

    def time_s(self, key: str, tried: Configuration) -> float:
        self.asked += 1
        return time_s(tried)


def test_a_spent_budget_keeps_what_was_found_and_measures_nothing_new(tmp_path: Path) -> None:
    path, bench = tmp_path / "tuning.jsonl", CountingBench()
    first = Tuning("scored/16", bench, Journal(path), lambda: bench.asked >= 4)
    found = descend(SAFE, first.time_s, first.accepts)
    assert bench.asked == 4
    assert time_s(found) < time_s(SAFE)
    # no time at all: what an earlier run found is not lost to the safe entry
    later = Tuning("scored/16", bench, Journal(path), lambda: True)
    assert descend(SAFE, later.time_s, later.accepts) == found
    assert bench.asked == 4


def test_what_is_tried_comes_before_the_table() -> None:
    other = SAFE._replace(warps=4)
    with trying({"scored/16": other}):
        assert configuration("scored", 2, "no such device") == other
        assert configuration("scored", 4, "no such device") != other
    assert configuration("scored", 2, "no such device") == SAFE


def test_no_device_is_called_measured_that_was_not() -> None:
    assert measured("no such device") == "none"


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_what_is_predicted_for_a_family_is_quicker_by_the_model_than_what_is_safe(family: str) -> None:
    predicted = json.loads(TABLE.read_text())["predicted"].get(family, {})
    for key, entry in predicted.items():
        program, _, bits = key.partition("/")
        found_s, safe_s = (
            estimated_s(program, one, int(bits) // 8, family)
            for one in (Configuration(**entry), configuration(program, int(bits) // 8, "", ""))
        )
        assert found_s < safe_s, key
    keys = {"sm_90": {"scored/16", "scored_backward/16", "sum_over_regions/16"}}
    assert predicted.keys() >= keys.get(family, set())


@pytest.mark.parametrize("family", ARCHITECTURES)
@pytest.mark.parametrize("program", tune.PROGRAMS)
@pytest.mark.parametrize("itemsize", [2, 4])
def test_a_short_list_has_what_fits_the_quickest_by_estimate_first(family: str, program: str, itemsize: int) -> None:
    found = shortlist(program, itemsize, family)
    assert len(found) == 8
    seconds = [estimated_s(program, entry, itemsize, family) for entry in found]
    assert seconds == sorted(seconds)
    assert math.isfinite(seconds[-1])
    assert len({(entry.rows, entry.outer, entry.standing) for entry in found}) == len(found), (
        "tiles of different sizes, not one in details"
    )
    for entry in found:
        assert registers(program, entry, itemsize) <= 255
        assert shared_b(program, entry, itemsize) <= ARCHITECTURES[family].shared_b
    # a tile that holds all words once, where they fit, is never behind the same one that goes through them in parts
    for entry in found:
        at_once_s = estimated_s(program, entry._replace(words=32), itemsize, family)
        if math.isfinite(at_once_s):
            assert estimated_s(program, entry._replace(words=16), itemsize, family) >= at_once_s


def test_an_estimate_moves_with_what_it_counts() -> None:
    entry = Configuration(64, 128, 64, 32, 8, 2)
    twice = demand("scored", entry, 2, Shape(examples=600))
    once = demand("scored", entry, 2, Shape(examples=300))
    assert (twice.blocks, twice.bytes, twice.flops) == (2 * once.blocks, once.bytes, once.flops)
    assert demand("scored", entry, 4, Shape()).bytes == 2 * once.bytes
    assert shared_b("scored", entry._replace(stages=4), 2) > shared_b("scored", entry, 2)
    # products of the image and its weights, of the affinity and of what it mixes in, by hand
    assert once.flops == 2 * 64 * (512 * 512 + 32 * 512 + 32 * 512)
    assert math.isinf(estimated_s("scored", Configuration(128, 512, 128, 32, 4, 4), 2, "sm_90"))
    # what the compiler says comes in place of the model's own count
    guessed = Resources(registers("scored", entry, 2), shared_b("scored", entry, 2))
    assert estimated_s("scored", entry, 2, "sm_90", compiled=guessed) == estimated_s("scored", entry, 2, "sm_90")
    assert math.isinf(estimated_s("scored", entry, 2, "sm_90", compiled=guessed._replace(registers=256)))
    assert math.isinf(estimated_s("scored", entry, 2, "sm_90", compiled=guessed._replace(shared_b=232_449)))
    assert math.isfinite(estimated_s("scored", entry, 2, "sm_90", compiled=Resources(40, 0)))


def test_a_tile_stands_where_the_model_says_that_it_pays_and_nowhere_that_it_does_not_fit() -> None:
    standing = {
        (family, program): [entry.standing for entry in shortlist(program, 2, family)]
        for family in ARCHITECTURES
        for program in tune.PROGRAMS
    }
    assert all(standing["sm_90", program][0] for program in ("scored", "scored_backward"))
    for program in ("sum_over_regions", "features_gradient"):
        assert not any(standing["sm_90", program]), "which has no such form"
    assert not any(any(standing[family, "scored"]) for family in ("sm_80", "sm_86")), "no room beside right operands"
    entry = Configuration(128, 32, 64, 32, 8, 4, standing=True)
    apart = entry._replace(standing=False)
    assert demand("scored", entry, 2, Shape()).bytes < demand("scored", apart, 2, Shape()).bytes
    # the weights once, the tile twice, for its products and for pooling, P and Y of 32 words, C', sums in float32
    moved = 512 * 512 + 2 * 128 * 512 + 2 * 32 * 512 + 128 * 32 + 2 * 512
    assert demand("scored", entry, 2, Shape()).bytes == 2 * moved
    for shape in (Shape(width=520), Shape(words=33)):
        assert math.isinf(estimated_s("scored", entry, 2, "sm_90", shape))
        assert math.isfinite(estimated_s("scored", apart, 2, "sm_90", shape))
    assert math.isinf(estimated_s("scored", entry, 4, "sm_90")), "float32 is multiplied in parts, which do not fit"


@pytest.mark.parametrize("program", ["sum_over_regions", "features_gradient"])
def test_an_affinity_that_is_written_once_is_cheaper_than_one_that_is_formed_again(program: str) -> None:
    entry = Configuration(64, 128, 64, 32, 8, 3)
    written, again = (demand(program, entry, 2, Shape(words=words)) for words in (32, 33))
    assert (written.bytes, written.flops, written.steps) < (again.bytes / 1.1, again.flops / 1.1, again.steps)
    # no launch is sooner than memory gives what it reads and takes what it writes
    maps = {"sum_over_regions": 1, "features_gradient": 3}[program]
    assert estimated_s(program, entry, 2, "sm_90") >= maps * 300 * 196 * 512 * 2 / 3.0e12


@pytest.mark.parametrize(
    ("capability", "family"),
    [((8, 0), "sm_80"), ((8, 6), "sm_86"), ((8, 9), "sm_86"), ((9, 0), "sm_90"), ((7, 5), ""), ((12, 0), "")],
)
def test_a_family_is_known_or_not(capability: tuple[int, int], family: str) -> None:
    assert architecture(*capability) == family


def test_a_search_begins_at_the_quickest_of_the_short_list_that_is_right(tmp_path: Path) -> None:
    class Choosy(LosingBench):
        def accepts(self, key: str, tried: Configuration) -> bool:
            return tried.stages != 4

    entries = [SAFE._replace(rows=64, outer=256, stages=4), SAFE._replace(rows=64, outer=256), SAFE._replace(rows=32)]
    tuning = Tuning("scored/16", Choosy(), Journal(tmp_path / "tuning.jsonl"))
    assert tune.first_of(entries, SAFE, tuning) == entries[1]
    slower = [SAFE._replace(outer=32)]
    assert tune.first_of(slower, SAFE, tuning) == SAFE


class Compiling:
    """Stands for a process that compiles."""

    def __init__(self, asked: object, started: list[object], waited: list[float | None], late: bool) -> None:
        started.append(asked)
        self._waited, self._late = waited, late

    def wait(self, seconds: float | None = None) -> int:
        self._waited.append(seconds)
        if self._late and seconds is not None:
            self._late = False
            raise subprocess.TimeoutExpired("compile", seconds)
        return 0

    def kill(self) -> None:
        self._waited.append(-1.0)


@pytest.mark.parametrize(("cores", "free_b", "count"), [(16, 80 * 2**30, 16), (16, 6 * 2**30, 6), (2, 2**20, 1)])
def test_all_of_the_short_list_is_compiled_once_in_as_many_processes_as_there_is_room_for(
    monkeypatch: pytest.MonkeyPatch, cores: int, free_b: int, count: int
) -> None:
    started: list[list[str]] = []
    waited: list[float | None] = []
    monkeypatch.setattr(tune.os, "cpu_count", lambda: cores)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (free_b, 80 * 2**30))
    monkeypatch.setattr(
        tune.subprocess, "Popen", lambda command, **_: Compiling(json.loads(command[-1]), started, waited, late=True)
    )
    tune.compile_ahead("sm_90", time.time() + 100)
    assert len(started) == count
    asked = [tuple(map(str, one)) for slice_ in started for one in slice_]
    assert len(asked) == len(set(asked)) == 2 * len(tune.PROGRAMS) * 8
    assert waited.count(-1.0) == count, "what is late is ended"
    assert all(seconds is None or seconds <= 40 for seconds in waited)


def test_compiling_ahead_takes_its_share_of_the_time_however_many_processes_hang(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [1000.0]

    class Hangs:
        killed = False

        def wait(self, timeout: float | None = None) -> None:
            if not self.killed:
                assert timeout is not None
                now[0] += timeout
                raise subprocess.TimeoutExpired("compile", timeout)

        def kill(self) -> None:
            self.killed = True

    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (64 * tune.COMPILING_B, 0))
    monkeypatch.setattr(tune.os, "cpu_count", lambda: 16)
    monkeypatch.setattr(tune.subprocess, "Popen", lambda *_, **__: Hangs())
    monkeypatch.setattr(tune.time, "time", lambda: now[0])
    tune.compile_ahead("sm_90", 1000.0 + 100)
    assert now[0] - 1000 <= 100 * tune.COMPILING_SHARE + 16 * 0.1 + 1e-6


def test_what_was_measured_comes_before_what_is_predicted_and_that_before_what_is_safe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = json.loads(TABLE.read_text())
    table["predicted"] = {"sm_90": {"scored/16": SAFE._replace(warps=4)._asdict()}}
    table["measured"] = {"A device": {"scored/16": SAFE._replace(stages=1)._asdict()}}
    (tmp_path / "configurations.json").write_text(json.dumps(table))
    monkeypatch.setattr(configurations, "TABLE", tmp_path / "configurations.json")
    configurations._table.cache_clear()
    try:
        assert configuration("scored", 2, "A device", "sm_90").stages == 1
        assert configuration("scored", 2, "Another", "sm_90").warps == 4
        assert configuration("scored", 2, "Another", "sm_80") == SAFE
        assert configuration("scored", 2, "Another") == SAFE
        assert [configurations.predicted(name) for name in ("sm_90", "sm_80", "")] == ["some", "none", "none"]
    finally:
        monkeypatch.undo()
        configurations._table.cache_clear()


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a device")
def test_without_a_device_the_script_says_so() -> None:
    found = warm.run("-m", "variants.tune")
    assert found.returncode == 1
    assert "there is none here" in found.stderr
