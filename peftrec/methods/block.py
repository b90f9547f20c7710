"""The two blocks of a transformer layer, attention and feed-forward, found from the layer's modules."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from torch import nn

from peftrec.config import InputError
from peftrec.methods.structure import find_layers, layer_modules, text_config


@dataclasses.dataclass(frozen=True)
class Blocks:
    """Where the blocks of one layer begin and end; full names of linear modules.

    Args:
        attention_inputs: those before it in the attention block, in the order of definition: queries, keys and values.
        attention_output: projection that ends the attention block.
        feed_forward_input: a linear module that is given what enters the feed-forward block.
        feed_forward_output: projection that ends the feed-forward block.
    """

    attention_inputs: tuple[str, ...]
    attention_output: str
    feed_forward_input: str
    feed_forward_output: str


def find_blocks(model: nn.Module, *, first_layer: int = 0) -> list[Blocks]:
    """Return the blocks of every layer from `first_layer` upwards.

    The attention block is the child of the layer in which a class is named for attention; its last linear module in the
    order of definition ends it, or the only one that returns states (Phi-3 defines it first). Of the linear modules
    beside it, the first that takes states is given what enters the feed-forward block, and the last that returns states
    ends it.

    Raises:
        InputError: if a block is missing or there is a choice; the message lists what a layer holds.
    """
    found = find_layers(model)
    return [
        _blocks_of(model, layer, f"{found.name}.{index}.")
        for index, layer in enumerate(found.layers)
        if index >= first_layer
    ]


def is_attention(module: nn.Module) -> bool:
    """Whether the class of the module is named for attention."""
    return "attention" in type(module).__name__.lower()


def _blocks_of(model: nn.Module, layer: nn.Module, prefix: str) -> Blocks:
    width = text_config(model).hidden_size
    attentions = [name for name, child in layer.named_children() if any(map(is_attention, child.modules()))]
    if len(attentions) != 1:
        raise _unclear(model, f"{len(attentions)} of the children of layer '{prefix[:-1]}' hold attention")
    inside = f"{attentions[0]}."
    linears = {name: module for name, module in layer.named_modules() if isinstance(module, nn.Linear)}
    attention = [name for name in linears if name.startswith(inside)]
    output = _output_of(attention, linears, width)
    if output is None:
        raise _unclear(model, f"'{prefix}{attentions[0]}' does not end with a linear module of width {width}")
    rest = {name: linear for name, linear in linears.items() if not name.startswith(inside)}
    entering = [name for name, linear in rest.items() if linear.in_features == width]
    ending = [name for name, linear in rest.items() if linear.out_features == width]
    # Experts come as numbered modules or as stacked weights, and no single projection ends their block.
    numbered = any(part.isdigit() for name in ending for part in name.split("."))
    beside = (parameter for name, parameter in layer.named_parameters() if not name.startswith(inside))
    if numbered or any(parameter.ndim > 2 for parameter in beside):
        raise _unclear(model, f"the feed-forward block of '{prefix[:-1]}' has several experts")
    if not entering or not ending:
        raise _unclear(model, f"no feed-forward block of width {width} lies beside '{prefix}{attentions[0]}'")
    return Blocks(
        attention_inputs=tuple(prefix + name for name in attention if name != output),
        attention_output=prefix + output,
        feed_forward_input=prefix + entering[0],
        feed_forward_output=prefix + ending[-1],
    )


def _output_of(names: list[str], linears: Mapping[str, nn.Linear], width: int) -> str | None:
    """Return the last of an attention block's modules if it returns states, else the only one that does."""
    returning = [name for name in names if linears[name].out_features == width]
    if not returning or (len(returning) > 1 and returning[-1] != names[-1]):
        return None
    return returning[-1]


def _unclear(model: nn.Module, reason: str) -> InputError:
    return InputError(
        f"the blocks of {type(model).__name__} are not clear: {reason}; name the linear modules in method.targets, out "
        f"of {layer_modules(model)}"
    )
