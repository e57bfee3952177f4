"""What every test has in common: the cores that tests run on, and ``pytest --benchmark``.

Folders of tests run on several cores where pytest-xdist is installed, files and single tests in one process; ``-n``
says otherwise. ``--benchmark`` times the variants through pytest-benchmark, whose own options all work beside it.
"""

import os
from pathlib import Path
from typing import Any

import pytest

_MOST_WORKERS = 4
"""Each loads torch, and many start programs of their own."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("benchmark")
    group.addoption("--benchmark", action="store_true", help="Run the benchmarks of the variants, and nothing else.")
    group.addoption(
        "--benchmark-variant", action="append", default=[], metavar="NAME",
        help="Such as parallel+bf16; may be repeated. The variants of the device's preset if left out.",
    )  # fmt: skip
    group.addoption(
        "--benchmark-workload", action="append", default=[], metavar="NAME",
        help="Such as vqa-grid; may be repeated. The workloads of the device's preset if left out.",
    )  # fmt: skip


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads its options
def pytest_cmdline_main(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):
        return  # a worker, which would start workers of its own, and they theirs
    asked = config.option
    if "PYTEST_XDIST_WORKER" in os.environ:  # a worker, or what one of its tests starts, has its core already
        return
    if not config.pluginmanager.hasplugin("xdist") or asked.numprocesses is not None or asked.dist != "no":
        return
    alone = asked.benchmark or asked.benchmark_only or asked.usepdb or asked.collectonly
    if alone or not all(Path(argument).is_dir() for argument in config.args):
        return
    cores = min(os.cpu_count() or 1, _MOST_WORKERS)
    if cores == 1:
        return
    asked.numprocesses = cores
    asked.dist, asked.loadscopereorder = "loadfile", False  # what the tests of a file share is made once
    # as many threads as there are workers would wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of several workers none is left alone at the end with a file of slow tests."""
    if hasattr(config, "workerinput"):
        slow = {item.path for item in items if item.get_closest_marker("slow") is not None}
        items.sort(key=lambda item: item.path not in slow)


def pytest_configure(config: pytest.Config) -> None:
    config.option.benchmark_only |= config.option.benchmark
    # the project's own settings turn timing off, so that a plain `pytest` does not time
    config.option.benchmark_enable |= config.option.benchmark_only


def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, Any]) -> None:
    """Say which GPU it was; leave out what identifies a person's machine or changes from second to second."""
    from suite.bench import environment  # torch, which only those load that test
    from suite.bench.request import Request

    described = environment.describe(Request())
    machine_info.pop("node", None)
    for name in ("hz_actual", "hz_actual_friendly"):
        machine_info["cpu"].pop(name, None)
    machine_info["torch"] = described["torch"]
    machine_info["gpu"] = None
    machine_info.update(described["machine"])  # type: ignore[call-overload]  # a mapping, as described
