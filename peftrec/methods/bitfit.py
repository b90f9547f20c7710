"""BitFit: only the biases of the backbone move."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import ClassVar

from torch import nn

from peftrec.config import InputError
from peftrec.methods.method import Capabilities, MethodConfig
from peftrec.methods.own_method import AppliedOwn
from peftrec.methods.structure import layer_modules, named_weights


class AppliedBitFit(AppliedOwn):
    """The tuned biases of the backbone themselves."""

    in_weights = True

    @contextlib.contextmanager
    def disabled(self) -> Iterator[None]:
        raise InputError("BitFit overwrites the base model's biases; load the backbone anew to run it alone")
        yield


@dataclasses.dataclass(frozen=True, kw_only=True)
class BitFitConfig(MethodConfig):
    """Every bias of the admitted layers moves, those of normalisation too; with `layers: all` also outside the layers.

    Backbones without biases (Llama and most decoders) are refused.

    Parameters: the sum of the biases' lengths.

    Source:
        Ben Zaken et al. (2022), BitFit: Simple Parameter-efficient Fine-tuning for Transformer-based Masked
        Language-models.
    """

    kind: ClassVar[str] = "bitfit"
    default_learning_rate: ClassVar[float] = 1e-3
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

    def apply(self, model: nn.Module) -> AppliedBitFit:
        """Let the biases train; see `MethodConfig.apply`."""
        first_layer = self.first_layer(model)
        weights = named_weights(model, first_layer=first_layer, outside=self.layers == "all")
        biases = {name: weight for name, weight in weights.items() if name.endswith("bias")}
        if not biases:
            raise InputError(
                f"method.kind: bitfit cannot act on {type(model).__name__}, which has no biases; its layers hold "
                f"{layer_modules(model)}. Use layernorm or ia3, which are as small"
            )
        model.requires_grad_(False)
        return AppliedBitFit(
            model,
            first_layer,
            biases,
            settings=self,
            no_merge="the backbone's own biases are the tuned ones",
        )
