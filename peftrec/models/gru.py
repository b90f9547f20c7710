"""Gated recurrent units over the history.

Shapes: B users with a history, L events of the longest, P places in use of all users, D width, W width of the state.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, ClassVar

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from peftrec.config import Range
from peftrec.models.residual_encoder import Places, ResidualEncoder, ResidualEncoderConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class GruUserEncoder(ResidualEncoderConfig):
    """A recurrent network that reads the history event by event, oldest first.

    h_l = GRU(x_l, h_(l-1)) with h_0 = 0; user = out(norm(h_l)), or with `recency_start` weighted mean of the newest
    items + out(norm(h_l)) with `out` zero at first.

    Args:
        num_layers: networks on top of each other; dropout between them.
        state_dim: W, width of the state; None takes the width of item vectors.
    Source:
        Hidasi et al. (2016), Session-based Recommendations with Recurrent Neural Networks; item vectors in place of
        one-hot inputs, and the residual start.
    """

    kind: ClassVar[str] = "gru"

    num_layers: Annotated[int, Range(ge=1)] = 1
    state_dim: Annotated[int, Range(ge=1)] | None = None

    def build(self, dim: int) -> nn.Module:
        width = self.state_dim or dim
        return ResidualEncoder(self, dim, [_Gru(self, dim, width)], width=width)


class _Gru(nn.Module):
    def __init__(self, config: GruUserEncoder, dim: int, width: int) -> None:
        super().__init__()
        between = config.dropout if config.num_layers > 1 else 0.0
        self.gru = nn.GRU(dim, width, config.num_layers, batch_first=True, dropout=between)

    def forward(self, states_PD: torch.Tensor, places: Places) -> torch.Tensor:
        lengths_B = places.lengths_B[places.lengths_B > 0]
        if not len(lengths_B):
            return states_PD.new_zeros(0, self.gru.hidden_size)
        # Torch wants padding behind the events; places in use come user after user either way.
        used_BL = torch.arange(int(lengths_B.max()), device=states_PD.device) < lengths_B[:, None]
        padded_BLD = states_PD.new_zeros(*used_BL.shape, states_PD.shape[1]).index_put(
            used_BL.nonzero(as_tuple=True), states_PD
        )
        packed = pack_padded_sequence(padded_BLD, lengths_B.cpu(), batch_first=True, enforce_sorted=False)
        found_BLW, _ = pad_packed_sequence(self.gru(packed)[0], batch_first=True)
        return found_BLW[used_BL]
