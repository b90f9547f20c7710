"""The structure of any Hugging Face backbone, found from its modules and not from names."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from typing import Any

from torch import nn

from peftrec.config import InputError


@dataclasses.dataclass(frozen=True)
class Layers:
    """The list of transformer layers of a backbone: its dotted name, the module that holds it, and the list."""

    name: str
    parent: nn.Module
    attribute: str
    layers: nn.ModuleList


def text_config(model: nn.Module) -> Any:
    """Return the configuration that describes the text layers (composite models nest it)."""
    config: Any = model.config
    return config.get_text_config() if hasattr(config, "get_text_config") else config


def position_limit(model: nn.Module) -> int | None:
    """Return how many tokens the backbone's positions reach for, or None where nothing limits them.

    RoBERTa kinds count from behind the padding index, so that as many positions are lost.
    """
    limit = getattr(text_config(model), "max_position_embeddings", None)
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding) and module.padding_idx is not None:
            return module.num_embeddings - module.padding_idx - 1
    return limit


def named_weights(model: nn.Module, *, first_layer: int, outside: bool) -> dict[str, nn.Parameter]:
    """Return the parameters of the layers from `first_layer` upwards, by name; never those of a pooler.

    Args:
        model: the backbone.
        first_layer: the lowest layer.
        outside: also those outside the layers, such as embeddings.
    """
    layers = find_layers(model)
    inside = tuple(f"{layers.name}.{index}." for index in range(first_layer, len(layers.layers)))
    return {
        name: weight
        for name, weight in model.named_parameters()
        if name.startswith(inside)
        or (outside and not name.startswith(f"{layers.name}.") and "pooler" not in name.split("."))
    }


def find_layers(model: nn.Module) -> Layers:
    """Return the module list that has as many entries as the configuration has hidden layers.

    Raises:
        InputError: if there is none; the message lists the module lists that there are.
    """
    config = text_config(model)
    wanted = getattr(config, "num_hidden_layers", None) or getattr(config, "n_layers", None)
    found: dict[str, int] = {}
    for name, module in model.named_modules():
        for attribute, child in module.named_children():
            if not isinstance(child, nn.ModuleList):
                continue
            full_name = f"{name}.{attribute}" if name else attribute
            if len(child) == wanted and any(True for _ in child[0].parameters()):
                return Layers(full_name, module, attribute, child)
            found[full_name] = len(child)
    raise InputError(
        f"{type(model).__name__}: no list of {wanted} transformer layers was found; lists there are: {found or 'none'}"
    )


def linear_names(model: nn.Module, *, first_layer: int = 0) -> list[str]:
    """Return the full names of all linear modules in the layers from `first_layer` upwards: no pooler, no head."""
    layers = find_layers(model)
    return [
        f"{layers.name}.{index}.{name}"
        for index, layer in enumerate(layers.layers)
        if index >= first_layer
        for name, module in layer.named_modules()
        if isinstance(module, nn.Linear)
    ]


def norm_names(model: nn.Module, *, first_layer: int = 0, outside: bool = False) -> list[str]:
    """Return the full names of the normalisation modules in the layers from `first_layer` upwards.

    Args:
        model: the backbone.
        first_layer: the lowest layer.
        outside: also those outside the layers, such as that of the embeddings.
    """
    layers = find_layers(model)
    inside = tuple(f"{layers.name}.{index}." for index in range(first_layer, len(layers.layers)))
    return [
        name
        for name, module in model.named_modules()
        if type(module).__name__.endswith("Norm") and any(True for _ in module.parameters(recurse=False))
        if name.startswith(inside) or (outside and not name.startswith(f"{layers.name}."))
    ]


# What methods call the modules and tensors that they add inside those that they change.
_ADDED = re.compile(r"\.(lora_|vera_|oft_|ia3_|hada_|lokr_|boft_|hra_|c3a_|miss_|ln_tuning_|adapter|weight$|bias$).*")


def changed_modules(model: nn.Module, names: Iterable[str]) -> list[str]:
    """Return the modules that parameters belong to, by their name in a layer, each with the layers.

    Args:
        model: the backbone with a method in it.
        names: of the parameters.
    """
    inside = re.compile(rf"{re.escape(find_layers(model).name)}\.(\d+)\.(.*)")
    layers: dict[str, list[int]] = {}
    for name in names:
        match = inside.search(name)
        module = _ADDED.sub("", match[2] if match else name)
        layers.setdefault(module, []).extend([int(match[1])] if match else [])
    return [f"{module} (layers {min(of)}-{max(of)})" if of else module for module, of in layers.items()]


def layer_modules(model: nn.Module) -> str:
    """Return names and types of the leaf modules of one layer, for messages."""
    layer = find_layers(model).layers[0]
    leaves = [(name, module) for name, module in layer.named_modules() if name and not list(module.children())]
    return ", ".join(f"{name} ({type(module).__name__})" for name, module in leaves)


def select_targets(names: list[str], patterns: tuple[str, ...], *, key: str = "method.targets") -> list[str]:
    """Return the names that end with one of the patterns, at a dot.

    Raises:
        InputError: for a pattern that matches nothing; the message lists the endings there are.
    """
    chosen: set[str] = set()
    for pattern in patterns:
        matched = {name for name in names if name == pattern or name.endswith(f".{pattern}")}
        if not matched:
            endings = sorted({re.split(r"\.\d+\.", name, maxsplit=1)[-1] for name in names})
            raise InputError(f"{key}: '{pattern}' matches no linear module; there are: {', '.join(endings)}")
        chosen |= matched
    return [name for name in names if name in chosen]


def name_pattern(names: list[str]) -> str:
    """Return one regular expression that matches exactly these names, grouped by layer ending to stay short."""
    by_ending: dict[tuple[str, str], list[str]] = {}
    parts = []
    for name in names:
        match = re.fullmatch(r"(.*?\.)(\d+)(\..*)", name)
        if match is None:
            parts.append(re.escape(name))
        else:
            by_ending.setdefault((match[1], match[3]), []).append(match[2])
    by_layers: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (prefix, ending), numbers in by_ending.items():
        by_layers.setdefault((prefix, tuple(numbers)), []).append(ending[1:])
    parts += [
        f"{re.escape(prefix)}({'|'.join(numbers)})\\.({'|'.join(re.escape(ending) for ending in endings)})"
        for (prefix, numbers), endings in by_layers.items()
    ]
    return parts[0] if len(parts) == 1 else f"({'|'.join(parts)})"
