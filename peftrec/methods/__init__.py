"""PEFT methods: one file each, one protocol, one registry line."""

from peftrec.config import Registry
from peftrec.methods.count import ParameterCount, count_parameters
from peftrec.methods.method import (
    AppliedMethod,
    BaseModel,
    Capabilities,
    MethodConfig,
    check_tensors,
    read_adapter_tensors,
)
from peftrec.methods.structure import Layers, find_layers, linear_names

METHODS = Registry(
    "method",
    {
        "lora": "peftrec.methods.lora:LoraConfig",
        "full": "peftrec.methods.full:FullConfig",
        "frozen": "peftrec.methods.frozen:FrozenConfig",
    },
)

__all__ = [
    "METHODS",
    "AppliedMethod",
    "BaseModel",
    "Capabilities",
    "Layers",
    "MethodConfig",
    "ParameterCount",
    "check_tensors",
    "count_parameters",
    "find_layers",
    "linear_names",
    "read_adapter_tensors",
]
