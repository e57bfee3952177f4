"""What the READMEs tell a user to write passes the audit that they praise."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from suite.audit.properties import PROPERTIES
from suite.core import store
from suite.core.records import Finding

ROOT = Path(__file__).parents[3]


def test_every_property_is_explained_in_the_words_of_the_audit() -> None:
    told = re.findall(
        r"^\| `(P\w+)` \| (.+) \| (wrong|fragile) \|$", (ROOT / "suite/README.md").read_text(), re.MULTILINE
    )
    assert told == [(item.id, item.statement, item.severity) for item in PROPERTIES]


@pytest.mark.slow
@pytest.mark.parametrize("readme", ["README.md", "variants/README.md"])
def test_the_example_mechanism_is_audited_and_found_sound(readme: str, tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / readme).read_text(), re.DOTALL)
    (source,) = [block for block in blocks if '@register("gated")' in block]
    (tmp_path / "gated.py").write_text(source)
    folder = tmp_path / "run"
    command = [sys.executable, str(ROOT / "run_all.py"), "run", "gated", "--with", str(tmp_path / "gated.py")]
    command += ["--probe", "masking", "--out", str(folder)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    found = {
        record.quantity: record.verdict
        for record in store.read(folder)
        if isinstance(record, Finding) and record.variant == "gated"
    }
    assert len(found) > 20
    assert set(found.values()) <= {"holds", "not applicable"}, found
