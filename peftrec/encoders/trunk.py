"""The frozen trunk: states that enter the lowest trained layer are computed once and fed in later.

During a forward pass the layer list of the backbone is swapped for one that begins with a module returning the stored
states, followed by modules that pass states through; the model's own forward keeps charge of masks and positions.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from peftrec.methods import find_layers

# Kinds of layers whose forward returns a tuple (MPNet): found when one runs.
_RETURN_TUPLES: dict[type[nn.Module], bool] = {}


class _PassThrough(nn.Module):
    """Stands in for a layer and returns the states that it is given, or stored ones, as that layer would."""

    def __init__(self, layer: nn.Module, states: torch.Tensor | None = None) -> None:
        super().__init__()
        self.states = states
        self.kind = type(layer)
        for attribute in ("attention_type", "layer_type"):
            if hasattr(layer, attribute):
                setattr(self, attribute, getattr(layer, attribute))

    def forward(self, hidden_states: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor | tuple[torch.Tensor]:
        return self.returned(hidden_states if self.states is None else self.states)

    def returned(self, states: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor]:
        """Return states in the form that the layer in question does."""
        return (states,) if _RETURN_TUPLES[self.kind] else states


class _Recorder(_PassThrough):
    def forward(self, hidden_states: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor | tuple[torch.Tensor]:
        self.states = hidden_states
        return self.returned(hidden_states)


@contextlib.contextmanager
def _swapped(model: nn.Module, replacements: dict[int, nn.Module]) -> Iterator[None]:
    found = find_layers(model)
    mixed = nn.ModuleList([replacements.get(index, layer) for index, layer in enumerate(found.layers)])
    setattr(found.parent, found.attribute, mixed)
    try:
        yield
    finally:
        setattr(found.parent, found.attribute, found.layers)


@contextlib.contextmanager
def stored_states(model: nn.Module, first_layer: int, states_CPH: torch.Tensor) -> Iterator[None]:
    """Inside this context the model runs from layer `first_layer` on, whose input is `states_CPH`.

    Args:
        model: the backbone.
        first_layer: at least 1.
        states_CPH: states that enter that layer; padding may hold anything finite.
    """
    layers = find_layers(model).layers
    if type(layers[0]) not in _RETURN_TUPLES:
        _run_once(model, layers[0])
    replacements: dict[int, nn.Module] = {index: _PassThrough(layers[index]) for index in range(1, first_layer)}
    replacements[0] = _PassThrough(layers[0], states_CPH)
    with _swapped(model, replacements):
        yield


def entering_states(model: nn.Module, first_layer: int, **inputs: torch.Tensor) -> torch.Tensor:
    """Run the layers below `first_layer` and return the states that enter it, shape (C, P, H)."""
    layers = find_layers(model).layers
    replacements: dict[int, nn.Module] = {
        index: _PassThrough(layers[index]) for index in range(first_layer + 1, len(layers))
    }
    recorder = _Recorder(layers[first_layer])
    replacements[first_layer] = recorder
    handle = layers[0].register_forward_hook(_note_form)
    try:
        with _swapped(model, replacements), torch.no_grad():
            model(**inputs)
    finally:
        handle.remove()
    assert recorder.states is not None, "the backbone's forward passed its layer list by"
    return recorder.states


def _run_once(model: nn.Module, layer: nn.Module) -> None:
    """Run the model on one token to see what its layers return: with states from a file none may have run yet."""
    device = next(model.parameters()).device
    token = torch.zeros(1, 1, dtype=torch.long, device=device)
    handle = layer.register_forward_hook(_note_form)
    try:
        # Dropout of the method must not take numbers from the stream of training.
        with torch.no_grad(), torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            model(input_ids=token, attention_mask=torch.ones_like(token))
    finally:
        handle.remove()


def _note_form(layer: nn.Module, _: Any, output: Any) -> None:
    _RETURN_TUPLES[type(layer)] = isinstance(output, tuple)
