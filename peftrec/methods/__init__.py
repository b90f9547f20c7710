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
        "adalora": "peftrec.methods.adalora:AdaLoraConfig",
        "adapter": "peftrec.methods.adapter:AdapterConfig",
        "prefix": "peftrec.methods.prefix:PrefixConfig",
        "side": "peftrec.methods.side:SideConfig",
        "bitfit": "peftrec.methods.bitfit:BitFitConfig",
        "layernorm": "peftrec.methods.layernorm:LayerNormConfig",
        "ia3": "peftrec.methods.ia3:IA3Config",
        "full": "peftrec.methods.full:FullConfig",
        "frozen": "peftrec.methods.frozen:FrozenConfig",
        "prompt": "peftrec.methods.prompt:PromptConfig",
        "p_tuning": "peftrec.methods.prompt:PTuningConfig",
        "vera": "peftrec.methods.vera:VeraConfig",
        "oft": "peftrec.methods.oft:OftConfig",
        "peft": "peftrec.methods.any_peft:PeftConfig",
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
