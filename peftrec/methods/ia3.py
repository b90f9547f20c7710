"""IA3: keys, values and inner feed-forward states are rescaled by learned vectors."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from torch import nn

from peftrec.config import InputError
from peftrec.methods.block import find_blocks
from peftrec.methods.method import Capabilities, MethodConfig
from peftrec.methods.peft_method import AppliedPeft
from peftrec.methods.structure import linear_names, name_pattern, select_targets


@dataclasses.dataclass(frozen=True, kw_only=True)
class IA3Config(MethodConfig):
    """k becomes l_k * k, v becomes l_v * v, and the feed-forward block W2 a becomes W2 (l_ff * a); all l start at 1.

    Where one module makes queries, keys and values together (ModernBERT), all three are scaled.

    Parameters: the sum of the output widths of key and value modules, and of the inner width of every layer.

    Args:
        targets: endings of names of modules whose outputs are scaled; empty finds those of keys and values.
        feed_forward_targets: endings of names of modules whose inputs are scaled; empty finds the last of each
            feed-forward block.
    Source:
        Liu et al. (2022), Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper than In-Context Learning.
    """

    kind: ClassVar[str] = "ia3"
    default_learning_rate: ClassVar[float] = 3e-3
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

    targets: tuple[str, ...] = ()
    feed_forward_targets: tuple[str, ...] = ()

    def apply(self, model: nn.Module) -> AppliedPeft:
        """Put the vectors into the admitted layers; see `MethodConfig.apply`."""
        from peft import IA3Config as PeftIA3Config
        from peft import TaskType

        first_layer = self.first_layer(model)
        names = linear_names(model, first_layer=first_layer)
        outputs = select_targets(names, self.targets) if self.targets else _keys_and_values(model, first_layer)
        if self.feed_forward_targets:
            inputs = select_targets(names, self.feed_forward_targets, key="method.feed_forward_targets")
        else:
            inputs = [blocks.feed_forward_output for blocks in find_blocks(model, first_layer=first_layer)]
        both = set(outputs) & set(inputs)
        if both:
            raise InputError(f"method.targets: '{min(both)}' is also in feed_forward_targets; scale one side of it")
        config = PeftIA3Config(
            task_type=TaskType.FEATURE_EXTRACTION,
            target_modules=name_pattern(outputs + inputs),
            feedforward_modules=name_pattern(inputs),
        )
        return AppliedPeft(model, config, first_layer, can_merge=True)


def _keys_and_values(model: nn.Module, first_layer: int) -> list[str]:
    """Return the modules that make keys and values: the second and third of an attention block, or its fused one.

    Raises:
        InputError: if an attention block is made otherwise.
    """
    found: list[str] = []
    for blocks in find_blocks(model, first_layer=first_layer):
        made = blocks.attention_inputs
        widths = [model.get_submodule(name).out_features for name in made]
        if len(made) == 3 and widths[1] == widths[2]:
            found += made[1:]
        elif len(made) == 1:
            found += made
        else:
            raise InputError(
                f"method.kind: ia3 cannot tell keys and values among {', '.join(made)} of {type(model).__name__}; name "
                f"them in method.targets"
            )
    return found
