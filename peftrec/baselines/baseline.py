"""The protocol that every baseline keeps.

Shapes: B batch, L history, N catalogue, H backbone dimension.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from peftrec.config import InputError, Registry

if TYPE_CHECKING:
    from peftrec.data import Dataset

BASELINES: Final = Registry(
    "baseline",
    {
        "popularity": "peftrec.baselines.popularity:Popularity",
        "content_knn": "peftrec.baselines.content_knn:ContentKNN",
        "item_knn": "peftrec.baselines.item_knn:ItemKNN",
        "ease": "peftrec.baselines.ease:EASE",
        "ials": "peftrec.baselines.ials:IALS",
    },
)


class FittedBaseline(Protocol):
    """A baseline that has seen its training data."""

    def scores(self, histories_BL: NDArray[np.int64]) -> torch.Tensor:
        """Score the whole catalogue for each history.

        A history without any event scores every item alike, but for scores that are the same for everyone. Nothing is
        excluded here. The result may be a view of stored values: read it, never write to it.

        Args:
            histories_BL: item indexes, left padded with -1, newest last, shape (B, L).
        Returns:
            float32, shape (B, N), higher is better.
        Raises:
            ValueError: if histories are not of two dimensions or hold an index outside -1..N-1.
        """
        ...

    def tensors(self) -> dict[str, torch.Tensor]:
        """Give all fitted state as named tensors, for a safetensors file; `Baseline.from_tensors` takes it back."""
        ...


@dataclass(frozen=True, kw_only=True)
class Baseline(ABC):
    """Configuration of a baseline, and how to fit it; each kind is one frozen subclass.

    Attributes:
        kind: its tag in recipes.
        needs_item_vectors: whether `fit` asks for vectors of the items.
        has_seed: whether a field `seed` decides what is fitted; without, the same data give the same scores always.
    """

    kind: ClassVar[str]
    needs_item_vectors: ClassVar[bool]
    has_seed: ClassVar[bool]

    @property
    def reads_times(self) -> bool:
        """Whether it learns from when events happened, and not only from their order within each user."""
        return False

    @abstractmethod
    def fit(self, dataset: Dataset, item_vectors: torch.Tensor | None = None) -> FittedBaseline:
        """Fit on the training events of a data set.

        Args:
            dataset: catalogue and sequences; only training events are read.
            item_vectors: raw mean-pooled backbone vectors, shape (N, H), for kinds with `needs_item_vectors`; the
                others ignore it.
        Returns:
            The fitted baseline.
        Raises:
            ValueError: if vectors are needed and missing, or do not fit the catalogue.
            InputError: if vectors are NaN or infinite.
        """

    @abstractmethod
    def fit_operations(self, dataset: Dataset) -> float:
        """Estimate what `fit` takes, in floating point operations of a matrix product that takes as long.

        Args:
            dataset: that it would be fitted on.
        """

    @abstractmethod
    def fit_bytes(self, dataset: Dataset) -> float:
        """Estimate what `fit` holds at its peak, beside the data and vectors of items, in bytes.

        Args:
            dataset: that it would be fitted on.
        """

    @abstractmethod
    def from_tensors(self, tensors: Mapping[str, torch.Tensor]) -> FittedBaseline:
        """Restore what `fit` of the same configuration gave, from its `tensors()`.

        Args:
            tensors: the named tensors.
        Returns:
            A fitted baseline with equal scores.
        Raises:
            InputError: if a tensor is missing, unknown, or of the wrong shape or type.
        """


def check_histories(histories_BL: NDArray[np.int64], num_items: int) -> None:
    """Refuse histories that do not index a catalogue of `num_items`.

    Padding (-1) and histories without any event are allowed.

    Args:
        histories_BL: item indexes, left padded with -1, shape (B, L).
        num_items: size of the catalogue.
    Raises:
        ValueError: if histories are not of two dimensions or hold an index outside -1..num_items-1.
    """
    if histories_BL.ndim != 2:
        raise ValueError(f"histories must have the shape (users, length), got {histories_BL.shape}")
    if histories_BL.size == 0:
        return
    low, high = int(histories_BL.min()), int(histories_BL.max())
    if low < -1 or high >= num_items:
        wrong = low if low < -1 else high
        raise ValueError(f"histories hold item {wrong}; items are 0 to {num_items - 1}, padding is -1")


def check_tensors(
    tensors: Mapping[str, torch.Tensor], expected: Mapping[str, tuple[torch.dtype, int]], kind: str
) -> None:
    """Refuse stored state that is not what a kind stores.

    Args:
        tensors: the named tensors as read.
        expected: dtype and number of dimensions of each.
        kind: kind of the baseline, for the message.
    Raises:
        InputError: if a name is missing or unknown, or a tensor has another dtype or number of dimensions.
    """
    if set(tensors) != set(expected):
        raise InputError(f"{kind} stores the tensors {sorted(expected)}, got {sorted(tensors)}")
    for name, (dtype, num_dims) in expected.items():
        tensor = tensors[name]
        if tensor.dtype != dtype or tensor.ndim != num_dims:
            raise InputError(
                f"{kind} tensor {name!r} must be {dtype} with {num_dims} dimension(s), "
                f"got {tensor.dtype} of shape {tuple(tensor.shape)}"
            )
