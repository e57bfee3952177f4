"""Gives a process the double of a GPU as soon as it imports torch; found by Python where this folder is on its path."""

import importlib.machinery
import os
import sys
from collections.abc import Sequence
from types import ModuleType


class _Installs:
    """Finds torch as it would be found without it, and lets the double follow its import."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != "torch":
            return None
        sys.meta_path.remove(self)
        spec = importlib.machinery.PathFinder.find_spec(name)
        if spec is None or spec.loader is None:
            return spec
        run = spec.loader.exec_module

        def run_and_install(module: ModuleType) -> None:
            run(module)
            import gpu

            gpu.install()

        spec.loader.exec_module = run_and_install  # type: ignore[method-assign]
        return spec


if os.environ.get("GPU_DOUBLE"):
    sys.meta_path.insert(0, _Installs())
