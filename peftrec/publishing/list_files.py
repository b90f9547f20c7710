"""Files of lists: parts in a folder set aside, and the one file that is made of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from peftrec.config import InputError
from peftrec.retrieval import Recommendation

SUFFIXES: Final = (".parquet", ".jsonl")
_COLUMNS: Final = ("user_id", "rank", "score", "item_id", "title")


class ListParts:
    """Lists of many users as rows of one file, written a part at a time.

    Args:
        path: of the file; its name ends in one of `SUFFIXES`, and parts lie beside it in `<name>.partial/`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.folder = path.with_name(path.name + ".partial")
        self._suffix = next(suffix for suffix in SUFFIXES if path.name.endswith(suffix))

    def part(self, number: int) -> Path:
        """Return where a part lies."""
        return self.folder / f"{number:06d}{self._suffix}"

    def begin(self) -> None:
        """Make the folder; what a stopped call has left there is removed."""
        self.remove()
        self.folder.mkdir()

    def remove(self) -> None:
        """Remove the folder with all that is in it."""
        if self.folder.is_dir():
            shutil.rmtree(self.folder)
        else:
            self.folder.unlink(missing_ok=True)

    def write(self, number: int, users: Sequence[str], lists: Sequence[Sequence[Recommendation]]) -> int:
        """Write a part and return how many rows it has."""
        rows = list(_rows(users, lists))
        if self._suffix == ".parquet":
            import polars as pl

            types = (pl.String, pl.Int32, pl.Float32, pl.String, pl.String)
            schema = dict(zip(_COLUMNS, types, strict=True))
            pl.DataFrame(rows, schema=schema, orient="row").write_parquet(self.part(number))
            return len(rows)
        with self.part(number).open("w", encoding="utf-8") as file:
            for row in rows:
                named = dict(zip(_COLUMNS, row, strict=True))
                file.write(json.dumps(named, ensure_ascii=False, allow_nan=False) + "\n")
        return len(rows)

    def check(self, number: int, users: Sequence[str], num_lists: int, num_rows: int) -> None:
        """See that a part holds the lists of its users, each whole, once and in their order.

        Args:
            number: of the part.
            users: that it is of.
            num_lists: how many of them have a list that is not empty.
            num_rows: entries of all lists.
        Raises:
            InputError: if it is not there, or holds anything else.
        """
        found, ranks = self._read(number)
        starts = ranks == 1
        owners = found[starts]
        follows = (found[1:] == found[:-1]) & (ranks[1:] == ranks[:-1] + 1)
        whole = bool(starts[:1].all()) and bool((starts[1:] | follows).all())
        rest = iter(users)
        # Those without an entry are passed over; `in` goes on from where it stopped.
        in_order = all(owner in rest for owner in owners)
        if len(found) == num_rows and len(owners) == num_lists and whole and in_order:
            return
        raise InputError(
            f"{self.part(number)}: holds {len(found):,} rows in {len(owners):,} lists, where {num_rows:,} in "
            f"{num_lists:,} were made for {len(users):,} users, or they are not in the order of the table; all "
            f"processes must read the same table and write into one folder"
        )

    def finish(self, num_parts: int) -> None:
        """Make the file of its parts, in the order of their numbers; it takes its name when it is whole."""
        parts = [self.part(number) for number in range(num_parts)]
        whole = self.folder / "whole"
        if self._suffix == ".parquet":
            import polars as pl

            pl.scan_parquet(parts).sink_parquet(whole, maintain_order=True)
        else:
            with whole.open("wb") as file:
                for part in parts:
                    with part.open("rb") as rows:
                        shutil.copyfileobj(rows, file)
                    part.unlink()  # no row needs room twice
        whole.replace(self.path)

    def _read(self, number: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Return the users and places of the rows of a part."""
        part = self.part(number)
        if not part.is_file():
            raise InputError(f"{part}: is not there; all processes must write into one folder")
        if self._suffix == ".parquet":
            import polars as pl

            frame = pl.read_parquet(part, columns=["user_id", "rank"])
            return frame["user_id"].to_numpy(), frame["rank"].to_numpy()
        with part.open(encoding="utf-8") as file:
            rows = [json.loads(line) for line in file]
        return np.array([row["user_id"] for row in rows], dtype=object), np.array([row["rank"] for row in rows])


def _rows(
    users: Sequence[str], lists: Sequence[Sequence[Recommendation]]
) -> Iterator[tuple[str, int, float, str, str]]:
    for user, found in zip(users, lists, strict=True):
        for entry in found:
            yield user, entry.rank, entry.score, entry.item_id, entry.title
