"""A side network over the pooled states of a frozen backbone: no gradient ever enters the backbone.

Shapes: C texts, K states read, H width of a state.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, ClassVar

import torch
from torch import nn
from torch.nn import functional as F

from peftrec.config import InputError, Range
from peftrec.methods.method import Capabilities, MethodConfig
from peftrec.methods.own_method import AppliedOwn, Part, parameters_of
from peftrec.methods.structure import find_layers, text_config


class SideBlock(nn.Module):
    """One step of the tower: gate between what it reads and what lies below, then a bottleneck with a residual.

    Args:
        size: H.
        width: of the bottleneck.
        dropout: on the bottleneck's activations.
        gated: False for the lowest block, below which nothing lies.
    """

    def __init__(self, size: int, width: int, dropout: float, *, gated: bool) -> None:
        super().__init__()
        self.down = nn.Linear(size, width)
        self.up = nn.Linear(width, size)
        self.dropout = nn.Dropout(dropout)
        self.gate = nn.Parameter(torch.zeros(1)) if gated else None
        # Not zero: behind an output scale of zero, nothing of the block would move in the first two steps.
        nn.init.normal_(self.up.weight, std=0.02)
        nn.init.zeros_(self.up.bias)

    def forward(self, read_CH: torch.Tensor, below_CH: torch.Tensor | None) -> torch.Tensor:
        # Norms of states grow a hundredfold from layer to layer in decoders; a gate can only weigh like with like.
        mixed_CH = F.layer_norm(read_CH, read_CH.shape[-1:])
        if self.gate is not None:
            assert below_CH is not None
            mixed_CH = torch.lerp(below_CH, mixed_CH, self.gate.sigmoid())
        update_CH: torch.Tensor = self.up(self.dropout(F.gelu(self.down(mixed_CH))))
        return mixed_CH + update_CH


class SideNetwork(Part):
    """The tower, and the scale with which its top is added to the last state.

    Args:
        size: H.
        states: numbers of the hidden states that are read, ascending; blocks are named by them.
        settings: of the recipe.
    """

    def __init__(self, size: int, states: tuple[int, ...], settings: SideConfig) -> None:
        super().__init__()
        self.blocks = nn.ModuleDict(
            {
                str(state): SideBlock(size, settings.width, settings.dropout, gated=place > 0)
                for place, state in enumerate(states)
            }
        )
        self.out_scale = nn.Parameter(torch.zeros(size))

    def forward(self, pooled_CKH: torch.Tensor) -> torch.Tensor:
        tower_CH: torch.Tensor | None = None
        for block, read_CH in zip(self.blocks.values(), pooled_CKH.unbind(1), strict=True):
            tower_CH = block(read_CH, tower_CH)
        assert tower_CH is not None
        return pooled_CKH[:, -1] + self.out_scale * tower_CH


class AppliedSide(AppliedOwn):
    """A side network beside the backbone, whose forward it leaves alone."""

    def __init__(self, model: nn.Module, states: tuple[int, ...], network: SideNetwork, settings: SideConfig) -> None:
        super().__init__(
            model,
            len(find_layers(model).layers),
            parameters_of(model, [network]),
            settings=settings,
            parts=[network],
            no_merge="it stands beside it",
        )
        self.pooled_states = states
        self.network = network

    def combine(self, pooled_CKH: torch.Tensor) -> torch.Tensor:
        if not self.network.enabled:
            return pooled_CKH[:, -1]
        vectors_CH: torch.Tensor = self.network(pooled_CKH)
        return vectors_CH


@dataclasses.dataclass(frozen=True, kw_only=True)
class SideConfig(MethodConfig):
    """Vectors become h_K + out_scale * S_K, with a tower S_i = block_i(g_i * n(h_i) + (1 - g_i) * S_{i-1}) beside it.

    h_1 ... h_K are the pooled hidden states that are read, the last state last; n brings each to mean 0 and variance 1;
    g_i is the sigmoid of a learned number, 0 at the start, and S_1 = block_1(n(h_1)); block(x) = x + up(gelu(down(x))).
    `out_scale` is a vector of zeros at the start, so that training starts from the base model. Pooled states are all
    that training needs, so they are computed once.

    Parameters: K * (2 * H * width + width + H) + (K - 1) + H, with H the width of a state.

    Args:
        width: of the bottlenecks.
        every: every how many states, counted back from the last, one is read.
        include_embeddings: whether what enters the lowest layer is read too.
        dropout: on the bottlenecks' activations.
    Source:
        Fu et al. (2024), IISAN: Efficiently Adapting Multimodal Representation for Sequential Recommendation with
        Decoupled PEFT, for texts alone; there states are not normalised, S_0 is a state of zeros under a gate of its
        own, and the top of the tower takes the place of the last state.
    """

    kind: ClassVar[str] = "side"
    default_learning_rate: ClassVar[float] = 1e-3
    reads_pooled_states: ClassVar[bool] = True
    capabilities: ClassVar[Capabilities] = Capabilities(
        identity_at_start=True,
        base_frozen=True,
        can_merge=False,
        can_limit_layers=False,
        supports_checkpointing=True,
        encoder=True,
        decoder=True,
        quantized_base=True,
    )

    width: Annotated[int, Range(ge=1)] = 64
    every: Annotated[int, Range(ge=1)] = 1
    include_embeddings: bool = True
    dropout: Annotated[float, Range(ge=0, lt=1)] = 0.0

    def __post_init__(self) -> None:
        if self.layers != "all":
            raise ValueError("layers: a side network changes no layer; leave it at all, and choose states with every")

    def apply(self, model: nn.Module) -> AppliedSide:
        """Put a side network beside the backbone; see `MethodConfig.apply`."""
        num_layers = len(find_layers(model).layers)
        if self.every > num_layers:
            raise InputError(
                f"method.every is {self.every}; the backbone has {num_layers} layers, so use at most {num_layers}"
            )
        states = tuple(sorted(range(num_layers, 0, -self.every)))
        if self.include_embeddings:
            states = (0, *states)
        network = SideNetwork(text_config(model).hidden_size, states, self)
        model.add_module("side", network.to(next(model.parameters()).device))
        return AppliedSide(model, states, network, self)
