"""The page of one audit says first whether it is masked correctly, and of each property what was seen and why."""

import re

import pytest

from suite.core.records import Finding, Severity, Verdict
from suite.report import audit


def found(name: str, verdict: Verdict, severity: Severity = "wrong", **more: object) -> Finding:
    details = {"title": "pad content", "statement": "padding changes nothing", **more}
    return Finding(
        task="audit",
        variant="Attend",
        quantity=name,
        verdict=verdict,
        severity=severity,
        value=3.2,
        limit=2.4e-5,
        summary="output moved <by> 3.2: the mask is never used; use it",
        details=details,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    ("verdict", "short"),
    [
        (
            "WRONG: 6 of 19 properties are broken. P1: output moved: it is never used.",
            "WRONG: 6 of 19 properties are broken",
        ),
        (
            "As published, with its known defects: P1: image moved by 0.45 when " + 90 * "x",
            "As published, with its known defects",
        ),
        ("NOT JUDGED: of no property could it be told whether it holds: " + 40 * "why ", "NOT JUDGED"),
        ("Masked correctly: 19 properties hold.", "Masked correctly"),
    ],
)
def test_what_is_read_from_across_a_room_is_short_and_nothing_is_lost(verdict: str, short: str) -> None:
    first, rest = audit.headline(verdict)
    assert first == short
    assert f"{first}. {rest}" == verdict or f"{first}: {rest}" == verdict


def test_every_property_is_named_in_words_and_says_what_was_seen() -> None:
    text = audit.page(
        "Attend",
        "WRONG: 1 of 2 properties are broken. P1: moved.",
        ["x is a feature"],
        [found("P3", "holds"), found("P1", "broken"), found("P9", "broken", "fragile")],
        [],
        "python run_all.py audit a",
    )
    assert text.index("P1 pad content") < text.index("P3 pad content"), "what is broken comes first"
    body = text[text.index("<tbody>") :]
    assert "the mask is never used; use it" in body, "the cause and the remedy stand beside what moved"
    assert "moved &lt;by&gt; 3.2" in body
    assert "padding changes nothing" in body
    assert re.findall(r'data-label="that is" class="[^"]*">(\w*)<', body) == ["wrong", "fragile", ""]
    assert "python run_all.py audit a" in text
