"""`python run_all.py gpu-slot`: everything that some minutes on a GPU can tell, kept after every step in one archive.

Whoever gets a device has it for minutes, and may lose it at any of them. So each step is a process of its own with its
share of the time, what it does not use goes to those after it, and the archive is made anew after each step and every
few seconds meanwhile: killed at any moment it is whole. This module needs nothing beside Python; what a step lacks is
the reason why it is skipped. Pages are made from the archive anywhere: ``python run_all.py report ARCHIVE``.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from suite.core import exits, interrupts
from suite.core.errors import UserError, of_the_system, printable
from suite.execution import tether
from suite.report.slot import FILE, SUMMARY, told
from suite.slot import archive, look
from suite.slot.steps import ROOT, SlotStep, double, steps

NAME = "slot"
ARCHIVE = f"{NAME}.tgz"
_KEEP_EVERY_S = 15.0
_TO_END_S = 5.0
"""For which a step may go on once it was asked to end."""
_MARGIN = 0.06
"""Of a step's time, what its command is told less, so that it ends by itself."""
_LEAST_S = 3.0
"""A step that would have less is left out."""
Way = Literal["done", "failed", "cut", "skipped"]


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a step ended."""

    name: str
    says: str
    way: Way
    took_s: float
    said: str
    """Its last line, or why it was skipped."""
    code: int | None = None


def start(
    *,
    seconds: float,
    out: Path,
    rehearse: bool = False,
    chosen: Sequence[SlotStep] | None = None,
    say: Callable[[str], object] = print,
) -> tuple[int, list[Ended]]:
    """Do all steps, and keep what each has left.

    Args:
        seconds: for all of it, from now to the last archive.
        out: a folder for the archive and the summary, and for nothing else.
        rehearse: over a double of a GPU, on tiny shapes: to see beforehand that every step begins and ends.
        chosen: other steps than those that there are.
        say: a line for whoever watches.

    Returns:
        The exit code, and how each step ended.

    Raises:
        UserError: there is no device, the time is too short, or the folder cannot be used; before anything is kept.
    """
    began = time.monotonic()
    if not 10 <= seconds < float("inf"):
        raise UserError(f"--seconds {seconds:g}: expected at least 10")
    if rehearse and not (ROOT / "tests" / "doubles" / "gpu.py").exists():
        raise UserError("--rehearse needs the tests' double of a GPU: expected a checkout with tests/doubles")
    if (out / ARCHIVE).exists():
        raise UserError(f"{out} holds a slot already: choose another folder")
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / ARCHIVE).touch()
        (out / ARCHIVE).unlink()
    except OSError as error:
        raise UserError(f"--out {out}: {error.strerror}") from error
    with _workplace() as (place, heed):
        slot = _Slot(place, out, heed, ends=began + seconds, seconds=seconds, rehearse=rehearse, say=say)
        return slot.go(steps(rehearse=rehearse) if chosen is None else chosen)


class _Slot:
    def __init__(
        self,
        place: Path,
        out: Path,
        heed: "_Heed",
        *,
        ends: float,
        seconds: float,
        rehearse: bool,
        say: Callable[[str], object],
    ) -> None:
        self._place = place
        self._out = out
        self._heed = heed
        self._ends = ends
        self._seconds = seconds
        self._rehearse = rehearse
        self._say = say
        self._began = datetime.now(UTC).isoformat(timespec="seconds")
        self._ended: list[Ended] = []
        self._left_out: list[str] = []

    def go(self, chosen: Sequence[SlotStep]) -> tuple[int, list[Ended]]:
        for number, step in enumerate(chosen):
            rest = sum(other.share for other in chosen[number:] if not other.skipped)
            left_s = self._ends - time.monotonic() - _TO_END_S
            self._take(self._done(step, left_s * step.share / max(rest, step.share)))
            if number == 0:
                self._refuse_without_device(step)
        code = exits.CELLS_FAILED if any(one.way in ("failed", "cut") for one in self._ended) else exits.DONE
        return exits.INTERRUPTED if self._heed.asked else code, self._ended

    def _take(self, ended: Ended) -> None:
        self._ended.append(ended)
        self._say(told(asdict(ended)))
        self._keep()

    def _refuse_without_device(self, step: SlotStep) -> None:
        """Whatever follows would only say the same."""
        path, found = self._place / NAME / step.name / look.FILE, None
        with suppress(OSError, ValueError):
            found = json.loads(path.read_text()).get("devices")
        if found == []:
            (self._out / ARCHIVE).unlink(missing_ok=True)
            (self._out / SUMMARY).unlink(missing_ok=True)
            raise UserError(
                "gpu-slot: torch sees no CUDA device here; expected one, or --rehearse, which goes through all "
                "steps over a double of one"
            )

    def _done(self, step: SlotStep, limit_s: float) -> Ended:
        lacking = [name for name in step.needs if find_spec(name) is None]
        reason = step.skipped or (f"{', '.join(lacking)} not installed here" if lacking else "")
        if self._heed.asked:
            reason = "ended before its turn"
        elif not reason and limit_s < min(_LEAST_S, 0.2 * step.share):
            reason = "no time left"
        if reason:
            return Ended(name=step.name, says=step.says, way="skipped", took_s=0.0, said=reason)
        folder = self._place / NAME / step.name
        folder.mkdir(parents=True)
        before = _states(step.keeps)
        started = time.monotonic()
        code, way = self._run(step, folder, limit_s)
        for path, state in _states(step.keeps).items():
            if before.get(path) != state:
                shutil.copy(path, folder)
        said = _last_line(folder.with_suffix(".txt"))
        if way == "cut":
            said = f"ended after its {limit_s:.0f} s; {said}"
        elif way == "done" and code == exits.NOTHING_MEASURED and _keeps_time(step):
            way, said = "cut", f"nothing of it fits into its {limit_s:.0f} s; {said}"
        elif way == "done" and code != exits.DONE:
            way = "failed"
        return Ended(
            name=step.name, says=step.says, way=way, took_s=round(time.monotonic() - started, 1), said=said, code=code
        )

    def _run(self, step: SlotStep, folder: Path, limit_s: float) -> tuple[int | None, Way]:
        told_s = max(1.0, (1 - _MARGIN) * limit_s - 1.0)
        words = {"python": sys.executable, "root": str(ROOT), "folder": str(folder), "seconds": f"{told_s:.0f}"}
        with folder.with_suffix(".txt").open("wb") as output:
            try:
                process = subprocess.Popen(
                    [part.format_map(words) for part in step.command],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    cwd=ROOT,
                    env=self._environment(step),
                    start_new_session=True,
                    preexec_fn=tether.end_with_starter if sys.platform == "linux" else None,
                )
            except OSError as error:
                output.write(f"{of_the_system(error) or error}\n".encode())
                return None, "failed"
            ends, kept = time.monotonic() + limit_s, time.monotonic()
            while True:
                with suppress(subprocess.TimeoutExpired):
                    return process.wait(0.2), "done"
                if self._heed.asked or time.monotonic() > ends:
                    _end(process)
                    return process.returncode, "cut"
                if time.monotonic() > kept + _KEEP_EVERY_S:
                    self._keep()
                    kept = time.monotonic()

    def _environment(self, step: SlotStep) -> dict[str, str]:
        caches = {
            "TRITON_CACHE_DIR": str(self._place / "triton"),
            "TORCHINDUCTOR_CACHE_DIR": str(self._place / "inductor"),
            "PYTHONUNBUFFERED": "1",
        }
        found = os.environ | caches | (double() if self._rehearse else {}) | dict(step.environment)
        found["PYTHONPATH"] = os.pathsep.join(part for part in (found.get("PYTHONPATH", ""), str(ROOT)) if part)
        return found

    def _keep(self) -> None:
        """Make summary and archive anew; a full disk or the like costs this one alone."""
        described = {
            "began": self._began,
            "seconds": self._seconds,
            "rehearsal": self._rehearse,
            "steps": [asdict(one) for one in self._ended],
        }
        kept = self._place / NAME
        with suppress(OSError):
            (kept / FILE).write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8")
            left_out = archive.pack(kept, self._out / ARCHIVE)
            text = "".join(f"{told(asdict(one))}\n" for one in self._ended)
            text += "".join(f"too large, left out: {name}\n" for name in left_out)
            unfinished = self._out / f".{SUMMARY}.part"
            unfinished.write_text(text, encoding="utf-8")
            os.replace(unfinished, self._out / SUMMARY)


class _Heed:
    """Whether somebody asked for the end: the step at work is ended, the others are skipped, and all is kept."""

    def __init__(self) -> None:
        self.asked = False

    def hear(self, number: int, frame: object) -> None:
        self.asked = True


@contextmanager
def _workplace() -> Iterator[tuple[Path, _Heed]]:
    """A folder for results and caches that is gone afterwards, and signals that are heeded meanwhile."""
    heed = _Heed()
    before = {number: signal.getsignal(number) for number in interrupts.ASKING}
    with tempfile.TemporaryDirectory(prefix="gpu-slot-", ignore_cleanup_errors=True) as name:
        (Path(name) / NAME).mkdir()
        for number, handler in before.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, heed.hear)
        try:
            yield Path(name), heed
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _keeps_time(step: SlotStep) -> bool:
    """Whether the step is told its seconds, and itself leaves out what would take longer."""
    return any("{seconds}" in part for part in step.command)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a step and all that it has started."""
    for number in (signal.SIGTERM, signal.SIGKILL):  # the second also for what the first has left behind
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_TO_END_S)


def _states(patterns: Sequence[str]) -> Mapping[Path, tuple[int, int]]:
    return {path: (path.stat().st_mtime_ns, path.stat().st_size) for pattern in patterns for path in ROOT.glob(pattern)}


def _last_line(path: Path) -> str:
    with suppress(OSError):
        lines = path.read_text(errors="replace").strip().splitlines()
        return printable(lines[-1]) if lines else ""
    return ""
