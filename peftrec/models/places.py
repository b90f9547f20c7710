"""Which places of histories are in use: states of those alone, and the same in buckets of histories of like length.

Shapes: B users, L places, P places in use of all users, F places of all buckets, X width of a state.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from peftrec.models.time_interval import interval_buckets

# What another bucket costs in calls, in places of a short history whose attention takes as long.
_BUCKET_COST = 150
# A history of this many places costs twice what its places cost alone.
_DOUBLE_COST = 64


@dataclasses.dataclass(frozen=True)
class Bucket:
    """Histories of like length, events first and padding behind: no event ever sees padding, which all comes later.

    Args:
        num_users: B, of this bucket.
        length: L, of the longest of them.
        device: of the states.
        times_BL: int64 milliseconds; None where no block asks for them.
    """

    num_users: int
    length: int
    device: torch.device
    times_BL: torch.Tensor | None = None

    @functools.cached_property
    def lags_LL(self) -> torch.Tensor:
        """How many places j lies before l, at [l, j]; 0 where it lies behind."""
        return self._signed_lags_LL.clamp(min=0)

    @functools.cached_property
    def visible_LL(self) -> torch.Tensor:
        """Whether place l may read place j, at [l, j]: events up to its own."""
        return self._signed_lags_LL >= 0

    @functools.cached_property
    def intervals_BLL(self) -> torch.Tensor:
        """The bucket of the time from event j to event l, at [l, j]."""
        assert self.times_BL is not None, "this encoder has said that it needs no times"
        return interval_buckets(self.times_BL)

    @functools.cached_property
    def _signed_lags_LL(self) -> torch.Tensor:
        place_L = torch.arange(self.length, device=self.device)
        return place_L[:, None] - place_L


class Places:
    """Which places of histories are in use; states of those alone, user after user, have the shape (P, ...).

    Args:
        valid_BL: True where there is an event.
        times_BL: int64 milliseconds; None where no block asks for them.
    """

    def __init__(self, valid_BL: torch.Tensor, times_BL: torch.Tensor | None = None) -> None:
        self.valid_BL, self.times_BL = valid_BL, times_BL
        flat = valid_BL.flatten()
        self._used_P, self._unused = flat.nonzero()[:, 0], (~flat).nonzero()[:, 0]
        # At places in use, their number among these.
        self._number = (flat.cumsum(0) - 1).clamp(min=0)

    @functools.cached_property
    def lengths_B(self) -> torch.Tensor:
        """Events of each user."""
        return self.valid_BL.sum(1)

    @functools.cached_property
    def starts_B(self) -> torch.Tensor:
        """Number of each user's first place among those in use."""
        return self.lengths_B.cumsum(0) - self.lengths_B

    @functools.cached_property
    def numbers_P(self) -> torch.Tensor:
        """Number of each place in use among those of its user, 0 for the oldest event."""
        return (self.valid_BL.cumsum(1) - 1)[self.valid_BL]

    def pack(self, padded_BLX: torch.Tensor) -> torch.Tensor:
        """Return the rows at the places in use, shape (P, X)."""
        return move_rows(padded_BLX.flatten(0, 1), self._used_P, None, self._number, self._unused)

    def unpack(self, packed_PX: torch.Tensor) -> torch.Tensor:
        """Put rows back at the places in use, zeros elsewhere, shape (B, L, X)."""
        if not len(self._used_P):
            return packed_PX.new_zeros(*self.valid_BL.shape, packed_PX.shape[1])
        flat = move_rows(packed_PX, self._number, self._unused, self._used_P, None)
        return flat.view(*self.valid_BL.shape, -1)

    def by_bucket(
        self, packed_PX: torch.Tensor, function: Callable[[torch.Tensor, Bucket], torch.Tensor]
    ) -> torch.Tensor:
        """Apply a function to the states of each bucket, so that short histories are not padded to the longest.

        Args:
            packed_PX: states of the places in use.
            function: maps states (B, L, X), zeros where there is no event, and their bucket to states (B, L, Y).
        Returns:
            States of the places in use, shape (P, Y).
        """
        if not len(self._used_P):
            times = None if self.times_BL is None else self.times_BL.new_zeros(1, 1)
            return function(packed_PX.new_zeros(1, 1, packed_PX.shape[1]), Bucket(1, 1, packed_PX.device, times))[0, :0]
        buckets, number_F, padding, place_P = self._buckets
        sizes = [bucket.num_users * bucket.length for bucket in buckets]
        parts = torch.split(move_rows(packed_PX, number_F, padding, place_P, None), sizes)
        found = [
            function(part.view(bucket.num_users, bucket.length, -1), bucket).flatten(0, 1)
            for part, bucket in zip(parts, buckets, strict=True)
        ]
        return move_rows(torch.cat(found) if len(found) > 1 else found[0], place_P, None, number_F, padding)

    @functools.cached_property
    def _buckets(self) -> tuple[list[Bucket], torch.Tensor, torch.Tensor, torch.Tensor]:
        """The buckets; the place in use at each of their F places; which of these are padding; and the way back."""
        device = self.valid_BL.device
        lengths_B, low = self.lengths_B, 0
        times_P = None if self.times_BL is None else self.times_BL[self.valid_BL]
        buckets, numbers, paddings = [], [], []
        for high in bucket_ends(lengths_B.cpu().numpy()):
            rows = ((lengths_B > low) & (lengths_B <= high)).nonzero()[:, 0]
            place_L = torch.arange(high, device=device)
            padding_BL = place_L >= lengths_B[rows, None]
            number_BL = (self.starts_B[rows, None] + place_L).clamp(max=len(self._used_P) - 1)
            times_BL = None if times_P is None else times_P[number_BL]
            buckets.append(Bucket(len(rows), high, device, times_BL))
            numbers.append(number_BL.flatten())
            paddings.append(padding_BL.flatten())
            low = high
        number_F, is_padding_F = torch.cat(numbers), torch.cat(paddings)
        used = (~is_padding_F).nonzero()[:, 0]
        place_P = torch.empty_like(self._used_P)
        place_P[number_F[used]] = used
        return buckets, number_F, is_padding_F.nonzero()[:, 0], place_P


