"""Functions that misbehave in every way in which a user's code can; `test_guest` runs them as guests."""

import ctypes
import os
import signal
import sys
import time
from collections.abc import Iterator
from typing import NoReturn

from suite.core.errors import UserError


def loud(count: int) -> Iterator[object]:
    for index in range(count):
        print("x" * 100_000)
        yield {"row": index, "note": "ü \ud800"}


def exits() -> Iterator[object]:
    yield 1
    sys.exit(0)


def exits_at_once() -> Iterator[object]:
    yield 1
    os._exit(0)


def says_why() -> Iterator[object]:
    yield 1
    print("the \x1b[31mreason\n", flush=True)
    os._exit(3)


def crashes() -> Iterator[object]:
    yield 1
    ctypes.string_at(0)


def hangs() -> Iterator[object]:
    yield 1
    time.sleep(1000)


def floods() -> Iterator[object]:
    yield 1
    while True:
        os.write(1, b"y" * 65536)


def forks_and_goes_on() -> Iterator[object]:
    yield 1
    os.fork()
    yield 2
    raise ValueError


def leaves_a_daemon(path: str) -> Iterator[object]:
    """Of a session of its own, with every pipe of ours open."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            with open(path, "w") as file:
                file.write(str(os.getpid()))
            time.sleep(1000)
        os._exit(0)
    while not os.path.exists(path) or not open(path).read():  # noqa: SIM115
        time.sleep(0.01)
    yield 1


def leaves_a_daemon_and_hangs(path: str) -> Iterator[object]:
    yield from leaves_a_daemon(path)
    time.sleep(1000)


def ends_its_parent() -> Iterator[object]:
    yield 1
    os.kill(os.getppid(), signal.SIGTERM)
    time.sleep(1000)


def kills_its_parent() -> Iterator[object]:
    yield 1
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(1000)


def kills_its_group() -> Iterator[object]:
    yield 1
    os.killpg(0, signal.SIGKILL)


def closes_everything() -> Iterator[object]:
    yield 1
    os.closerange(3, 200)
    yield 2


def interrupts() -> Iterator[object]:
    yield 1
    raise KeyboardInterrupt


def cannot_say_why() -> Iterator[object]:
    class Mute(BaseException):
        def __str__(self) -> NoReturn:
            raise ZeroDivisionError

    yield 1
    raise Mute


def takes_memory() -> Iterator[object]:
    yield 1
    bytearray(10**16)


def yields_what_is_not_plain() -> Iterator[object]:
    yield 1
    yield object()


def is_the_users_mistake() -> Iterator[object]:
    yield 1
    raise UserError("own.py: there is no such file")
