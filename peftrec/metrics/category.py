"""Categories of items: what metrics over categories take, checked in one place.

Shapes: N catalogue, G categories, B users of a block, E events of a block.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Events that are spread over their categories at once.
_MOST_EVENTS = 2**16


def check_categories(categories: NDArray[np.floating]) -> None:
    """Refuse rows that neither share out an item nor say that its categories are unknown.

    Args:
        categories: each row sums to 1, or is all zero where the item's categories are not known, shape (N, G).
    Raises:
        ValueError: with the item.
    """
    if categories.ndim != 2 or not np.issubdtype(categories.dtype, np.floating):
        raise ValueError(
            f"categories must be floats of shape (N, G), got shape {categories.shape} of {categories.dtype}"
        )
    sums_N = categories.sum(axis=1, dtype=np.float64)
    lowest_N = categories.min(axis=1, initial=0.0)
    fine_N = (lowest_N == 0) & ((np.abs(sums_N - 1.0) < 1e-5) | (sums_N == 0))  # NaN is neither
    if not fine_N.all():
        item = int(np.argmin(fine_N))
        raise ValueError(
            f"the categories of item {item} sum to {sums_N[item]:g}, the smallest share is {lowest_N[item]:g}; shares "
            f"are from 0 and sum to 1, or are all 0 where unknown"
        )


@dataclass(frozen=True)
class CategoryShares:
    """The shares that are not 0, item after item.

    Attributes:
        num_categories: G.
        categories: of each share, shape (S,).
        shares: shape (S,).
        offsets: where each item's begin, and S at the end, shape (N + 1,).
    """

    num_categories: int
    categories: NDArray[np.int64]
    shares: NDArray[np.float64]
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        """Return how many items there are."""
        return len(self.offsets) - 1

    @classmethod
    def of(cls, categories: "NDArray[np.floating] | CategoryShares") -> "CategoryShares":
        """Keep what is not 0 of rows (N, G), once they are checked.

        Raises:
            ValueError: see `check_categories`.
        """
        if isinstance(categories, CategoryShares):
            return categories
        check_categories(categories)
        items_S, categories_S = np.nonzero(categories)
        counts_N = np.bincount(items_S, minlength=len(categories))
        offsets = np.concatenate([[0], np.cumsum(counts_N)])
        shares_S = categories[items_S, categories_S].astype(np.float64)
        return cls(categories.shape[1], categories_S, shares_S, offsets)

    @classmethod
    def even(cls, categories: NDArray[np.int64], offsets: NDArray[np.int64], num_categories: int) -> "CategoryShares":
        """Share each item out evenly over its categories.

        Args:
            categories: of all items, one item's after the other's, none twice for one item, shape (S,).
            offsets: where each item's begin, and S at the end, shape (N + 1,).
            num_categories: G.
        """
        counts_N = np.diff(offsets)
        return cls(num_categories, categories, 1.0 / np.repeat(counts_N, counts_N), offsets)

    def distributions(
        self, items_E: NDArray[np.int64], rows_E: NDArray[np.int64], num_rows: int
    ) -> NDArray[np.float64]:
        """Compute the mean of the items' shares in each row; items without categories are left out.

        Args:
            items_E: item indexes, shape (E,).
            rows_E: the row, from 0, that each counts in, shape (E,).
            num_rows: how many rows there are.
        Returns:
            Each row sums to 1, or is all 0 where no item has categories, shape (num_rows, G).
        """
        sums = np.zeros(num_rows * self.num_categories)
        for start in range(0, len(items_E), _MOST_EVENTS):
            items, rows = items_E[start : start + _MOST_EVENTS], rows_E[start : start + _MOST_EVENTS]
            counts = self.offsets[items + 1] - self.offsets[items]
            # Of each event, the places of its item's shares: the first one, and 0, 1, ... onwards.
            onwards = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
            places = np.repeat(self.offsets[items], counts) + onwards
            cells = np.repeat(rows, counts) * self.num_categories + self.categories[places]
            sums += np.bincount(cells, self.shares[places], minlength=len(sums))
        table: NDArray[np.float64] = sums.reshape(num_rows, self.num_categories)
        totals = table.sum(axis=1, keepdims=True)
        np.divide(table, totals, out=table, where=totals > 0)
        return table
