"""Which engines a launch may ask for."""

from __future__ import annotations

from typing import Final

from peftrec.config import InputError

# What `accelerate launch` sets, and whoever makes an Accelerator with the engine's plugin.
_REFUSED: Final = {"ACCELERATE_USE_DEEPSPEED": "DeepSpeed", "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM"}


def require_torch_engine() -> None:
    """See that the launch asks for torch.distributed, before an Accelerator is made.

    DeepSpeed and Megatron-LM take model, optimiser and data loader into an engine of their own, which runs forward and
    backward passes. Here the language model is run chunk by chunk, its vectors are leaves of the loss, and gradients
    are added up once a step: there is no such model to hand over, and an engine without one fails at the first backward
    pass. Accelerate's FSDP shards a model that it is handed, and here it is handed none: weights would stay whole.

    Raises:
        InputError: if the launch asks for another engine.
    """
    from accelerate.utils import parse_flag_from_env

    if parse_flag_from_env("ACCELERATE_USE_FSDP"):
        raise InputError(
            "the launch switches Accelerate's FSDP on, which would deal nothing out here; launch with --config_file "
            "recipes/accelerate/fsdp2.yaml and set training.shard_backbone=true in the recipe: peftrec then deals the "
            "frozen weights out itself (FSDP2)"
        )
    for flag, name in _REFUSED.items():
        if parse_flag_from_env(flag):
            raise InputError(
                f"the launch asks for {name}, whose engine runs the passes of a whole model itself, and cannot run "
                f"steps that encode texts chunk by chunk; launch with --config_file recipes/accelerate/multi_gpu.yaml "
                f"(or multi_node.yaml), or without --use_deepspeed and --use_megatron_lm"
            )