def bucket_ends(lengths_B: NDArray[np.int64]) -> list[int]:
    """Return the longest length of each bucket, ascending, so that padding and calls together cost least.

    A history padded to L costs L (1 + L / 64), a bucket 150 beside its histories. Users without events are in none.
    """
    lengths, counts = np.unique(lengths_B[lengths_B > 0], return_counts=True)
    running = np.concatenate([[0], np.cumsum(counts)])
    best, cut = np.zeros(len(lengths) + 1), np.zeros(len(lengths) + 1, dtype=np.int64)
    for end in range(1, len(lengths) + 1):
        padded = lengths[end - 1] * (1 + lengths[end - 1] / _DOUBLE_COST)
        costs = best[:end] + (running[end] - running[:end]) * padded + _BUCKET_COST
        cut[end] = costs.argmin()
        best[end] = costs[cut[end]]
    ends, end = [], len(lengths)
    while end > 0:
        ends.append(int(lengths[end - 1]))
        end = int(cut[end])
    return ends[::-1]


def move_rows(
    rows: torch.Tensor,
    source: torch.Tensor,
    empty: torch.Tensor | None,
    back: torch.Tensor,
    unused: torch.Tensor | None,
) -> torch.Tensor:
    """Return rows at other places: `rows[source]`, zeros at `empty`.

    Every row goes to one place at most, so that gradients are moved back and never summed: much faster than what
    autograd does for indexing.

    Args:
        rows: shape (R, X).
        source: the row that comes to each place; anything at those that are empty.
        empty: places that no row comes to, or None.
        back: the place that each row went to; anything for rows that went nowhere.
        unused: rows that went nowhere, or None.
    """
    moved: torch.Tensor = _MovedRows.apply(rows, source, empty, back, unused)  # type: ignore[no-untyped-call]
    return moved


class _MovedRows(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        rows: torch.Tensor,
        source: torch.Tensor,
        empty: torch.Tensor | None,
        back: torch.Tensor,
        unused: torch.Tensor | None,
    ) -> torch.Tensor:
        ctx.back, ctx.unused = back, unused
        return _moved(rows, source, empty)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        return _moved(grad_outputs[0], ctx.back, ctx.unused), None, None, None, None


def _moved(rows: torch.Tensor, source: torch.Tensor, empty: torch.Tensor | None) -> torch.Tensor:
    if not len(rows):
        return rows.new_zeros(len(source), *rows.shape[1:])
    found = rows.index_select(0, source)
    return found if empty is None or not len(empty) else found.index_fill_(0, empty, 0)
