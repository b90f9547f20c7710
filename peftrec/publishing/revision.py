"""Files of a finished run that are written anew, so that a kill at any moment leaves a folder that loads."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from peftrec.publishing.manifest import MANIFEST, Manifest, read_manifest


def replace_texts(folder: Path, texts: Mapping[str, str]) -> None:
    """Write texts into a run folder, in place of those that have their names.

    The manifest first lists both what is there and what shall be; then the files are replaced one by one; then it lists
    the new ones alone.

    Args:
        folder: a run folder.
        texts: content by name, such as `metrics.json`.
    Raises:
        InputError: if the folder is no run, or was damaged before.
        OSError: if it cannot be written to.
    """
    manifest = read_manifest(folder)
    written = {name: _entry(text) for name, text in texts.items()}
    between = {name: {**entry, "before": _before(manifest, name)} for name, entry in written.items()}
    _write(folder, dataclasses.replace(manifest, files=manifest.files | between))
    for name, text in texts.items():
        replace_text(folder / name, text)
    _write(folder, dataclasses.replace(manifest, files=manifest.files | written))


def _entry(text: str) -> dict[str, Any]:
    data = text.encode()
    return {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}


def _before(manifest: Manifest, name: str) -> dict[str, Any] | None:
    """Return what a file was before; None for one that was not there."""
    entry = manifest.files.get(name)
    return None if entry is None else {key: entry[key] for key in ("sha256", "bytes")}


def _write(folder: Path, manifest: Manifest) -> None:
    replace_text(folder / MANIFEST, manifest.to_json())


def replace_text(path: Path, text: str) -> None:
    """Write a file, in place of one of that name, as a whole or not at all; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.partial")
    beside.write_bytes(text.encode())
    os.replace(beside, path)  # noqa: PTH105
