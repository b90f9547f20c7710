"""What a step must compute and move at least, and the seconds that this takes at the machine's measured rates.

In the formulas T is the tokens of a step's texts, each distinct item once and without padding, A the sum of their
squared lengths, H the width of a state, m_l the weights of the linear modules of layer l, n the tuned layers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from torch import nn

from peftrec.methods import MethodConfig
from peftrec.methods.block import find_blocks
from peftrec.methods.lora import LoraConfig
from peftrec.methods.side import SideConfig
from peftrec.methods.structure import find_layers, linear_names, text_config
from peftrec.methods.target import find_targets, linear_size

_FLOAT = 4  # bytes


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerSizes:
    """Linear modules of one layer.

    Args:
        weights: m_l, the sum of in * out.
        entering: the part of it that lies in queries, keys and values, which read what enters the layer.
        low_rank: the sum of rank * (in + out) over LoRA's targets.
        low_rank_entering: the sum of rank * in over those of them that read what enters the layer.
    """

    weights: int
    entering: int
    low_rank: int = 0
    low_rank_entering: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Work:
    """What one step needs of the language model.

    Args:
        forward_flops: of matrix products.
        backward_flops: likewise.
        num_bytes: that must be read from memory or written to it.
    """

    forward_flops: float
    backward_flops: float
    num_bytes: float

    @property
    def flops(self) -> float:
        """Forward and backward."""
        return self.forward_flops + self.backward_flops

    def seconds(self, flops_per_second: float, bytes_per_second: float, *, other_flops: float = 0.0) -> float:
        """Return the lower bound of a step: what computing or moving takes, whichever is longer.

        Args:
            flops_per_second: peak of a matrix product.
            bytes_per_second: read and written.
            other_flops: of the step outside of the language model.
        """
        return max((self.flops + other_flops) / flops_per_second, self.num_bytes / bytes_per_second)


def layer_sizes(model: nn.Module, method: MethodConfig) -> list[LayerSizes]:
    """Return the sizes of all layers of a backbone, bottom up.

    Args:
        model: as published, before a method was put into it.
        method: whose LoRA counts, if it is that.
    """
    targets, rank = set[str](), 0
    if isinstance(method, LoraConfig):
        targets, rank = set(find_targets(model, method.targets, method.first_layer(model))), method.rank
    found = []
    for index, blocks in enumerate(find_blocks(model)):
        start = f"{find_layers(model).name}.{index}."
        sizes = {name: linear_size(model, name) for name in linear_names(model) if name.startswith(start)}
        first = set(blocks.attention_inputs)
        found.append(
            LayerSizes(
                weights=sum(inner * outer for inner, outer in sizes.values()),
                entering=sum(inner * outer for name, (inner, outer) in sizes.items() if name in first),
                low_rank=sum(rank * (inner + outer) for name, (inner, outer) in sizes.items() if name in targets),
                low_rank_entering=sum(rank * inner for name, (inner, _) in sizes.items() if name in targets & first),
            )
        )
    return found


def layer_flops(
    layers: Sequence[LayerSizes], width: int, lengths: Sequence[int], *, full: bool, below: bool
) -> tuple[int, int]:
    """Return what the tuned layers need, forward and backward.

    Forward, in each of the n layers: 2 m_l T, and 4 H A for attention; LoRA of rank r adds 2 r (in + out) T a target.

    Backward: gradients of inputs, 2 m_l T, but not for queries, keys and values of the lowest tuned layer where only
    LoRA trains, below which nothing waits for one; 8 H A for attention; gradients of weights, 2 m_l T, for full
    fine-tuning alone; for LoRA 2 r (in + out) T for its weights and as much for its inputs, less 2 r in T where
    nothing waits for one.

    Args:
        layers: the n tuned ones, bottom up; `low_rank` counts where LoRA trains.
        width: H.
        lengths: tokens of each distinct text.
        full: all weights of the layers train.
        below: something below the layers waits for a gradient.
    """
    tokens, squares = sum(lengths), sum(length * length for length in lengths)
    weights, low_rank = sum(layer.weights for layer in layers), sum(layer.low_rank for layer in layers)
    attention = 4 * width * squares * len(layers)
    unneeded = 0 if below or not layers else layers[0].entering + layers[0].low_rank_entering
    backward = 2 * ((1 + full) * weights + 2 * low_rank - unneeded) * tokens + 2 * attention
    return 2 * (weights + low_rank) * tokens + attention, backward


def language_model_work(model: nn.Module, method: MethodConfig, lengths: Sequence[int]) -> Work:
    """Return what a step needs of the language model, where the states that stay the same are not computed again.

    Layers as in `layer_flops`.

    A side network of K blocks of width w reads no state of the backbone anew: 4 H w K a text forward, and twice that
    backward, less 2 H w for the lowest block.

    Bytes: the weights of the n layers once forward and once backward; the stored states that enter them once (4 H T),
    those that a side network reads (4 H K a text), or frozen vectors (4 H a text); 32 a trained parameter, whose
    gradient is written, and which AdamW reads with gradient and both moments and writes with both moments. Activations
    are not counted: they could stay in the cache.

    Args:
        model: as published, before a method was put into it.
        method: `lora`, `full`, `side` or `frozen`.
        lengths: tokens of each distinct text.
    Raises:
        ValueError: for another method.
    """
    if method.kind not in ("lora", "full", "side", "frozen"):
        raise ValueError(f"the work of method '{method.kind}' is not known; there are lora, full, side and frozen")
    width, layers = text_config(model).hidden_size, layer_sizes(model, method)
    if isinstance(method, SideConfig):
        return _side_work(method, width, len(layers), len(lengths))
    if method.kind == "frozen":
        return Work(forward_flops=0, backward_flops=0, num_bytes=_FLOAT * width * len(lengths))
    first = method.first_layer(model)
    tuned = layers[first:]
    weights, low_rank = sum(layer.weights for layer in tuned), sum(layer.low_rank for layer in tuned)
    # Of full fine-tuning of the top layers nothing waits below either.
    below = method.kind == "full" and first == 0
    forward, backward = layer_flops(tuned, width, lengths, full=method.kind == "full", below=below)
    trained = low_rank
    if method.kind == "full":
        trained = sum(p.numel() for p in model.parameters()) if below else weights
    stored = width * sum(lengths) if first else 0
    return Work(
        forward_flops=forward,
        backward_flops=backward,
        num_bytes=_FLOAT * (2 * weights + stored + 8 * trained),
    )


def _side_work(method: SideConfig, width: int, num_layers: int, num_texts: int) -> Work:
    blocks = len(range(num_layers, 0, -method.every)) + method.include_embeddings
    product = 2 * width * method.width * num_texts
    trained = blocks * (2 * width * method.width + method.width + width) + blocks - 1 + width
    return Work(
        forward_flops=2 * blocks * product,
        backward_flops=(4 * blocks - 1) * product,
        num_bytes=_FLOAT * (width * blocks * num_texts + 8 * trained),
    )
