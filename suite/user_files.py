"""A user's own file: mechanisms that it registers, or a module to audit."""

import importlib.util
import sys
import zlib
from pathlib import Path
from types import ModuleType

from suite.errors import UserError


def load(path: Path, *, given_as: str = "--with") -> ModuleType:
    """Run a Python file, so that what it registers is known here.

    Args:
        path: of the file.
        given_as: where it was asked for, for the error.

    Raises:
        UserError: it is not there, or it raises; says what.
    """
    if not path.is_file():
        raise UserError(f"{given_as} {path}: there is no such file")
    # a name of its own: classes are found again by it, and it must not shadow a module of the same stem
    name = f"with_{path.stem}_{zlib.crc32(str(path.resolve()).encode()):08x}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UserError(f"{given_as} {path}: expected a Python file, ending in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever a user's file raises is said in one line
        del sys.modules[name]
        raise UserError(f"{given_as} {path}: {type(error).__name__}: {error}") from error
    return module
