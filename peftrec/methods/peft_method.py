"""Methods that Hugging Face `peft` implements, behind our protocol."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from peftrec.config import InputError
from peftrec.methods.method import AppliedMethod, BaseModel, check_tensors


class AppliedPeft(AppliedMethod):
    """A `peft` adapter injected into the backbone; its files are plain `peft`'s.

    Args:
        model: the backbone, changed in place.
        config: a fresh `peft` config (`peft` writes into the one that it is given).
        first_layer: see `AppliedMethod`.
        can_merge: whether `merge` may be called.
    """

    in_weights = False

    def __init__(self, model: nn.Module, config: Any, first_layer: int, *, can_merge: bool) -> None:
        from peft.tuners.tuners_utils import BaseTunerLayer

        super().__init__(model, first_layer)
        self.can_merge = can_merge
        self.merged = False
        before = {id(parameter) for parameter in model.parameters()}
        self.peft_model = inject(model, config)
        self._before = before
        self._parameters = self._own_parameters()
        self._dropouts = [module for name, module in model.named_modules() if name.endswith("dropout.default")]
        self._tuner_layers = [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
        if not self._parameters:
            raise InputError(f"{config.peft_type} added no trainable parameter to {type(model).__name__}")

    @property
    def config(self) -> Any:
        """The `peft` config in use."""
        return self.peft_model.peft_config["default"]

    def named_parameters(self) -> dict[str, nn.Parameter]:
        return dict(self._parameters)

    def set_training(self, mode: bool) -> None:
        for module in self._dropouts:
            module.train(mode)
        # DoRA, LoHa and LoKr ask the layer itself; what it wraps stays in eval mode.
        for module in self._tuner_layers:
            module.training = mode

    def state_dict(self) -> dict[str, torch.Tensor]:
        from peft import get_peft_model_state_dict

        if self.merged:
            return {}
        return {key: tensor.detach() for key, tensor in get_peft_model_state_dict(self.peft_model).items()}

    def load_state_dict(self, tensors: Mapping[str, torch.Tensor]) -> None:
        check_tensors(self.state_dict(), tensors, what="adapter")
        self._load(tensors)

    def adapter_config(self, base: BaseModel) -> dict[str, Any]:
        config = self.config.to_dict()
        config.update(base_model_name_or_path=base.name, revision=base.revision, inference_mode=True)
        return {key: _plain(value) for key, value in config.items()}

    def merge(self) -> None:
        if not self.can_merge:
            raise InputError(f"{_plain(self.config.peft_type)} cannot be merged into the backbone")
        if getattr(self.model, "quantization_method", None) is not None:
            raise InputError(
                "a quantised backbone rounds what is merged into it; merge into the full-precision backbone instead"
            )
        self.model = self.peft_model.merge_and_unload()
        self._parameters, self._dropouts, self._tuner_layers, self.merged = {}, [], [], True

    @contextlib.contextmanager
    def disabled(self) -> Iterator[None]:
        if self.merged:
            raise InputError("a merged adapter cannot be switched off")
        # peft switches gradients off with the adapter, and on again for all that it knows.
        with self.peft_model.disable_adapter():
            yield

    def _own_parameters(self) -> dict[str, nn.Parameter]:
        """Return what the adapter added to the backbone and trains."""
        named = self.model.named_parameters()
        return {name: p for name, p in named if p.requires_grad and id(p) not in self._before}

    def _load(self, tensors: Mapping[str, torch.Tensor]) -> None:
        from peft import set_peft_model_state_dict

        result = set_peft_model_state_dict(self.peft_model, dict(tensors))
        assert not result.unexpected_keys, result.unexpected_keys


def inject(model: nn.Module, config: Any) -> Any:
    """Return `peft`'s wrapper around the backbone, into which the adapter has been injected in place."""
    from peft import get_peft_model

    with warnings.catch_warnings():
        # peft asks transformers for an attribute that transformers has renamed; nothing for users to act on.
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
        # The start of EVA comes later, when there is data.
        warnings.filterwarnings(
            "ignore", message=".*eva initialization used with low_cpu_mem_usage", category=UserWarning
        )
        # Its tuning of norms is not on its own list of layers that it supports.
        warnings.filterwarnings("ignore", message="Unsupported layer type.*Norm.*", category=UserWarning)
        return get_peft_model(model, config)


def _plain(value: Any) -> Any:
    """Return what JSON can hold: sets sorted, enums by value, nested mappings likewise."""
    if isinstance(value, set | frozenset):
        return sorted(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    return getattr(value, "value", value)
