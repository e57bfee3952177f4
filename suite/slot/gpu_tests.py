"""The tests that need a GPU, in processes side by side: what takes them long is compilation on the host.

    python -m suite.slot.gpu_tests FOLDER [--seconds 105] [--collect-only]

Needs pytest and none of its plugins. Each process leaves its whole output in FOLDER.
"""

import argparse
import os
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
MOST_PROCESSES = 12
_SETTINGS = """[pytest]
addopts = --import-mode=importlib -p no:cacheprovider
pythonpath = {root}
markers =
    slow: as in the project's own settings
    gpu: as in the project's own settings
"""
"""Instead of the project's own, which ask for plugins that may not be there."""
_COUNTED = re.compile(r"(\d+) (passed|failed|skipped|errors?)\b")


def marked() -> list[Path]:
    """The files with tests that need a GPU."""
    return [path for path in sorted((ROOT / "tests").rglob("test_*.py")) if "pytest.mark.gpu" in path.read_text()]


def command(settings: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "pytest", "-c", str(settings), "--rootdir", str(ROOT), "-q", "-m", "gpu", *arguments]


def collected(settings: Path) -> tuple[list[str], str]:
    """The tests by name, and all that was said."""
    ended = subprocess.run(
        command(settings, "--collect-only", "--continue-on-collection-errors", *map(str, marked())),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return [
        line for line in ended.stdout.splitlines() if "::" in line and " " not in line.partition("[")[0]
    ], ended.stdout


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m suite.slot.gpu_tests", description="Tests that need a GPU.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, default=105.0)
    parser.add_argument("--collect-only", action="store_true")
    asked = parser.parse_args()
    ends = time.monotonic() + asked.seconds
    settings = asked.folder / "pytest.ini"
    settings.write_text(_SETTINGS.format(root=ROOT))
    names, said = collected(settings)
    (asked.folder / "collected.txt").write_text(said)
    if asked.collect_only or not names:
        print(f"{len(names)} tests that need a GPU in {len(marked())} files")
        sys.exit(0 if names else 1)
    count = min(MOST_PROCESSES, max(1, (os.cpu_count() or 2) - 2), len(names))
    processes = []
    for number in range(count):
        with (asked.folder / f"tests-{number}.txt").open("w") as out:
            chosen = command(settings, "-rfE", "--tb=short", *names[number::count])
            processes.append(subprocess.Popen(chosen, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT))
    late = 0
    for process in processes:
        try:
            process.wait(max(0.1, ends - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            late += 1
    _tell(asked.folder, count, late)
    sys.exit(1 if any(process.returncode for process in processes) else 0)


def _tell(folder: Path, count: int, late: int) -> None:
    """Failures line by line, then the sums on the last one."""
    sums: dict[str, int] = {}
    for number in range(count):
        text = (folder / f"tests-{number}.txt").read_text(errors="replace")
        for line in text.splitlines():
            if line.startswith(("FAILED", "ERROR ")):
                print(line)
        last = text.strip().splitlines()[-1:] or [""]
        for amount, what in _COUNTED.findall(last[0]):
            sums[what] = sums.get(what, 0) + int(amount)
    cut = f", {late} of {count} processes ended by the time" if late else ""
    print(", ".join(f"{amount} {what}" for what, amount in sums.items()) + cut)


if __name__ == "__main__":
    main()
