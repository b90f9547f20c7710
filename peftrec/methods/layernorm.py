"""Tuning of normalisation layers alone."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from torch import nn

from peftrec.config import InputError
from peftrec.methods.method import Capabilities, MethodConfig
from peftrec.methods.peft_method import AppliedPeft
from peftrec.methods.structure import layer_modules, name_pattern, norm_names


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerNormConfig(MethodConfig):
    """Scales (and shifts) of LayerNorm and RMSNorm modules train, in copies; everything else stays.

    With `layers: all` those outside the layers too (of the embeddings, after the last layer), with k only those inside
    the top k layers.

    Parameters: the sum over those modules of their width, twice where they shift.

    Source:
        Zhao et al. (2024), Tuning LayerNorm in Attention.
    """

    kind: ClassVar[str] = "layernorm"
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

    def apply(self, model: nn.Module) -> AppliedPeft:
        """Copy the norms of the admitted layers and let the copies train; see `MethodConfig.apply`."""
        from peft import LNTuningConfig, TaskType

        first_layer = self.first_layer(model)
        names = norm_names(model, first_layer=first_layer, outside=self.layers == "all")
        if not names:
            raise InputError(
                f"method.kind: layernorm finds no normalisation with weights in {type(model).__name__}; its layers "
                f"hold {layer_modules(model)}"
            )
        config = LNTuningConfig(task_type=TaskType.FEATURE_EXTRACTION, target_modules=name_pattern(names))
        return AppliedPeft(model, config, first_layer, can_merge=True)
