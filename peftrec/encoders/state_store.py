"""A folder of entries that are whole or not there: arrays and a manifest each, written aside and then renamed.

FOLDER/states/KEY/manifest.json    what the entry is, of what it was made, size and checksums of its arrays
FOLDER/states/KEY/*.bin            the arrays
FOLDER/states/KEY.partial/         an entry that is being written, or was when its process was killed
FOLDER/states/KEY.lock             held by the process that writes it
"""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from peftrec.config import InputError
from peftrec.encoders.array_file import check_array
from peftrec.encoders.file_lock import file_lock
from peftrec.encoders.state_entry import MANIFEST, BrokenEntryError, Entry, EntryWriter, read_manifest, sync_path

Say = Callable[[str], None]

_KEY = re.compile(r"(tokens|trunk|pooled|vectors)-[0-9a-f]{20}")
_WORK = ".partial"


class StateStore:
    """The entries of one cache folder.

    Args:
        folder: made when the first entry is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "states"

    def open(self, key: str, identity: dict[str, Any] | None = None, *, contents: bool = True) -> Entry | None:
        """Return an entry, or None where there is none.

        Args:
            key: its name.
            identity: what it must have been made of; None takes any.
            contents: compare checksums too (see `check_array`), and not only sizes.
        Raises:
            BrokenEntryError: if it is there, but must not be used.
        """
        folder = self.root / key
        if not folder.is_dir():
            return None
        manifest = read_manifest(folder, key)
        if identity is not None and manifest["identity"] != identity:
            raise BrokenEntryError("it was made of something else")
        for array in manifest["arrays"].values():
            wrong = check_array(folder, array, contents=contents)
            if wrong:
                raise BrokenEntryError(wrong)
        return Entry.map(key, folder, manifest)

    def get(
        self,
        key: str,
        identity: dict[str, Any],
        write: Callable[[EntryWriter], None],
        *,
        num_bytes: int,
        say: Say,
    ) -> tuple[Entry, bool]:
        """Return an entry that is whole and verified, and whether it had to be written.

        Of several processes that want it one writes; the others wait, and read what it wrote. What a killed process
        left behind is removed.

        Args:
            key: its name.
            identity: plain values that it is made of, stored with it.
            write: writes the arrays.
            num_bytes: that the arrays will have, at least.
            say: is told of broken entries, and of waiting.
        Raises:
            InputError: if the folder cannot be written or has too little space, before any work.
        """
        found = self._usable(key, identity, say)
        if found is not None:
            return found, False
        with self._writing(), self._locked(key, say):
            found = self._usable(key, identity, say)
            if found is not None:
                return found, False
            self._remove(self.root / key)
            self._remove(self.root / f"{key}{_WORK}")
            self._sweep()
            self._check_space(num_bytes)
            self._write(key, identity, write)
            # Mapped before the lock is let go, after which another process may remove it.
            entry = self.open(key, identity, contents=False)
        assert entry is not None
        return entry, True

    def keys(self) -> list[str]:
        """Return the names of all entries, whole or broken, and of unfinished ones; nothing else in the folder."""
        if not self.root.is_dir():
            return []
        names = (path.name for path in self.root.iterdir() if path.is_dir())
        return sorted(name for name in names if _KEY.fullmatch(name.removesuffix(_WORK)))

    def remove(self, key: str) -> bool:
        """Remove an entry, whole or broken, or an unfinished one; processes that have mapped it keep what they read.

        Returns:
            False where a process is writing it, and it stays.
        Raises:
            InputError: if there is no such entry, or its folder holds other files, which stay.
        """
        if key not in self.keys():
            raise InputError(f"{self.root}: holds no entry '{key}'; 'peftrec cache list' shows what there is")
        with self._writing(), self._lock(key.removesuffix(_WORK), wait=False) as got:
            if got is not None:
                self._remove(self.root / key)
            return got is not None

    def _usable(self, key: str, identity: dict[str, Any], say: Say) -> Entry | None:
        try:
            return self.open(key, identity)
        except BrokenEntryError as error:
            say(f"cache: {self.root / key} is not used, and made again: {error}")
            return None

    def _write(self, key: str, identity: dict[str, Any], write: Callable[[EntryWriter], None]) -> None:
        aside = self.root / f"{key}{_WORK}"
        aside.mkdir()
        try:
            writer = EntryWriter(aside)
            write(writer)
            writer.finish(key, identity)
            aside.rename(self.root / key)
            sync_path(self.root)
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise

    def _remove(self, folder: Path) -> None:
        """Remove the files that an entry has, and its folder."""
        if not folder.is_dir():
            return
        # First the manifest: what is half removed is no entry.
        for path in (folder / MANIFEST, *folder.glob("*.bin")):
            path.unlink(missing_ok=True)
        try:
            folder.rmdir()
        except OSError:
            raise InputError(f"{folder}: holds files that no entry of the cache has; move them away") from None

    def _sweep(self) -> None:
        """Remove what killed processes have left unfinished; those that live hold their lock."""
        for name in self.keys():
            if name.endswith(_WORK):
                with self._lock(name.removesuffix(_WORK), wait=False) as got:
                    if got is not None:
                        self._remove(self.root / name)

    def _check_space(self, num_bytes: int) -> None:
        free = shutil.disk_usage(self.root).free
        if num_bytes > free:
            raise InputError(
                f"encoder.cache.folder: '{self.folder}' has {free:,} bytes free, but {num_bytes:,} are needed; choose "
                f"another folder, use encoder.cache.dtype=float16, which halves states, or 'peftrec cache clear'"
            )

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Name the folder, and the way out, where it cannot be written."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            yield
        except OSError as error:
            raise InputError(
                f"encoder.cache.folder: '{self.folder}' cannot be written ({error.strerror or error}); choose another "
                f"folder, or null to keep nothing between runs"
            ) from error

    @contextlib.contextmanager
    def _locked(self, key: str, say: Say) -> Iterator[None]:
        with self._lock(key, wait=False) as got:
            if got is not None:
                yield
                return
        say(f"cache: waiting for another process that writes {key}")
        with self._lock(key, wait=True):
            yield

    def _lock(self, key: str, *, wait: bool) -> contextlib.AbstractContextManager[int | None]:
        """Hold the lock of an entry."""
        return file_lock(self.root / f"{key}.lock", wait=wait)
