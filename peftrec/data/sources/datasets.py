"""Data sets of the library `datasets`: Hub ids, folders of files, folders that `save_to_disk` wrote."""

from __future__ import annotations

import gc
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from peftrec.config import InputError, nearest
from peftrec.data.naming import listed
from peftrec.data.source import Columns, DataConfig, RawTables

if TYPE_CHECKING:
    import polars as pl

    from peftrec.data.table import RawTable

_HUB_ID = r"\w[\w.-]*(/\w[\w.-]*)?"
_SAVED = ("dataset_dict.json", "state.json")  # what save_to_disk writes for a dictionary of splits, and for one split
_BATCH_ROWS = 10_000


@dataclass(frozen=True, kw_only=True)
class DatasetTable:
    """Where one table is.

    Args:
        path: in place of the section's `path`, for this table.
        config: the configuration (`name` in `load_dataset`); None takes the only or default one.
        split: the split; None takes the only one.
        data_files: the files to read, patterns allowed; None leaves it to the configuration.
    """

    path: str | None = None
    config: str | None = None
    split: str | None = None
    data_files: str | tuple[str, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class DatasetsConfig(DataConfig):
    """Interactions, items and users through the library `datasets`, which holds them as Arrow files on disk.

    A folder under `root` goes before a Hub id of that name. Columns of class labels are read as the labels' names. CSV
    files get the types that `datasets` guesses ('0012' becomes 12); `kind: tables` keeps them as text.

    Args:
        path: a Hub id such as 'org/name', a folder of files, or one that `save_to_disk` wrote.
        revision: of the Hub's repository: branch, tag or commit.
        streaming: read batch by batch without storing the whole first, for what exceeds disk and memory: what is kept
            are the columns that the recipe needs.
        interactions: where the interactions are.
        items: where the items are.
        users: where the users are; `user_template` and `user_attributes` read them.
        columns: what the columns are called there.
    """

    kind: ClassVar[str] = "datasets"
    path: str | None = None
    revision: str | None = None
    streaming: bool = False
    interactions: DatasetTable
    items: DatasetTable
    users: DatasetTable | None = None
    columns: Columns = field(default_factory=Columns)

    def __post_init__(self) -> None:
        super().__post_init__()
        for key, table in (("interactions", self.interactions), ("items", self.items), ("users", self.users)):
            if table is not None and table.path is None and self.path is None:
                raise ValueError(
                    f"{key}.path: missing; name a Hub id or a folder there, or in data.path for all tables"
                )
        if (self.users is not None) != self.reads_users:
            raise ValueError(
                "users: goes with user_template, which says how the columns of the users make a text, with "
                "user_attributes or with user_groups"
            )

    @property
    def set_path(self) -> str:
        return self.interactions.path or self.path or ""

    @property
    def hub_ids(self) -> tuple[str, ...]:
        tables = (self.interactions, self.items, self.users)
        paths = dict.fromkeys(table.path or self.path or "" for table in tables if table is not None)
        root = Path(self.root).expanduser()
        return tuple(path for path in paths if re.fullmatch(_HUB_ID, path) and not (root / path).is_dir())

    def read(self) -> RawTables:
        """Reads the columns that the recipe needs of each table."""
        if find_spec("datasets") is None:
            raise InputError("data.kind: datasets needs the library datasets: pip install 'peftrec[datasets]'")
        of_interactions, of_items, of_users = self.wanted_columns(self.columns)
        interactions = self._table("interactions", self.interactions, of_interactions)
        items = self._table("items", self.items, of_items)
        users = None if self.users is None else self._table("users", self.users, of_users)
        return RawTables(interactions, items, self.columns, users)

    def _table(self, key: str, table: DatasetTable, columns: Sequence[str]) -> RawTable:
        from peftrec.data.table import RawTable

        place = f"data.{key}"
        path = table.path or self.path
        assert path is not None
        try:
            loaded = _one_split(self._load(place, path, table), table.split, f"{place}.split", path)
            name = f"{path} ({', '.join(str(part) for part in (table.config, loaded.split) if part) or 'one table'})"
            names = loaded.column_names or tuple(next(iter(loaded.take(1)), ()))
            wanted = [column for column in dict.fromkeys(columns) if column in names] or list(names[:1])
            frame, mixed = _frame(loaded.select_columns(wanted), wanted, name) if names else (None, ())
        except _errors() as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{place}: {self._what_is_broken(path, table, error)}") from error
        if self.streaming:
            del loaded
            gc.collect()  # readers of Arrow that live until Python ends may abort it
        if frame is None or frame.is_empty():
            raise InputError(f"{name} holds no rows")
        return RawTable(name, frame, tuple(names), mixed)

    def _load(self, place: str, path: str, table: DatasetTable) -> Any:
        """What `datasets` makes of a path: a dictionary of splits, or one split."""
        import datasets

        from peftrec.data.table import resolve_path

        folder = resolve_path(path, self.root)
        if any((folder / file).is_file() for file in _SAVED):
            if table.config is not None or table.data_files is not None:
                raise InputError(f"{place}: {folder} was written by save_to_disk, which has splits only: unset config "
                                 f"and data_files")  # fmt: skip
            return datasets.load_from_disk(str(folder))
        if not folder.is_dir() and re.fullmatch(_HUB_ID, path) is None:
            raise InputError(
                f"{place}: no such folder: {folder}, and {path!r} is no Hub id, which looks like 'org/name'"
            )
        source, revision = (str(folder), None) if folder.is_dir() else (path, self.revision)
        try:
            return datasets.load_dataset(
                source, table.config, data_files=_patterns(table), revision=revision, streaming=self.streaming
            )
        except (ConnectionError, datasets.exceptions.DatasetNotFoundError) as error:
            raise InputError(
                f"{place}: the Hub gives no data set {path!r}: {_reason(error)}. Check id, revision and connection "
                f"(and HF_HUB_OFFLINE), or name a folder; {folder} is none"
            ) from error

    def _what_is_broken(self, path: str, table: DatasetTable, error: BaseException) -> str:
        """Where reading stopped, as far as it can be found out: what `datasets` says names no file."""
        from peftrec.data.broken_file import broken_file
        from peftrec.data.table import resolve_path

        folder = resolve_path(path, self.root)
        if not folder.is_dir():
            asked = ", ".join(
                f"{key} {value!r}"
                for key, value in (("config", table.config), ("data_files", _patterns(table)))
                if value is not None
            )
            return f"{path}{f' ({asked})' if asked else ''} cannot be read: {_reason(error)}"
        files = _local_files(folder, table)
        place, reason = broken_file(files), _reason(error)
        if place is None and files and not any(file.name in reason for file in files):
            reason += f"; files read: {listed([file.name for file in files], limit=5)}"
        return f"{path} cannot be read: {place or reason}"


def _patterns(table: DatasetTable) -> str | list[str] | None:
    """The table's `data_files` as `datasets` takes them."""
    return list(table.data_files) if isinstance(table.data_files, tuple) else table.data_files


def _local_files(folder: Path, table: DatasetTable) -> list[Path]:
    """The files of a folder that make up a table; none where that cannot be told."""
    import datasets

    if any((folder / file).is_file() for file in _SAVED):
        return sorted(folder.rglob("*.arrow"))
    try:
        builder = datasets.load_dataset_builder(str(folder), table.config, data_files=_patterns(table))
    except _errors():
        return []
    paths = [Path(str(name)) for names in (builder.config.data_files or {}).values() for name in names]
    return [path for path in paths if path.is_file()]


def _one_split(loaded: Any, split: str | None, key: str, path: str) -> Any:
    if not isinstance(loaded, Mapping):
        if split is not None and str(loaded.split) != split:
            raise InputError(f"{key}: {path} holds one table without the split {split!r}; unset it")
        return loaded
    names = [str(name) for name in loaded]
    if split is None and len(names) == 1:
        return loaded[names[0]]
    if split is None:
        raise InputError(f"{key}: {path} has several splits; choose one of: {listed(names)}")
    if split not in names:
        raise InputError(f"{key}: {path} has no split {split!r}.{nearest(split, names)} Splits there: {listed(names)}")
    return loaded[split]


def _frame(loaded: Any, columns: Sequence[str], name: str) -> tuple[pl.DataFrame | None, tuple[str, ...]]:
    """The columns as polars holds them, from Arrow, a batch at a time; None where there is no row.

    With them a note on each column whose types differ.
    """
    import polars as pl

    from peftrec.data.mixed_type import mixed_note
    from peftrec.data.table import text_of

    batches = [batch for batch in _batches(loaded) if batch[0].height]
    if not batches:
        return None, ()
    merged, notes = [], []
    for column in columns:
        parts = [frame[column] for frame, _ in batches]
        others = [values for _, no_texts in batches for values in no_texts.get(column, ())]
        if len({part.dtype for part in parts if part.dtype != pl.Null}) > 1:  # types were guessed batch by batch
            texts = [text_of(part, f"{name}, column {column!r}") for part in parts]
            guessed = [text for text, part in zip(texts, parts, strict=True) if part.dtype != pl.String]
            others += [value for text in guessed for value in text.drop_nulls()]
            parts = texts
        merged.append(pl.concat([part.to_frame() for part in parts], how="vertical_relaxed").to_series())
        num_values = merged[-1].len() - merged[-1].null_count()
        alike = len(others) == num_values and {value[0] for value in others} in ({"{"}, {"["})  # JSON, not mixed
        if others and not alike:
            notes.append(mixed_note(column, num_values, others))
    return _with_label_names(pl.DataFrame(merged), loaded.features or {}), tuple(notes)


def _batches(loaded: Any) -> Iterator[tuple[pl.DataFrame, Mapping[str, Sequence[str]]]]:
    """Rows, and by column that mixes types the values that were no text, as JSON."""
    import polars as pl

    for batch in loaded.with_format("arrow").iter(batch_size=_BATCH_ROWS):
        columns = {name: _series(batch[name]) for name in batch.column_names}
        no_texts = {name: others for name, (_, others) in columns.items() if others}
        yield pl.DataFrame({name: values for name, (values, _) in columns.items()}), no_texts


def _series(column: Any) -> tuple[pl.Series, Sequence[str]]:
    """A column of Arrow; `datasets` holds one of mixed types as JSON, where texts have quotes.

    With it, of such a column, the values that are no text.
    """
    import polars as pl
    import pyarrow as pa

    name = ""
    if isinstance(column.type, pa.BaseExtensionType):
        name = column.type.extension_name
        column = pa.chunked_array([chunk.storage for chunk in column.chunks], column.type.storage_type)
    values = pl.Series(pl.from_arrow(column))
    if name != "arrow.json":
        return values, ()
    quoted = pl.col("value").str.starts_with('"')
    text = pl.when(quoted).then(pl.when(quoted).then("value").str.json_decode(pl.String)).otherwise("value")
    frame = values.alias("value").to_frame().with_columns(pl.col("value").replace("null", None))
    return frame.select(text).to_series(), frame.filter(~quoted)["value"].to_list()


def _with_label_names(frame: pl.DataFrame, features: Mapping[str, Any]) -> pl.DataFrame:
    import polars as pl
    from datasets import ClassLabel

    named = {column: features[column].names for column in frame.columns if isinstance(features.get(column), ClassLabel)}
    return frame.with_columns(
        pl.col(column).replace_strict(dict(enumerate(names)), default=None, return_dtype=pl.String)
        for column, names in named.items()
    )


def _errors() -> tuple[type[Exception], ...]:
    """What `datasets` raises over data that it cannot read."""
    from datasets.exceptions import DatasetsError

    return OSError, EOFError, ValueError, RuntimeError, zlib.error, DatasetsError


def _reason(error: BaseException) -> str:
    """What an error of `datasets` says, in one line; the one behind it where it says nothing itself."""
    cause = error.__cause__
    if type(error).__name__ == "DatasetGenerationError" and cause is not None:
        return _reason(cause)
    text = str(error).partition("Example of usage")[0].partition(" with any supported extension")[0]
    text = re.sub(r" in row \d+\s*$", "", text)  # counts from 0, in a part of the file
    return " ".join(text.split()) or type(error).__name__
