"""The planted mechanisms, known only while a test runs."""

from pathlib import Path

import pytest

import suite.selfcheck
from suite.core import user_files
from variants import registry


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> Path:
    path = Path(suite.selfcheck.__file__).with_name("planted.py")
    monkeypatch.setattr(registry, "_MECHANISMS", dict(registry._MECHANISMS))
    user_files.load(path)
    return path
