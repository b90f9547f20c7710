"""The Accelerator of a training run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from peftrec.config import InputError
from peftrec.training.config import TrainingConfig


def make_accelerator(training: TrainingConfig, folder: Path | None) -> Any:
    """Return the Accelerator; trackers that are not installed are an error, where Accelerate would leave them out.

    Args:
        training: the `training` section.
        folder: trackers write under `private/` of it; None where there is no run folder.
    Raises:
        InputError: if a tracker is missing, the device lacks the precision, this process has trained with another, or
            several processes were launched.
    """
    from accelerate import Accelerator
    from accelerate.tracking import get_available_trackers

    available = {str(getattr(tracker, "value", tracker)) for tracker in get_available_trackers()}
    for name in training.trackers:
        if name not in available:
            raise InputError(f"training.trackers: '{name}' is not installed; pip install {name}, or leave it out")
    try:
        accelerator = Accelerator(
            mixed_precision=training.mixed_precision,
            log_with=list(training.trackers) or None,
            project_dir=None if folder is None else str(folder / "private" / "trackers"),
        )
    except ValueError as error:
        # Accelerate keeps one state a process.
        if "already been initialized" not in str(error):
            raise InputError(f"training.mixed_precision is {training.mixed_precision}: {error}") from None
        raise InputError(
            f"training.mixed_precision is {training.mixed_precision}, but this process has already trained with "
            f"another setting, which Accelerate cannot change; start a new process ({error})"
        ) from None
    if accelerator.num_processes > 1:
        raise InputError(
            f"{accelerator.num_processes} processes were launched, but training runs in one process; launch with "
            f"--config_file recipes/accelerate/cpu.yaml or --num_processes 1"
        )
    return accelerator
