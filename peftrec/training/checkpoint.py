"""A checkpoint: a folder of safetensors and JSON. Nothing is pickled, nothing is half-written."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from peftrec.config import InputError
from peftrec.encoders.state_entry import sync_path
from peftrec.training.state import TrainingState

CONTENT: Final = "checkpoint.json"
FORMAT_VERSION: Final = 2

Tensors = dict[str, torch.Tensor]


class DamagedCheckpointError(InputError):
    """A folder is no whole checkpoint."""


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Checkpoint:
    """All that a training needs to go on as if it had never stopped.

    Args:
        model: trained tensors.
        best: trained tensors of the best epoch so far.
        method: what PEFT methods know beyond their tensors, such as the averages of AdaLoRA.
        optimizer: moments and step counts of every parameter.
        random: states of the generators, by process and device.
        tables: item vectors that later batches are drawn by.
        state: how far it has come.
        settings: flat recipe, hash of the data, number of processes.
    """

    model: Tensors
    best: Tensors
    method: Tensors
    optimizer: Tensors
    random: Tensors
    tables: Tensors
    state: TrainingState
    settings: dict[str, Any]


PARTS: Final = tuple(field.name for field in dataclasses.fields(Checkpoint) if field.name not in ("state", "settings"))


def write_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint beside the folder, see that the disk has it, and give it its name.

    Args:
        folder: must not be there yet.
        checkpoint: to write.
    Raises:
        InputError: if a trained tensor is not finite, or the disk does not take it; nothing is left behind then.
    """
    for name, tensor in checkpoint.model.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise InputError(
                f"{name} is not finite after step {checkpoint.state.step}: nothing is saved; checkpoints of earlier "
                f"steps are kept. Lower the learning rates, or set optimizer.clip_norm"
            )
    aside = folder.with_name(f"{folder.name}.partial")
    try:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        for part in PARTS:
            save_file(getattr(checkpoint, part), aside / _file(part))
        content = {
            "format_version": FORMAT_VERSION,
            "state": checkpoint.state.to_json(),
            "settings": checkpoint.settings,
            "sha256": {_file(part): _sha256(aside / _file(part)) for part in PARTS},
        }
        (aside / CONTENT).write_text(json.dumps(content, indent=2), encoding="utf-8")
        for path in (*aside.iterdir(), aside):
            sync_path(path)
        aside.rename(folder)
        sync_path(folder.parent)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(aside, ignore_errors=True)
        raise InputError(
            f"{folder}: the checkpoint of step {checkpoint.state.step} cannot be written ({error}); those of earlier "
            f"steps are kept. Make room, or mend what is wrong, and start again with --resume"
        ) from error


def read_content(folder: Path) -> dict[str, Any]:
    """Return what `checkpoint.json` holds: state and settings.

    Raises:
        DamagedCheckpointError: if it is missing, torn, or of another kind.
    """
    path = folder / CONTENT
    try:
        content = dict(json.loads(path.read_text(encoding="utf-8")))
        version = content["format_version"]
        if version != FORMAT_VERSION:
            raise ValueError(f"has format version {version!r}, not {FORMAT_VERSION}")
        content["state"] = TrainingState.from_json(content["state"])
        if content["sha256"].keys() != {_file(part) for part in PARTS}:
            raise ValueError("names other files")
        content["settings"] = dict(content["settings"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedCheckpointError(f"{path}: is no checkpoint of this peftrec, or damaged ({error!r})") from error
    return content


def read_checkpoint(folder: Path) -> Checkpoint:
    """Return a whole checkpoint.

    Raises:
        DamagedCheckpointError: if a file is missing, torn or not the one that was written.
    """
    content = read_content(folder)
    for name, expected in content["sha256"].items():
        try:
            found = _sha256(folder / name)
        except OSError as error:
            raise DamagedCheckpointError(f"{folder / name}: is missing or cannot be read ({error})") from error
        if found != expected:
            raise DamagedCheckpointError(f"{folder / name}: is torn, or not the file that was written")
    try:
        parts = {part: load_file(folder / _file(part)) for part in PARTS}
    except (OSError, SafetensorError) as error:
        raise DamagedCheckpointError(f"{folder}: is damaged ({error})") from error
    return Checkpoint(**parts, state=content["state"], settings=content["settings"])


def write_epochs(folder: Path, epochs: list[dict[str, float]]) -> None:
    """Write `metrics.jsonl`, a line an epoch; it is whole at any moment.

    Raises:
        InputError: if the disk does not take it.
    """
    path, aside = folder / "metrics.jsonl", folder / "metrics.jsonl.partial"
    try:
        aside.write_text("".join(json.dumps(epoch) + "\n" for epoch in epochs), encoding="utf-8")
        aside.rename(path)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written ({error}); make room, or mend what is wrong, and start again with --resume"
        ) from error


def _file(part: str) -> str:
    return f"{part}.safetensors"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
