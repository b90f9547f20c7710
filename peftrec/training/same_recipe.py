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
    "training.max_steps",
    "training.patience",
    "training.trackers",
)


def check_same_recipe(checkpoint: Path, stored: dict[str, Any], recipe: dict[str, Any]) -> None:
    """See that a checkpoint was made with this recipe and data.

    Args:
        checkpoint: for the message.
        stored: flat recipe of the checkpoint.
        recipe: flat recipe at hand.
    Raises:
        InputError: naming the keys that differ.
    """
    keys = sorted((stored.keys() | recipe.keys()) - set(_FREE))
    changed = [
        f"{key} (then {stored.get(key)!r}, now {recipe.get(key)!r})"
        for key in keys
        if stored.get(key) != recipe.get(key)
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
