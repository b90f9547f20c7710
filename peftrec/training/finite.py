"""A loss that is no number ends a training."""

from __future__ import annotations

import math

from peftrec.config import InputError
from peftrec.data import TrainingWindows, UserBatch


def check_finite(
    loss: float, batch: UserBatch, windows: TrainingWindows, *, step: int, epoch: int, number: int
) -> None:
    """See that a loss is a number, before anything moves by it.

    Args:
        loss: of a step, that of all processes together.
        batch: the first of the step.
        windows: know the users by name.
        step: from 1.
        epoch: of the step.
        number: of the step in its epoch, from 1.
    Raises:
        InputError: naming step, epoch and users.
    """
    if math.isfinite(loss):
        return
    users = ", ".join(repr(windows.user_ids[user]) for user in batch.users[:3])
    raise InputError(
        f"the loss became {loss} in step {step} (epoch {epoch}, step {number} of it, whose first users are {users}). "
        f"Lower the learning rates or set optimizer.clip_norm; checkpoints of earlier steps are kept"
    )
