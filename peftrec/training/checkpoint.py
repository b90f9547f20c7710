"""Checkpoints in safetensors and JSON: nothing is pickled, nothing is half-written."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from peftrec.config import InputError
from peftrec.models import RecommenderModel
from peftrec.training.folder import recover_folder, replace_folder
from peftrec.training.optimizer_kind import flat_state, nested_state
from peftrec.training.same_recipe import check_same_recipe


def save_checkpoint(
    folder: Path,
    *,
    model: RecommenderModel,
    optimizer: torch.optim.Optimizer,
    best: dict[str, torch.Tensor],
    state: dict[str, Any],
) -> None:
    """Write a checkpoint beside the folder and rename it into place; an older one stays whole until then.

    Args:
        folder: replaced as a whole.
        model: its trained tensors are written.
        optimizer: moments and step counts of every parameter.
        best: trained tensors of the best epoch so far.
        state: progress, as JSON.
    """
    aside = folder.with_name(folder.name + ".partial")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    save_file(model.trained_state(), aside / "model.safetensors")
    save_file(best, aside / "best.safetensors")
    save_file(_method_state(model), aside / "method.safetensors")
    save_file(flat_state(optimizer), aside / "optimizer.safetensors")
    save_file({"cpu": torch.get_rng_state()} | _cuda_states(), aside / "random.safetensors")
    (aside / "state.json").write_text(json.dumps(state, indent=2), encoding="utf-8")
    for path in aside.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    replace_folder(aside, folder)


def load_checkpoint(
    folder: Path, *, model: RecommenderModel, optimizer: torch.optim.Optimizer, recipe: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Put model, optimiser and random states back and return the progress and the best tensors.

    Args:
        folder: from `save_checkpoint`.
        model: receives the trained tensors.
        optimizer: receives its state.
        recipe: flat; must be the one that the checkpoint was made with.
    Raises:
        InputError: if the checkpoint is missing, damaged, or of another recipe.
    """
    recover_folder(folder)
    if not (folder / "state.json").is_file():
        raise InputError(f"{folder}: there is no checkpoint to resume from")
    try:
        state: dict[str, Any] = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        # First, so that the message names the key that changed and not a tensor that does not fit.
        check_same_recipe(folder, state["recipe"], recipe)
        tensors, best = load_file(folder / "model.safetensors"), load_file(folder / "best.safetensors")
        method_state = load_file(folder / "method.safetensors")
        moments, random = load_file(folder / "optimizer.safetensors"), load_file(folder / "random.safetensors")
    except InputError:
        raise
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise InputError(f"{folder}: the checkpoint is damaged ({error})") from error
    model.load_trained_state(tensors)
    _load_method_state(model, method_state)
    _load_optimizer_tensors(optimizer, moments, folder)
    torch.set_rng_state(random["cpu"])
    for name, value in random.items():
        if name.startswith("cuda") and torch.cuda.is_available():
            torch.cuda.set_rng_state(value, int(name.removeprefix("cuda")))
    return state, best


def write_epochs(folder: Path, epochs: Sequence[dict[str, float]]) -> None:
    """Write `metrics.jsonl`, a line an epoch; it is never half-written."""
    aside = folder / "metrics.jsonl.partial"
    aside.write_text("".join(json.dumps(epoch) + "\n" for epoch in epochs), encoding="utf-8")
    aside.rename(folder / "metrics.jsonl")


def _method_state(model: RecommenderModel) -> dict[str, torch.Tensor]:
    """Return what the PEFT methods need beyond `trained_state`."""
    return {
        f"{place}.{name}": tensor.detach().clone().contiguous()
        for place, method in enumerate(model.methods())
        for name, tensor in method.training_state().items()
    }


def _load_method_state(model: RecommenderModel, tensors: dict[str, torch.Tensor]) -> None:
    for place, method in enumerate(model.methods()):
        start = f"{place}."
        method.load_training_state({n.removeprefix(start): t for n, t in tensors.items() if n.startswith(start)})


def _cuda_states() -> dict[str, torch.Tensor]:
    if not torch.cuda.is_available():
        return {}
    return {f"cuda{index}": state for index, state in enumerate(torch.cuda.get_rng_state_all())}


def _load_optimizer_tensors(optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor], folder: Path) -> None:
    full = optimizer.state_dict()
    state = nested_state(tensors)
    places = {place for group in full["param_groups"] for place in group["params"]}
    if not set(state) <= places:
        raise InputError(
            f"{folder}: the checkpoint's optimiser holds {len(state)} parameters, the recipe {len(places)}"
        )
    optimizer.load_state_dict({"state": state, "param_groups": full["param_groups"]})
