"""A file of the user's own is told of, and never run here; what is wrong with it is one line that names it."""

import os
import sys
from pathlib import Path

import pytest

from suite.bench import estimate, request
from suite.bench.request import Request
from suite.core import user_files
from suite.core.errors import UserError
from suite.core.workloads import WORKLOADS
from variants import canonical, mechanisms, registry
from variants.build import option_types
from variants.spec import Spec

MECHANISM = """
from typing import Literal
import torch
from torch import nn
from helper_beside_it import scale
from variants import Attended, CoAttention, KnownDefect, register
from variants.masking import masked_mean

@register("{name}")
class Own(CoAttention):
    source = "a test"
    parts = ("gate",)
    known_defects = (KnownDefect(property="P1", output="image", summary="it leaks"),)

    def __init__(self, *, image_width, question_width, without=(), hidden: int | None = None,
                 kind: Literal["soft", "hard"] = "soft"):
        super().__init__(image_width=image_width, question_width=question_width, without=without)
        if hidden == 13:
            raise ValueError("thirteen is not to be had")
        self.gate = nn.Linear(question_width, image_width)

    def forward(self, batch):
        v, a_v = masked_mean(batch.image, batch.image_valid)
        q, a_q = masked_mean(batch.question, batch.question_valid)
        return Attended(v[:, None], q[:, None], a_v[:, None], a_q[:, None])

    def matmul_flops(self, examples, regions, words):
        return 1000 * examples
"""


@pytest.fixture(autouse=True)
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_MECHANISMS", mechanisms())


def written(folder: Path, name: str, text: str | bytes = MECHANISM) -> str:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.replace("{name}", path.stem.replace("-", "_")).encode())
    (folder / "helper_beside_it.py").write_text("scale = 1.0\n")
    return str(path)


def test_what_a_file_registers_can_be_asked_for_and_does_not_run_here(tmp_path: Path) -> None:
    path = written(tmp_path, "own.py")
    modules, searched = set(sys.modules), list(sys.path)
    asked = request.understand(
        Request(variants=("own[hidden=13]", "own[kind=hard]-gate+bf16", "parallel"), workloads=("tiny",), files=(path,))
    )
    assert [str(wanted.spec) for wanted in asked.variants] == ["own[hidden=13]", "own[kind=hard]-gate+bf16", "parallel"]
    assert not {name for name in set(sys.modules) - modules if "own" in name or "helper" in name}
    assert sys.path == searched
    known = mechanisms()["own"]
    assert known.source == "a test"
    assert known.known_defects[0].summary == "it leaks"
    assert option_types(known).keys() == {"hidden", "kind"}
    with pytest.raises(ValueError, match="sets kind=solid: expected soft or hard"):
        canonical("own[kind=solid]")
    with pytest.raises(AssertionError, match="is a user's: it runs in a process of its own"):
        known(image_width=8, question_width=8)
    # what estimates stand on was told too
    speed, tiny = estimate.Speed(), WORKLOADS["tiny"]
    assert speed.impossible(Spec("own", (("hidden", "13"),)), tiny) == "thirteen is not to be had"
    assert not speed.impossible(canonical("own[kind=hard]-gate+bf16"), tiny)
    assert user_files.needed((path, "other.py"), ["own"]) == (path, "other.py")
    assert user_files.needed((path,), ["parallel"]) == ()


def test_a_file_alone_is_asked_for_whole(tmp_path: Path) -> None:
    asked = request.understand(Request(files=(written(tmp_path, "own.py"),)))
    assert asked.variants[0].spec == Spec("own")


@pytest.mark.parametrize("name", ["a-b.py", "x.y.py", "größe.py", "with space.py", "types.py", "[bold]x.py", "'q'.py"])
def test_odd_names_of_files_are_names(name: str, tmp_path: Path) -> None:
    request.introduce([written(tmp_path, name, MECHANISM.replace("{name}", "own"))])
    assert user_files.mechanism_file("own") == str(tmp_path / name)


