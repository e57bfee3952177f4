"""A page is one file whose scripts are its own, and in which no text of a record is anything but text."""

import base64
import hashlib
import itertools
import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from markupsafe import Markup

from suite.report import tables
from suite.report.html import bench, document, raw
from suite.report.html.document import Page, Screen
from suite.selfcheck import many_records

SPEC = {"mark": "point", "data": {"values": [{"name": "</script><!--"}]}}


def made(**more: object) -> str:
    screen = Screen(id="answer", title="The <answer>", body=Markup("<p>said</p>"))
    figure = document.Figure(id="one", title="One", spec=SPEC)
    return document.document(Page(title="a & b", screens=[screen], figures=[figure], **more))  # type: ignore[arg-type]


def test_the_policy_names_every_script_and_no_other_source() -> None:
    text = made()
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    assert policy is not None
    said = policy[1].replace("&#39;", "'")
    assert said.startswith("default-src 'none'; ")
    assert "http" not in said
    assert "unsafe-eval" not in said
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    assert len(scripts) == 4
    for script in scripts:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in said


def test_a_page_without_charts_holds_no_library() -> None:
    screen = Screen(id="answer", title="The answer", body=Markup("<p>said</p>"))
    assert len(document.document(Page(title="small", screens=[screen]))) < 60_000


def test_titles_are_text() -> None:
    assert "<title>a &amp; b</title>" in made()
    assert "The &lt;answer&gt;" in made()
    # a folder may have any name, also one that turns around what is read after it
    turned = document.document(Page(title="a\u202eb\n<c>", screens=[Screen(id="x", title="X", body=Markup())]))
    assert "<title>a\\u202eb &lt;c&gt;</title>" in turned


@settings(max_examples=30)
@given(
    some.recursive(
        some.text() | some.integers() | some.none(),
        lambda inner: some.lists(inner) | some.dictionaries(some.text(), inner),
    )
)
def test_data_in_a_script_ends_no_script_and_is_read_as_it_was(value: object) -> None:
    text = str(document.in_script(value))
    assert not set("<>&") & set(text)
    assert json.loads(text) == value


def test_a_number_that_is_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        document.in_script(float("nan"))


@given(some.text(alphabet="<>&'\"`*_ ab/"))
def test_a_sentence_makes_no_elements_but_three(text: str) -> None:
    shown = str(document.inline(text))
    assert set(re.findall(r"<[^>]*>", shown)) <= {
        f"<{end}{name}>" for end in ("", "/") for name in ("strong", "em", "code")
    }


def test_names_and_strong_words_are_marked() -> None:
    shown = document.inline("Fastest: **a+b**, beside `parallel` <i> *well*")
    assert shown == Markup("Fastest: <strong>a+b</strong>, beside <code>parallel</code> &lt;i&gt; <em>well</em>")


def test_the_vendored_files_are_what_their_licences_speak_of() -> None:
    licences = document._text("vendor/LICENSES.txt")
    for name in document.VENDORED:
        version = re.search(r'version\s*=\s*"(\d+\.\d+\.\d+)"', document._text(f"vendor/{name}"))
        assert name.removesuffix(".min.js") in licences
        assert version is None or version[1] in licences


@pytest.mark.slow
def test_a_page_of_a_hundred_thousand_records_is_below_ten_megabytes_by_the_law_of_its_growth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # beyond these the samples stay in the records, and so add nothing to a large page
    monkeypatch.setattr(raw, "MOST_SAMPLES", 0)
    sizes = {}
    for count in (7_200, 9_600):  # more places than have charts
        made = list(itertools.islice(many_records.records(), count))
        sizes[count] = len(document.document(bench.page(tmp_path, tables.make(made), made, {})))
    a_record = (sizes[9_600] - sizes[7_200]) / 2_400
    assert sizes[9_600] + (100_000 - 9_600) * a_record < 10e6, sizes
