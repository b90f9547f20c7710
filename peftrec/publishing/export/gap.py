"""How far what was written lies from what it was made of.

Shapes: Q vectors, X width.
"""

from __future__ import annotations

import dataclasses

import torch


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gap:
    """How far two sets of vectors lie apart.

    Args:
        absolute: largest difference of a number.
        relative: largest length of a difference over the length of the vector that was expected.
    """

    absolute: float
    relative: float

    @classmethod
    def between(cls, found_QX: torch.Tensor, expected_QX: torch.Tensor) -> Gap:
        """Measure in double precision; NaN counts as infinitely far."""
        found_QX, expected_QX = found_QX.cpu().double(), expected_QX.cpu().double()
        difference_QX = (found_QX - expected_QX).nan_to_num(nan=torch.inf)
        relative_Q = difference_QX.norm(dim=1) / expected_QX.norm(dim=1).clamp(min=1e-12)
        return cls(absolute=float(difference_QX.abs().max()), relative=float(relative_Q.max()))

    def within(self, tolerance: float, expected_QX: torch.Tensor) -> bool:
        """Whether numbers differ by no more than the tolerance, or than that share of the largest one above 1."""
        return self.absolute <= tolerance * max(1.0, float(expected_QX.abs().max()))
