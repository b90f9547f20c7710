"""Which implementation of attention a backbone runs, and whether this machine has it."""

from __future__ import annotations

import logging
from typing import Any, Literal

import torch

from peftrec.config import InputError

logger = logging.getLogger(__name__)

Attention = Literal["auto", "sdpa", "eager", "flash_attention_2"]


def check_attention(attention: Attention) -> None:
    """See that this machine can run an implementation, before anything is loaded.

    Raises:
        InputError: naming what flash attention lacks here.
    """
    lacking = _lacking(attention)
    if lacking:
        raise InputError(
            f"encoder.attention is {attention}, but {lacking}; use encoder.attention=auto, which gives the same "
            f"vectors up to rounding"
        )


def check_attention_of(name: str, config: Any, attention: Attention) -> None:
    """See that the class of a backbone has an implementation.

    Args:
        name: of the backbone, for the message.
        config: its configuration, from which its class follows.
        attention: not `auto`.
    Raises:
        InputError: if it lacks it.
    """
    from transformers import AutoModel

    with torch.device("meta"):
        try:
            AutoModel.from_config(config, attn_implementation=attention, dtype=torch.bfloat16)
        except (ValueError, ImportError) as error:
            reason = str(error).partition(". ")[0].partition("\n")[0]
            raise InputError(
                f"encoder.attention is {attention}, but '{name}' does not run it ({reason}); use auto"
            ) from None


def attention_here(attention: Attention) -> Attention:
    """Return an implementation for a trained run on this machine.

    The implementation is no part of what was learned: where flash attention cannot run, `auto` takes its place, with a
    line in the log.
    """
    lacking = _lacking(attention)
    if not lacking:
        return attention
    logger.warning("encoder.attention is %s, but %s; auto takes its place", attention, lacking)
    return "auto"


def _lacking(attention: Attention) -> str:
    """Return what this machine lacks for an implementation, or an empty text."""
    if attention != "flash_attention_2":
        return ""
    if not torch.cuda.is_available():
        return "there is no CUDA device"
    from transformers.utils import is_flash_attn_2_available

    return "" if is_flash_attn_2_available() else "the package flash-attn (2.3.3 or newer) is not installed"
