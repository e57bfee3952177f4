"""``pytest --benchmark``: times the variants through pytest-benchmark, whose own options all work beside it."""

import gc
import os
import sys
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# a busy machine is no failure
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

# read when torch is loaded, here and in all that is started: more threads wait for each other on small tensors, which
# is most of what a test takes where other work has the cores
os.environ.setdefault("OMP_NUM_THREADS", "1")


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


def pytest_configure(config: pytest.Config) -> None:
    config.option.benchmark_only |= config.option.benchmark
    # without its samples a saved run cannot be compared with another one surely
    config.option.benchmark_save_data |= config.option.benchmark
    # the project's own settings turn timing off, so that a plain `pytest` does not time
    config.option.benchmark_enable |= config.option.benchmark_only


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What has a limit of its own takes longest, and begins first: nobody waits for it alone in the end."""
    if config.option.benchmark:  # what is no benchmark would be skipped, and each told
        others = [item for item in items if "benchmark" not in getattr(item, "fixturenames", ())]
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if item not in set(others)]
    items.sort(key=lambda item: item.get_closest_marker("timeout") is None)


def pytest_collectstart() -> None:
    gc.disable()  # until all is loaded, of which nothing is garbage


_settled = 0
"""How many modules are loaded that stay."""


def _settle() -> None:
    """What is loaded by now stays: Python need not look through all of it whenever a test or a probe tidies up."""
    global _settled
    gc.enable()
    gc.collect()
    gc.freeze()
    _settled = len(sys.modules)


def pytest_runtest_setup() -> None:
    if len(sys.modules) > _settled + 50:  # such as torch's compiler, which the first test that needs it has loaded
        _settle()


def pytest_collection_finish(session: pytest.Session) -> None:
    _settle()
    if any(item.get_closest_marker("slow") for item in session.items):
        from suite.execution import guest  # which loads nothing

        # many a guest of the slow tests trains, and each would load it for itself where the first guest needed none
        guest.PRELOADED.append(guest.COMPILER)


@pytest.hookimpl(tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print medians, intervals and verdicts in place of pytest-benchmark's own table, which has neither."""
    config = terminalreporter.config
    session = config._benchmarksession  # type: ignore[attr-defined]  # pytest-benchmark keeps it there
    columns_asked = any(str(argument).startswith("--benchmark-columns") for argument in config.invocation_params.args)
    if not (config.option.benchmark and session.groups) or session.verbose or columns_asked:
        return
    from tests.benchmarks import summary

    now = summary.cells(bench.as_dict(include_data=True) for bench in session.benchmarks)
    earlier = {path.stem: summary.cells(found.values()) for path, found in (session.compared_mapping or {}).items()}
    terminalreporter.section("benchmark", sep="-")
    terminalreporter.write_line(summary.text(now, earlier, width=terminalreporter._tw.fullwidth))
    session.quiet = True


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
