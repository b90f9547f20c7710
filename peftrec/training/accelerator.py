"""The Accelerator of a training run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from peftrec.config import InputError
from peftrec.launch import must_be_cpu, require_torch_engine
from peftrec.training.config import TrainingConfig
from peftrec.training.device_setting import check_device


def make_accelerator(training: TrainingConfig, folder: Path | None) -> Any:
    """Return the Accelerator; trackers that are not installed are an error, where Accelerate would leave them out.

    Args:
        training: the `training` section.
        folder: trackers write under `private/` of it; None where there is no run folder.
    Raises:
        InputError: if a tracker is missing, the device lacks a precision, or the launch asks for another engine than
            torch.distributed.
    """
    from accelerate import Accelerator
    from accelerate.tracking import get_available_trackers

    require_torch_engine()
    available = {str(getattr(tracker, "value", tracker)) for tracker in get_available_trackers()}
    for name in training.trackers:
        if name not in available:
            raise InputError(f"training.trackers: '{name}' is not installed; pip install {name}, or leave it out")
    # Precision is that of the text encoders (`with_encoder_settings`): Accelerate would keep the first one that a
    # process has trained with.
    accelerator = Accelerator(
        cpu=must_be_cpu(),
        mixed_precision="no",
        log_with=list(training.trackers) or None,
        project_dir=None if folder is None else str(folder / "private" / "trackers"),
    )
    check_device(training, accelerator.device)
    return accelerator
