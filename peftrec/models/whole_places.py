"""All places of histories at once, for graphs that are drawn before any history is seen.

Shapes: B users, L places of a history, P = B * L places, X width of a state.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from peftrec.models.places import Bucket, Places


class WholePlaces(Places):
    """Stands in for `Places` where nothing may depend on which places are in use: every place is.

    Histories stand on the left, oldest event first, and padding behind: no event sees what comes after it, so that
    states of events are those of `Places`, and states of padding mean nothing.

    Args:
        num_users: B.
        length: L.
        device: of the states.
        times_BL: int64 milliseconds; None where no block asks for them.
    """

    def __init__(self, num_users: int, length: int, device: torch.device, times_BL: torch.Tensor | None = None) -> None:
        self.times_BL = times_BL
        self._bucket = Bucket(num_users, length, device, times_BL)

    @property
    def numbers_P(self) -> torch.Tensor:
        number_L = torch.arange(self._bucket.length, device=self._bucket.device)
        return number_L.repeat(self._bucket.num_users)

    def pack(self, padded_BLX: torch.Tensor) -> torch.Tensor:
        return padded_BLX.flatten(0, 1)

    def unpack(self, packed_PX: torch.Tensor) -> torch.Tensor:
        return packed_PX.view(self._bucket.num_users, self._bucket.length, -1)

    def by_bucket(
        self, packed_PX: torch.Tensor, function: Callable[[torch.Tensor, Bucket], torch.Tensor]
    ) -> torch.Tensor:
        return function(self.unpack(packed_PX), self._bucket).flatten(0, 1)
