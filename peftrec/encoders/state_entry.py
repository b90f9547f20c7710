"""One entry of the cache: a folder with arrays, and a manifest that says what they are."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from peftrec.encoders.array_file import ArrayWriter, map_array

MANIFEST = "manifest.json"
_FORMAT = "peftrec states 1"


class BrokenEntryError(Exception):
    """An entry is torn, damaged, or not what its name says; the message says how."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """One entry, verified, and mapped: it can be read even when it is removed meanwhile.

    Args:
        key: its name.
        folder: of its own.
        manifest: what it is.
        tensors: its arrays by name; see `map_array`.
    """

    key: str
    folder: Path
    manifest: dict[str, Any]
    tensors: dict[str, torch.Tensor]

    @classmethod
    def map(cls, key: str, folder: Path, manifest: dict[str, Any]) -> Entry:
        """Return the entry in a folder.

        Raises:
            BrokenEntryError: if a file is not there any more.
        """
        try:
            tensors = {name: map_array(folder, array) for name, array in manifest["arrays"].items()}
        except OSError as error:
            raise BrokenEntryError(f"it was removed meanwhile ({error.strerror})") from None
        return cls(key, folder, manifest, tensors)

    @property
    def num_bytes(self) -> int:
        """Bytes of its arrays."""
        return sum(tensor.nbytes for tensor in self.tensors.values())


class EntryWriter:
    """What writes one entry is handed this.

    Args:
        folder: aside, empty.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.arrays: dict[str, dict[str, Any]] = {}
        self.facts: dict[str, Any] = {}

    @contextlib.contextmanager
    def array(
        self, name: str, dtype: torch.dtype, row_shape: tuple[int, ...], num_rows: int | None = None
    ) -> Iterator[ArrayWriter]:
        """Yield the writer of one array; see `ArrayWriter`."""
        with ArrayWriter(self.folder / f"{name}.bin", dtype, row_shape, num_rows) as writer:
            yield writer
            self.arrays[name] = writer.finish()

    def finish(self, key: str, identity: dict[str, Any]) -> None:
        """Write the manifest, after all arrays: a folder that has one has them whole."""
        content = {
            "format": _FORMAT,
            "key": key,
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "identity": identity,
            "facts": self.facts,
            "arrays": self.arrays,
        }
        with (self.folder / MANIFEST).open("w", encoding="utf-8") as file:
            json.dump({"sha256": _seal(content), **content}, file)
            file.flush()
            os.fsync(file.fileno())
        sync_path(self.folder)


def read_manifest(folder: Path, key: str) -> dict[str, Any]:
    """Return the manifest of an entry.

    Raises:
        BrokenEntryError: if it is missing, damaged, or of another entry.
    """
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        seal = manifest.pop("sha256")
        whole = seal == _seal(manifest)
    except FileNotFoundError:
        raise BrokenEntryError(f"{MANIFEST} is missing") from None
    except OSError as error:
        raise BrokenEntryError(f"{MANIFEST} cannot be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        whole = False
    if not whole:
        raise BrokenEntryError(f"{MANIFEST} is damaged")
    if manifest["format"] != _FORMAT:
        raise BrokenEntryError(f"it is of the format {manifest['format']!r}, this version writes {_FORMAT!r}")
    if manifest["key"] != key:
        raise BrokenEntryError(f"it is a copy of {manifest['key']}")
    return manifest


def sync_path(path: Path) -> None:
    """See that a file, or what a folder calls its files, has reached the disk."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _seal(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
