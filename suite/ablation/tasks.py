"""The data sets that a study can be asked of: a file each, which holds its task, and a line here."""

from collections.abc import Mapping

from suite.ablation.digits import DigitTask
from suite.ablation.scene_task import SceneTask
from suite.ablation.task import Task
from suite.ablation.vqa2 import Vqa2Task
from suite.core.errors import UserError

TASKS: Mapping[str, type[Task]] = {
    "scenes": SceneTask,
    "digits": DigitTask,
    "vqa2": Vqa2Task,
}
"""By the name that ``--data`` gives; the first is what is learnt if nothing is said."""


def of(name: str) -> type[Task]:
    """A data set by its name.

    Raises:
        UserError: none has it.
    """
    if name not in TASKS:
        raise UserError(f"--data {name}: expected one of {', '.join(TASKS)}")
    return TASKS[name]


def opened(name: str, root: str | None) -> Task:
    """The task of a data set.

    Raises:
        UserError: there is none of that name, or it needs files and no folder is given, or the other way round.
    """
    kind = of(name)
    if kind.files and root is None:
        raise UserError(f"--data {name} needs --root DIR, the folder with {kind.files}")
    if not kind.files and root is not None:
        with_files = " or ".join(f"--data {other}" for other, task in TASKS.items() if task.files)
        raise UserError(f"--root {root} goes with {with_files}; {name} needs no files")
    return kind.at(root)
