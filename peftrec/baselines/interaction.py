"""Who has what in training, and what baselines that compare items make of it.

Shapes: P pairs of user and item, U users, B batch, L history, N items, n items of a block.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from numpy.typing import NDArray

if TYPE_CHECKING:
    from peftrec.data import Dataset

# Numbers of one dense block of users, or of all items, by items: 64 MiB.
_BLOCK: Final = 2**24
BLOCK_BYTES: Final = 4.0 * _BLOCK
# Of a matrix product, while one number is read and added.
_SUM_OPERATIONS: Final = 20.0


@dataclass(frozen=True, eq=False)
class Interactions:
    """The pairs of user and item that training holds, each once however often it happened.

    Args:
        users_P: user of each pair, ascending.
        items_P: item of each pair, ascending within a user.
        num_users: U.
        num_items: N.
    """

    users_P: NDArray[np.int64]
    items_P: NDArray[np.int64]
    num_users: int
    num_items: int

    @classmethod
    def of(cls, dataset: Dataset) -> Interactions:
        """Read the training events of a data set; users without one have no pair."""
        sequences, num_items = dataset.sequences, len(dataset.catalogue)
        offsets, items = sequences.gather_flat(sequences.offsets[:-1], dataset.split.train_lengths)
        users = np.repeat(np.arange(len(sequences), dtype=np.int64), np.diff(offsets))
        keys_P = np.unique(users * num_items + items)
        return cls(keys_P // num_items, keys_P % num_items, len(sequences), num_items)

    @property
    def item_users_N(self) -> NDArray[np.int64]:
        """How many users have each item, shape (N,)."""
        return np.bincount(self.items_P, minlength=self.num_items).astype(np.int64)

    @property
    def user_items_U(self) -> NDArray[np.int64]:
        """How many items each user has, shape (U,)."""
        return np.bincount(self.users_P, minlength=self.num_users).astype(np.int64)

    def of_trained_items(self) -> tuple[Interactions, NDArray[np.int64]]:
        """Return the same pairs over a catalogue of the items that have one, and which items these are."""
        kept = np.flatnonzero(self.item_users_N)
        places = np.full(self.num_items, -1, dtype=np.int64)
        places[kept] = np.arange(len(kept))
        return Interactions(self.users_P, places[self.items_P], self.num_users, len(kept)), kept

    @property
    def shared_operations(self) -> float:
        """Estimate the operations of a matrix product that takes as long as `shared_users`: memory is what it needs."""
        return _SUM_OPERATIONS * len(self.items_P) * float(self.num_items)

    def shared_users(self, weights_U: NDArray[np.float64] | None = None) -> Iterator[tuple[int, torch.Tensor]]:
        """Count for a block of items after the other with which items they share how many users.

        Args:
            weights_U: what each user counts; None is 1 each.
        Returns:
            The first item of each block and float32 sums of shape (n, N), exact for whole numbers up to 2**24. The
            place of an item with itself holds the sum over its users.
        """
        order = np.argsort(self.items_P, kind="stable")
        users_P = torch.from_numpy(self.users_P[order])
        offsets_N = torch.from_numpy(np.cumsum(self.item_users_N) - self.item_users_N)
        starts_N = np.append(offsets_N.numpy(), len(order))
        values_P = np.ones(len(order)) if weights_U is None else weights_U[users_P.numpy()]
        weights_P = torch.from_numpy(values_P.astype(np.float32))
        width = max(1, min(self.num_items, _BLOCK // max(1, self.num_users, self.num_items)))
        block_Un = torch.zeros(self.num_users, width)
        for start in range(0, self.num_items, width):
            stop = min(start + width, self.num_items)
            here = slice(int(starts_N[start]), int(starts_N[stop]))
            columns_P = torch.from_numpy(self.items_P[order][here] - start)
            block_Un.zero_()
            block_Un[users_P[here], columns_P] = weights_P[here]
            sums_Nn = torch.nn.functional.embedding_bag(users_P, block_Un, offsets_N, mode="sum")
            yield start, sums_Nn[:, : stop - start].T


def newest_places(histories_BL: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell which events of histories count: an item that is there several times does so once, at its newest place.

    Args:
        histories_BL: item indexes, left padded with -1, newest last.
    Returns:
        Shape (B, L); False for padding.
    """
    num_users, _ = histories_BL.shape
    rows_B1 = np.arange(num_users, dtype=np.int64)[:, None] * (int(histories_BL.max(initial=0)) + 2)
    # Newest first, so that the first of equal items is the one to keep.
    keys = (rows_B1 + histories_BL + 1)[:, ::-1]
    _, first = np.unique(keys, return_index=True)
    newest = np.zeros(keys.size, dtype=np.bool_)
    newest[first] = True
    return newest.reshape(keys.shape)[:, ::-1] & (histories_BL >= 0)


def event_weights(newest_BL: NDArray[np.bool_], decay: float) -> NDArray[np.float64]:
    """Weigh the events of histories by their place.

    weight = decay^k for the event with k places after it; 0 where it does not count. It may be 0 for an old event that
    does count, since decay^k has no place in 64 bits once k is large: whether an event is there is not read from it.

    Args:
        newest_BL: from `newest_places`.
        decay: above 0 and at most 1; 1 weighs all alike.
    Returns:
        Shape (B, L).
    """
    ages_L = np.arange(newest_BL.shape[1] - 1, -1, -1, dtype=np.float64)
    return np.where(newest_BL, np.power(decay, ages_L), 0.0)
