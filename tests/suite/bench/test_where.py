"""Where jobs run is said by three options and a small file; what cannot be is refused before anything is done."""

from pathlib import Path

import pytest

from suite.bench import where as locations
from suite.bench.where import Where
from suite.core.errors import UserError


@pytest.mark.parametrize(
    ("where", "device", "message"),
    [
        (Where(executor="kubernetes"), "cpu", "--executor kubernetes: expected local, ray or slurm"),
        (Where(at="10.0.0.1:6379"), "cpu", "--at 10.0.0.1:6379 has no effect here: it goes with --executor ray"),
        (Where(file=Path("c.toml")), "cpu", "--cluster c.toml has no effect here"),
        (Where(executor="slurm", at="10.0.0.1"), "cpu", "--at 10.0.0.1 has no effect here: Slurm is found by"),
        (Where(executor="ray"), None, "--executor ray needs --device cpu or --device cuda"),
        (Where(executor="ray", file=Path("nowhere.toml")), "cpu", "holds no nowhere.toml"),
    ],
)
def test_what_goes_with_nothing_is_one_line(where: Where, device: str | None, message: str) -> None:
    with pytest.raises(UserError, match=message.replace(".", r"\.")):
        locations.check(where, device)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[slurm]\npartitoin = 'gpu'", "unknown key 'partitoin': expected partition, account"),
        ("[ray]\nbeside = 'many'", "beside = many: expected a whole number above 0"),
        ("[ray]\nbeside = 0", "beside = 0: expected a whole number above 0"),
        ("[ray]\nbeside = true", "beside = True: expected a whole number above 0"),
        ("[slurm]\ngres = []", "gres = .*: expected a text in quotes, or a list of them"),
        ("[slurm]\nconstraint = ['fast', 3]", "constraint = .*: expected a text in quotes, or a list of them"),
        ("[slurm]\nsetup = 'module load cuda'", "setup = module load cuda: expected a list of texts"),
        ("[pbs]\nqueue = 'gpu'", r"'pbs' is none of its tables: expected \[ray\] or \[slurm\]"),
        ("beside = 3", "'beside' is none of its tables"),
        ("[slurm\n", "not TOML"),
    ],
)
def test_what_is_wrong_in_the_file_is_named(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "cluster.toml"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        locations.check(Where(executor="slurm", file=path), "cpu")


def test_a_file_may_hold_tables_of_several_executors(tmp_path: Path) -> None:
    path = tmp_path / "cluster.toml"
    path.write_text("[ray]\nwait_s = 30\n[slurm]\ngres = ['gpu:h100:1', 'gpu:a100:1']\nsetup = ['module load cuda']\n")
    locations.check(Where(executor="slurm", file=path), "cuda")


def test_this_machine_needs_to_be_told_nothing() -> None:
    locations.check(Where(), None)
    assert Where().options == ""
    assert Where(executor="ray", at="a:1", file=Path("c.toml")).options == " --executor ray --at a:1 --cluster c.toml"
    assert (
        Where(executor="slurm", file=Path("my cluster.toml")).options == " --executor slurm --cluster 'my cluster.toml'"
    )
