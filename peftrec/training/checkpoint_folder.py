"""The checkpoints of a run: which are kept, and which one a run goes on from."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from peftrec.config import InputError
from peftrec.training.checkpoint import (
    Checkpoint,
    DamagedCheckpointError,
    read_checkpoint,
    read_content,
    write_checkpoint,
)
from peftrec.training.same_recipe import check_same_settings
from peftrec.training.state import TrainingState

_NEWEST = 2  # the last one, and the one before, should the last turn out to be damaged


class CheckpointFolder:
    """The checkpoints of a run, by step; one that ends an epoch comes after one of the same step that does not.

    Kept are the newest two, that of the best epoch, and every `keep_every`-th epoch's.

    Args:
        folder: made when it is needed.
        keep_every: epochs from one that is kept for good to the next; None keeps none so.
    """

    def __init__(self, folder: Path, *, keep_every: int | None = None) -> None:
        self.folder, self.keep_every = folder, keep_every

    def paths(self) -> list[Path]:
        """Return the checkpoints that are there, newest first."""
        found = [path for path in self.folder.glob("step-*") if path.is_dir() and _place(path) is not None]
        return sorted(found, key=lambda path: _place(path) or (0, 0), reverse=True)

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint, then remove those that are not kept.

        Raises:
            InputError: if it cannot be written; those that are there stay.
        """
        path = self.folder / _name(checkpoint.state)
        if path.exists():  # made once more, after a later one was found damaged
            self._set_aside(path)
        write_checkpoint(path, checkpoint)
        kept = set(self.paths()[:_NEWEST])
        for path in self.paths():
            if path not in kept and not self._stays(path, checkpoint.state):
                shutil.rmtree(path, ignore_errors=True)

    def load(self, settings: dict[str, Any]) -> tuple[Checkpoint, list[str]]:
        """Return the newest whole checkpoint, and a line on each that had to be passed over.

        Args:
            settings: of the run at hand; the checkpoint must have been made with the same.
        Raises:
            InputError: if there is none, or it was made with other settings.
        """
        damaged = []
        for path in self.paths():
            try:
                # First, so that the message names the key that changed and not a tensor that does not fit.
                check_same_settings(path, read_content(path)["settings"], settings)
                checkpoint = read_checkpoint(path)
            except DamagedCheckpointError as error:
                damaged.append((path, str(error)))
                continue
            return checkpoint, [f"{error}; the one before it is used, {path.name}" for _, error in damaged]
        if damaged:
            raise InputError(f"no checkpoint is whole: {'; '.join(error for _, error in damaged)}")
        raise InputError(f"{self.folder}: there is no checkpoint to resume from")

    def set_aside_after(self, state: TrainingState) -> None:
        """Give damaged checkpoints that are newer than where a run goes on another name."""
        for path in self.paths():
            if (_place(path) or (0, 0)) > _place_of(state):
                self._set_aside(path)

    def _set_aside(self, path: Path) -> None:
        aside = path.with_name(f"damaged-{path.name}")
        shutil.rmtree(aside, ignore_errors=True)
        path.rename(aside)

    def _stays(self, path: Path, now: TrainingState) -> bool:
        try:
            state = read_content(path)["state"]
        except DamagedCheckpointError:
            return True  # it is not known what it is
        if state.steps_in_epoch:
            return False
        return bool(state.epoch == now.best_epoch or (self.keep_every and state.epoch % self.keep_every == 0))


def _name(state: TrainingState) -> str:
    step, ended = _place_of(state)
    return f"step-{step:08d}{'-epoch-end' * ended}"


def _place_of(state: TrainingState) -> tuple[int, int]:
    return state.step, int(not state.steps_in_epoch)


def _place(path: Path) -> tuple[int, int] | None:
    step, _, rest = path.name.removeprefix("step-").partition("-")
    return (int(step), int(rest == "epoch-end")) if step.isdecimal() and rest in ("", "epoch-end") else None
