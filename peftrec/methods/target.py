"""Which linear modules of a backbone a method changes, and whether a rank fits them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeVar

from torch import nn

from peftrec.config import InputError
from peftrec.methods.structure import layer_modules, linear_names, select_targets

T = TypeVar("T")
Targets = Literal["all_linear"] | tuple[str, ...]


def find_targets(model: nn.Module, targets: Targets, first_layer: int) -> list[str]:
    """Return the full names of the linear modules to change.

    Args:
        model: the backbone.
        targets: `all_linear`, or endings of module names.
        first_layer: the lowest layer that may be changed.
    Raises:
        InputError: if none matches; the message lists what there is.
    """
    names = linear_names(model, first_layer=first_layer)
    if targets != "all_linear":
        names = select_targets(names, targets)
    if not names:
        raise InputError(
            f"method.targets: {targets} matches no linear module of {type(model).__name__}; "
            f"its layers hold {layer_modules(model)}"
        )
    return names


def linear_size(model: nn.Module, name: str) -> tuple[int, int]:
    """Return (in, out) of a linear module; the shape of a quantised weight does not tell."""
    linear = model.get_submodule(name)
    assert isinstance(linear, nn.Linear)
    return linear.in_features, linear.out_features


def check_ranks(model: nn.Module, ranks: Mapping[str, int], key: str = "method.rank") -> None:
    """See that no rank is larger than its matrix.

    Args:
        model: the backbone.
        ranks: full module name to rank.
        key: of the recipe, for the message.
    Raises:
        InputError: naming the module and the largest rank that it allows.
    """
    for name, rank in ranks.items():
        size = linear_size(model, name)
        if rank > min(size):
            raise InputError(
                f"{key} is {rank}, larger than '{name}' ({size[1]} x {size[0]}) allows; use at most {min(size)}"
            )


def matches(names: list[str], pattern: Mapping[str, T], *, key: str) -> dict[str, T]:
    """Return the values of those names that end with an entry of `pattern`.

    Raises:
        InputError: for an entry that no name ends with, and for two that the same name ends with.
    """
    found: dict[str, tuple[str, T]] = {}
    for ending, value in pattern.items():
        for name in select_targets(names, (ending,), key=key):
            if name in found:
                raise InputError(f"{key}: '{ending}' and '{found[name][0]}' both match '{name}'; let one of them do so")
            found[name] = (ending, value)
    return {name: value for name, (_, value) in found.items()}
