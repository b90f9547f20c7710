"""Whether a run may be written to a folder."""

from __future__ import annotations

from pathlib import Path

from peftrec.config import RecipeError
from peftrec.publishing.manifest import MANIFEST, PRIVATE


def check_output_folder(folder: Path, *, overwrite: bool) -> None:
    """See that a run may be written to a folder, before anything is loaded or removed.

    Args:
        folder: where the run shall lie; `<folder>.partial` is used on the way.
        overwrite: whether a run that lies there may be replaced.
    Raises:
        RecipeError: if the folder or one of its neighbours holds something else, or a run and `overwrite` is off.
    """
    if folder.name in ("", ".."):
        raise RecipeError(f"output_dir: '{folder}' is no folder of its own; give the run a name, such as runs/first")
    partial = folder.with_name(folder.name + ".partial")
    if partial.exists() and not (partial.is_dir() and _is_ours(partial)):
        raise RecipeError(f"output_dir: {partial} is needed while the run is written, but holds other files; move it")
    if not folder.exists():
        return
    if not folder.is_dir():
        raise RecipeError(f"output_dir: {folder} is a file")
    if any(folder.iterdir()) and not (folder / MANIFEST).is_file():
        raise RecipeError(f"output_dir: {folder} holds files that are no run of peftrec; choose another")
    if any(folder.iterdir()) and not overwrite:
        raise RecipeError(
            f"output_dir: {folder} already holds a run; choose another, or pass --overwrite to replace it"
        )


def _is_ours(folder: Path) -> bool:
    """Whether a folder holds nothing, or a run, or what a stopped run has left."""
    return not any(folder.iterdir()) or (folder / PRIVATE).is_dir() or (folder / MANIFEST).is_file()
