"""Causal transformer over the history.

Shapes: B users, L places, P places in use of all users, D width.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, ClassVar

import torch
from torch import nn
from torch.nn import functional as F

from peftrec.config import Range
from peftrec.models.user_encoder import RecencyMean, UserEncoderConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransformerUserEncoder(UserEncoderConfig):
    """A causal transformer, trained on every place of the history.

    user = out(transformer(items)), or with `recency_start` weighted mean of the newest items + out(...) with `out` zero
    at first, so that training starts from recency-weighted similarity. Blocks are pre-norm; order enters as a learned
    bias on attention, one for each head and distance, zero at first.

    Args:
        num_layers: blocks.
        num_heads: attention heads; divides the width.
        feedforward: inner width of a block's feed-forward part, as a multiple of the width.
        dropout: on inputs and on what attention and feed-forward part add; not on attention weights, nor before `out`,
            where it slowed learning (measured on MovieLens 100K).
        input_scale: item vectors are multiplied by this before the blocks (they are of unit length).
        recency_start: see above.
        num_recent: events in the weighted mean.
        decay: its weights at the start are decay^k; they train.
    Source:
        Kang and McAuley (2018), Self-Attentive Sequential Recommendation; pre-norm, biases by distance (as
        in Raffel et al., 2020) and the residual start differ.
    """

    kind: ClassVar[str] = "transformer"

    num_layers: Annotated[int, Range(ge=1)] = 1
    num_heads: Annotated[int, Range(ge=1)] = 4
    feedforward: Annotated[int, Range(ge=1)] = 1
    dropout: Annotated[float, Range(ge=0, lt=1)] = 0.3
    input_scale: Annotated[float, Range(gt=0)] = 4.0
    recency_start: bool = True
    num_recent: Annotated[int, Range(ge=1)] = 8
    decay: Annotated[float, Range(gt=0, le=1)] = 0.7

    def check_dim(self, dim: int) -> None:
        if dim % self.num_heads:
            raise ValueError(f"user.num_heads: {self.num_heads} does not divide the width of item vectors, {dim}")

    def build(self, dim: int) -> nn.Module:
        self.check_dim(dim)
        return _CausalTransformer(self, dim)


class _CausalTransformer(nn.Module):
    def __init__(self, config: TransformerUserEncoder, dim: int) -> None:
        super().__init__()
        self.config = config
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList([_Block(config, dim) for _ in range(config.num_layers)])
        self.norm = nn.LayerNorm(dim)
        self.out = nn.Linear(dim, dim)
        if config.recency_start:
            self.recency = RecencyMean(config.num_recent, config.decay, learned=True)
            nn.init.zeros_(self.out.weight)
            nn.init.zeros_(self.out.bias)

    def forward(self, items_BLD: torch.Tensor, valid_BL: torch.Tensor) -> torch.Tensor:
        length = items_BLD.shape[1]
        assert length <= self.config.max_history, f"a history of {length} is longer than max_history"
        place_L = torch.arange(length, device=items_BLD.device)
        lag_LL = place_L[:, None] - place_L
        itself_LL = lag_LL == 0
        # A padded place sees itself, lest its softmax be over nothing.
        visible_B1LL = (((lag_LL >= 0) & valid_BL[:, None, :]) | itself_LL)[:, None]
        # Everything but attention works on the places in use alone: short histories cost little.
        states_PD = self.dropout(items_BLD[valid_BL] * self.config.input_scale)
        for block in self.blocks:
            states_PD = block(states_PD, valid_BL, visible_B1LL, lag_LL.clamp(min=0))
        residual_PD = self.out(self.norm(states_PD))
        residual_BLD = _unpack(residual_PD, valid_BL)
        if not self.config.recency_start:
            return residual_BLD
        recency_BLD: torch.Tensor = self.recency(items_BLD, valid_BL)
        return recency_BLD + residual_BLD


class _Block(nn.Module):
    def __init__(self, config: TransformerUserEncoder, dim: int) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.lag_bias = nn.Parameter(torch.zeros(config.num_heads, config.max_history))
        self.attention_norm = nn.LayerNorm(dim)
        self.query_key_value = nn.Linear(dim, 3 * dim)
        self.attention_out = nn.Linear(dim, dim)
        self.feedforward = nn.Sequential(
            nn.LayerNorm(dim),
            nn.Linear(dim, config.feedforward * dim),
            nn.GELU(),
            nn.Linear(config.feedforward * dim, dim),
        )
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self, states_PD: torch.Tensor, valid_BL: torch.Tensor, visible_B1LL: torch.Tensor, lag_LL: torch.Tensor
    ) -> torch.Tensor:
        batch, length = valid_BL.shape
        packed = self.query_key_value(self.attention_norm(states_PD))
        query, key, value = _unpack(packed, valid_BL).view(batch, length, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        bias_BHLL = self.lag_bias[:, lag_LL].masked_fill(~visible_B1LL, -torch.inf)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias_BHLL)
        mixed_PD = mixed.transpose(1, 2).reshape(batch, length, -1)[valid_BL]
        states_PD = states_PD + self.dropout(self.attention_out(mixed_PD))
        return states_PD + self.dropout(self.feedforward(states_PD))  # type: ignore[no-any-return]


def _unpack(packed_PD: torch.Tensor, valid_BL: torch.Tensor) -> torch.Tensor:
    """Put rows back at the places in use, zeros elsewhere, shape (B, L, D)."""
    places_P = valid_BL.flatten().nonzero()[:, 0]
    flat = packed_PD.new_zeros(valid_BL.numel(), packed_PD.shape[1]).index_copy(0, places_P, packed_PD)
    return flat.view(*valid_BL.shape, -1)
