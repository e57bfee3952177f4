"""Every file beside this one, each mechanism of which registers itself: a new one is a file, and no list knows it."""

import importlib
import pkgutil
from pathlib import Path

_PROGRAMS = ("tune",)
"""What is run, and not imported."""

for _file in pkgutil.iter_modules([str(Path(__file__).parent)]):
    if not _file.ispkg and _file.name not in _PROGRAMS:
        importlib.import_module(f"variants.{_file.name}")
