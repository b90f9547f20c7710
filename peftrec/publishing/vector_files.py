"""Files of encoded items: Parquet shards that are whole or not there, and arrays made of them.

Shapes: C items of a shard, D width of vectors.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from peftrec.config import InputError
from peftrec.publishing.aside import written_aside

if TYPE_CHECKING:
    import polars as pl

_ARRAYS = ("vectors", "ids")


def write_shard(path: Path, ids: pl.Series, vectors_CD: NDArray[np.float32]) -> None:
    """Write one shard with the columns `item_id` and `vector`; it takes its name when it is on the disk.

    Raises:
        InputError: if the folder cannot be written, or is full.
    """
    import polars as pl

    vectors = pl.Series("vector", vectors_CD, dtype=pl.Array(pl.Float32, vectors_CD.shape[1]))
    with _aside(path) as file:
        pl.DataFrame([ids.alias("item_id"), vectors]).write_parquet(file)


def shard_rows(path: Path) -> int | None:
    """Return how many items a shard has; None where there is none, or it is torn."""
    import polars as pl

    if not path.is_file():
        return None
    try:
        return int(pl.scan_parquet(path).select(pl.len()).collect().item())
    except (OSError, pl.exceptions.PolarsError):
        return None


def write_arrays(folder: Path, shards: Sequence[Path], counts: Sequence[int], dim: int) -> None:
    """Make `vectors.npy` and `ids.npy` of shards, one after the other.

    They are written and not mapped: a full disk is then an error, where a map would kill the process.

    Raises:
        InputError: if the folder cannot be written, or is full.
    """
    import polars as pl

    longest = 1
    for shard in shards:
        lengths = pl.read_parquet(shard, columns=["item_id"])["item_id"].str.len_chars().to_list()
        longest = max([longest, *lengths])
    shapes: dict[str, tuple[np.dtype[Any], tuple[int, ...]]] = {
        "vectors": (np.dtype(np.float32), (sum(counts), dim)),
        "ids": (np.dtype((np.str_, longest)), (sum(counts),)),
    }
    for name, (dtype, shape) in shapes.items():
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        with _aside(folder / f"{name}.npy") as file:
            np.lib.format.write_array_header_1_0(file, header)
            for shard in shards:
                column = pl.read_parquet(shard, columns=["vector" if name == "vectors" else "item_id"]).to_series()
                file.write(np.ascontiguousarray(column.to_numpy(), dtype=dtype).tobytes())


def arrays_hold(folder: Path, num_items: int) -> bool:
    """Return whether both arrays are there and whole, of so many items."""
    try:
        return all(len(np.load(folder / f"{name}.npy", mmap_mode="r")) == num_items for name in _ARRAYS)
    except (OSError, ValueError, EOFError):
        return False


@contextlib.contextmanager
def _aside(path: Path) -> Iterator[IO[bytes]]:
    """Write a file as a whole or not at all; errors say that the call can be made again."""
    try:
        with written_aside(path) as file:
            yield file
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written ({error.strerror or error}); shards that are whole stay, and the same call "
            f"goes on with the others"
        ) from error
