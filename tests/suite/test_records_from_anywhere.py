"""Records that somebody sent: what is wrong with them is one line, and nothing in them acts."""

import io
import json
import os
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from rich.console import Console, Group

from suite.core import compare, folders, store
from suite.core.errors import UserError
from suite.core.records import Artifact, Finding, Measurement, Skip, decode, encode
from suite.report import escape, page, tables, terminal

REFERENCES = sorted(path.parent for path in (Path(__file__).parents[2] / "results/reference").rglob(store.FILE))
Row = dict[str, Any]
CELL = {"task": "t", "variant": "parallel", "workload": "tiny", "phase": "forward", "device": "cpu"}
BASE: list[Row] = [
    {"kind": "measurement", **CELL, "quantity": "latency", "unit": "s", "samples": [1e-3] * 12, "rounds": [*range(12)]},
    {"kind": "measurement", **CELL, "quantity": "peak_memory", "unit": "B", "value": 4096.0, "trust": ["busy"]},
    {"kind": "finding", **CELL, "quantity": "P1", "verdict": "broken", "summary": "moved", "details": {"a": [[1, 2]]}},
    {"kind": "skip", **CELL, "quantity": "all", "reason": "why", "cause": "error", "remedy": "run it"},
    {"kind": "artifact", **CELL, "quantity": "trace", "path": "traces/a.json"},
    {"kind": "measurement", "task": "t", "quantity": "task_time", "unit": "s", "value": 1.5},
    {
        "kind": "description",
        "task": "run",
        "variant": "parallel",
        "mechanism": "parallel",
        "parent": "parallel",
        "role": "published",
        "transforms": {"precision": "bf16"},
        "where": "elsewhere",
        "ours": "pool",
    },
]


def written(folder: Path, rows: list[Row | str]) -> Path:
    folder.mkdir(exist_ok=True)
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    (folder / store.FILE).write_text("\n".join(['{"format": 1}', *lines, ""]))
    return folder


def refusal(read: Callable[[], object]) -> str:
    """Why something cannot be read; empty where it can."""
    try:
        read()
    except UserError as error:
        return str(error)
    return ""


def test_a_good_file_is_read(tmp_path: Path) -> None:
    assert len(store.read(written(tmp_path, [*BASE]))) == len(BASE)


DEEP = (
    '{"kind":"skip","task":"a","quantity":"q","reason":"r","cause":"error","details":{"x":' + "[" * 10**5 + "]" * 10**5
)
BROKEN: list[tuple[int, Row | str, str]] = [
    (0, {"samples": 5}, "samples is 5; expected a list of finite numbers"),
    (0, {"samples": [None] * 12}, "list of finite numbers"),
    (0, {"samples": [True] * 12}, "list of finite numbers"),
    (0, {"samples": [-1.0] * 12}, "latency of -1.0 s"),
    (0, {"samples": [0.0] * 12}, "latency of 0.0 s; expected at least 1e-12"),
    (0, {"samples": [1e40] * 12}, "latency of 1e\\+40 s; expected at most 1e\\+10"),
    (0, {"samples": [float("nan")] * 12}, "NaN is no number"),
    (0, {"samples": [10**400] * 12}, "list of finite numbers"),
    (0, '{"kind":"skip","details":{"x":' + "7" * 5000 + "}}", r"Exceeds the limit \(\d+ digits\)[^;]*$"),
    (0, {"rounds": [0, 1]}, "12 samples, but 2 rounds"),
    (0, {"rounds": ["a"] * 12}, "rounds is .*; expected a list of whole numbers"),
    (0, {"unit": "B"}, "latency in 'B'; expected 's'"),
    (0, {"unit": "km"}, "unit is 'km'; expected one of s, B, 1"),
    (0, {"details": "abc"}, "details is 'abc'; expected an object"),
    (0, {"details": {"x": [[[1]]]}}, "x is .*; expected a text, a number"),
    (0, {"task": 3}, "task is 3; expected a text"),
    (0, {"variant": "../../x <b>|y"}, "variant is .*; expected a variant's name"),
    (0, {"workload": "nope"}, "'nope' is no workload"),
    (
        0,
        {"workload": "tiny[batch=99999999999999999999]"},
        "batch=99999999999999999999: expected a whole number from 1 to 1000000000",
    ),
    (0, {"phase": "sideways"}, "phase is 'sideways'"),
    (0, {"device": "../tpu"}, "device is '../tpu'"),
    (1, {"value": "abc"}, "value is 'abc'; expected a finite number"),
    (1, {"value": -5.0}, "peak_memory of -5.0 B"),
    (1, {"value": 10**400}, "value is 1000.*…; expected a finite number"),
    (1, {"quantity": "x" * 200}, "expected a name"),
    (1, {"trust": "abc"}, "trust is 'abc'; expected a list of texts"),
    (2, {"verdict": "weird"}, "verdict is 'weird'; expected one of holds"),
    (2, {"severity": ["wrong"]}, "severity is \\['wrong'\\]"),
    (3, {"cause": None}, "cause is None"),
    (4, {"path": "/etc/passwd"}, "path is '/etc/passwd'; expected a path within"),
    (4, {"path": "..\\..\\x"}, "expected a path within"),
    (4, {"path": "C:/x"}, "expected a path within"),
    (4, {"kind": []}, "unknown kind \\[\\]"),
    (4, {"zzz": 1}, "has no field 'zzz'"),
    (0, "null", "expected a JSON object, found NoneType"),
    (0, '{"kind":"skip"', "not a line of JSON"),
    (0, '{"kind":"skip","kind":"skip"}', "'kind' is there twice"),
    (0, '{"kind":"skip","task":"a","quantity":"q"}', "a skip without 'cause'"),
    (0, DEEP + "}}", "nested too deeply"),
]


