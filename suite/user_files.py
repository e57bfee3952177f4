"""A user's own mechanisms: one file that calls ``@register``."""

import importlib.util
import sys
import zlib
from pathlib import Path


def load(path: Path) -> None:
    """Run a Python file, so that what it registers is known here.

    Raises:
        ValueError: it is not there, or it raises; says what.
    """
    if not path.is_file():
        raise ValueError(f"--with {path}: there is no such file")
    # a name of its own: classes are found again by it, and it must not shadow a module of the same stem
    name = f"with_{path.stem}_{zlib.crc32(str(path.resolve()).encode()):08x}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"--with {path}: expected a Python file, ending in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever a user's file raises is said in one line
        del sys.modules[name]
        raise ValueError(f"--with {path}: {type(error).__name__}: {error}") from error
