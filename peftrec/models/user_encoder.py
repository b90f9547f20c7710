"""What every user encoder is.

Shapes: B users, L places of a history (left-padded: the newest event is last), D width.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, ClassVar

import torch
from torch import nn

from peftrec.config import Range
from peftrec.models.places import Bucket, Places


@dataclasses.dataclass(frozen=True, kw_only=True)
class HistoryMemory:
    """What a training step holds for histories, as numbers of 4 bytes.

    Args:
        place: for each event that is read.
        pair: for each pair of places of one history, L^2 of them.
    """

    place: int
    pair: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class UserEncoderConfig:
    """What all user encoders share.

    Args:
        max_history: events of a history that are read, the newest ones.
    """

    kind: ClassVar[str]

    max_history: Annotated[int, Range(ge=1)] = 50

    @property
    def needs_times(self) -> bool:
        """Whether the encoder reads when events happened; others are not told."""
        return False

    def check_dim(self, dim: int) -> None:
        """See whether item vectors of width D can be used.

        Raises:
            ValueError: if not, naming the key of the recipe.
        """

    def memory(self, dim: int) -> HistoryMemory:
        """Estimate from above what a training step holds for histories: what its graph saves, and gradients on the way.

        Around every encoder stand item vectors, user vectors and what is made of them, 12 states a place. Encoders add
        what their own graphs hold.
        """
        return HistoryMemory(place=12 * dim)

    def build(self, dim: int) -> nn.Module:
        """Return a module mapping (items_BLD, valid_BL) to user vectors (B, L, D).

        Where `needs_times`, it is handed times_BL too, int64 milliseconds. The vector at a place depends on the events
        up to it, never on later ones. Padding on the left changes nothing; what stands there is not used, and the
        result has zeros there.
        """
        raise NotImplementedError


class RecencyMean(nn.Module):
    """Weighted mean of the newest events: sum over k of w_k x_(l-k), divided by the sum of the weights in use.

    Args:
        num_recent: how many events are weighed.
        decay: w_k = decay^k at the start.
        learned: whether the weights train (as logarithms).
    """

    def __init__(self, num_recent: int, decay: float, *, learned: bool) -> None:
        super().__init__()
        start = torch.arange(num_recent) * torch.log(torch.tensor(decay))
        self.log_weights: torch.Tensor
        if learned:
            self.log_weights = nn.Parameter(start)
        else:
            self.register_buffer("log_weights", start)

    def forward(self, items_BLD: torch.Tensor, valid_BL: torch.Tensor) -> torch.Tensor:
        """Return the weighted mean up to every place, shape (B, L, D); zeros where there is no event."""
        places = Places(valid_BL)
        return places.unpack(self.packed(places.pack(items_BLD), places))

    def packed(self, items_PD: torch.Tensor, places: Places) -> torch.Tensor:
        """Return the weighted mean up to every place in use, shape (P, D)."""
        return places.by_bucket(items_PD, self._mean)

    def _mean(self, items_BLD: torch.Tensor, bucket: Bucket) -> torch.Tensor:
        num_recent = len(self.log_weights)
        used_LL = bucket.visible_LL & (bucket.lags_LL < num_recent)
        weights_LL = self.log_weights.exp()[bucket.lags_LL.clamp(max=num_recent - 1)] * used_LL
        total_L1 = weights_LL.sum(-1, keepdim=True)
        return (weights_LL / total_L1.clamp(min=torch.finfo(items_BLD.dtype).tiny)) @ items_BLD
