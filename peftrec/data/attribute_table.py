"""The values of attribute columns, row by row: from tables, and from what Python hands over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from peftrec.config import InputError, nearest
from peftrec.data.attribute import AttributeConfig, Labels, Numbers
from peftrec.data.naming import listed
from peftrec.data.report import CleaningRow

if TYPE_CHECKING:
    from peftrec.data.table import RawTable


@dataclass(frozen=True, eq=False)
class AttributeTable:
    """What is known of some items, or users.

    Args:
        configs: the kind of each column, in the order of the recipe.
        values: what each column holds, one entry a row.
        num_rows: items, or users.
    """

    configs: Mapping[str, AttributeConfig]
    values: Mapping[str, Numbers | Labels]
    num_rows: int

    @property
    def known(self) -> NDArray[np.bool_]:
        """Whether a row holds anything, shape (N,)."""
        columns = [
            ~np.isnan(values) if isinstance(values, np.ndarray) else np.array([bool(row) for row in values], dtype=bool)
            for values in self.values.values()
        ]
        return np.asarray(np.stack(columns).any(axis=0))

    def missing(self, column: str) -> int:
        """How many rows hold nothing in a column."""
        values = self.values[column]
        return int(np.isnan(values).sum()) if isinstance(values, np.ndarray) else sum(not row for row in values)

    def plain(self) -> dict[str, list[Any]]:
        """Plain values for JSON, by column; None where a number is missing."""
        return {
            column: [None if np.isnan(number) else number for number in values.tolist()]
            if isinstance(values, np.ndarray)
            else [list(row) for row in values]
            for column, values in self.values.items()
        }


def read_attributes(
    table: RawTable,
    id_column: str,
    configs: Mapping[str, AttributeConfig],
    ids: Sequence[str],
    subject: str,
    key: str | None = None,
) -> tuple[AttributeTable, CleaningRow]:
    """What a table says of some ids; of rows that share an id, the first counts.

    Args:
        table: with the columns that `configs` names.
        id_column: the column of ids.
        configs: of the recipe.
        ids: items, or users, one for each session where users are cut; one that the table lacks has no attribute.
        subject: `items` or `users`.
        key: the recipe's key that names the columns, for messages; None: that of attributes.
    Returns:
        The values in the order of `ids`, and a row for the report that counts what is missing.
    Raises:
        InputError: if a column is missing, or holds what its kind does not read; or if two rows of one user differ.
    """
    import polars as pl

    from peftrec.data.table import ids_of

    key = key or f"data.{subject.removesuffix('s')}_attributes"
    id_name = f"{table.name}, column {id_column!r}"
    read = {
        column: config.read(table.column(column, key), f"{table.name}, column {column!r}")
        for column, config in configs.items()
    }
    found = ids_of(table.column(id_column, f"data.columns.{subject.removesuffix('s')}"), id_name)
    rows = pl.DataFrame({"id": found}).with_row_index("row").filter(pl.col("id").is_not_null())
    first = rows.unique("id", keep="first", maintain_order=True)
    if subject == "users" and first.height < rows.height:
        _refuse_differing(rows, read, table.name)
    wanted = pl.DataFrame({"id": pl.Series(ids, dtype=pl.String)})
    place = wanted.join(first, on="id", how="left", maintain_order="left")["row"].cast(pl.Int64).fill_null(-1)
    values = {column: _gather(column_values, place.to_list()) for column, column_values in read.items()}
    attributes = AttributeTable(dict(configs), values, len(ids))
    note = ", ".join(f"{column}: {attributes.missing(column):,} missing" for column in configs)
    of = subject if len(set(ids)) == len(ids) else "sessions"
    return attributes, CleaningRow(f"{subject.removesuffix('s')} attributes", of, 0, len(ids), note)


def attribute_rows(
    configs: Mapping[str, AttributeConfig], rows: Sequence[Mapping[str, Any]], names: Sequence[str]
) -> AttributeTable:
    """What is said of some items, or users, one mapping of columns to values each; a column left out is missing.

    Args:
        configs: of the recipe.
        rows: values as tables hold them, or dates and lists of Python; at least one row.
        names: what each row is called in messages.
    Raises:
        InputError: if a row names a column that is no attribute, or holds what its kind does not read.
    """
    named = list(zip(names, rows, strict=True))
    assert named, "without rows there is no telling numbers from labels"
    for name, row in named:
        if not isinstance(row, Mapping):
            raise InputError(f"{name}: attributes are a mapping of columns to values, got {row!r}")
        unknown = next((column for column in row if column not in configs), None)
        if unknown is not None:
            hint = nearest(str(unknown), configs)
            raise InputError(f"{name}: {unknown!r} is no attribute of this run.{hint} There are {listed([*configs])}")
    values = {
        column: _joined([_read_one(config, row.get(column), f"{name}, attribute {column!r}") for name, row in named])
        for column, config in configs.items()
    }
    return AttributeTable(dict(configs), values, len(rows))


def _read_one(config: AttributeConfig, value: Any, where: str) -> Numbers | Labels:
    import polars as pl

    try:
        series = pl.Series([value])
    except (TypeError, ValueError, pl.exceptions.PolarsError):
        raise InputError(f"{where}: {value!r} is no value of a column") from None
    try:
        return config.read(series, where)
    except InputError as error:
        # There is one row, and nobody has numbered it.
        raise InputError(str(error).replace(": data row 1 holds", " holds")) from None


def _joined(parts: Sequence[Numbers | Labels]) -> Numbers | Labels:
    numbers = [part for part in parts if isinstance(part, np.ndarray)]
    if numbers:
        return np.concatenate(numbers)
    return tuple(row for part in parts for row in part)


def _gather(values: Numbers | Labels, rows: Sequence[int]) -> Numbers | Labels:
    """The values of some rows, missing for row -1."""
    if isinstance(values, np.ndarray):
        return np.append(values, np.nan)[list(rows)]
    return tuple(values[row] if row >= 0 else () for row in rows)


def _refuse_differing(rows: Any, read: Mapping[str, Numbers | Labels], name: str) -> None:
    first: dict[str, int] = {}
    for row, user in rows.iter_rows():
        before = first.setdefault(user, row)
        for column, values in read.items():
            one, other = values[before], values[row]
            if one != other and not (one != one and other != other):  # NaN is equal to NaN here
                raise InputError(
                    f"{name}, column {column!r}: data rows {before + 1:,} and {row + 1:,} say different things of the "
                    f"user {user!r}; keep one row a user"
                )
