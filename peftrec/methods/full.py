"""Full fine-tuning of the backbone, or of its top layers."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import ClassVar

from torch import nn

from peftrec.config import InputError
from peftrec.methods.method import Capabilities, MethodConfig
from peftrec.methods.own_method import AppliedOwn
from peftrec.methods.structure import named_weights


class AppliedFull(AppliedOwn):
    """The tuned weights of the backbone themselves; the file holds them whole."""

    in_weights = True

    @contextlib.contextmanager
    def disabled(self) -> Iterator[None]:
        raise InputError("full fine-tuning overwrites the base model; load the backbone anew to run it alone")
        yield


@dataclasses.dataclass(frozen=True, kw_only=True)
class FullConfig(MethodConfig):
    """Every weight of the admitted layers moves; with `layers: all` the embeddings too.

    Parameters: all of those layers. The yardstick that the other methods are compared with.
    """

    kind: ClassVar[str] = "full"
    default_learning_rate: ClassVar[float] = 2e-5
    capabilities: ClassVar[Capabilities] = Capabilities(
        identity_at_start=True,
        base_frozen=False,
        can_merge=False,
        can_limit_layers=True,
        supports_checkpointing=True,
        encoder=True,
        decoder=True,
        quantized_base=False,
    )

    def apply(self, model: nn.Module) -> AppliedFull:
        """Let the admitted layers train; see `MethodConfig.apply`."""
        first_layer = self.first_layer(model)
        weights = named_weights(model, first_layer=first_layer, outside=self.layers == "all")
        model.requires_grad_(False)
        return AppliedFull(
            model, first_layer, weights, settings=self, no_merge="the backbone's own weights are the tuned ones"
        )
