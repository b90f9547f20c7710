"""What user encoders made of blocks share: a strong start, and work on the places in use alone.

Shapes: B users, L places, P places in use of all users, A heads, D width of item vectors, W width of the last block.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Annotated, Protocol, runtime_checkable

import torch
from torch import nn

from peftrec.config import Range
from peftrec.encoders.dropout import Dropout
from peftrec.models.places import Bucket, Places
from peftrec.models.time_interval import NUM_BUCKETS
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


@runtime_checkable
class _Weighs(Protocol):
    """A block whose attention weights are shares of a whole."""

    def newest_weights(self, states_PD: torch.Tensor, places: Places) -> torch.Tensor: ...


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
        self.dropout = Dropout(config.dropout)
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
        # All work is on the places in use alone, but for what looks at two places, which pads within buckets.
        return places.unpack(self.packed(places.pack(items_BLD), places))

    def packed(self, items_PD: torch.Tensor, places: Places) -> torch.Tensor:
        """Return the user vector at every place in use, shape (P, D)."""
        states_PW = self.dropout(items_PD * self.config.input_scale)
        for block in self.blocks:
            states_PW = block(states_PW, places)
        users_PD = self.out(self.norm(states_PW))
        if self.config.recency_start:
            users_PD = users_PD + self.recency.packed(items_PD, places)
        return users_PD  # type: ignore[no-any-return]

    def newest_attention(self, items_1LD: torch.Tensor, times_1L: torch.Tensor | None = None) -> torch.Tensor | None:
        """Return the attention weight of each event of one history, shape (L,); None where none counts.

        They are those of the last block that has them, from the newest event, as the mean over heads: they sum to 1.
        They tell what was mixed, not what the score owes to it: what lies beside attention (the weighted mean of the
        newest events, what events have told each other below) is not in them.

        Args:
            items_1LD: item vectors of a history without padding, one user.
            times_1L: when its events happened, where the encoder needs times.
        """
        if not self.out.weight.any():
            return None  # at the start, when nothing that the blocks mix reaches the user's vector
        places = Places(torch.ones(items_1LD.shape[:2], dtype=torch.bool, device=items_1LD.device), times_1L)
        states_PW = places.pack(items_1LD) * self.config.input_scale
        weights_L = None
        for block in self.blocks:
            if isinstance(block, _Weighs):
                weights_L = block.newest_weights(states_PW, places).mean(1)
            states_PW = block(states_PW, places)
        return weights_L


def relative_bias(lag_bias: nn.Parameter | None, time_bias: nn.Parameter | None, bucket: Bucket) -> torch.Tensor | None:
    """Return what attention adds for distance and time, at [l, j], of a shape that spreads to (B, A, L, L), or None.

    Args:
        lag_bias: one number a head and distance, shape (A, max_history); None adds nothing.
        time_bias: one number a head and bucket of time, shape (A, NUM_BUCKETS); None adds nothing.
        bucket: of the histories.
    """
    bias = None if lag_bias is None else lag_bias[:, bucket.lags_LL]
    if time_bias is None:
        return bias
    # As an embedding, whose gradient is summed much faster than that of an index.
    of_time_BLLA = nn.functional.embedding(bucket.intervals_BLL, time_bias.T)
    of_time_BALL = of_time_BLLA.permute(0, 3, 1, 2)
    return of_time_BALL if bias is None else bias + of_time_BALL


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
