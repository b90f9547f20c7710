"""From a recipe's `data` section to a data set: catalogue, sequences, split, and what cleaning took."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from peftrec.data.attribute_table import AttributeTable
from peftrec.data.catalogue import Catalogue
from peftrec.data.report import CleaningReport, CleaningRow
from peftrec.data.sequence import Sequences
from peftrec.data.split import Split

if TYPE_CHECKING:
    from peftrec.data.event_kind import EventKind
    from peftrec.data.source import DataConfig


@dataclass(frozen=True, eq=False)
class Dataset:
    """Everything a recommender learns from and is measured on.

    Args:
        catalogue: all items, those that nobody has touched too.
        sequences: all events, user by user in order of time.
        split: which of them train, validate and test.
        report: what cleaning took.
        user_texts: what is known of each user, in the order of `sequences.user_ids`, "" where nothing is; None where
            the recipe reads no table of users.
        event_words: by code in `sequences.events`, the word for that kind of event; None where there are no kinds.
        event_kinds: the kinds of events that the recipe names, with how many there are; empty where it names none.
        item_attributes: what is known of each item beside its text; None where the recipe names no such columns.
        user_attributes: likewise of each user.
    """

    catalogue: Catalogue
    sequences: Sequences
    split: Split
    report: CleaningReport
    user_texts: tuple[str, ...] | None = None
    event_words: tuple[str, ...] | None = None
    event_kinds: tuple[EventKind, ...] = ()
    item_attributes: AttributeTable | None = None
    user_attributes: AttributeTable | None = None

    def __post_init__(self) -> None:
        assert self.user_texts is None or len(self.user_texts) == len(self.sequences)
        assert (self.event_words is None) == (self.sequences.events is None)

    def item_counts(self) -> NDArray[np.int64]:
        """How often each item occurs in the training events, shape (N,); validation and test are not counted."""
        _, items = self.sequences.gather_flat(self.sequences.offsets[:-1], self.split.train_lengths)
        return np.bincount(items, minlength=len(self.catalogue)).astype(np.int64)

    def content_hash(self, *, times: bool = False) -> str:
        """SHA-256 of everything that is learned from and measured on, as hexadecimal digits.

        What a data set does not have adds nothing, so that the hash of others is not touched by it.

        Args:
            times: whether the model reads when events happened, and not only in which order.
        """
        texts: list[Any] = [self.catalogue.ids, self.catalogue.texts, self.sequences.user_ids]
        profiles = {"user_texts": self.user_texts, "event_words": self.event_words}
        texts += [[name, words] for name, words in profiles.items() if words is not None]
        attributes = {"item_attributes": self.item_attributes, "user_attributes": self.user_attributes}
        texts += [[name, table.plain()] for name, table in attributes.items() if table is not None]
        digest = hashlib.sha256(json.dumps(texts).encode())
        sequences = self.sequences
        arrays = [sequences.offsets, sequences.items, self.split.train_lengths, sequences.events, sequences.ratings]
        if times:
            arrays.append(sequences.times)
        for array in arrays:
            if array is not None:
                digest.update(np.ascontiguousarray(array).tobytes())
        if self.sequences.weights is not None:
            digest.update(b"weights" + self.sequences.weights.tobytes())
        if self.split.sequences is not None:  # the targets are not among the events
            for cases in (self.split.valid, self.split.test):
                for array in (cases.users, cases.history_lengths, cases.targets):
                    digest.update(array.tobytes())
        return digest.hexdigest()


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
        RecipeError: if a template names a column that is not there, or the split does not fit `data.timestamps`.
    """
    from peftrec.data.preparation import prepare  # loads polars
    from peftrec.data.source import distinct_words

    prepared = prepare(config)
    split = config.split.split(prepared.sequences)
    num_train = int(split.train_lengths.sum())
    sequences = prepared.sequences if split.sequences is None else split.sequences
    row = CleaningRow(f"split {config.split.kind}", "interactions", 0, num_train, f"left to train; {split.note}")
    return Dataset(
        catalogue=prepared.catalogue,
        sequences=sequences,
        split=split,
        report=CleaningReport((*prepared.rows, row)),
        user_texts=prepared.user_texts,
        event_words=None if config.event_words is None else distinct_words(config.event_words),
        event_kinds=prepared.event_kinds,
        item_attributes=prepared.item_attributes,
        user_attributes=prepared.user_attributes,
    )
