"""Checks that take a minute or more in a process of their own run beside all other tests, and are looked at last."""

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
Finished = subprocess.CompletedProcess[str]
RESULT = pytest.StashKey[Future[Finished]]()
LANE = pytest.StashKey["Lane"]()


class Lane:
    """One process after the other."""

    def __init__(self) -> None:
        self.executor = ThreadPoolExecutor(max_workers=1)
        self.running: subprocess.Popen[str] | None = None

    def submit(self, arguments: list[str], interpret: str) -> Future[Finished]:
        return self.executor.submit(self._run, arguments, interpret)

    def _run(self, arguments: list[str], interpret: str) -> Finished:
        self.running = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=os.environ | {"TRITON_INTERPRET": interpret},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        out, err = self.running.communicate()
        return subprocess.CompletedProcess(arguments, self.running.returncode, out, err)

    def close(self) -> None:
        self.executor.shutdown(wait=False, cancel_futures=True)
        if self.running is not None:
            self.running.kill()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.get_closest_marker("beside") is not None)


def pytest_collection_finish(session: pytest.Session) -> None:
    if session.config.getoption("collectonly"):
        return
    lane = session.config.stash[LANE] = Lane()
    for item in session.items:
        marker = item.get_closest_marker("beside")
        if marker is not None:
            command: Callable[..., list[str]] = marker.args[0]
            parametrised = getattr(item, "callspec", None)
            arguments = command(**parametrised.params) if parametrised is not None else command()
            item.stash[RESULT] = lane.submit(arguments, marker.kwargs["interpret"])


def pytest_sessionfinish(session: pytest.Session) -> None:
    lane = session.config.stash.get(LANE, None)
    if lane is not None:
        lane.close()


@pytest.fixture
def finished(request: pytest.FixtureRequest) -> Finished:
    """The process that was started for this test."""
    return request.node.stash[RESULT].result()
