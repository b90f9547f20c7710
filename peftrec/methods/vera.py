"""VeRA: one pair of random matrices for all modules, scaled by learned vectors."""

from __future__ import annotations

import dataclasses
from typing import Annotated, ClassVar

from torch import nn

from peftrec.config import Range
from peftrec.methods.method import Capabilities, MethodConfig
from peftrec.methods.peft_method import AppliedPeft
from peftrec.methods.structure import name_pattern
from peftrec.methods.target import Targets, find_targets


@dataclasses.dataclass(frozen=True, kw_only=True)
class VeraConfig(MethodConfig):
    """W x becomes W x + diag(b) B diag(d) A x, with random A and B shared by all modules; d and b train, b from zero.

    Parameters: the sum over target modules of rank + out. The file also holds A and B, rank * (in + out) of the widest
    module: they could be drawn again from the seed, but not on every version of torch.

    Args:
        rank: inner width; it may be larger than a module.
        dropout: on the input of A.
        targets: `all_linear`, or endings of module names.
        start: d at the start.
        seed: of A and B.
    Source:
        Kopiczko et al. (2024), VeRA: Vector-based Random Matrix Adaptation, eq. 2.
    """

    kind: ClassVar[str] = "vera"
    default_learning_rate: ClassVar[float] = 4e-3
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

    rank: Annotated[int, Range(ge=1)] = 256
    dropout: Annotated[float, Range(ge=0, lt=1)] = 0.0
    targets: Targets = "all_linear"
    start: Annotated[float, Range(gt=0)] = 0.1
    seed: Annotated[int, Range(ge=0)] = 0

    def apply(self, model: nn.Module) -> AppliedPeft:
        """Inject VeRA into the targets of the admitted layers; see `MethodConfig.apply`."""
        from peft import TaskType
        from peft import VeraConfig as PeftVeraConfig

        first_layer = self.first_layer(model)
        config = PeftVeraConfig(
            task_type=TaskType.FEATURE_EXTRACTION,
            r=self.rank,
            vera_dropout=self.dropout,
            d_initial=self.start,
            projection_prng_key=self.seed,
            save_projection=True,
            target_modules=name_pattern(find_targets(model, self.targets, first_layer)),
        )
        return AppliedPeft(model, config, first_layer, can_merge=True)
