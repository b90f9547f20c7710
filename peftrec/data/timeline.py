"""A data set that goes on: which of its events have been learned, and how much each counts.

Shapes: E events.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from peftrec.data.dataset import Dataset


@dataclass(frozen=True, eq=False)
class Timeline:
    """A data set with what a later part of it needs to know.

    Args:
        dataset: split; of an extended one, events that are context alone weigh 0 and replayed ones less than others.
        learned_E: which events were for training, in this part or an earlier one; others validated or tested.
        weights_E: how much each event counts as a target by its own kind; None where all count alike.
    """

    dataset: Dataset
    learned_E: NDArray[np.bool_]
    weights_E: NDArray[np.float32] | None


def begin_timeline(dataset: Dataset) -> Timeline:
    """The timeline of a data set that nothing has been added to.

    Args:
        dataset: from `load_dataset`.
    """
    sequences = dataset.sequences
    places = np.arange(len(sequences.items)) - np.repeat(sequences.offsets[:-1], sequences.lengths)
    learned_E = places < np.repeat(dataset.split.train_lengths, sequences.lengths)
    return Timeline(dataset, learned_E, sequences.weights)
