"""The frozen backbone: only the head learns."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from torch import nn

from peftrec.methods.method import AppliedMethod, Capabilities, MethodConfig
from peftrec.methods.structure import find_layers


@dataclasses.dataclass(frozen=True, kw_only=True)
class FrozenConfig(MethodConfig):
    """Nothing of the backbone moves; texts are encoded once.

    Parameters: none.
    """

    kind: ClassVar[str] = "frozen"
    # Never used: there is nothing to train, but every method states one.
    default_learning_rate: ClassVar[float] = 1e-3
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

    def __post_init__(self) -> None:
        if self.layers != "all":
            raise ValueError("layers: a frozen backbone has no layers to choose; leave it out")

    def apply(self, model: nn.Module) -> AppliedMethod:
        """Freeze the backbone; see `MethodConfig.apply`."""
        model.requires_grad_(False)
        return AppliedMethod(model, len(find_layers(model).layers))