def test_two_files_of_one_name_are_two_files(tmp_path: Path) -> None:
    files = [
        written(tmp_path / folder, "own.py", MECHANISM.replace("{name}", f"own_{folder}")) for folder in ("a", "b")
    ]
    request.introduce(files)
    assert [user_files.mechanism_file(f"own_{folder}") for folder in ("a", "b")] == files


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import sys; sys.exit(0)", "line 1: SystemExit: 0"),
        ("import sys\nsys.exit('bye')", "line 2: SystemExit: bye"),
        ("import os; os._exit(0)", "ended with exit code 0"),
        ("import os; print('the reason', flush=True); os._exit(7)", "ended with exit code 7: the reason"),
        ("import ctypes; ctypes.string_at(0)", "ended by SIGSEGV"),
        ("raise KeyboardInterrupt", "line 1: KeyboardInterrupt"),
        ("raise BaseException('base')", "line 1: BaseException: base"),
        ("raise type('E', (Exception,), {'__str__': lambda s: 1 / 0})()", "its message cannot be read"),
        ("raise RuntimeError('one\\ntwo \\x1b[31m')", "RuntimeError: one two [31m"),
        ("def f(:", "SyntaxError: invalid syntax"),
        (b"\xff\xfe\x00 bad", "SyntaxError: "),
        ("import nowhere_to_be_found", "ModuleNotFoundError: No module named 'nowhere_to_be_found'"),
        ("x = 1", "it registers no mechanism"),
        (MECHANISM.replace("{name}", "parallel"), "'parallel' already names variants.parallel.Parallel"),
        (MECHANISM.replace("{name}", "../x"), "'../x' is not a variant's name"),
        (MECHANISM.replace('    source = "a test"\n', ""), "expected a class attribute 'source'"),
        (MECHANISM.replace("def forward(", "def backward("), "expected forward to be defined"),
        (MECHANISM.replace("hidden: int | None = None", "hidden: int"), "expected a default for the option 'hidden'"),
        ("from variants import register\nregister('thing')(int)", "expected a class that extends CoAttention"),
        ("from variants import register\nregister(5)", "line 2: TypeError: @register(5): expected a name, as in"),
        ("from variants import register\n@register\nclass A: pass", 'A\'>): expected a name, as in @register("gated")'),
        (
            "from variants import register\nregister('thing')('x')",
            "'thing') is given 'x': expected a class that extends",
        ),
        ("class K(KeyboardInterrupt): pass\nraise K", "line 2: K"),
        (
            "class E(Exception):\n    def __str__(self): raise SystemExit\nraise E",
            "E: its message cannot be read, SystemE",
        ),
        (f"raise type('A\\x1b[2J' + 'B' * 500, (Exception,), {{}})('x' * {10**6})", "line 1: A [2JBBB"),
        ("def f(): f()\nf()", "RecursionError"),
        ("import os\nos.execv('/bin/true', ['true'])", "ended with exit code 0"),
        ("import os, signal\nos.kill(os.getppid(), signal.SIGKILL)\nimport time; time.sleep(9)", "ended by SIGKILL"),
        ("import os, sys\nos.write = lambda *_: 0\nsys.exit('said all the same')", "SystemExit: said all the same"),
        (MECHANISM.replace("{name}", "a" * 101), f"{'a' * 101}: ValueError: a name of 101 characters"),
        (MECHANISM + f"# {'x' * 2**24}", "a Python file of 16 MiB; expected 16 MiB at most"),
    ],
    ids=range(31),
)
def test_what_is_wrong_with_a_file_is_one_line_that_names_it(text: str, said: str, tmp_path: Path) -> None:
    path = written(tmp_path, "own.py", text)
    with pytest.raises(UserError) as caught:
        request.understand(Request(files=(path,)))
    assert str(caught.value).startswith(f"--with {path}: ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "own" not in mechanisms()


def test_the_file_at_fault_is_named_among_several(tmp_path: Path) -> None:
    good, bad = written(tmp_path, "own.py"), written(tmp_path, "bad.py", "import os; os._exit(0)")
    with pytest.raises(UserError, match=r"bad\.py: ended with exit code 0"):
        request.understand(Request(files=(good, bad)))


def test_a_file_that_hangs_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request, "_LONGEST_LOAD_S", 1.0)
    with pytest.raises(UserError, match=r"own\.py: no end after"):
        request.introduce([written(tmp_path, "own.py", "import time; time.sleep(1000)")])


def test_a_file_that_is_not_there_is_refused_before_a_process_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request.guest, "stream", lambda *_, **__: pytest.fail("no file is there to be run"))
    with pytest.raises(UserError, match="there is no such file"):
        request.introduce([written(tmp_path, "own.py"), str(tmp_path / "nowhere.py")])


def test_a_file_given_twice_or_not_there_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "own.py")
    with pytest.raises(UserError, match="is given twice"):
        request.introduce([path, os.path.relpath(path)])
    os.mkfifo(tmp_path / "fifo.py")
    (tmp_path / "loop.py").symlink_to("loop.py")
    for name in ("nowhere.py", "loop.py"):
        with pytest.raises(UserError, match="there is no such file"):
            request.introduce([str(tmp_path / name)])
    for name in ("fifo.py", "."):
        with pytest.raises(UserError, match="it is no ordinary file"):
            request.introduce([str(tmp_path / name)])
    with pytest.raises(UserError, match=r"--with .*: File name too long"):
        request.introduce([str(tmp_path / f"{'x' * 300}.py")])
    with pytest.raises(UserError, match=r"expected a Python file, ending in \.py"):
        request.introduce([written(tmp_path, "own.txt")])


@pytest.mark.parametrize("told", [{}, {"name": 5}, {"name": "x", "options": 3}])
def test_what_a_file_makes_up_about_a_mechanism_is_its_mistake_and_not_ours(
    told: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request.guest, "stream", lambda *_, **__: [{"mechanism": told}])
    with pytest.raises(UserError, match=r"own\.py: it wrote into the pipe of its answers"):
        request.introduce([written(tmp_path, "own.py")])
