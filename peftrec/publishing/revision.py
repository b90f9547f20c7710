"""Files of a finished run that are written anew, so that a kill at any moment leaves a folder that loads."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from peftrec.publishing.aside import written_aside
from peftrec.publishing.manifest import MANIFEST, Manifest, read_manifest, sha256


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
    # What lies there, and not what the manifest says shall: a writer may have been killed before.
    between = {name: {**entry, "before": _on_disk(folder / name)} for name, entry in written.items()}
    _write(folder, dataclasses.replace(manifest, files=manifest.files | between))
    for name, text in texts.items():
        replace_text(folder / name, text)
    _write(folder, dataclasses.replace(manifest, files=manifest.files | written))


def _entry(text: str) -> dict[str, Any]:
    data = text.encode()
    return {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}


def _on_disk(path: Path) -> dict[str, Any] | None:
    """Return what a file is now; None for one that is not there."""
    return {"sha256": sha256(path), "bytes": path.stat().st_size} if path.is_file() else None


def _write(folder: Path, manifest: Manifest) -> None:
    replace_text(folder / MANIFEST, manifest.to_json())


def replace_text(path: Path, text: str) -> None:
    """Write a text, in place of a file of that name, as a whole or not at all; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_aside(path) as file:
        file.write(text.encode())
