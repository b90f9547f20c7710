"""`encode_items(run, items, folder)`: vectors of a table of items, in shards that a stopped run goes on with.

Shapes: C items of a shard, D width of vectors.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import torch

import peftrec
from peftrec.config import InputError
from peftrec.data import Columns
from peftrec.data.template import Template
from peftrec.launch import Ranks, all_or_none
from peftrec.models import RecommenderModel, given_features
from peftrec.publishing import Run, load_run
from peftrec.publishing.manifest import MANIFEST, sha256
from peftrec.publishing.vector_files import (
    ENCODING,
    arrays_hold,
    check_same_encoding,
    read_encoding,
    shard_rows,
    write_arrays,
    write_encoding,
    write_shard,
)

if TYPE_CHECKING:
    import polars as pl

    from peftrec.data.table_part import TableParts

What = Literal["item", "text"]
Form = Literal["parquet", "npy"]

SHARD_ITEMS: Final = 50_000


def encode_items(
    run: Run | str | Path,
    items: str | Path,
    folder: str | Path,
    *,
    what: What = "item",
    form: Form = "parquet",
    shard_items: int = SHARD_ITEMS,
    report: Callable[[str], None] | None = None,
    ranks: Ranks | None = None,
) -> dict[str, Any]:
    """Encode a table of items with a run's language model, in memory that does not grow with the table.

    A shard is written aside and takes its name when it is whole; called again after a kill, only shards that are
    missing or torn are encoded. Only the ids of all items are held at once. Several processes take turns with the
    shards that are missing; when all are there, the first finishes.

    Args:
        run: a loaded run, or its folder.
        items: CSV, TSV, Parquet or JSON Lines with the column of ids that the run's data have (`item_id` by default)
            and those of its template, or a ready column `text`; where the run reads attributes of items, those too.
        folder: for the shards.
        what: `item`, vectors as the run's scorer takes them: items that it was trained with have the very vectors of
            the run (with what it learned of them alone), others those of their text and attributes; `text`, pooled
            vectors of the language model, of all items.
        form: `parquet`, shards with the columns `item_id` and `vector` (fixed width, float32); `npy`, one
            `vectors.npy` to be mapped into memory and `ids.npy`, which are made of the shards at the end.
        shard_items: rows of the table a shard.
        report: is handed one line at a time on what goes on, in each process of its own shards; None is silent.
        ranks: processes that share the shards, called alike on each (`peftrec.launch.launched()`), with one folder for
            all; None for this one alone.
    Returns:
        What `encoding.json` holds: counts, width, and what the vectors were made of.
    Raises:
        InputError: if the run reads no texts, the table lacks a column, an id is missing or there twice, or the folder
            holds anything else than shards of the same run, table and settings, cannot be written, or is full; if
            another process has failed.
    """
    from peftrec.data.table_part import TableParts  # loads polars

    if shard_items < 1:
        raise InputError(f"shard_items is {shard_items}; a shard has at least 1 item")
    say, ranks = report or (lambda _: None), Ranks() if ranks is None else ranks
    with all_or_none(ranks):
        run = run if isinstance(run, Run) else load_run(run)
        job = _Job(run, TableParts(Path(items)), Path(folder), what, form, shard_items)
    done, missing = job.begin_together(ranks)
    if done:
        if ranks.is_first:
            say(f"{folder}: is complete already")
        return read_encoding(job.folder / ENCODING)
    if len(missing) < job.num_shards and ranks.is_first:
        say(f"{folder}: {job.num_shards - len(missing)} of {job.num_shards} shards are there already")
    began = time.perf_counter()
    turns = -(-len(missing) // ranks.count)
    for turn in range(turns):
        with all_or_none(ranks):
            place = turn * ranks.count + ranks.index
            if place < len(missing):
                number = missing[place]
                rows = job.write_shard(number)
                seconds = time.perf_counter() - began
                left = f", about {seconds / (turn + 1) * (turns - turn - 1):,.0f} s left" * (turn + 1 < turns)
                say(f"shard {number + 1} of {job.num_shards}: {rows:,} items, {seconds:,.0f} s{left}")
    with all_or_none(ranks):
        if ranks.is_first:
            job.finish()
    return read_encoding(job.folder / ENCODING)


@dataclasses.dataclass(frozen=True)
class _Job:
    """A table, what encodes it, and where its shards go."""

    run: Run
    table: TableParts
    folder: Path
    what: What
    form: Form
    shard_items: int

    @property
    def num_shards(self) -> int:
        return -(-self.table.num_rows // self.shard_items)

    @property
    def model(self) -> RecommenderModel:
        model = self.run.model
        if model is None or model.text_encoder is None:
            kind = "reads ids only" if model is not None else "is a baseline or an ensemble"
            raise InputError(f"{self.run.folder}: {kind}; there is no language model to encode items with")
        return model

    @property
    def id_column(self) -> str:
        columns = getattr(self.run.recipe.data, "columns", None)
        return columns.item if isinstance(columns, Columns) else Columns().item

    def shard(self, number: int) -> Path:
        return self.folder / f"vectors-{number:05d}-of-{self.num_shards:05d}.parquet"

    def is_complete(self, stored: dict[str, Any]) -> bool:
        """Whether the vectors that a finished call has counted are all there, and whole."""
        if "num_items" not in stored:
            return False
        if self.form == "npy":
            return arrays_hold(self.folder, stored["num_items"])
        counts = [shard_rows(self.shard(number)) for number in range(self.num_shards)]
        return None not in counts and sum(count or 0 for count in counts) == stored["num_items"]

    def begin_together(self, ranks: Ranks) -> tuple[bool, list[int]]:
        """Begin on the first process, and let the others see that they are about the same.

        Returns:
            Whether all was written before, and the numbers of the shards that are missing; alike on all processes.
        """
        done, there = False, [False] * self.num_shards
        with all_or_none(ranks):
            if ranks.is_first:
                done = self.begin()
                there = [shard_rows(self.shard(number)) is not None for number in range(self.num_shards)]
        path = self.folder / ENCODING
        with all_or_none(ranks):
            if not path.is_file():
                raise InputError(f"{self.folder}: is not seen here; all processes must write into one folder")
            if not ranks.is_first:
                check_same_encoding(self.folder, read_encoding(path), self.content())
        told_done, *told_there = ranks.same([float(done), *map(float, there)])
        return bool(told_done), [number for number, told in enumerate(told_there) if not told]

    def content(self) -> dict[str, Any]:
        """Return what vectors are made of."""
        return {
            "peftrec_version": peftrec.__version__,
            "run": {"folder": str(self.run.folder), "sha256": sha256(self.run.folder / MANIFEST)},
            "table": {"file": self.table.name, "sha256": sha256(self.table.path), "rows": self.table.num_rows},
            "what": self.what,
            "form": self.form,
            "shard_items": self.shard_items,
        }

    def begin(self) -> bool:
        """See that all fits together, and return whether all was written before."""
        assert self.model is not None
        self.table.require(self.id_column, "data.columns.item of the run")
        ids = self.table.ids(self.id_column)
        content = self.content()
        if self.folder.exists() and not self.folder.is_dir():
            raise InputError(f"{self.folder}: is a file; choose a folder")
        path = self.folder / ENCODING
        if path.is_file():
            stored = read_encoding(path)
            check_same_encoding(self.folder, stored, content)
            return self.is_complete(stored)
        if self.folder.exists() and any(self.folder.iterdir()):
            raise InputError(f"{self.folder}: holds files that are no encoded items; choose another folder")
        # Before anything is encoded: what the first rows say of the columns holds for all.
        self._texts(self.table.part(0, 1))
        self.folder.mkdir(parents=True, exist_ok=True)
        del ids
        write_encoding(path, content)
        return False

    def write_shard(self, number: int) -> int:
        """Encode the rows of a shard and return how many items it has."""
        frame = self.table.part(number * self.shard_items, self.shard_items)
        texts = self._texts(frame)
        ids = self.table.text(frame, self.id_column).str.strip_chars()
        known = self._known(ids.to_list())
        # An item without text has no vector, unless the run has one of it.
        kept = (texts != "").to_numpy() | (known >= 0)
        vectors_CD = self._vectors(frame.filter(kept), texts.filter(kept).to_list(), known[kept])
        if not np.isfinite(vectors_CD).all():
            row = int(np.flatnonzero(~np.isfinite(vectors_CD).all(axis=1))[0])
            raise InputError(f"item {ids.filter(kept)[row]!r} has a vector that is NaN or infinite")
        write_shard(self.shard(number), ids.filter(kept), vectors_CD)
        return int(kept.sum())

    def finish(self) -> None:
        """Count what there is, make one array of it where that is asked for, and say that all is done."""
        shards = [self.shard(number) for number in range(self.num_shards)]
        counts = []
        for shard in shards:
            rows = shard_rows(shard)
            if rows is None:
                raise InputError(f"{shard}: was encoded, but is not there; all processes must write into one folder")
            counts.append(rows)
        dim = self.model.item_encoder.dim if self.what == "item" else self.model.text_encoder.dim  # type: ignore[union-attr]
        if self.form == "npy":
            write_arrays(self.folder, shards, counts, dim)
        content = read_encoding(self.folder / ENCODING) | {
            "num_items": sum(counts),
            "num_without_text": self.table.num_rows - sum(counts),
            "dim": dim,
        }
        write_encoding(self.folder / ENCODING, content)
        left = [*self.folder.glob("*.partial"), *(shards if self.form == "npy" else [])]
        for path in left:
            path.unlink(missing_ok=True)

    def _texts(self, frame: pl.DataFrame) -> pl.Series:
        data = self.run.recipe.data
        return self.table.item_texts(frame, Template(data.template), strip_html=data.cleaning.strip_html)

    def _known(self, ids: list[str]) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Return the indexes of items that the run was trained with, -1 for others and where texts are asked for."""
        if self.what == "text":
            return np.full(len(ids), -1, dtype=np.int64)
        places = self.run.catalogue.places
        return np.array([places.get(item, -1) for item in ids], dtype=np.int64)

    def _vectors(
        self, frame: pl.DataFrame, texts: list[str], known_C: np.ndarray[Any, np.dtype[np.int64]]
    ) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Return the vectors of items, shape (C, D)."""
        model, encoder = self.model, self.model.text_encoder
        assert encoder is not None
        if self.what == "text":
            texts = texts or [""]
            found = encoder.encode(encoder.tokenize(texts))[: len(frame)]
            return found.float().cpu().numpy()
        vectors_CD = torch.empty(len(frame), model.item_encoder.dim)
        old = torch.from_numpy(np.flatnonzero(known_C >= 0))
        assert self.run.vectors_ND is not None
        vectors_CD[old] = self.run.vectors_ND.cpu()[torch.from_numpy(known_C[known_C >= 0])].float()
        new = np.flatnonzero(known_C < 0)
        if len(new):
            rows = frame[new]
            part = model.item_encoder.attributes
            features = None
            if part is not None:
                columns = [name for name in self.run.recipe.data.item_attributes or {} if name in frame.columns]
                names = [f"item '{name}'" for name in self.table.text(rows, self.id_column)]
                features = given_features(part, rows.select(columns).to_dicts(), "item", names)
            encoded = model.encode_new_items([texts[place] for place in new], features)
            vectors_CD[torch.from_numpy(new)] = encoded.float().cpu()
        return vectors_CD.numpy()
