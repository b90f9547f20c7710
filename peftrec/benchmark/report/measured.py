"""Tables with all that was measured of their rows."""

from __future__ import annotations

import dataclasses

from peftrec.benchmark.report.expense import Expense, measure_expense, table_tpme
from peftrec.benchmark.report.quality import Quality, measure_quality
from peftrec.benchmark.report.row import ResultTable, Row


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Line:
    """A row, how good it is and what it costs; `tpme` is None where costs are missing."""

    row: Row
    quality: Quality
    expense: Expense
    tpme: float | None


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class MeasuredTable:
    """A table and a line for each of its rows, in the same order."""

    table: ResultTable
    lines: tuple[Line, ...]

    @property
    def models(self) -> list[Line]:
        """Return the lines that are no baselines."""
        return [line for line in self.lines if not line.row.is_baseline]


def measure_table(table: ResultTable) -> MeasuredTable:
    """Measure every row of a table."""
    expenses = [measure_expense(row) for row in table.rows]
    lines = zip(table.rows, measure_quality(table), expenses, table_tpme(table.rows, expenses), strict=True)
    return MeasuredTable(
        table=table,
        lines=tuple(
            Line(row=row, quality=quality, expense=expense, tpme=tpme) for row, quality, expense, tpme in lines
        ),
    )
