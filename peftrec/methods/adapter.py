"""Bottleneck adapters: small two-layer networks behind, or beside, the blocks of every layer."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal

import torch
from torch import nn
from torch.nn import functional as F

from peftrec.config import InputError, Range
from peftrec.methods.block import find_blocks
from peftrec.methods.method import Capabilities, MethodConfig
from peftrec.methods.own_method import AppliedOwn, Part, parameters_of
from peftrec.methods.probe import check_acts
from peftrec.methods.structure import linear_names, select_targets

_ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {"relu": F.relu, "gelu": F.gelu, "silu": F.silu}


class Adapter(Part):
    """Adds scale * up(activation(down(x))) to what a linear module returns; x is that itself, or what another is given.

    Hooks on the linear modules carry it, so that the backbone keeps its own modules, names and forward.

    Args:
        size: of the states.
        width: of the bottleneck.
        settings: of the recipe.
    """

    def __init__(self, size: int, width: int, settings: AdapterConfig) -> None:
        super().__init__()
        self.down = nn.Linear(size, width)
        self.up = nn.Linear(width, size)
        self.dropout = nn.Dropout(settings.dropout)
        self.activation = settings.activation
        self.scale = settings.scale
        self.reads_input = settings.placement == "parallel"
        # What enters the block, from its first linear module to its last; threads may run one backbone side by side.
        self._entered: dict[int, torch.Tensor] = {}
        nn.init.zeros_(self.down.bias)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        inner = self.dropout(_ACTIVATIONS[self.activation](self.down(states.to(self.down.weight.dtype))))
        added: torch.Tensor = self.scale * self.up(inner)
        return added

    def keep_input(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        """Forward pre-hook of the linear module that is given what enters the block."""
        del module
        if self.enabled:
            self._entered[threading.get_ident()] = args[0]

    def add_to_output(self, module: nn.Module, args: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor:
        """Forward hook of the linear module that ends the block."""
        del module, args
        if not self.enabled:
            return output
        states = self._entered.pop(threading.get_ident()) if self.reads_input else output
        added: torch.Tensor = self(states)
        return output + added.to(output.dtype)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdapterConfig(MethodConfig):
    """A block's output h becomes h + scale * up(activation(down(x))), before the residual connection and the norm.

    x is h itself (`houlsby`: attention and feed-forward; `pfeiffer`: feed-forward only), or what enters the
    feed-forward block (`parallel`). The up-projection starts at zero: training starts from the base model.

    Parameters: the sum over adapters of 2 * size * width + width + size, with width = size // reduction_factor and size
    that of the states; `houlsby` has two adapters a layer, the others one.

    Args:
        placement: where adapters stand.
        reduction_factor: how many times narrower than the states the bottleneck is.
        activation: of the bottleneck.
        scale: of what is added.
        dropout: on the bottleneck's activations.
        targets: `auto` finds the blocks; or endings of the names of linear modules, behind each of which an adapter is
            put in place of what `placement` says.
    Source:
        Houlsby et al. (2019), Parameter-Efficient Transfer Learning for NLP, sec. 2.1; Pfeiffer et al. (2021),
        AdapterFusion, from which only the choice of one adapter a layer is taken: theirs stands behind the residual
        connection; He et al. (2022), Towards a Unified View of Parameter-Efficient Transfer Learning, for `parallel`.
    """

    kind: ClassVar[str] = "adapter"
    default_learning_rate: ClassVar[float] = 1e-3
    capabilities: ClassVar[Capabilities] = Capabilities(
        identity_at_start=True,
        base_frozen=True,
        can_merge=False,
        can_limit_layers=True,
        supports_checkpointing=True,
        encoder=True,
        decoder=True,
        quantized_base=True,
    )

    placement: Literal["houlsby", "pfeiffer", "parallel"] = "pfeiffer"
    reduction_factor: Annotated[float, Range(gt=0)] = 16.0
    activation: Literal["relu", "gelu", "silu"] = "relu"
    scale: Annotated[float, Range(gt=0)] = 1.0
    dropout: Annotated[float, Range(ge=0, lt=1)] = 0.0
    targets: Literal["auto"] | tuple[str, ...] = "auto"

    def __post_init__(self) -> None:
        if self.targets != "auto" and self.placement != "pfeiffer":
            raise ValueError(
                f"targets: adapters stand behind the modules that it names, which leaves no choice of placement; leave "
                f"out placement: {self.placement}, or targets"
            )

    def apply(self, model: nn.Module) -> AppliedOwn:
        """Put adapters behind or beside the blocks of the admitted layers; see `MethodConfig.apply`."""
        first_layer = self.first_layer(model)
        places = self._places(model, first_layer)
        adapters = [self._adapter(model, output) for _, output in places]
        for adapter, (entering, output) in zip(adapters, places, strict=True):
            linear = model.get_submodule(output)
            linear.add_module("adapter", adapter)
            linear.register_forward_hook(adapter.add_to_output)
            if adapter.reads_input:
                model.get_submodule(entering).register_forward_pre_hook(adapter.keep_input)
        check_acts(model, first_layer, adapters, kind=self.kind)
        return AppliedOwn(
            model,
            first_layer,
            parameters_of(model, adapters),
            settings=self,
            parts=adapters,
            no_merge="its activation lies between two projections, and no weight of the backbone can express that",
        )

    def _places(self, model: nn.Module, first_layer: int) -> list[tuple[str, str]]:
        """Return pairs of linear modules: the one whose input, and the one whose output is meant."""
        if self.targets != "auto":
            names = select_targets(linear_names(model, first_layer=first_layer), self.targets)
            return [(name, name) for name in names]
        places = []
        for blocks in find_blocks(model, first_layer=first_layer):
            if self.placement == "houlsby":
                places.append((blocks.attention_output, blocks.attention_output))
            places.append((blocks.feed_forward_input, blocks.feed_forward_output))
        return places

    def _adapter(self, model: nn.Module, output: str) -> Adapter:
        linear = model.get_submodule(output)
        assert isinstance(linear, nn.Linear)
        size = linear.out_features
        width = int(size // self.reduction_factor)
        if width == 0:
            raise InputError(
                f"method.reduction_factor is {self.reduction_factor:g}, which leaves no bottleneck behind '{output}', "
                f"whose width is {size}; use at most {size}"
            )
        return Adapter(size, width, self).to(linear.weight.device)
