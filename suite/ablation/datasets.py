"""The data sets that a study can be asked of: a file each, and a line here."""

from collections.abc import Mapping

from suite.ablation.dataset import Dataset
from suite.ablation.digits import DigitDataset
from suite.ablation.scene_dataset import SceneDataset
from suite.ablation.vqa2 import Vqa2Dataset
from suite.core.errors import UserError

DATASETS: Mapping[str, type[Dataset]] = {
    "scenes": SceneDataset,
    "digits": DigitDataset,
    "vqa2": Vqa2Dataset,
}
"""By the name that ``--data`` gives; the first is what is learnt if nothing is said."""


def of(name: str) -> type[Dataset]:
    """A data set by its name.

    Raises:
        UserError: none has it.
    """
    if name not in DATASETS:
        raise UserError(f"--data {name}: expected one of {', '.join(DATASETS)}")
    return DATASETS[name]


def opened(name: str, root: str | None) -> Dataset:
    """The data set of that name.

    Raises:
        UserError: there is none of that name, or it needs files and no folder is given, or the other way round.
    """
    kind = of(name)
    if kind.files and root is None:
        raise UserError(f"--data {name} needs --root DIR, the folder with {kind.files}")
    if not kind.files and root is not None:
        with_files = " or ".join(f"--data {other}" for other, dataset in DATASETS.items() if dataset.files)
        raise UserError(f"--root {root} goes with {with_files}; {name} needs no files")
    return kind.at(root)
