"""One array in a file: written by rows in constant memory, with a checksum a block, and mapped when it is read.

Shapes: R rows at hand.
"""

from __future__ import annotations

import math
import mmap
import os
import random
import warnings
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch

BLOCK_BYTES = 4 * 2**20
# Up to this size every byte of an array is read when it is opened; of larger ones, so many bytes in blocks drawn anew
# each time.
VERIFIED_BYTES = 4 * 2**30

_DTYPES = {"float32": torch.float32, "float16": torch.float16, "int64": torch.int64}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


class ArrayWriter:
    """Writes the rows of one array, in any order or one after the other, and closes with its description.

    Rows go to the file by plain writes and not through a map: a full disk is then an `OSError`, where a map would kill
    the process, and the memory of this process does not grow with the file.

    Args:
        path: of a file that is not there yet.
        dtype: float32, float16 or int64.
        row_shape: shape of one row.
        num_rows: how many there will be, for which space is taken at once; None where that shows only later.
    """

    def __init__(self, path: Path, dtype: torch.dtype, row_shape: Sequence[int], num_rows: int | None = None) -> None:
        self.path, self.dtype, self.row_shape = path, dtype, tuple(row_shape)
        self._row_bytes = dtype.itemsize * math.prod(self.row_shape)
        self._num_rows = 0
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
        if num_rows:
            self._num_rows = num_rows
            reserve = getattr(os, "posix_fallocate", None)  # not on every system
            if reserve is None:
                os.ftruncate(self._file, num_rows * self._row_bytes)
            else:
                reserve(self._file, 0, num_rows * self._row_bytes)

    def __enter__(self) -> ArrayWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)

    def append(self, rows: torch.Tensor) -> None:
        """Write rows behind those there are."""
        self._write(rows, self._num_rows)
        self._num_rows += len(rows)

    def write(self, places_R: torch.Tensor, rows: torch.Tensor) -> None:
        """Write row i to place `places_R[i]`; neighbours that stay neighbours are written at once."""
        rows = rows.cpu()
        places = places_R.cpu().numpy()
        cuts = np.flatnonzero(np.diff(places) != 1) + 1
        for start, end in zip([0, *cuts.tolist()], [*cuts.tolist(), len(places)], strict=True):
            self._write(rows[start:end], int(places[start]))

    def finish(self) -> dict[str, Any]:
        """Bring the rows to the disk and return what `map_array` and `check_array` need."""
        os.fsync(self._file)
        num_bytes = self._num_rows * self._row_bytes
        return {
            "file": self.path.name,
            "dtype": _NAMES[self.dtype],
            "shape": [self._num_rows, *self.row_shape],
            "crc32": checksums(self.path, range(math.ceil(num_bytes / BLOCK_BYTES))),
        }

    def _write(self, rows: torch.Tensor, place: int) -> None:
        assert rows.dtype == self.dtype, (rows.dtype, self.dtype)
        assert tuple(rows.shape[1:]) == self.row_shape, (rows.shape, self.row_shape)
        view = memoryview(rows.contiguous().numpy().data).cast("B")
        offset = place * self._row_bytes
        while len(view):
            written = os.pwrite(self._file, view, offset)
            view, offset = view[written:], offset + written


def checksums(path: Path, blocks: Sequence[int]) -> list[int]:
    """Return the CRC-32 of some blocks of `BLOCK_BYTES` of a file, in constant memory, on all cores."""
    with path.open("rb", buffering=0) as file, ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(
            pool.map(lambda block: zlib.crc32(os.pread(file.fileno(), BLOCK_BYTES, block * BLOCK_BYTES)), blocks)
        )


def check_array(folder: Path, described: dict[str, Any], *, contents: bool, limit: int = VERIFIED_BYTES) -> str | None:
    """Return what is wrong with an array's file, or None.

    Args:
        folder: that the file lies in.
        described: what `ArrayWriter.finish` returned.
        contents: compare checksums too, and not only the size: of all blocks of a file of up to `limit` bytes, and of
            the first, the last and as many drawn ones as that of a larger file. A flipped bit is found in every block
            that is read.
        limit: in bytes.
    """
    path, expected = folder / described["file"], described["crc32"]
    num_bytes = _DTYPES[described["dtype"]].itemsize * math.prod(described["shape"])
    try:
        found = path.stat().st_size
        if found != num_bytes:
            return f"{path.name} has {found:,} bytes and not {num_bytes:,}"
        if not contents or not expected:
            return None
        blocks: Sequence[int] = range(len(expected))
        if num_bytes > limit:
            drawn = random.Random().sample(blocks, max(1, limit // BLOCK_BYTES))
            blocks = sorted({0, *drawn, len(expected) - 1})
        for block, checksum in zip(blocks, checksums(path, blocks), strict=True):
            if checksum != expected[block]:
                return f"{path.name} is damaged near byte {block * BLOCK_BYTES:,}"
    except OSError as error:
        return f"{path.name} cannot be read ({error.strerror})"
    return None


def map_array(folder: Path, described: dict[str, Any]) -> torch.Tensor:
    """Return an array as a tensor over the file: pages are read when they are looked at, and must not be written.

    `torch.from_file` maps privately, which Linux refuses for files larger than its memory.
    """
    shape = tuple(described["shape"])
    dtype = np.dtype(described["dtype"])
    if math.prod(shape) == 0:
        return torch.empty(shape, dtype=_DTYPES[described["dtype"]])
    with (folder / described["file"]).open("rb") as file:
        mapped = mmap.mmap(file.fileno(), dtype.itemsize * math.prod(shape), access=mmap.ACCESS_READ)
    with warnings.catch_warnings():
        # Torch has no read-only tensors and says so; nothing here writes.
        warnings.filterwarnings("ignore", message="The given (buffer|NumPy array) is not writable")
        return torch.from_numpy(np.frombuffer(mapped, dtype=dtype).reshape(shape))
