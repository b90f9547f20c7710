"""Lets plain `peft` load folders of methods that it lacks; all that this rests on inside `peft` stands here.

After `register_with_peft()`, `peft.PeftModel.from_pretrained(backbone, folder)` reads adapters, prefixes, biases and
whole weights that peftrec has written. It rests on: `PeftType` being an enumeration of texts that can be extended
through its private maps; `PEFT_TYPE_TO_CONFIG_MAPPING`, `_TUNER_MAPPING`, `_PREFIX_MAPPING` being dictionaries by its
members; a tuner being made as `cls(model, {name: config}, name)`; and `_remap_adapter_state_dict_for_load` being asked
for the names of tensors in the model.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from peftrec.config import InputError
from peftrec.methods.method import check_tensors

# Kinds that live inside the backbone's forward; a side network reads pooled states, of which peft knows nothing.
KINDS = ("adapter", "prefix", "bitfit", "full")


PREFIX = "PEFTREC_"


def peft_type(kind: str) -> str:
    """Return the name under which a kind stands in `adapter_config.json`.

    Where peftrec is not imported, this name is all that `peft` says about it, in a KeyError.
    """
    taught = ", or call peftrec.register_with_peft() first" if kind in KINDS else ""
    return f"{_short_name(kind)} (of the package peftrec: load it with peftrec.Recommender{taught})"


def _short_name(kind: str) -> str:
    """Return the name alone, which was all that stood in earlier folders."""
    return f"{PREFIX}{kind.upper()}"


def register_with_peft() -> None:
    """Make the methods of peftrec known to `peft` in this process; again is harmless.

    Raises:
        InputError: if the installed `peft` has changed in what this rests on.
    """
    from peft import PeftConfig
    from peft.mapping import (
        PEFT_TYPE_TO_CONFIG_MAPPING,
        PEFT_TYPE_TO_PREFIX_MAPPING,
        PEFT_TYPE_TO_TUNER_MAPPING,
    )

    for kind in KINDS:
        for name in (peft_type(kind), _short_name(kind)):
            member = _member(name)
            if member not in PEFT_TYPE_TO_CONFIG_MAPPING:
                PEFT_TYPE_TO_CONFIG_MAPPING[member] = _config_class(PeftConfig, kind, member)
                PEFT_TYPE_TO_TUNER_MAPPING[member] = Tuner
                PEFT_TYPE_TO_PREFIX_MAPPING[member] = f"peftrec_{kind}_"


class Tuner(nn.Module):
    """What `peft` wraps around a backbone with a method of ours in it, to run it; training is peftrec's."""

    def __init__(self, model: nn.Module, peft_config: Mapping[str, Any], adapter_name: str, **_: Any) -> None:
        super().__init__()
        model.requires_grad_(False)
        self.peft_config = dict(peft_config)
        self.active_adapters = [adapter_name]
        self.applied = peft_config[adapter_name].method().apply(model)
        self.model = self.applied.model

    @property
    def config(self) -> Any:
        """The backbone's configuration."""
        return self.model.config

    def forward(self, *arguments: Any, **named: Any) -> Any:
        return self.model(*arguments, **named)

    def set_adapter(self, adapter_name: str | list[str], inference_mode: bool = False) -> None:
        """There is one adapter; `peft` calls this when it has loaded it."""
        del adapter_name
        for parameter in self.applied.named_parameters().values():
            parameter.requires_grad_(not inference_mode)

    @classmethod
    def _remap_adapter_state_dict_for_load(
        cls, model: nn.Module, config: Any, adapter_name: str, state_dict: Mapping[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        del config, adapter_name
        tuner = model.base_model
        assert isinstance(tuner, Tuner)
        # peft passes tensors that do not fit by in silence.
        check_tensors(tuner.applied.state_dict(), state_dict, what="adapter")
        return {f"base_model.model.{name}": tensor for name, tensor in state_dict.items()}


def _member(name: str) -> Any:
    from peft.utils import PeftType

    if name in PeftType.__members__:
        return PeftType[name]
    try:
        member = str.__new__(PeftType, name)
        member._name_, member._value_ = name, name
        PeftType._member_map_[name] = member
        PeftType._value2member_map_[name] = member
        PeftType._member_names_.append(name)
    except (AttributeError, TypeError) as error:
        raise InputError(
            f"the installed peft cannot be taught methods of its neighbours any more ({error}); load the folder with "
            f"peftrec.Recommender"
        ) from error
    return member


def _config_class(base: type[Any], kind: str, member: Any) -> type[Any]:
    """Return a config class of `peft` whose fields are the settings of a kind."""
    from peftrec.methods import METHODS

    method = METHODS.load(kind)
    names = [field.name for field in dataclasses.fields(method)]

    def make(self: Any) -> Any:
        # JSON has no tuples.
        values = {name: getattr(self, name) for name in names}
        return method(**{name: tuple(v) if isinstance(v, list) else v for name, v in values.items()})

    fields: list[Any] = [
        (field.name, Any, dataclasses.field(default=field.default)) for field in dataclasses.fields(method)
    ]
    fields += [("kind", str, dataclasses.field(default=kind)), ("note", str, dataclasses.field(default=""))]
    made = dataclasses.make_dataclass(f"Peftrec{kind.title()}Config", fields, bases=(base,))
    made.method = make  # type: ignore[attr-defined]
    made.__post_init__ = lambda self: setattr(self, "peft_type", member)  # type: ignore[attr-defined]
    return made
