"""What a manifest tells of the language model and of how texts become vectors."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from peftrec.config import InputError
from peftrec.encoders import TextEncoder
from peftrec.publishing.manifest import MANIFEST, Manifest
from peftrec.recipe import Recipe


def told_of_backbone(encoder: TextEncoder | None) -> dict[str, Any] | None:
    """Return name, revision, quantization and fingerprint of the language model; None where there is none."""
    if encoder is None:
        return None
    base = encoder.backbone.base
    # A folder of this machine means nothing elsewhere; whoever reads the file should see that.
    local = {"local": True} if Path(base.name).is_dir() else {}
    weights = {"quantization": encoder.backbone.quantization, "fingerprint": encoder.backbone.fingerprint}
    return dataclasses.asdict(base) | local | weights


def told_of_texts(recipe: Recipe, encoder: TextEncoder | None) -> dict[str, Any]:
    """Return all that decides how an item's columns become what the language model reads, and that a vector."""
    settings: dict[str, Any] = {"template": recipe.data.template}
    if encoder is not None:
        settings |= {"pooling": encoder.pooling, "prefix": encoder.prefix, "max_tokens": recipe.encoder.max_tokens}
    return settings


def check_told(folder: Path, manifest: Manifest, recipe: Recipe, encoder: TextEncoder | None) -> None:
    """See that a manifest tells of the model that was loaded: others read it and encode texts by it.

    Revisions are left out: where the same weights came from decides nothing.

    Raises:
        InputError: naming the entry that differs.
    """
    if manifest.format_version == 1:
        return
    compared = {
        "text": (manifest.text, told_of_texts(recipe, encoder)),
        "backbone": (manifest.backbone or {}, told_of_backbone(encoder) or {}),
    }
    for part, (stored, found) in compared.items():
        for key in sorted((stored.keys() | found.keys()) - {"revision", "local"}):
            if key not in stored or key not in found or stored[key] != found[key]:
                told, is_so = stored.get(key, "nothing"), found.get(key, "nothing")
                raise InputError(f"{folder / MANIFEST}: tells {told!r} of {part}.{key}, where the model has {is_so!r}")
