"""Everything that may be asked for is listed."""

from io import StringIO

from rich.console import Console, Group

from suite import catalogue
from suite.core.workloads import PRESETS, WORKLOADS
from variants import mechanisms
from variants.transforms import TRANSFORMS


def test_the_list_has_a_line_for_every_word_that_a_name_or_an_option_may_say() -> None:
    text = StringIO()
    Console(file=text, width=200).print(Group(*catalogue.words(catalogue.sections())))
    first_words = {line.split()[0] for line in text.getvalue().splitlines() if line.strip()}
    assert first_words >= {*mechanisms(), *WORKLOADS, *PRESETS, *(f"+{name}" for name in TRANSFORMS)}
    for mechanism in mechanisms().values():
        assert all(f"-{part}" in text.getvalue() for part in mechanism.parts)


def test_defaults_are_spelt_as_the_grammar_reads_them() -> None:
    text = StringIO()
    Console(file=text, width=200).print(Group(*catalogue.words(catalogue.sections())))
    assert "hidden=none, affinity=tanh, bias=false" in text.getvalue()
