"""LoRA: low-rank updates of linear layers."""

from __future__ import annotations

import dataclasses
from typing import Annotated, ClassVar, Literal

from torch import nn

from peftrec.config import InputError, Range
from peftrec.methods.method import Capabilities, MethodConfig
from peftrec.methods.peft_method import AppliedPeft
from peftrec.methods.structure import layer_modules, linear_names, name_pattern, select_targets


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoraConfig(MethodConfig):
    """W x becomes W x + (alpha / rank) B A x, with A of shape (rank, in) and B of shape (out, rank), B zero at first.

    Parameters: the sum over target modules of rank * (in + out).

    Args:
        rank: inner width; at most the smaller side of every target.
        alpha: numerator of the update's scale.
        dropout: on the input of A.
        targets: `all_linear`, or endings of module names ("query", "attention.output.dense").
    Source:
        Hu et al. (2022), LoRA: Low-Rank Adaptation of Large Language Models, eq. 3.
    """

    kind: ClassVar[str] = "lora"
    default_learning_rate: ClassVar[float] = 3e-4
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

    rank: Annotated[int, Range(ge=1)] = 8
    alpha: Annotated[float, Range(gt=0)] = 16.0
    dropout: Annotated[float, Range(ge=0, lt=1)] = 0.0
    targets: Literal["all_linear"] | tuple[str, ...] = "all_linear"

    def apply(self, model: nn.Module) -> AppliedPeft:
        """Inject LoRA into the targets of the admitted layers; see `MethodConfig.apply`."""
        from peft import LoraConfig as PeftLoraConfig
        from peft import TaskType

        first_layer = self.first_layer(model)
        names = linear_names(model, first_layer=first_layer)
        if self.targets != "all_linear":
            names = select_targets(names, self.targets)
        if not names:
            raise InputError(
                f"method.targets: {self.targets} matches no linear module of {type(model).__name__}; "
                f"its layers hold {layer_modules(model)}"
            )
        for name in names:
            linear = model.get_submodule(name)
            assert isinstance(linear, nn.Linear)
            if self.rank > min(linear.in_features, linear.out_features):
                raise InputError(
                    f"method.rank is {self.rank}, larger than '{name}' ({linear.out_features} x {linear.in_features}) "
                    f"allows; use at most {min(linear.in_features, linear.out_features)}"
                )
        config = PeftLoraConfig(
            task_type=TaskType.FEATURE_EXTRACTION,
            r=self.rank,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            target_modules=name_pattern(names),
        )
        return AppliedPeft(model, config, first_layer, can_merge=True)
