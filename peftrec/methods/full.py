"""Full fine-tuning of the backbone, or of its top layers."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import torch
from torch import nn

from peftrec.config import InputError
from peftrec.methods.method import AppliedMethod, BaseModel, Capabilities, MethodConfig, check_tensors
from peftrec.methods.structure import find_layers


class AppliedFull(AppliedMethod):
    """The tuned weights of the backbone themselves; the file holds them whole."""

    def __init__(self, model: nn.Module, first_layer: int, names: list[str]) -> None:
        super().__init__(model, first_layer)
        parameters = dict(model.named_parameters())
        self._parameters = {name: parameters[name] for name in names}

    def named_parameters(self) -> dict[str, nn.Parameter]:
        return dict(self._parameters)

    def state_dict(self) -> dict[str, torch.Tensor]:
        return {name: parameter.detach() for name, parameter in self._parameters.items()}

    @torch.no_grad()
    def load_state_dict(self, tensors: Mapping[str, torch.Tensor]) -> None:
        check_tensors(self.state_dict(), tensors, what="set of tuned weights")
        for name, parameter in self._parameters.items():
            parameter.copy_(tensors[name])

    def adapter_config(self, base: BaseModel) -> dict[str, Any]:
        return {
            "peft_type": "PEFTREC_FULL",
            "base_model_name_or_path": base.name,
            "revision": base.revision,
            "note": "Whole weights of tuned layers, written by peftrec; load the folder with peftrec.Recommender.",
        }

    def merge(self) -> None:
        raise InputError("full fine-tuning has nothing to merge: the backbone's own weights are the tuned ones")

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
        prefix = find_layers(model).name
        admitted = tuple(f"{prefix}.{i}." for i in range(first_layer, len(find_layers(model).layers)))
        names = [name for name, _ in model.named_parameters() if first_layer == 0 or name.startswith(admitted)]
        if self.layers != "all":
            names = [name for name in names if name.startswith(admitted)]
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in set(names))
        return AppliedFull(model, first_layer, names)
