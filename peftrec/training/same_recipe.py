"""The recipe as flat keys, and whether a checkpoint belongs to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from peftrec.config import InputError

# What may change between a run and its resumption.
_FREE = (
    "output_dir",
    "data.root",
    "encoder.cache.folder",
    "training.num_epochs",
    "training.patience",
    "training.trackers",
    "training.processes",
    "training.timeout_seconds",
    "training.checkpoint_steps",
    "training.keep_every",
    "training.on_out_of_memory",
    "data.item_fields",
)
# Nor does it matter how lists are made afterwards.
FREE_SECTION = "retrieval."


def check_same_settings(checkpoint: Path, stored: dict[str, Any], settings: dict[str, Any]) -> None:
    """See that a checkpoint was made with this recipe and data.

    Args:
        checkpoint: for the message.
        stored: of the checkpoint: flat recipe, hash of the data, number of processes.
        settings: those at hand.
    Raises:
        InputError: naming the keys that differ.
    """
    keys = sorted(
        key for key in stored.keys() | settings.keys() if key not in _FREE and not key.startswith(FREE_SECTION)
    )
    changed = [
        f"{key} (then {stored.get(key)!r}, now {settings.get(key)!r})"
        for key in keys
        if stored.get(key) != settings.get(key)
    ]
    if changed:
        raise InputError(f"{checkpoint}: was made with another recipe or other data: {'; '.join(changed[:4])}")


def flatten(recipe: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested keys as dotted ones, as trackers take them."""
    result: dict[str, Any] = {}
    for key, value in recipe.items():
        if isinstance(value, dict):
            result |= flatten(value, f"{prefix}{key}.")
        else:
            result[f"{prefix}{key}"] = value if isinstance(value, int | float | str | bool) else str(value)
    return result
