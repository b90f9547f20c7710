"""From a training to a checkpoint, and back."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, Final

import torch

from peftrec.config import InputError
from peftrec.launch import Ranks, all_or_none
from peftrec.models import RecommenderModel
from peftrec.training.checkpoint import Checkpoint, Tensors, write_epochs
from peftrec.training.checkpoint_folder import CheckpointFolder
from peftrec.training.optimizer_kind import flat_state, nested_state
from peftrec.training.planner import Planner
from peftrec.training.state import TrainingState

CHECKPOINTS: Final = Path("private") / "checkpoints"


class Snapshots:
    """Saves a training as it is, and puts it back; all processes do so together, and the first one writes.

    Args:
        folder: of the run; None keeps nothing.
        model: its trained tensors are saved.
        optimizer: moments and step counts of every parameter.
        planner: what it draws by.
        ranks: the processes, each with generators of its own.
        settings: that whoever goes on must have too.
        keep_every: see `CheckpointFolder`.
    """

    def __init__(
        self,
        folder: Path | None,
        model: RecommenderModel,
        optimizer: torch.optim.Optimizer,
        planner: Planner,
        ranks: Ranks,
        *,
        settings: dict[str, Any],
        keep_every: int | None,
    ) -> None:
        self.model, self.optimizer, self.planner, self.ranks = model, optimizer, planner, ranks
        self.settings = settings | {"processes": ranks.count}
        self._run = Path() if folder is None else folder
        self._folder = None if folder is None else CheckpointFolder(folder / CHECKPOINTS, keep_every=keep_every)

    def save(self, state: TrainingState, best: Tensors) -> None:
        """Save a training.

        Args:
            state: how far it has come.
            best: trained tensors of the best epoch so far.
        Raises:
            InputError: if it cannot be written.
        """
        if self._folder is None:
            return
        checkpoint = Checkpoint(
            model=self.model.trained_state(),
            best=best,
            method=_method_state(self.model),
            optimizer=flat_state(self.optimizer),
            random=_random_states(self.model.device, self.ranks),
            tables=self.planner.tables() if state.steps_in_epoch else {},  # an epoch begins with new ones
            state=state,
            settings=self.settings,
        )
        with all_or_none(self.ranks):
            if self.ranks.is_first:
                self._folder.save(checkpoint)
                write_epochs(self._run, state.epochs)

    def load(self) -> tuple[TrainingState, Tensors]:
        """Put a training back where its last whole checkpoint has it; return how far that is, and the best tensors.

        Raises:
            InputError: if there is no checkpoint, or it was made with other settings.
        """
        assert self._folder is not None, "checkpoints need a folder"
        with all_or_none(self.ranks):
            found, passed_over = self._folder.load(self.settings)
        place = [float(found.state.step), float(found.state.epoch), float(found.state.steps_in_epoch)]
        first = self.ranks.same(place)
        with all_or_none(self.ranks):
            if place != first:
                raise InputError(
                    f"{self._folder.folder}: this process sees another checkpoint there (step {place[0]:.0f}) than the "
                    f"first one (step {first[0]:.0f}); all need one folder that they share"
                )
            self.model.load_trained_state(found.model)
            _load_method_state(self.model, found.method)
            _load_optimizer(self.optimizer, found.optimizer)
            self.planner.load_tables(found.tables)
            _load_random_states(found.random, self.model.device, self.ranks)
            if self.ranks.is_first:
                for line in passed_over:
                    warnings.warn(line, stacklevel=2)
                self._folder.set_aside_after(found.state)
                write_epochs(self._run, found.state.epochs)
        return found.state, found.best


def _random_states(device: torch.device, ranks: Ranks) -> Tensors:
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    found: Tensors = {}
    for name, state in states.items():
        of_all = torch.from_numpy(ranks.joined(state.numpy()[None]))
        found |= {f"{index}.{name}": own.clone() for index, own in enumerate(of_all)}
    return found


def _load_random_states(states: Tensors, device: torch.device, ranks: Ranks) -> None:
    torch.set_rng_state(states[f"{ranks.index}.cpu"])
    cuda = states.get(f"{ranks.index}.cuda")
    if cuda is not None and device.type == "cuda":
        torch.cuda.set_rng_state(cuda, device)


def _method_state(model: RecommenderModel) -> Tensors:
    """Return what the PEFT methods need beyond `trained_state`."""
    return {
        f"{place}.{name}": tensor.detach().clone().contiguous()
        for place, method in enumerate(model.methods())
        for name, tensor in method.training_state().items()
    }


def _load_method_state(model: RecommenderModel, tensors: Tensors) -> None:
    for place, method in enumerate(model.methods()):
        start = f"{place}."
        method.load_training_state({n.removeprefix(start): t for n, t in tensors.items() if n.startswith(start)})


def _load_optimizer(optimizer: torch.optim.Optimizer, tensors: Tensors) -> None:
    full = optimizer.state_dict()
    state = nested_state(tensors)
    places = {place for group in full["param_groups"] for place in group["params"]}
    if not set(state) <= places:
        raise InputError(f"the checkpoint's optimiser holds {len(state)} parameters, the recipe {len(places)}")
    optimizer.load_state_dict({"state": state, "param_groups": full["param_groups"]})
