"""Learned keys and values that stand before those of the text, put into the attention of a backbone's layers.

Shapes: B texts, K key-value heads, T tokens, S keys, P prefix tokens, E width of a head.

Attention modules of transformers look up the function that they call by a name in their configuration. A module with
a prefix is given a configuration of its own whose name leads here; every other module, of this backbone or of another,
keeps what it had, and masks are made as before.
"""

from __future__ import annotations

import copy
import inspect
import math
import types
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from peftrec.config import InputError
from peftrec.methods.block import is_attention
from peftrec.methods.own_method import Part
from peftrec.methods.probe import probe_states
from peftrec.methods.structure import find_layers, text_config

_Attention = Callable[..., tuple[torch.Tensor, torch.Tensor | None]]

_NAME = "peftrec_prefix"
_SUPPORTED = ("sdpa", "eager")


class Prefix(Part):
    """Keys and values of one attention module that every token sees, whatever the mask.

    They stand where keys stand after normalisation and rotation, so they have no position.

    Args:
        config: of the attention module, unchanged; None where it does its own attention.
        num_tokens: P.
    """

    def __init__(self, config: Any, num_tokens: int) -> None:
        super().__init__()
        self.base_config = config
        self.num_tokens = num_tokens
        # Heads, width of a key and of a value, as seen in a forward pass; until then there is no prefix.
        self.sizes: tuple[int, int, int] | None = None
        self.keys: nn.Parameter | None = None
        self.values: nn.Parameter | None = None

    def fill(self, init_std: float, device: torch.device) -> None:
        """Draw the prefix at random once the sizes are known."""
        assert self.sizes is not None
        heads, key_width, value_width = self.sizes
        for name, width in (("keys", key_width), ("values", value_width)):
            drawn = init_std * torch.randn(heads, self.num_tokens, width)
            setattr(self, name, nn.Parameter(drawn.to(device)))

    def prepend(self, key_BKSE: torch.Tensor, value_BKSE: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the keys and values with the prefix before them."""
        assert self.keys is not None
        assert self.values is not None
        batch = key_BKSE.shape[0]  # not len, which fixes it where the graph is drawn
        pairs = ((self.keys, key_BKSE), (self.values, value_BKSE))
        key_BKSE, value_BKSE = (
            torch.cat([own.to(of_text.dtype).expand(batch, -1, -1, -1), of_text], dim=2) for own, of_text in pairs
        )
        return key_BKSE, value_BKSE

    @property
    def acts(self) -> bool:
        """Whether there is a prefix and it is switched on."""
        return self.enabled and self.keys is not None


def attend_with_prefix(
    module: nn.Module,
    query_BHTE: torch.Tensor,
    key_BKSE: torch.Tensor,
    value_BKSE: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **kwargs: Any,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Run the module's own attention function over the prefix and the text."""
    prefix = module.prefix
    assert isinstance(prefix, Prefix)
    implementation, attend = _own_attention(module, prefix)
    if prefix.sizes is None:
        prefix.sizes = (key_BKSE.shape[1], key_BKSE.shape[3], value_BKSE.shape[3])
    if not prefix.acts:
        return attend(module, query_BHTE, key_BKSE, value_BKSE, attention_mask, **kwargs)
    num_queries, num_keys = query_BHTE.shape[2], key_BKSE.shape[2]
    if attention_mask is None and implementation == "sdpa" and num_queries > 1:
        # Without a mask sdpa lets the first query see the first key only, which is no more that of the same token.
        is_causal = kwargs.get("is_causal")
        if getattr(module, "is_causal", True) if is_causal is None else is_causal:
            seen = torch.ones(num_queries, num_keys, dtype=torch.bool, device=query_BHTE.device)
            attention_mask = seen.tril()[None, None]
    if attention_mask is not None:
        attention_mask = _seen_by_all(attention_mask, prefix.num_tokens)
    if kwargs.get("position_bias") is not None:
        kwargs["position_bias"] = F.pad(kwargs["position_bias"], (prefix.num_tokens, 0))
    return attend(module, query_BHTE, *prefix.prepend(key_BKSE, value_BKSE), attention_mask, **kwargs)


def mpnet_attention_with_prefix(
    self: Any,
    hidden_states: torch.Tensor,
    attention_mask: torch.Tensor | None = None,
    position_bias: torch.Tensor | None = None,
    output_attentions: bool = False,
    **kwargs: Any,
) -> tuple[torch.Tensor, ...]:
    """Stand in for the forward of MPNet's attention, which looks no function up; prefixes have no position bias."""
    prefix: Prefix = self.prefix
    prefix.sizes = (self.num_attention_heads, self.attention_head_size, self.attention_head_size)
    if not prefix.acts:
        base = type(self).forward(self, hidden_states, attention_mask, position_bias, output_attentions, **kwargs)
        return tuple(base)
    by_head = (*hidden_states.shape[:-1], -1, self.attention_head_size)
    query, key, value = (project(hidden_states).view(by_head).transpose(1, 2) for project in (self.q, self.k, self.v))
    key, value = prefix.prepend(key, value)
    scores = query @ key.transpose(2, 3) / math.sqrt(self.attention_head_size)
    for bias in (position_bias, attention_mask):
        if bias is not None:
            scores = scores + _seen_by_all(bias, prefix.num_tokens)
    weights = self.dropout(scores.softmax(-1))
    output = self.o((weights @ value).transpose(1, 2).flatten(2))
    return (output, weights) if output_attentions else (output,)


# Attention classes that do their own attention, and what takes the place of their forward.
_OWN_FORWARDS: dict[str, Callable[..., Any]] = {"MPNetSelfAttention": mpnet_attention_with_prefix}


def insert_prefixes(model: nn.Module, first_layer: int, num_tokens: int, init_std: float) -> list[Prefix]:
    """Put a prefix into the attention of every layer from `first_layer` upwards.

    Raises:
        InputError: naming the model, if one of its layers does its attention in a way that cannot be reached.
    """
    from transformers.modeling_utils import AttentionInterface

    name = type(model).__name__
    implementation = text_config(model)._attn_implementation
    if implementation not in _SUPPORTED:
        raise InputError(
            f"method.kind: prefix cannot act on {name}: it was loaded with attn_implementation '{implementation}'; use "
            f"one of: {', '.join(_SUPPORTED)}"
        )
    AttentionInterface.register(_NAME, attend_with_prefix)
    layers = list(find_layers(model).layers)[first_layer:]
    candidates = [[module for module in layer.modules() if is_attention(module)] for layer in layers]
    inserted = [module for modules in candidates for module in modules if _insert(module, num_tokens)]
    with torch.no_grad():
        probe_states(model)
    chosen = [module for module in inserted if module.prefix.sizes is not None]  # type: ignore[union-attr]
    for layer, modules in enumerate(candidates):
        if sum(module in chosen for module in modules) != 1:
            for module in inserted:
                _remove(module)
            classes = ", ".join(type(module).__name__ for module in modules) or "no module named for attention"
            raise InputError(
                f"method.kind: prefix cannot act on {name}: the attention of layer {first_layer + layer} ({classes}) "
                f"cannot be given further keys and values; use kind: adapter or lora"
            )
    for module in inserted:
        if module not in chosen:
            _remove(module)
    device = next(model.parameters()).device
    prefixes = []
    for module in chosen:
        prefix = module.prefix
        assert isinstance(prefix, Prefix)
        prefix.fill(init_std, next(module.parameters(), torch.empty(0, device=device)).device)
        prefixes.append(prefix)
    return prefixes


def _insert(module: nn.Module, num_tokens: int) -> bool:
    """Make a module ready for a prefix; returns whether that is possible."""
    config = getattr(module, "config", None)
    forward = _OWN_FORWARDS.get(type(module).__name__)
    if forward is None and not hasattr(config, "_attn_implementation"):
        return False
    assert not hasattr(module, "prefix"), "a prefix is put into a backbone once"
    module.add_module("prefix", Prefix(None if forward else config, num_tokens))
    if forward is not None:
        module.forward = types.MethodType(forward, module)
    else:
        changed: Any = copy.copy(config)
        # The public attribute would be set on nested configurations too, which other modules share.
        changed._attn_implementation_internal = _NAME
        module.config = changed
    return True


def _remove(module: nn.Module) -> None:
    prefix: Any = module.prefix
    if prefix.base_config is None:
        del module.forward
    else:
        module.config = prefix.base_config
    del module.prefix


def _own_attention(module: nn.Module, prefix: Prefix) -> tuple[str, _Attention]:
    """Return name and function of the attention that the module would run; the name may have changed since."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    implementation = prefix.base_config._attn_implementation
    names = inspect.unwrap(type(module).forward).__globals__
    eager = names.get("eager_attention_forward")
    if implementation not in _SUPPORTED or (implementation == "eager" and eager is None):
        raise InputError(
            f"method.kind: prefix cannot act on {type(module).__name__} with attn_implementation '{implementation}'"
        )
    interface = names.get("ALL_ATTENTION_FUNCTIONS", ALL_ATTENTION_FUNCTIONS)
    return implementation, interface.get_interface(implementation, eager)


def _seen_by_all(mask: torch.Tensor, num_tokens: int) -> torch.Tensor:
    """Put columns that hide and add nothing before those of a mask, True or 0."""
    return F.pad(mask, (num_tokens, 0), value=mask.dtype == torch.bool)
