"""Files of encoded items: Parquet shards that are whole or not there, arrays made of them, and what they are made of.

Shapes: C items of a shard, D width of vectors.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from peftrec.config import InputError
from peftrec.publishing.aside import written_aside

if TYPE_CHECKING:
    import polars as pl

ENCODING: Final = "encoding.json"
_ARRAYS = ("vectors", "ids")
_FORMAT_VERSION = 1


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


def check_same_encoding(folder: Path, stored: dict[str, Any], content: dict[str, Any]) -> None:
    """Refuse to put shards of one thing beside those of another.

    Args:
        folder: of the shards.
        stored: what its `encoding.json` holds.
        content: what it would hold now.
    Raises:
        InputError: naming what differs.
    """
    for key, name in (("run", "run"), ("table", "table")):
        if stored[key]["sha256"] != content[key]["sha256"]:
            label = stored[key].get("folder", stored[key].get("file"))
            raise InputError(
                f"{folder}: holds vectors of another {name} ({label}, sha256 {stored[key]['sha256'][:12]}, not "
                f"{content[key]['sha256'][:12]}); choose another folder, or remove it"
            )
    for key in ("what", "form", "shard_items"):
        if stored[key] != content[key]:
            raise InputError(
                f"{folder}: was begun with {key}={stored[key]}, not {content[key]}; choose another folder, or remove it"
            )


def read_encoding(path: Path) -> dict[str, Any]:
    """Read what shards were made of, and once all are there how many items they have.

    Raises:
        InputError: if the file is damaged, or of another version.
    """
    try:
        content = dict(json.loads(path.read_text(encoding="utf-8")))
        version = content["format_version"]
        assert all(isinstance(content[key]["sha256"], str) for key in ("run", "table"))
        assert {"what", "form", "shard_items"} <= set(content)
    except (OSError, ValueError, KeyError, TypeError, AssertionError) as error:
        raise InputError(f"{path}: is damaged ({error!r}); remove the folder") from None
    if version != _FORMAT_VERSION:
        raise InputError(f"{path}: has format version {version}, this peftrec reads {_FORMAT_VERSION}")
    return content


def write_encoding(path: Path, content: dict[str, Any]) -> None:
    """Write what `read_encoding` reads, as a whole."""
    content = {"format_version": _FORMAT_VERSION} | content
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    partial.replace(path)


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
