"""Exporting a run: written aside, proven, and only then put in its place."""

from __future__ import annotations

import contextlib
import errno
import importlib.metadata
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import peftrec
from peftrec.config import InputError, RecipeError
from peftrec.publishing.export.target import ExportTarget
from peftrec.publishing.folder_reader import load_run
from peftrec.publishing.manifest import MANIFEST, sha256

EXPORT_REPORT = "export.json"
_CANNOT_WRITE = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG)


def export_run(run_folder: str | Path, output_folder: str | Path, target: ExportTarget) -> dict[str, Any]:
    """Write a run in the form of a target.

    The folder is written beside its place, loaded again and compared with the run, and only then renamed.

    Args:
        run_folder: a trained run.
        output_folder: must not exist, or be empty; `<output_folder>.partial` is used on the way.
        target: with its options.
    Returns:
        What `export.json` of the folder holds: target and options, checksum of the run, versions, and the figures of
        the comparison.
    Raises:
        RecipeError: if the output folder is taken, or lies below a file.
        InputError: if it cannot be written, a package is missing, the run cannot be exported so, or what was written
            does not give what the run gives; then nothing is left.
    """
    output = Path(output_folder).absolute()
    aside = _check_free(output)
    target.check_installed()
    run = load_run(run_folder)
    target.check(run)
    try:
        aside.mkdir(parents=True)
        found = target.write(run, aside)
        report = {
            "peftrec_version": peftrec.__version__,
            "target": target.kind,
            "options": target.options(),
            "run_sha256": sha256(run.folder / MANIFEST),
            "versions": _versions(target.packages),
            **found,
        }
        text = json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False)
        (aside / EXPORT_REPORT).write_text(text + "\n", encoding="utf-8")
        if output.exists():
            output.rmdir()
        aside.rename(output)
    except OSError as error:
        if error.errno not in _CANNOT_WRITE:
            raise
        raise InputError(f"{output}: cannot be written: {os.strerror(error.errno)}; nothing was kept") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return report


def _check_free(output: Path) -> Path:
    """Return the folder beside that is used on the way, after seeing that both are free."""
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise RecipeError(f"{output}: is there already; name a folder that does not exist or is empty")
    holder = next(parent for parent in output.parents if parent.exists())
    if not holder.is_dir():
        raise RecipeError(f"{holder}: is a file, so that nothing can be written below it")
    aside = output.with_name(output.name + ".partial")
    if aside.exists():
        raise RecipeError(f"{aside}: is needed on the way but is there already; remove what a stopped export has left")
    return aside


def _versions(packages: Sequence[str]) -> dict[str, str]:
    versions = {}
    for name in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions
