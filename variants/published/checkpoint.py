"""A published state dict, asked for the sizes that its weights fix and the options that they do not."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

_COUNT = "num_batches_tracked"
"""How many batches a normalisation has seen, as torch ends its name."""
T = TypeVar("T", bool, int, str)
M = TypeVar("M", bound=nn.Module)

Config = Mapping[str, object]
"""What the published configuration says, by its own names; entries that say nothing about the module are ignored."""


@dataclass(frozen=True, kw_only=True)
class Adapted:
    """What a published mechanism has to be built with for a checkpoint's weights."""

    options: Mapping[str, int | str | bool]
    """By name, without ``corrected``."""
    image_width: int
    question_width: int
    left_out: tuple[str, ...] = ()
    """Beginnings of names that the mechanism has no use for, such as an answer's."""


class Checkpoint:
    """Weights by their published names, with the configuration beside them.

    Args:
        source: such as ``dcn/stack``, quoted in errors.
        state_dict: the weights.
        config: the published configuration.
    """

    def __init__(self, source: str, state_dict: Mapping[str, Tensor], config: Config) -> None:
        self.source = source
        self.state_dict = state_dict
        self.config = config

    def size(self, name: str, axis: int, *, config: str | None = None, times: int = 1) -> int:
        """The size of a weight's axis divided by ``times``; what the configuration calls ``config`` has to agree.

        Raises:
            ValueError: the weight is missing, has no such axis, or disagrees with the configuration.
        """
        shape = list(self.weight(name).shape)
        if axis >= len(shape) or shape[axis] % times:
            raise ValueError(f"{name} of {self.source} has shape {shape}: axis {axis} has to be a multiple of {times}")
        found = shape[axis] // times
        stated = self.config.get(config, found) if config else found
        if stated != found:
            raise ValueError(f"the config of {self.source} says {config}={stated}, but {name} has shape {shape}")
        return found

    def weight(self, name: str) -> Tensor:
        """A weight by name.

        Raises:
            ValueError: it is missing.
        """
        if name not in self.state_dict:
            raise ValueError(f"the state dict of {self.source} has no {name!r}; it has {_some(self.state_dict)}")
        return self.state_dict[name]

    def count(self, pattern: str) -> int:
        """How many members a list of modules has: one more than the largest number in the pattern's group."""
        found = [int(match[1]) for name in self.state_dict if (match := re.match(pattern, name))]
        return max(found, default=-1) + 1

    def option(self, key: str, default: T) -> T:
        """What the configuration says and no weight can.

        Raises:
            ValueError: it is of another type than the default.
        """
        value = self.config.get(key, default)
        if not isinstance(value, type(default)):
            raise ValueError(f"the config of {self.source} says {key}={value!r}: expected {type(default).__name__}")
        return value

    def load(self, module: M) -> M:
        """Give the weights to the module, in their own dtype.

        Raises:
            ValueError: listing every name that is missing or unexpected and every shape that does not fit.
        """
        fit(module, self.state_dict, what=f"the state dict of {self.source}")
        return module


def fit(module: nn.Module, state_dict: Mapping[str, Tensor], *, what: str) -> None:
    """Load every weight by name into a module, which takes their dtype.

    Raises:
        ValueError: listing every name that is missing or unexpected and every shape that does not fit.
    """
    expected = module.state_dict()
    # torch fills in the count of batches, which older files lack, and which computes nothing where it is left over
    missing = [name for name in expected if name not in state_dict and not name.endswith(_COUNT)]
    given = {name: weight for name, weight in state_dict.items() if name in expected or not name.endswith(_COUNT)}
    unexpected = [name for name in given if name not in expected]
    misshapen = [
        f"{name} has shape {list(state_dict[name].shape)}: expected {list(weight.shape)}"
        for name, weight in expected.items()
        if name in state_dict and state_dict[name].shape != weight.shape
    ]
    problems = [
        *([f"lacks {', '.join(missing)}"] if missing else []),
        *([f"has {', '.join(unexpected)}, which nothing there takes"] if unexpected else []),
        *misshapen,
    ]
    if problems:
        raise ValueError(f"{what} does not fit {type(module).__name__}: {'; '.join(problems)}")
    dtypes = {weight.dtype for weight in state_dict.values() if weight.is_floating_point()}
    module.to(max(dtypes, key=lambda dtype: torch.finfo(dtype).bits))
    module.load_state_dict(given)


def renamed(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights under the names that ``weight_norm`` gave before it became a parametrisation."""
    named = {}
    for name, weight in weights.items():
        owner, parametrised, rest = name.partition("parametrizations.")
        if parametrised:
            inner, _, number = rest.rpartition(".original")
            name = f"{owner}{inner}_{'g' if number == '0' else 'v'}"
        named[name] = weight
    return named


def _some(state_dict: Mapping[str, Tensor]) -> str:
    names = list(state_dict)
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "") if names else "nothing"
