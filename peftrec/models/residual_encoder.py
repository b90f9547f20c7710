"""What user encoders made of blocks share: a strong start, and work on the places in use alone.

Shapes: B users, L places, P places in use of all users, A heads, D width of item vectors, W width of the last block.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable
from typing import Annotated

import torch
from torch import nn

from peftrec.config import Range
from peftrec.models.time_interval import NUM_BUCKETS, interval_buckets
from peftrec.models.user_encoder import RecencyMean, UserEncoderConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResidualEncoderConfig(UserEncoderConfig):
    """What encoders made of blocks share.

    user = out(norm(blocks(input_scale * items))), or with `recency_start` weighted mean of the newest items + out(...)
    with `out` zero at first, so that training starts from recency-weighted similarity.

    Args:
        dropout: on inputs and on what blocks add; not before `out`, where it slowed learning (measured on MovieLens
            100K).
        input_scale: item vectors are multiplied by this before the blocks (they are of unit length).
        recency_start: see above.
        num_recent: events in the weighted mean.
        decay: its weights at the start are decay^k; they train.
    """

    dropout: Annotated[float, Range(ge=0, lt=1)] = 0.3
    input_scale: Annotated[float, Range(gt=0)] = 4.0
    recency_start: bool = True
    num_recent: Annotated[int, Range(ge=1)] = 8
    decay: Annotated[float, Range(gt=0, le=1)] = 0.7


@dataclasses.dataclass(frozen=True)
class Places:
    """Which places of histories are in use; states of those alone, user after user, have the shape (P, ...).

    Args:
        valid_BL: True where there is an event.
        times_BL: int64 milliseconds; None where no block asks for them.
    """

    valid_BL: torch.Tensor
    times_BL: torch.Tensor | None = None

    @functools.cached_property
    def lags_LL(self) -> torch.Tensor:
        """How many places j lies before l, at [l, j]; 0 where it lies behind."""
        return self._signed_lags_LL.clamp(min=0)

    @functools.cached_property
    def visible_B1LL(self) -> torch.Tensor:
        """Whether place l may read place j, at [l, j]: events up to its own.

        A padded place sees itself, lest its softmax be over nothing.
        """
        lag_LL = self._signed_lags_LL
        return (((lag_LL >= 0) & self.valid_BL[:, None, :]) | (lag_LL == 0))[:, None]

    @functools.cached_property
    def intervals_BLL(self) -> torch.Tensor:
        """The bucket of the time from event j to event l, at [l, j]."""
        assert self.times_BL is not None, "this encoder has said that it needs no times"
        return interval_buckets(self.times_BL)

    @functools.cached_property
    def lengths_B(self) -> torch.Tensor:
        """Events of each user."""
        return self.valid_BL.sum(1)

    def unpack(self, packed_PX: torch.Tensor) -> torch.Tensor:
        """Put rows back at the places in use, zeros elsewhere, shape (B, L, X)."""
        places_P = self.valid_BL.flatten().nonzero()[:, 0]
        flat = packed_PX.new_zeros(self.valid_BL.numel(), packed_PX.shape[1]).index_copy(0, places_P, packed_PX)
        return flat.view(*self.valid_BL.shape, -1)

    @functools.cached_property
    def _signed_lags_LL(self) -> torch.Tensor:
        place_L = torch.arange(self.valid_BL.shape[1], device=self.valid_BL.device)
        return place_L[:, None] - place_L


class ResidualEncoder(nn.Module):
    """Blocks over the history, and the weighted mean that they start from; see `ResidualEncoderConfig`.

    Args:
        config: the `user` section.
        dim: D.
        blocks: each maps (states (P, .), `Places`) to states; the first reads width D.
        width: W, D where None.
    """

    def __init__(
        self, config: ResidualEncoderConfig, dim: int, blocks: Iterable[nn.Module], *, width: int | None = None
    ) -> None:
        super().__init__()
        self.config = config
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(blocks)
        width = dim if width is None else width
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, dim)
        if config.recency_start:
            self.recency = RecencyMean(config.num_recent, config.decay, learned=True)
            nn.init.zeros_(self.out.weight)
            nn.init.zeros_(self.out.bias)

    def forward(
        self, items_BLD: torch.Tensor, valid_BL: torch.Tensor, times_BL: torch.Tensor | None = None
    ) -> torch.Tensor:
        length = items_BLD.shape[1]
        assert length <= self.config.max_history, f"a history of {length} is longer than max_history"
        places = Places(valid_BL, times_BL)
        # Everything but attention works on the places in use alone: short histories cost little.
        states_PW = self.dropout(items_BLD[valid_BL] * self.config.input_scale)
        for block in self.blocks:
            states_PW = block(states_PW, places)
        residual_BLD = places.unpack(self.out(self.norm(states_PW)))
        if not self.config.recency_start:
            return residual_BLD
        recency_BLD: torch.Tensor = self.recency(items_BLD, valid_BL)
        return recency_BLD + residual_BLD


def relative_bias(lag_bias: nn.Parameter | None, time_bias: nn.Parameter | None, places: Places) -> torch.Tensor:
    """Return what attention adds for distance and time, at [l, j], of a shape that spreads to (B, A, L, L).

    Args:
        lag_bias: one number a head and distance, shape (A, max_history); None adds nothing.
        time_bias: one number a head and bucket of time, shape (A, NUM_BUCKETS); None adds nothing.
        places: of the histories.
    """
    bias = torch.zeros((), device=places.valid_BL.device) if lag_bias is None else lag_bias[:, places.lags_LL]
    if time_bias is None:
        return bias
    # As an embedding, whose gradient is summed much faster than that of an index.
    of_time_BLLA = nn.functional.embedding(places.intervals_BLL, time_bias.T)
    return bias + of_time_BLLA.permute(0, 3, 1, 2)


def new_time_bias(num_heads: int) -> nn.Parameter:
    """Return biases by bucket of time, zero at the start, shape (A, NUM_BUCKETS)."""
    return nn.Parameter(torch.zeros(num_heads, NUM_BUCKETS))


def check_heads(num_heads: int, dim: int) -> None:
    """See whether heads divide the width.

    Raises:
        ValueError: if not, naming the key of the recipe.
    """
    if dim % num_heads:
        raise ValueError(f"user.num_heads: {num_heads} does not divide the width of item vectors, {dim}")
