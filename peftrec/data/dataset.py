"""From a recipe's `data` section to a data set: catalogue, sequences, split, and what cleaning took."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from peftrec.data.catalogue import Catalogue
from peftrec.data.report import CleaningReport, CleaningRow
from peftrec.data.sequence import Sequences
from peftrec.data.split import Split

if TYPE_CHECKING:
    from peftrec.data.source import DataConfig


@dataclass(frozen=True, eq=False)
class Dataset:
    """Everything a recommender learns from and is measured on.

    Args:
        catalogue: all items, those that nobody has touched too.
        sequences: all events, user by user in order of time.
        split: which of them train, validate and test.
        report: what cleaning took.
    """

    catalogue: Catalogue
    sequences: Sequences
    split: Split
    report: CleaningReport

    def item_counts(self) -> NDArray[np.int64]:
        """How often each item occurs in the training events, shape (N,); validation and test are not counted."""
        _, items = self.sequences.gather_flat(self.sequences.offsets[:-1], self.split.train_lengths)
        return np.bincount(items, minlength=len(self.catalogue)).astype(np.int64)


def load_dataset(config: DataConfig) -> Dataset:
    """Reads, cleans and splits the data that a recipe names.

    Items keep the order of the item table, users come in order of first appearance in the interactions; equal times
    keep the order of the file.

    Args:
        config: the recipe's `data` section.
    Returns:
        The data set.
    Raises:
        InputError: if the data are missing, broken or empty after cleaning; it names the file and the place.
        RecipeError: if the template names a column that is not there, or the split does not fit `data.timestamps`.
    """
    from peftrec.data.preparation import prepare  # loads polars

    catalogue, sequences, rows = prepare(config)
    split = config.split.split(sequences)
    num_train = int(split.train_lengths.sum())
    rows += (CleaningRow(f"split {config.split.kind}", "interactions", 0, num_train, f"left to train; {split.note}"),)
    return Dataset(catalogue, sequences, split, CleaningReport(rows))
