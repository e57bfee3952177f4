"""The audit in a user's own test-suite."""

from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial

from suite.audit.findings import findings, settled, why_nothing
from suite.audit.properties import PROPERTIES, examine
from suite.audit.reading import NotUnderstood, understand
from suite.audit.reading.doubt import doubted
from suite.audit.reading.understanding import Understood
from suite.core.records import Finding


class NothingJudged(Exception):
    """Of no property could it be told whether it holds: the command ends with 2 then, and a test must not pass.

    It is no ``AssertionError``: nothing was found wrong, and a test that expects the failure of a module which is
    known to be wrong, as ``with pytest.raises(AssertionError): assert_masked(Leaks)``, must not take this for it.
    """


def judge(target: object, *, only: Iterable[str] | None = None, seed: int = 0) -> tuple[Finding, ...]:
    """What the audit finds in a module, a class or factory of one, or an `Adapter`.

    Args:
        target: what to audit.
        only: ids of properties, such as ``P1``; all of them unless given.
        seed: of the batches.

    Raises:
        NotUnderstood: its signature is none of the usual forms; the message holds the adapter to write.
    """
    return _judged(understand(target), only, seed)


def _judged(understood: Understood, only: Iterable[str] | None, seed: int = 0) -> tuple[Finding, ...]:
    subject = understood.subject
    outcomes = examine(subject, seed=seed, only=only)
    found = findings(subject, outcomes, task="audit", device=subject.device.type, seed=seed)
    return tuple(doubted(found, understood.doubts))


def assert_masked(
    target: object, *, strict: bool = False, only: Iterable[str] | None = None, allow: Iterable[str] = (), seed: int = 0
) -> None:
    """Fail unless a module is masked correctly.

    Args:
        target: a module, a class or factory of one, or an `Adapter`.
        strict: whether what is merely fragile (NaN in pads, empty rows, half precision, odd shapes) fails too.
        only: ids of properties; all of them unless given.
        allow: ids of properties that may be broken.
        seed: of the batches.

    Raises:
        AssertionError: a property is broken; says which, by how much, where, and what usually causes it.
        NothingJudged: of no property could it be told whether it holds; says why.
        NotUnderstood: its signature is none of the usual forms; the message holds the adapter to write.
    """
    found = judge(target, only=only, seed=seed)
    _refuse_doubts(found)
    broken = [
        f"{finding.quantity} ({finding.severity}): {finding.summary}"
        for finding in found
        if finding.verdict == "broken" and (strict or finding.severity == "wrong") and finding.quantity not in allow
    ]
    assert not broken, "\n".join(["it is not masked correctly:", *broken])
    _refuse_nothing(found)


def _refuse_doubts(found: Sequence[Finding]) -> None:
    doubt = next((finding for finding in found if finding.details.get("doubted")), None)
    if doubt is not None:
        raise NotUnderstood(f"it cannot be judged: {doubt.summary}")


def _refuse_nothing(found: Sequence[Finding]) -> None:
    if not settled(found):
        raise NothingJudged(f"whether it is masked correctly cannot be judged: {why_nothing(found)}")


def property_tests(target: object, *, strict: bool = False) -> Callable[[str], None]:
    """One test per property, as ``test_masking = property_tests(MyModule)``; what cannot be told is skipped.

    A test of its own, ``any``, fails where nothing can be told of any property, since skipped tests look well.

    Args:
        target: a module, a class or factory of one, or an `Adapter`.
        strict: whether what is merely fragile fails too; else it is an expected failure.
    """

    import pytest  # only a test-suite has it

    read = cache(partial(understand, target))  # once for all of them, and not before the first runs

    @cache
    def examined(id: str) -> Finding:
        return _judged(read(), [id])[0]

    @pytest.mark.parametrize("id", ["any", *(item.id for item in PROPERTIES)])
    def test_masking(id: str) -> None:
        if id == "any":
            found: list[Finding] = []
            for item in PROPERTIES:  # the first as a rule
                found.append(examined(item.id))
                if settled(found):
                    return
            _refuse_nothing(found)
            return
        finding = examined(id)
        _refuse_doubts([finding])
        if finding.verdict in ("not applicable", "not judged", "unclear"):
            pytest.skip(finding.summary)
        if finding.verdict == "broken":
            if finding.severity == "fragile" and not strict:
                pytest.xfail(finding.summary)
            pytest.fail(f"{finding.quantity} ({finding.severity}): {finding.summary}", pytrace=False)

    return test_masking
