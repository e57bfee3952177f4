"""Audit the public modules, compare each answer with a padding test of its own, and write the page.

    python results/reference/public-modules/audit_all.py                    # everything whose package is installed
    python results/reference/public-modules/audit_all.py Blip LightGlue     # those whose name holds one of these
    python results/reference/public-modules/audit_all.py --page             # the page alone, from the records

A module is first audited as it is. Where the audit does not judge it so, or where the case is one way to call it, it is
audited through an adapter that makes the call of its truth. Records of modules that are not audited again are kept.
"""

import argparse
import json
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parents[2])]
RECORDS = HERE / "audits.jsonl"
LETTERS = 400
"""Of one sentence of the audit that is kept."""
LIMIT_S = 120
"""Of one audit; past it, the module is not judged."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("only", nargs="*", help="parts of names")
    parser.add_argument("--page", action="store_true", help="write the page from the records, and audit nothing")
    asked = parser.parse_args()
    records = {record["module"]: record for record in _lines()}
    if not asked.page:
        for record in audited(asked.only):
            records[record["module"]] = record
            write(list(records.values()))
            print(f"{record['outcome']:14} {record['module']}", flush=True)
    from page import page

    (HERE / "README.md").write_text(page(list(records.values())))
    wrong = [record for record in records.values() if record["outcome"] in ("accused", "missed")]
    print(f"{len(records)} modules; {len(wrong)} answered against the truth")
    sys.exit(1 if wrong else 0)


def _lines() -> list[dict[str, Any]]:
    return [json.loads(line) for line in RECORDS.read_text().splitlines()] if RECORDS.exists() else []


def write(records: list[dict[str, Any]]) -> None:
    from public_modules import CASES

    order = {case.name: place for place, case in enumerate(CASES)}
    kept = sorted((r for r in records if r["module"] in order), key=lambda r: order[r["module"]])
    RECORDS.write_text("".join(json.dumps(record) + "\n" for record in kept))


def audited(only: list[str]) -> Iterator[dict[str, Any]]:
    import torch
    from public_modules import CASES
    from public_modules.truth import broken, truth

    warnings.simplefilter("ignore")  # of the packages, about their own settings
    torch.set_num_threads(1)
    for case in CASES:
        if only and not any(word.lower() in case.name.lower() for word in only):
            continue
        version = case.version()
        if version is None:
            print(f"{'not installed':14} {case.name}: pip install {case.package}", flush=True)
            continue
        moved = truth(case)
        record: dict[str, Any] = {
            "module": case.name,
            "package": case.package,
            "version": version,
            "torch": torch.__version__,
            "right": case.right,
            "why": case.why,
            "line": case.line,
            "truth": {name: number(value) for name, value in moved.items()},
            "breaks": list(broken(moved)),
        }
        answers = []
        if case.bare:
            answers.append(answer(case.module, case.name, "as it is"))
        if not answers or answers[-1]["answer"] == "not judged":
            answers.append(answer(lambda case=case: adapter(case), case.name, "through an adapter"))
        record["answers"] = answers
        record["outcome"] = outcome(case.right, answers)
        yield record


def number(value: float) -> float | str:
    return value if value < float("inf") else "inf"


def outcome(right: str, answers: list[dict[str, Any]]) -> str:
    """``agrees``, ``accused`` (a correct module called wrong), ``missed`` (a wrong one not), ``not judged``."""
    given = [each["answer"] for each in answers]
    if right == "wrong":
        if "wrong" in given:
            return "agrees"
        return "not judged" if set(given) == {"not judged"} else "missed"
    unmasked = all(
        each["property"] == "P6"  # that it takes no mask is what is right
        for one in answers
        for each in one["findings"]
        if each["verdict"] == "broken" and each["severity"] == "wrong"
    )
    if "wrong" in given and not (right == "cannot be judged" and unmasked):
        return "accused"
    if right == "cannot be judged":
        return "agrees"
    return "not judged" if set(given) == {"not judged"} else "agrees"


def answer(target: Any, name: str, how: str) -> dict[str, Any]:
    """What the audit says of one target, in its own words."""
    from suite.audit.command import paragraph
    from suite.audit.findings import findings
    from suite.audit.properties import examine
    from suite.audit.reading import NotUnderstood, understand
    from suite.audit.reading.doubt import doubted

    start = time.perf_counter()
    said: dict[str, Any] = {"how": how, "answer": "not judged", "account": [], "says": [], "findings": [], "holds": []}
    try:
        with limited(LIMIT_S):
            understood = understand(target(), name=name)
            subject = understood.subject
            said["account"] = [line[:LETTERS] for line in understood.account]
            rows = findings(subject, examine(subject), task="audit", device="cpu")
            found = tuple(doubted(rows, understood.doubts))
            said["says"] = [line[:LETTERS] for line in [*paragraph(found), *understood.remarks]]
            said["findings"] = [
                {
                    "property": each.quantity,
                    "verdict": each.verdict,
                    "severity": each.severity,
                    "value": each.value,
                    "limit": each.limit,
                    "summary": each.summary[:LETTERS],
                }
                for each in found
                if each.verdict != "holds"
            ]
            said["holds"] = [each.quantity for each in found if each.verdict == "holds"]
            said["answer"] = verdict(said, any(each.details.get("doubted") for each in found))
    except NotUnderstood as error:
        said["says"] = [error.why[:LETTERS]]
    except Late:
        said["says"] = [f"not judged: it took longer than {LIMIT_S} s"]
    except Exception as error:  # whatever it is, the other modules are audited
        last = traceback.extract_tb(error.__traceback__)[-1]
        said["says"] = [f"{type(error).__name__}: {str(error)[:300]} ({Path(last.filename).name}:{last.lineno})"]
        said["crashed"] = True
    said["seconds"] = round(time.perf_counter() - start, 1)
    return said


def verdict(said: dict[str, Any], unsure: bool) -> str:
    """As the exit code has it: wrong before not judged before fragile."""
    broken = {each["severity"] for each in said["findings"] if each["verdict"] == "broken"}
    if "wrong" in broken:
        return "wrong"
    if unsure or not said["holds"]:
        return "not judged"
    return "fragile" if broken else "correct"


def adapter(case: Any) -> Any:
    """The call of the truth as the audit's adapter has it."""
    from suite.audit import Adapter

    module = case.module().float()
    names = [side.name for side in case.sides]

    def call(batch: Any) -> dict[str, Any]:
        x = {name: getattr(batch, name) for name in names}
        valid = {name: getattr(batch, f"{name}_valid") for name in names}
        return {name: out.value for name, out in case.call(module, x, valid).items()}

    told = case.right != "cannot be judged"  # the others take no mask
    return Adapter(
        module,
        call,
        widths={side.name: side.width for side in case.sides},
        masked=[side.name for side in case.sides if told and side.padded],
        lengths={side.name: 1 for side in case.sides if side.length == 1},
    )


class Late(BaseException):
    """The time for one module is over; no ``except Exception`` of an audit may take it for the module's own."""


@contextmanager
def limited(seconds: int) -> Iterator[None]:
    def stop(*_: object) -> None:
        raise Late

    signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)


if __name__ == "__main__":
    main()
