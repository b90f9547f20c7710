"""Methods that `peft` lacks: their tensors are the parameters that they train, under the names of the backbone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from peftrec.config import InputError, section_to_dict
from peftrec.methods.method import AppliedMethod, BaseModel, MethodConfig, check_tensors
from peftrec.methods.plain_peft import peft_type


class Part(nn.Module):
    """A module that a method adds to a backbone; while `enabled` is False it must change nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.enabled = True


class AppliedOwn(AppliedMethod):
    """A method whose files hold what it trains, and whose added modules can be switched off.

    Args:
        model: the backbone with the method in it.
        first_layer: see `AppliedMethod`.
        parameters: what is trained, by its name in the backbone; gradients are switched on here.
        settings: of the recipe, written whole into `adapter_config.json`.
        parts: added modules. A method that changes the backbone's own parameters has none, and gives its own
            `disabled`.
        no_merge: why the method cannot be merged, for the message; a method that can gives its own `merge`.
    """

    in_weights = False

    def __init__(
        self,
        model: nn.Module,
        first_layer: int,
        parameters: Mapping[str, nn.Parameter],
        *,
        settings: MethodConfig,
        parts: Sequence[Part] = (),
        no_merge: str = "it changes what no weight of the backbone can express",
    ) -> None:
        super().__init__(model, first_layer)
        assert parameters, "a method without parameters trains nothing"
        self.settings = settings
        self.parts = tuple(parts)
        self.no_merge = no_merge
        self._parameters = dict(parameters)
        for parameter in self._parameters.values():
            parameter.requires_grad_(True)
        self.set_training(False)

    def named_parameters(self) -> dict[str, nn.Parameter]:
        return dict(self._parameters)

    def set_training(self, mode: bool) -> None:
        for part in self.parts:
            part.train(mode)

    def state_dict(self) -> dict[str, torch.Tensor]:
        return {name: parameter.detach() for name, parameter in self._parameters.items()}

    @torch.no_grad()
    def load_state_dict(self, tensors: Mapping[str, torch.Tensor]) -> None:
        check_tensors(self.state_dict(), tensors, what="adapter")
        for name, parameter in self._parameters.items():
            parameter.copy_(tensors[name])

    def adapter_config(self, base: BaseModel) -> dict[str, Any]:
        return {
            "peft_type": peft_type(self.settings.kind),
            "task_type": "FEATURE_EXTRACTION",
            "base_model_name_or_path": base.name,
            "revision": base.revision,
            "inference_mode": True,
            "note": "Written by peftrec: for peftrec.Recommender, or peft after peftrec.register_with_peft().",
            **section_to_dict(self.settings),
        }

    def merge(self) -> None:
        raise InputError(f"'{self.settings.kind}' cannot be merged into the backbone: {self.no_merge}")

    @contextlib.contextmanager
    def disabled(self) -> Iterator[None]:
        before = [part.enabled for part in self.parts]
        for part in self.parts:
            part.enabled = False
        try:
            yield
        finally:
            for part, enabled in zip(self.parts, before, strict=True):
                part.enabled = enabled


def parameters_of(model: nn.Module, parts: Sequence[Part]) -> dict[str, nn.Parameter]:
    """Return the parameters of the parts by their names in the backbone."""
    own = {id(parameter) for part in parts for parameter in part.parameters()}
    return {name: parameter for name, parameter in model.named_parameters() if id(parameter) in own}
