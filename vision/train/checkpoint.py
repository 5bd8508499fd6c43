"""A training that can go on: weights, moments of the optimisers and what must be known of them, in one safetensors
file that is replaced as a whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a file holds."""

    weights: dict[str, Tensor]
    moments: dict[int, dict[int, dict[str, Tensor]]]
    """Optimiser, parameter, name."""
    about: dict[str, str]
    """`step`, and what the trainer added."""

    @property
    def step(self) -> int:
        return int(self.about["step"])


def save_checkpoint(path: Path, weights: Mapping[str, Tensor], optimisers: Sequence[torch.optim.Optimizer], step: int,
                    about: Mapping[str, str] | None = None) -> None:
    """Writes a checkpoint in the place of the one before."""
    tensors = {f"model.{name}": value for name, value in weights.items()}
    for which, optimiser in enumerate(optimisers):
        for index, state in optimiser.state_dict()["state"].items():
            tensors |= {f"{which}.{index}.{name}": torch.as_tensor(value) for name, value in state.items()}
    temporary = path.with_suffix(".part")
    save_file({name: value.detach().contiguous().cpu() for name, value in tensors.items()}, temporary,
              {"step": str(step), **(about or {})})
    temporary.replace(path)


def read_checkpoint(path: Path) -> Checkpoint:
    """What `save_checkpoint` wrote. A damaged file raises what the library raises."""
    found = Checkpoint({}, {}, {})
    with safe_open(path, "pt") as file:
        found.about.update(file.metadata() or {})
        for key in file.keys():  # noqa: SIM118  (the file is not iterable)
            kind, _, rest = key.partition(".")
            if kind == "model":
                found.weights[rest] = file.get_tensor(key)
            else:
                index, _, name = rest.partition(".")
                found.moments.setdefault(int(kind), {}).setdefault(int(index), {})[name] = file.get_tensor(key)
    return found


def restore_moments(checkpoint: Checkpoint, optimisers: Sequence[torch.optim.Optimizer]) -> None:
    """Gives each optimiser its moments back."""
    for which, optimiser in enumerate(optimisers):
        optimiser.load_state_dict({"state": checkpoint.moments.get(which, {}),
                                   "param_groups": optimiser.state_dict()["param_groups"]})
