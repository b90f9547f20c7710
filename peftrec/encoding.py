"""`encode_items(run, items, folder)`: vectors of a table of items, in shards that a stopped run goes on with.

Shapes: C items of a shard, D width of vectors.
"""

from __future__ import annotations

import dataclasses
import json
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
from peftrec.models import RecommenderModel, given_features
from peftrec.publishing import Run, load_run
from peftrec.publishing.manifest import MANIFEST, sha256
from peftrec.publishing.vector_files import arrays_hold, shard_rows, write_arrays, write_shard

if TYPE_CHECKING:
    import polars as pl

    from peftrec.data.table_part import TableParts

What = Literal["item", "text"]
Form = Literal["parquet", "npy"]

ENCODING: Final = "encoding.json"
SHARD_ITEMS: Final = 50_000
_FORMAT_VERSION = 1


def encode_items(
    run: Run | str | Path,
    items: str | Path,
    folder: str | Path,
    *,
    what: What = "item",
    form: Form = "parquet",
    shard_items: int = SHARD_ITEMS,
    report: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Encode a table of items with a run's language model, in memory that does not grow with the table.

    A shard is written aside and takes its name when it is whole; called again after a kill, only shards that are
    missing or torn are encoded. Only the ids of all items are held at once.

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
        report: is handed one line at a time on what goes on; None is silent.
    Returns:
        What `encoding.json` holds: counts, width, and what the vectors were made of.
    Raises:
        InputError: if the run reads no texts, the table lacks a column, an id is missing or there twice, or the folder
            holds anything else than shards of the same run, table and settings, cannot be written, or is full.
    """
    from peftrec.data.table_part import TableParts  # loads polars

    if shard_items < 1:
        raise InputError(f"shard_items is {shard_items}; a shard has at least 1 item")
    say = report or (lambda _: None)
    run = run if isinstance(run, Run) else load_run(run)
    job = _Job(run, TableParts(Path(items)), Path(folder), what, form, shard_items)
    done = job.begin()
    if done is not None:
        say(f"{folder}: is complete already")
        return done
    missing = [number for number in range(job.num_shards) if shard_rows(job.shard(number)) is None]
    if len(missing) < job.num_shards:
        say(f"{folder}: {job.num_shards - len(missing)} of {job.num_shards} shards are there already")
    began = time.perf_counter()
    for place, number in enumerate(missing, start=1):
        rows = job.write_shard(number)
        seconds = time.perf_counter() - began
        left = f", about {seconds / place * (len(missing) - place):,.0f} s left" * (place < len(missing))
        say(f"shard {number + 1} of {job.num_shards}: {rows:,} items, {seconds:,.0f} s{left}")
    return job.finish()


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

    def begin(self) -> dict[str, Any] | None:
        """See that all fits together, and return what was written before if that is complete."""
        assert self.model is not None
        self.table.require(self.id_column, "data.columns.item of the run")
        ids = self.table.ids(self.id_column)
        content = {
            "format_version": _FORMAT_VERSION,
            "peftrec_version": peftrec.__version__,
            "run": {"folder": str(self.run.folder), "sha256": sha256(self.run.folder / MANIFEST)},
            "table": {"file": self.table.name, "sha256": sha256(self.table.path), "rows": self.table.num_rows},
            "what": self.what,
            "form": self.form,
            "shard_items": self.shard_items,
        }
        if self.folder.exists() and not self.folder.is_dir():
            raise InputError(f"{self.folder}: is a file; choose a folder")
        path = self.folder / ENCODING
        if path.is_file():
            stored = _read(path)
            _check_same(self.folder, stored, content)
            return stored if self.is_complete(stored) else None
        if self.folder.exists() and any(self.folder.iterdir()):
            raise InputError(f"{self.folder}: holds files that are no encoded items; choose another folder")
        # Before anything is encoded: what the first rows say of the columns holds for all.
        self._texts(self.table.part(0, 1))
        self.folder.mkdir(parents=True, exist_ok=True)
        del ids
        _write(path, content)
        return None

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

    def finish(self) -> dict[str, Any]:
        """Count what there is, make one array of it where that is asked for, and say that all is done."""
        shards = [self.shard(number) for number in range(self.num_shards)]
        counts = [shard_rows(shard) or 0 for shard in shards]
        dim = self.model.item_encoder.dim if self.what == "item" else self.model.text_encoder.dim  # type: ignore[union-attr]
        if self.form == "npy":
            write_arrays(self.folder, shards, counts, dim)
        content = _read(self.folder / ENCODING) | {
            "num_items": sum(counts),
            "num_without_text": self.table.num_rows - sum(counts),
            "dim": dim,
        }
        _write(self.folder / ENCODING, content)
        left = [*self.folder.glob("*.partial"), *(shards if self.form == "npy" else [])]
        for path in left:
            path.unlink(missing_ok=True)
        return content

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


def _check_same(folder: Path, stored: dict[str, Any], content: dict[str, Any]) -> None:
    """Refuse to put shards of one thing beside those of another."""
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


def _read(path: Path) -> dict[str, Any]:
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


def _write(path: Path, content: dict[str, Any]) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    partial.replace(path)
