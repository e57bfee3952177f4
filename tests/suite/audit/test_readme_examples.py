"""What the READMEs tell a user to write passes the audit that they praise."""

import re
from pathlib import Path

import pytest

from suite.audit.properties import PROPERTIES
from suite.core import store
from suite.core.records import Finding
from tests import warm

ROOT = Path(__file__).parents[3]


def test_every_property_is_explained_in_the_words_of_the_audit() -> None:
    told = re.findall(
        r"^\| `(P\w+)` \| (.+) \| (wrong|fragile) \|$", (ROOT / "suite/README.md").read_text(), re.MULTILINE
    )
    assert told == [(item.id, item.statement, item.severity) for item in PROPERTIES]


@pytest.mark.slow
def test_the_example_mechanisms_are_audited_and_found_sound(tmp_path: Path) -> None:
    command = ["run", "--probe", "masking", "--budget", "0", "--out", str(tmp_path / "run")]
    names = []
    for readme in ("README.md", "variants/README.md"):
        blocks = re.findall(r"```python\n(.*?)```", (ROOT / readme).read_text(), re.DOTALL)
        (source,) = [block for block in blocks if '@register("gated")' in block]
        names.append(f"gated_of_{len(names)}")
        file = tmp_path / f"{names[-1]}.py"
        file.write_text(source.replace('@register("gated")', f'@register("{names[-1]}")'))
        command += [names[-1], "--with", str(file)]
    done = warm.run(ROOT / "run_all.py", *command, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    records = store.read(tmp_path / "run")
    for name in names:
        found = {
            record.quantity: record.verdict
            for record in records
            if isinstance(record, Finding) and record.variant == name
        }
        assert len(found) > 20
        assert set(found.values()) <= {"holds", "not applicable"}, (name, found)
