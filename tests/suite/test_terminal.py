"""What people type stands in a terminal, and what they see there differs from what a pipe gets."""

import json
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from suite.core import store
from suite.core.records import Finding, Measurement, Record, Skip
from tests.suite.terminals import Terminal

RUN = ("run", "parallel", "--workload", "tiny", "--phase", "forward", "--probe", "timing", "--budget", "12")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two runs of the same machine, of which the second is slower, with a skip and a broken variant."""
    made = []
    for number, factor in enumerate((1.0, 1.3)):
        folder = tmp_path_factory.mktemp("runs") / f"run-{number}"
        folder.mkdir()
        (folder / "environment.json").write_text(json.dumps({"machine": {"cpu": "made up", "cores": 2}}))
        with store.Writer(folder) as writer:
            writer.write(_records(factor))
        made.append(folder)
    return made[0], made[1]


def _records(factor: float) -> list[Record]:
    rng = np.random.default_rng(0)
    records: list[Record] = []
    common = {"workload": "tiny", "device": "cpu", "quantity": "latency", "unit": "s"}
    for mechanism in ("parallel", "hierarchical[inner=alternating]"):
        for phase in ("forward", "forward+backward"):
            task = f"timing {mechanism} tiny {phase} cpu"
            for name, ms in (
                ("parallel", 1.0),
                (mechanism, 1.0 if mechanism == "parallel" else 2.0),
                (f"{mechanism}+bf16+compile", 1.5 * factor),
            ):
                records.append(
                    Measurement(
                        **common,
                        task=task,
                        variant=name,
                        phase=phase,
                        samples=tuple(1e-3 * ms * rng.normal(1, 0.01, 24)),
                        rounds=tuple(range(24)),
                        trust=("samples spread by 21%",),
                    )
                )
    place = {"variant": "parallel", "workload": "tiny", "device": "cpu"}
    records.append(
        Finding(task="a", variant="parallel", device="cpu", quantity="P1", verdict="broken", summary="it leaks")
    )
    records.append(
        Skip(task="plan", **place, quantity="all", reason="does not fit into 140 s beside the others", cause="budget",
             remedy="python run_all.py run parallel --workload tiny")
    )  # fmt: skip
    return list({(r.task, r.variant, r.quantity, r.phase): r for r in records}.values())


@pytest.mark.slow
@pytest.mark.parametrize(("command", "code", "columns"), [("report", 0, 40), ("compare", 3, 80), ("compare", 3, 40)])
def test_what_a_command_prints_fits_the_terminal(
    folders: tuple[Path, Path], command: str, code: int, columns: int
) -> None:
    old, new = folders
    with Terminal(command, *((new,) if command == "report" else (old, new)), columns=columns) as terminal:
        assert terminal.end() == code, terminal.screen
        assert "Traceback" not in terminal.screen
        last = [line for line in terminal.lines if line][-1]
        assert last.endswith("report.html")
        # a path stands on a line of its own, whole, however long it is: it is there to be copied
        rest = [line for line in terminal.lines if line != last and str(new) not in line]
        assert max(map(len, rest)) <= columns
        words = terminal.screen.split()
        for whole in ("hierarchical[inner=alternating]+bf16+compile", "ms"):
            assert len(whole) > columns or any(whole in word for word in words), whole


@pytest.mark.slow
def test_the_list_fits_the_terminal() -> None:
    with Terminal("list", columns=40) as terminal:
        assert terminal.end() == 0
        assert max(map(len, terminal.lines)) <= 40
        assert "published_hiecoatt_alternating" in terminal.screen.split()
        assert "-question_self_attention," in terminal.screen.split()


@pytest.mark.slow
def test_a_run_shows_its_progress_in_a_narrow_terminal_and_ends_well(tmp_path: Path) -> None:
    with Terminal(*RUN, "--out", tmp_path / "run", columns=40, cold=True) as terminal:
        assert terminal.end() == 0, terminal.screen
        assert " left" in terminal.screen
        assert "Traceback" not in terminal.screen
        assert terminal.shows_cursor
        assert max(len(line) for line in terminal.lines if str(tmp_path) not in line) <= 40


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A folder whose path leaves room for the socket that lies in it: no more than 107 bytes in all."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.mark.slow
@pytest.mark.parametrize("end", ["ctrl-c", "ctrl-c twice", "SIGHUP"])  # tests/suite/core/test_streams.py: SIGTERM too
def test_a_run_that_is_ended_leaves_a_folder_to_go_on_with_and_nothing_else(
    tmp_path: Path, temporary: Path, end: str
) -> None:
    folder = tmp_path / "run"
    with Terminal(*RUN, "--out", folder, environment={"TMPDIR": str(temporary)}) as terminal:
        terminal.wait_for(" left")
        assert max(len(line) for line in terminal.lines if str(tmp_path) not in line) <= terminal.columns
        if end.startswith("ctrl-c"):
            terminal.press_ctrl_c()
        else:
            os.kill(terminal.process.pid, signal.Signals[end])
        if end == "ctrl-c twice":
            terminal.wait_for("^C")
            terminal.press_ctrl_c()
        assert terminal.end() == 130, terminal.screen
        assert "Traceback" not in terminal.screen
        assert terminal.shows_cursor
        if end != "ctrl-c twice":
            assert f"python run_all.py --resume {folder}" in terminal.screen
            assert (folder / "REPORT.md").exists()
    store.read(folder)
    assert list(temporary.glob("coattention-*")) == []


OWN_ENDS = {"list": (0,), "report": (0,), "compare": (3,), "pareto": (2,), "checkpoint": (2,)}
"""How those end that may be done before they are asked to: the moment between is nobody's."""


MOMENTS_S = {
    **dict.fromkeys(("list", "pareto", "ablate"), (0.0,)),
    **dict.fromkeys(("report", "checkpoint", "selfcheck"), (1.0,)),
    **dict.fromkeys(("compare", "audit"), (0.0, 3.0)),
    "run": (0.0, 1.0, 3.0),
}
"""When each is asked to end: the program begins in one way for all of them, and torch loads meanwhile for some."""


@pytest.mark.slow
@pytest.mark.parametrize("command", MOMENTS_S)
def test_every_command_ends_at_ctrl_c_in_its_first_seconds_without_a_traceback(
    folders: tuple[Path, Path], temporary: Path, tmp_path: Path, command: str
) -> None:
    old, new = folders
    arguments: dict[str, tuple[str | Path, ...]] = {
        "report": (new,),
        "compare": (old, new),
        "pareto": (old, new),
        "checkpoint": ("skyol5/parallel", tmp_path / "none.pt"),
        "audit": ("modular",),
        "ablate": ("core", "--out", tmp_path / "out"),
        "selfcheck": ("flops", "--out", tmp_path / "out"),
        "run": ("--out", tmp_path / "out"),
    }
    for after_s in MOMENTS_S[command]:
        environment = {"TMPDIR": str(temporary)}
        with Terminal(command, *arguments.get(command, ()), environment=environment, cold=True) as terminal:
            if not terminal.listens() or not terminal.read_for(after_s):
                continue  # it came to its end before
            terminal.press_ctrl_c()
            if after_s == 1.0:
                terminal.read_for(0.2)
                terminal.press_ctrl_c()
            assert terminal.end() in (130, *OWN_ENDS.get(command, ())), terminal.screen
            assert "Traceback" not in terminal.screen
            assert "Exception ignored" not in terminal.screen
            assert terminal.shows_cursor
        assert list(temporary.iterdir()) == []