@pytest.mark.parametrize(("at", "change", "message"), BROKEN, ids=lambda value: str(value)[:40])
def test_what_is_wrong_is_one_line_with_file_and_number(
    tmp_path: Path, at: int, change: Row | str, message: str
) -> None:
    rows: list[Row | str] = [*BASE]
    rows[at] = change if isinstance(change, str) else BASE[at] | change
    with pytest.raises(UserError, match=rf"{store.FILE}:{at + 2}: .*{message}") as error:
        store.read(written(tmp_path, rows))
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 700


def test_what_a_task_leaves_once_is_not_there_twice(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="jsonl:9: latency of 't' stands on line 2 already"):
        store.read(written(tmp_path, BASE * 2))
    with pytest.raises(UserError, match="jsonl:9: task_time of 't' stands on line 7 already"):
        store.read(written(tmp_path, [*BASE, BASE[5]]))


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    made: dict[str, Callable[[Path], object]] = {
        "fifo": os.mkfifo,
        "folder": Path.mkdir,
        "circle": lambda path: path.symlink_to(path.name),
        "device": lambda path: path.symlink_to("/dev/zero"),
    }
    for name, make in made.items():
        (tmp_path / name).mkdir()
        make(tmp_path / name / store.FILE)
        with pytest.raises(UserError, match=store.FILE):
            store.read(tmp_path / name)
        make(written(tmp_path / f"{name}-environment", [*BASE]) / folders.ENVIRONMENT)
        with pytest.raises(UserError, match=re.escape(folders.ENVIRONMENT)):
            page.write(tmp_path / f"{name}-environment")


@pytest.mark.parametrize(
    "content", [b"", b"[1]", b'{"a":', b"\xff\xfe\0", b'{"machine": 5}', b'{"a": NaN}', b"[" * 10**5, b'{"a":1,"a":2}']
)
def test_an_environment_that_cannot_be_read_is_one_line(tmp_path: Path, content: bytes) -> None:
    (written(tmp_path, [*BASE]) / folders.ENVIRONMENT).write_bytes(content)
    for read in (page.write, lambda folder: compare.check_machines(folder, folder)):
        with pytest.raises(UserError, match=re.escape(folders.ENVIRONMENT)) as error:
            read(tmp_path)
        assert "\n" not in str(error.value)


def test_pages_are_written_into_the_folder_or_not_at_all(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    links: dict[str, Callable[[Path], object]] = {
        "REPORT.md": lambda path: path.symlink_to(outside / "kept"),
        "report.html": lambda path: path.symlink_to(outside / "kept"),
        "tables": lambda path: path.symlink_to(outside),
        "plots": lambda path: path.write_text("a file"),
    }
    for name, make in links.items():
        make(written(tmp_path / f"with-{name}", [*BASE]) / name)
        with pytest.raises(UserError, match=name):
            page.write(tmp_path / f"with-{name}")
    os.mkfifo(written(tmp_path / "fifo", [*BASE]) / "REPORT.md")
    with pytest.raises(UserError, match=r"REPORT\.md is no ordinary file"):
        page.write(tmp_path / "fifo")
    assert [path.name for path in outside.iterdir()] == ["kept"]
    assert (outside / "kept").read_text() == "kept"


EVIL = (
    "<img src=x onerror=alert(1)> `](javascript:alert(1)) | ![a](http://x) $\\frac$ **b** &lt; _i_ \n\n# HEADING\n"
    "\x1b]0;pwned\x07\x1b[2J\x9b31m\u202eright to left\u2066 [red]rich[/red] \ud800 www.x.org a@b.org"
)


def without_libraries(page: str) -> str:
    return re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)


