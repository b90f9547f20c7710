"""OFT: weights are turned, not added to."""

from __future__ import annotations

import dataclasses
from typing import Annotated, ClassVar

from torch import nn

from peftrec.config import InputError, Range
from peftrec.methods.method import Capabilities, MethodConfig
from peftrec.methods.peft_method import AppliedPeft
from peftrec.methods.structure import name_pattern
from peftrec.methods.target import Targets, find_targets, linear_size


@dataclasses.dataclass(frozen=True, kw_only=True)
class OftConfig(MethodConfig):
    """W x becomes W R x, with R block-diagonal and orthogonal: each block is the Cayley transform of a skew matrix.

    Parameters: the sum over target modules of (in / block_size) * block_size * (block_size - 1) / 2.

    Args:
        block_size: width of a block; divides the input width of every target.
        targets: `all_linear`, or endings of module names.
    Source:
        Qiu et al. (2023), Controlling Text-to-Image Diffusion by Orthogonal Finetuning, eq. 5.
    """

    kind: ClassVar[str] = "oft"
    default_learning_rate: ClassVar[float] = 1e-3
    capabilities: ClassVar[Capabilities] = Capabilities(
        identity_at_start=True,
        base_frozen=True,
        can_merge=True,
        can_limit_layers=True,
        supports_checkpointing=True,
        encoder=True,
        decoder=True,
        quantized_base=True,
    )

    block_size: Annotated[int, Range(ge=2)] = 32
    targets: Targets = "all_linear"

    def apply(self, model: nn.Module) -> AppliedPeft:
        """Inject OFT into the targets of the admitted layers; see `MethodConfig.apply`."""
        from peft import OFTConfig, TaskType

        first_layer = self.first_layer(model)
        names = find_targets(model, self.targets, first_layer)
        for name in names:
            width = linear_size(model, name)[0]
            if width % self.block_size:
                # peft would take another size and only warn.
                raise InputError(
                    f"method.block_size is {self.block_size}, which does not divide the {width} inputs of '{name}'; "
                    f"use a divisor of it, or leave the module out of method.targets"
                )
        config = OFTConfig(
            task_type=TaskType.FEATURE_EXTRACTION,
            r=0,
            oft_block_size=self.block_size,
            target_modules=name_pattern(names),
            # The exact transform: a truncated series would not be orthogonal, and merging would show it.
            use_cayley_neumann=False,
        )
        return AppliedPeft(model, config, first_layer, can_merge=True)
