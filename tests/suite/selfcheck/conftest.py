"""The planted mechanisms, known only while a test runs."""

import importlib
from pathlib import Path

import pytest

import suite.selfcheck
from suite import user_files


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> Path:
    path = Path(suite.selfcheck.__file__).with_name("planted.py")
    registry = importlib.import_module("variants.build")  # the package's own `build` is the function
    monkeypatch.setattr(registry, "_MECHANISMS", dict(registry._MECHANISMS))
    user_files.load(path)
    return path
