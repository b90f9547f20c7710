"""Proof, when a method is applied, that all of it acts on a backbone: a short pass forth and back."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from peftrec.config import InputError
from peftrec.methods.own_method import Part
from peftrec.methods.structure import text_config

_NUM_TOKENS = 4


def probe_states(model: nn.Module) -> tuple[torch.Tensor, ...]:
    """Return the hidden states of two short texts, one of them padded; the model is left in eval mode."""
    model.eval()
    device = next(model.parameters()).device
    ids = torch.arange(2, 2 + 2 * _NUM_TOKENS, device=device).reshape(2, _NUM_TOKENS) % text_config(model).vocab_size
    mask = torch.ones_like(ids)
    mask[1, -1] = 0
    states: tuple[torch.Tensor, ...] = model(
        input_ids=ids, attention_mask=mask, output_hidden_states=True
    ).hidden_states
    return states


@torch.enable_grad()
def check_acts(model: nn.Module, first_layer: int, parts: Sequence[Part], *, kind: str) -> None:
    """See that every part has a gradient, and that nothing that enters `first_layer` changes.

    Args:
        model: the backbone with the method in it.
        first_layer: the lowest layer that may change.
        parts: of the method.
        kind: of the method, for the message.
    Raises:
        InputError: naming the backbone.
    """
    on = probe_states(model)
    still = _without_gradient(model, on[-1], parts)
    if still:
        raise InputError(
            f"method.kind: {kind} cannot act on {type(model).__name__}: what is put at '{still[0]}' changes no output"
        )
    for part in parts:
        part.enabled = False
    off = probe_states(model)
    for part in parts:
        part.enabled = True
    if not all(map(torch.equal, on[: first_layer + 1], off[: first_layer + 1])):
        raise InputError(
            f"method.kind: {kind} cannot act on {type(model).__name__}: it changes what enters layer {first_layer}, "
            f"the lowest that it may change"
        )


def _without_gradient(model: nn.Module, output: torch.Tensor, parts: Sequence[Part]) -> list[str]:
    """Return the names of the parts that the output does not depend on."""
    names = {module: name for name, module in model.named_modules()}
    if not output.requires_grad:
        return [names[part] for part in parts]
    # The sum of normalised states is constant, so states are weighted at random.
    weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(0)).to(output)
    parameters = [parameter for part in parts for parameter in part.parameters()]
    found = torch.autograd.grad((output * weights).sum(), parameters, allow_unused=True)
    moved = {id(parameter) for parameter, gradient in zip(parameters, found, strict=True)
             if gradient is not None and bool(gradient.any())}  # fmt: skip
    return [names[part] for part in parts if not any(id(parameter) in moved for parameter in part.parameters())]
