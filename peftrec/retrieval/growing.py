"""Rows that grow at the end while others read those that are there."""

from __future__ import annotations

import torch

_LEAST_SPARE = 64


class GrowingRows:
    """A tensor with spare room behind its rows: what is added lies beyond what readers hold, and moves nothing.

    A view that was handed out never changes. One writer at a time.

    Args:
        rows: those to begin with; kept as they are until room is needed.
    """

    def __init__(self, rows: torch.Tensor) -> None:
        self._memory = rows
        self._length = len(rows)

    def __len__(self) -> int:
        return self._length

    @property
    def rows(self) -> torch.Tensor:
        """All rows, as they are now and stay."""
        return self._memory[: self._length]

    def append(self, rows: torch.Tensor) -> None:
        """Put rows at the end; every now and then all are moved to where there is room for an eighth more."""
        length = self._length + len(rows)
        if length > len(self._memory):
            memory = self._memory.new_empty(length + max(_LEAST_SPARE, length // 8), *self._memory.shape[1:])
            memory[: self._length] = self.rows
            self._memory = memory
        self._memory[self._length : length] = rows
        self._length = length

    def replace(self, places: torch.Tensor, rows: torch.Tensor) -> None:
        """Put others in place of some rows, in a copy; readers keep what they have."""
        self._memory = self._memory.clone()
        self._memory[places] = rows
