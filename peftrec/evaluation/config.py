"""The `evaluation` section of a recipe."""

from dataclasses import dataclass
from typing import Annotated

from peftrec.config import Range


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """How rankings are measured.

    Attributes:
        ks: cutoffs, distinct, each from 1; the first is the one shown first.
        exclude_history: leave the user's own history out of the ranking; a target inside it is then a miss.
        batch_users: users scored at once. Where a model has no second stage, memory does not depend on the catalogue;
            of other scores at most 256 MiB are held.
        category: column of the items whose values are the categories of diversity and calibration; None measures
            neither.
        item_columns: columns of the items by which results are sliced, by the value that the target has.
        user_columns: columns of the table of users by which results are sliced.
        separator: stands between the values of a cell of these columns, where it holds several.
        impressions: file of impressions in the layout of MIND's `behaviors.tsv`, relative to `data.root`; the
            impressions' AUC (GAUC) is measured on it. None measures none.
    """

    ks: tuple[Annotated[int, Range(ge=1)], ...] = (10,)
    exclude_history: bool = True
    batch_users: Annotated[int, Range(ge=1)] = 512
    category: str | None = None
    item_columns: tuple[str, ...] = ()
    user_columns: tuple[str, ...] = ()
    separator: str = "|"
    impressions: str | None = None

    def __post_init__(self) -> None:
        if not self.ks:
            raise ValueError("ks must name at least one cutoff, such as [10]")
        if len(set(self.ks)) < len(self.ks):
            raise ValueError(f"ks must be distinct, got {list(self.ks)}")
        for key in ("item_columns", "user_columns"):
            columns = getattr(self, key)
            if len(set(columns)) < len(columns):
                raise ValueError(f"{key} must be distinct, got {list(columns)}")
        if not self.separator:
            raise ValueError("separator: is empty; it stands between values, such as '|' or ', '")
