"""Replacing a folder as a whole."""

from __future__ import annotations

import shutil
from pathlib import Path


def replace_folder(done: Path, folder: Path) -> None:
    """Let a finished folder take the place of another; a kill in between loses neither (see `recover_folder`)."""
    aside = _aside(folder)
    shutil.rmtree(aside, ignore_errors=True)
    if folder.exists():
        folder.rename(aside)
    done.rename(folder)
    shutil.rmtree(aside, ignore_errors=True)


def recover_folder(folder: Path) -> bool:
    """Put back the folder that a killed `replace_folder` had set aside; return whether there was one."""
    if folder.exists() or not _aside(folder).is_dir():
        return False
    _aside(folder).rename(folder)
    return True


def _aside(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.peftrec-replaced")
