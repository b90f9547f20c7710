"""Causal transformer over the history.

Shapes: B users, L places, D width.
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

    user = out(transformer(items)), or with `recency_start` unit(weighted mean of the newest items) + out(...) with
    `out` zero at first, so that training starts from recency-weighted similarity. Blocks are pre-norm; place
    embeddings count from the newest event.

    Args:
        num_layers: blocks.
        num_heads: attention heads; divides the width.
        feedforward: inner width of a block's feed-forward part, as a multiple of the width.
        dropout: on inputs, attention and block outputs.
        input_scale: item vectors are multiplied by this before the blocks (they are of unit length).
        recency_start: see above.
        num_recent: events in the weighted mean.
        decay: its weights at the start are decay^k; they train.
    Source:
        Kang and McAuley (2018), Self-Attentive Sequential Recommendation; pre-norm and the residual start differ.
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

    def build(self, dim: int) -> nn.Module:
        if dim % self.num_heads:
            raise ValueError(f"user.num_heads: {self.num_heads} does not divide the width of item vectors, {dim}")
        return _CausalTransformer(self, dim)


class _CausalTransformer(nn.Module):
    def __init__(self, config: TransformerUserEncoder, dim: int) -> None:
        super().__init__()
        self.config = config
        self.places = nn.Parameter(torch.zeros(config.max_history, dim))
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
        causal_LL = torch.ones(length, length, dtype=torch.bool, device=items_BLD.device).tril()
        itself_LL = torch.eye(length, dtype=torch.bool, device=items_BLD.device)
        # A padded place sees itself, lest its softmax be over nothing.
        visible_B1LL = ((causal_LL & valid_BL[:, None, :]) | itself_LL)[:, None]
        states_BLD = self.dropout(items_BLD * self.config.input_scale + self.places[-length:])
        for block in self.blocks:
            states_BLD = block(states_BLD, visible_B1LL)
        residual_BLD: torch.Tensor = self.out(self.dropout(self.norm(states_BLD)))
        if not self.config.recency_start:
            return residual_BLD
        return F.normalize(self.recency(items_BLD, valid_BL), dim=-1) + residual_BLD


class _Block(nn.Module):
    def __init__(self, config: TransformerUserEncoder, dim: int) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.attention_dropout = config.dropout
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

    def forward(self, states_BLD: torch.Tensor, visible_B1LL: torch.Tensor) -> torch.Tensor:
        batch, length, dim = states_BLD.shape
        packed = self.query_key_value(self.attention_norm(states_BLD))
        query, key, value = packed.view(batch, length, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(
            query, key, value, attn_mask=visible_B1LL, dropout_p=self.attention_dropout if self.training else 0.0
        )
        states_BLD = states_BLD + self.dropout(self.attention_out(mixed.transpose(1, 2).reshape(batch, length, dim)))
        return states_BLD + self.dropout(self.feedforward(states_BLD))  # type: ignore[no-any-return]
