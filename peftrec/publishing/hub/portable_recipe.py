"""A recipe without what means something on one machine alone: folders, and a backbone that lies in one."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from peftrec.config import parse_section, section_to_dict
from peftrec.encoders.config import CacheConfig
from peftrec.publishing.hub.base_model import PublishedBase, is_local_backbone
from peftrec.recipe import Recipe


def portable_recipe(
    recipe: Recipe, base: PublishedBase | None, commit: str | None = None
) -> tuple[Recipe, dict[str, str]]:
    """Return a recipe as it is published.

    Absolute folders, and those that lead out of where the command ran, keep their last name; the backbone's folder
    becomes a model of the Hub. The backbone is pinned to the commit that it was trained on, since the Hub's may change.

    Args:
        recipe: resolved.
        base: what stands for the backbone's folder; None where the backbone is of the Hub already, or is not read.
        commit: of the backbone, where it is of the Hub; None where it is not known.
    Returns:
        The recipe, and what was replaced: old texts to new ones.
    """
    values = recipe.to_dict()
    replaced: dict[str, str] = {}
    if base is not None and recipe.encoder.backbone == base.local:
        values["encoder"] |= {"backbone": base.name, "revision": base.revision}
        replaced[base.local] = base.name
    elif base is None and commit is not None:
        values["encoder"]["revision"] = commit
    _replace(values, section_to_dict(CacheConfig())["folder"], replaced)
    return parse_section(Recipe, values).resolved(), replaced


def _replace(values: Any, default: str, replaced: dict[str, str]) -> None:
    """Replace folders of this machine in nested plain values."""
    pairs = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    for key, value in list(pairs):
        if isinstance(value, str) and value != default and _is_folder_here(key, value):
            values[key] = replaced[value] = _last_name(value)
        _replace(values[key], default, replaced)


def _is_folder_here(key: Any, value: str) -> bool:
    if key == "backbone":
        return is_local_backbone(value)
    leads_out = value.startswith(("~/", "~\\", "../")) or ".." in PurePosixPath(value).parts
    if key in ("root", "output_dir", "folder", "path", "interactions", "items", "users", "file", "start_from"):
        return leads_out or value.startswith("/") or re.match(r"[A-Za-z]:[\\/]", value) is not None
    # Any other text, such as a template, only where it names what is there.
    return len(value) < 4096 and value.startswith(("/", "~/")) and Path(value).expanduser().exists()


def _last_name(value: str) -> str:
    path = PureWindowsPath(value) if re.match(r"[A-Za-z]:[\\/]", value) else PurePosixPath(value)
    return next((part for part in reversed(path.parts) if part not in ("/", "\\", "..", "~", ".", path.anchor)), "data")