def test_names_and_reasons_are_text_and_nothing_else(tmp_path: Path) -> None:
    rows = [
        *BASE[:1],
        BASE[1] | {"trust": [EVIL]},
        BASE[2] | {"summary": EVIL},
        BASE[3] | {"reason": EVIL, "remedy": f"rm ` {EVIL}", "variant": "alternating"},
        BASE[3] | {"quantity": "latency", "reason": "=HYPERLINK(1)", "variant": "cross"},
    ]
    folder = written(tmp_path / "run", [*rows])
    (folder / folders.ENVIRONMENT).write_text(json.dumps({"device": EVIL}))
    shown = page.write(folder).read_text()
    assert "<img" not in shown
    assert not re.search(
        r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", without_libraries(shown)
    )
    text = (folder / "REPORT.md").read_text()
    # what is left are the page's own marks
    assert not re.search(r"<(?!/?code>)", text)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", text)
    assert "HEADING" in text
    assert not re.search(r"^\s*#+ HEADING", text, re.MULTILINE)
    assert "](javascript" not in text
    assert "://" not in text
    links = re.findall(r"(?<!\\)\]\(([^)]*)\)", text)
    assert all((folder / link).exists() for link in links)
    csv = "".join(path.read_text() for path in (folder / "tables").glob("*.csv"))
    assert not re.search(r'(^|[,"])[=@+]', csv, re.MULTILINE)
    printed = Console(file=io.StringIO(), force_terminal=True, width=200)
    printed.print(Group(*terminal.words(tables.make(store.read(folder)))))
    shown = re.sub(r"\x1b\[[0-9;]*m", "", printed.file.getvalue())  # type: ignore[attr-defined]  # a StringIO
    assert "[red]rich[/red]" in shown.replace("\n", "")
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]", shown)


def test_an_ordinary_sentence_is_left_as_it_is() -> None:
    for text in (
        "parallel[affinity=linear]: peak_memory of 3.5 MiB (95 %)",
        "took 12 s; see f(x) -> y",
        "by 3.2 points",
    ):
        assert escape.prose(text) == text.replace(">", "&gt;")
        assert escape.code(text.replace(">", "")) == f"`{text.replace('>', '')}`"
    assert escape.prose("# a") == "\\# a"
    assert escape.prose("- a") == "\\- a"
    assert escape.prose("1. a") == "1\\. a"


@pytest.mark.slow
def test_every_committed_run_is_read_and_written_back_the_same() -> None:
    assert REFERENCES
    for folder in REFERENCES:
        lines = (folder / store.FILE).read_text().splitlines()[1:]
        for line, record in zip(lines, store.read(folder), strict=True):
            assert json.loads(line) == json.loads(encode(record))
            same = escape.record(record)
            for name in ("summary", "reason", "trust"):
                assert "<" in line or getattr(record, name, "") == getattr(same, name, "")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
    | st.sampled_from([EVIL, "", "latency", "s", "../x", 10**400, -1, 0, 1e308, [], {}]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip
FIELDS = sorted({name for row in BASE for name in row} | {"severity", "limit", "rounds", "zzz"})


@pytest.mark.slow
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, len(BASE) - 1), name=st.sampled_from(FIELDS), value=VALUES, drop=st.booleans())
@example(at=0, name="workload", value=None, drop=True)
def test_a_changed_field_is_shown_or_refused(tmp_path: Path, at: int, name: str, value: object, drop: bool) -> None:
    row = {key: old for key, old in BASE[at].items() if not (drop and key == name)} | ({} if drop else {name: value})
    folder = written(tmp_path, [*BASE[:at], row, *BASE[at + 1 :]])
    said = refusal(lambda: store.read(folder))
    assert said.isprintable()
    if not said:
        made = tables.make(store.read(folder))
        inert = escape.tables(made)
        page._page(inert, [], page._long(inert, ""), {}, title="x")
        terminal.words(made)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), times=st.integers(1, 4))
def test_changed_bytes_are_shown_or_refused(tmp_path: Path, seed: int, times: int) -> None:
    draw = random.Random(seed)
    data = bytearray((written(tmp_path, [*BASE]) / store.FILE).read_bytes())
    for _ in range(times):
        at = draw.randrange(len(data))
        match draw.randrange(4):
            case 0:
                data[at] = draw.randrange(256)
            case 1:
                del data[at : at + draw.randrange(1, 40)]
            case 2:
                data[at:at] = data[draw.randrange(len(data)) :][: draw.randrange(1, 200)]
            case _:
                data[at:at] = draw.choice([b"\0", b"\n", b"NaN", b"1e999", b'"', b"[" * 3000, b"\xff", b"-"])
    (tmp_path / store.FILE).write_bytes(data)
    said = refusal(lambda: store.read(tmp_path))
    assert said.isprintable()
    if not said:
        tables.make(store.read(tmp_path))


