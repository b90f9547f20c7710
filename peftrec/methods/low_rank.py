"""Low-rank updates by `peft` whose layers take the quicker forward pass."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from torch import nn

from peftrec.methods.lora_forward import merged_weights, speed_up_lora
from peftrec.methods.peft_method import AppliedPeft


class AppliedLowRank(AppliedPeft):
    """A low-rank update of linear layers in the backbone.

    Args:
        model: the backbone, changed in place.
        config: a fresh `peft` config.
        first_layer: see `AppliedMethod`.
    """

    def __init__(self, model: nn.Module, config: Any, first_layer: int) -> None:
        super().__init__(model, config, first_layer, can_merge=True)
        self._quick = speed_up_lora(model)

    @contextlib.contextmanager
    def unchanging(self) -> Iterator[None]:
        with merged_weights([] if self.merged else self._quick):
            yield
