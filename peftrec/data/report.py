"""What cleaning took away, row by row."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class CleaningRow:
    """What one step did.

    Args:
        step: the step's name.
        subject: what it counts: `interactions`, `items`, `users`, `sessions` or `targets`.
        removed: how many it took.
        remaining: how many are left.
        note: anything else worth knowing, or "".
    """

    step: str
    subject: str
    removed: int
    remaining: int
    note: str = ""


@dataclass(frozen=True)
class CleaningReport:
    """The steps in the order in which they ran; `print` it for a table.

    Args:
        rows: one or more rows a step.
    """

    rows: tuple[CleaningRow, ...]

    def removed(self, step: str, subject: str = "interactions") -> int:
        """How many of `subject` the step took, 0 where it did not run."""
        return sum(row.removed for row in self.rows if row.step == step and row.subject == subject)

    def remaining(self, step: str, subject: str = "interactions") -> int:
        """How many of `subject` the step left; it must have run."""
        return next(row.remaining for row in self.rows if row.step == step and row.subject == subject)

    def to_dict(self) -> dict[str, list[dict[str, str | int]]]:
        """Plain values for JSON: `{"rows": [{"step": …, "subject": …, "removed": …, "remaining": …, "note": …}]}`."""
        return {"rows": [asdict(row) for row in self.rows]}

    def __str__(self) -> str:
        cells = [("step", "of", "removed", "remaining", "note")]
        cells += [(row.step, row.subject, f"{row.removed:,}", f"{row.remaining:,}", row.note) for row in self.rows]
        widths = [max(len(line[column]) for line in cells) for column in range(4)]
        lines = [
            f"{step:<{widths[0]}}  {subject:<{widths[1]}}  {removed:>{widths[2]}}  {remaining:>{widths[3]}}  {note}"
            for step, subject, removed, remaining, note in cells
        ]
        return "\n".join(line.rstrip() for line in lines)