def test_a_text_is_one_line_of_visible_characters() -> None:
    record = Skip(task=EVIL, variant="parallel", quantity="all", reason=EVIL, cause="error", details={EVIL: [EVIL]})
    read = decode(encode(record))
    assert isinstance(read, Skip)
    assert read.reason.isprintable()
    assert read.task.isprintable()
    assert all(key.isprintable() for key in read.details)
    assert "\\x1b]0;pwned\\x07" in read.reason


def test_our_own_records_can_always_be_read_again(tmp_path: Path) -> None:
    ours = [
        Measurement(task="t", variant="parallel+bf16", quantity="latency", unit="s", samples=(1e-9, 2), rounds=(0, 1)),
        Finding(
            task="t", quantity="P1n", verdict="known", value=float("inf"), details={"x": float("nan"), "y": (1, 2)}
        ),
        Artifact(task="t", quantity="attention", path="attention/scenes-standard.json"),
    ]
    with store.Writer(tmp_path) as writer:
        writer.write(ours)
    assert len(store.read(tmp_path)) == 3


MEASURED: Row = {"kind": "measurement", **CELL}
LATENCY: Row = MEASURED | {"quantity": "latency", "unit": "s", "samples": [1.0, 1.0], "rounds": [0, 1]}
ACCURACY: Row = MEASURED | {
    "quantity": "accuracy",
    "unit": "1",
    "value": 0.5,
    "details": {"study": "core", "row": "pool", "family": "all", "evaluation": "as_is", "seed": 5},
}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (ACCURACY | {"details": {}}, "accuracy without 'study' among its details"),
        *(
            (ACCURACY | {"details": ACCURACY["details"] | {"seed": seed}}, "its detail 'seed' is ")
            for seed in ("5", 1.5, -1, None, True, [5], 2**70)
        ),
        (ACCURACY | {"details": ACCURACY["details"] | {"row": [1]}}, "its detail 'row' is "),
        (ACCURACY | {"value": 1.5}, "accuracy of 1.5 1; expected at most 1"),
        (LATENCY | {"rounds": []}, "2 samples, but 0 rounds; expected one for each"),
        (LATENCY | {"samples": [1e-300, 1.0]}, "expected at least 1e-12"),
        (MEASURED | {"quantity": "parameters", "unit": "1", "value": 3.0}, "parameters without "),
        (
            MEASURED | {"quantity": "matmul_flops", "unit": "1", "value": -1.0},
            "matmul_flops of -1.0 1; expected at least 0",
        ),
    ],
)
def test_what_a_page_stands_on_is_there_and_of_its_kind(row: Row, message: str) -> None:
    decode(json.dumps(ACCURACY))
    decode(json.dumps(LATENCY))
    with pytest.raises(UserError, match=re.escape(message)):
        decode(json.dumps(row), where="records.jsonl:7")


ROW = {"study": "core", "question": "What?", "data": "d", "row": "pool", "parent": "", "sight": "both", "width": 64}
OF_AN_ABLATION: list[Row] = [
    MEASURED | {"quantity": "parameters", "unit": "1", "value": 9.0, "details": ROW},
    ACCURACY,
    MEASURED | {"quantity": "tested_on", "unit": "1", "details": {"data": "d", "sha256": "ab"}},
    *(
        MEASURED | {"quantity": quantity, "unit": "1", "value": 0.5, "details": details}
        for quantity, details in {
            "training_loss": {"data": "d", "row": "pool", "seed": 5, "learning_rate": 0.1},
            "tuning_accuracy": {"data": "d", "row": "pool", "learning_rate": 0.1},
            "ceiling": {"data": "d", "of": "oracle", "family": "all"},
        }.items()
    ),
]


@pytest.mark.parametrize("row", OF_AN_ABLATION, ids=lambda row: row["quantity"])
def test_what_a_training_found_is_not_there_twice(tmp_path: Path, row: Row) -> None:
    again = row | {"task": "another", "value": 0.25}
    with pytest.raises(UserError, match=rf"jsonl:8: {row['quantity']} of 'another' stands on line \d already"):
        store.read(written(tmp_path, [*OF_AN_ABLATION, again]))


@pytest.mark.parametrize("what", ["study", "row", "family"])
def test_an_ablation_that_nobody_could_read_is_refused_before_it_is_drawn(tmp_path: Path, what: str) -> None:
    of = "accuracy" if what == "family" else "parameters"
    known = next(row for row in OF_AN_ABLATION if row["quantity"] == of)
    many = [known | {"details": known["details"] | {what: f"number {number}"}} for number in range(400)]
    with pytest.raises(
        UserError, match=r"an ablation of 4\d\d (studies|rows in one study|families of questions)"
    ) as error:
        page.write(written(tmp_path, [*OF_AN_ABLATION, *many]))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "report.html").exists()
