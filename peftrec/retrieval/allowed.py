"""Which rows of an index may come back.

Shapes: N rows, A of them allowed.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray


class Allowed:
    """A choice of rows, in the forms that searches want; each is made once.

    Args:
        mask_N: True where a row may come back.
    """

    def __init__(self, mask_N: torch.Tensor) -> None:
        self.mask_N = mask_N
        self.count = int(mask_N.sum())

    def __len__(self) -> int:
        return len(self.mask_N)

    @cached_property
    def rows_A(self) -> torch.Tensor:
        """The rows, in order."""
        return self.mask_N.nonzero()[:, 0]

    @cached_property
    def refused_N(self) -> torch.Tensor:
        """True where a row may not come back."""
        return ~self.mask_N

    @cached_property
    def bits(self) -> NDArray[np.uint8]:
        """The mask with eight rows a byte, the first in the lowest bit."""
        return np.packbits(self.mask_N.cpu().numpy(), bitorder="little")
