"""Prefix tuning: learned keys and values before those of the text, in the attention of every layer."""

from __future__ import annotations

import dataclasses
from typing import Annotated, ClassVar

from torch import nn

from peftrec.config import InputError, Range
from peftrec.methods.method import Capabilities, MethodConfig
from peftrec.methods.own_method import AppliedOwn, parameters_of
from peftrec.methods.prefix_attention import insert_prefixes
from peftrec.methods.probe import check_acts
from peftrec.methods.structure import position_limit


@dataclasses.dataclass(frozen=True, kw_only=True)
class PrefixConfig(MethodConfig):
    """Attention over (K, V) becomes attention over ([K_p; K], [V_p; V]), with K_p and V_p learned, layer by layer.

    Every token sees the whole prefix, whatever mask, window or causal order says. Prefixes take no position and no part
    of the text's length. They shift the backbone's vectors from the first step on.

    Parameters: layers * num_tokens * 2 * key-value heads * width of a head.

    Args:
        num_tokens: length of the prefix.
        init_std: standard deviation of the numbers that it starts from.
    Source:
        Li and Liang (2021), Prefix-Tuning: Optimizing Continuous Prompts for Generation, sec. 4.2, without the network
        that makes the prefix from a smaller one while training.
    """

    kind: ClassVar[str] = "prefix"
    default_learning_rate: ClassVar[float] = 1e-2
    capabilities: ClassVar[Capabilities] = Capabilities(
        identity_at_start=False,
        base_frozen=True,
        can_merge=False,
        can_limit_layers=True,
        supports_checkpointing=True,
        encoder=True,
        decoder=True,
        quantized_base=True,
    )

    num_tokens: Annotated[int, Range(ge=1)] = 8
    init_std: Annotated[float, Range(gt=0)] = 0.02

    def apply(self, model: nn.Module) -> AppliedOwn:
        """Put prefixes into the attention of the admitted layers; see `MethodConfig.apply`."""
        first_layer = self.first_layer(model)
        limit = position_limit(model)
        if limit is not None and self.num_tokens > limit:
            raise InputError(
                f"method.num_tokens is {self.num_tokens}, longer than any text that {type(model).__name__} takes; use "
                f"at most {limit}"
            )
        prefixes = insert_prefixes(model, first_layer, self.num_tokens, self.init_std)
        check_acts(model, first_layer, prefixes, kind=self.kind)
        return AppliedOwn(
            model,
            first_layer,
            parameters_of(model, prefixes),
            settings=self,
            parts=prefixes,
            no_merge="its keys and values stand in attention, and no weight of the backbone can express them",
        )
