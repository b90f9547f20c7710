"""How many bytes weights, training state, graphs, cached states and vectors take.

Shapes: H width of a state, F inner width of the feed-forward part, K width of keys, A heads, r rank.
"""

from __future__ import annotations

import math
from typing import Final, Literal

from peftrec.benchmark.scale.shape import BackboneShape, Tuning

Storage = Literal["float32", "bfloat16", "int8", "nf4"]
Precision = Literal["float32", "bf16"]

FLOAT: Final = 4
"""Bytes of a number in float32, which vectors, adapters, gradients and moments are."""

_WIDTHS: Final = {"float32": 4, "bfloat16": 2}
# Of nf4 with scales that are quantised too: weights of a block that share a scale of one byte, and scales of a block
# that share one of four; beside them two tables of 16 and 256 numbers for each module.
_BLOCK, _SCALES, _TABLES = 64, 256, 4 * (16 + 256)


def weight_bytes(shape: BackboneShape, storage: Storage) -> int:
    """Return the bytes of all weights of a backbone as `encoder.dtype` or `encoder.quantization` stores them.

    `int8` and `nf4` hold the linear modules of the layers: n + 4 out bytes of (in, out), n = in * out, and
    n / 2 + n / 64 + 4 n / 64 / 256 + 1,088. All else is float32 then.

    Args:
        shape: of the backbone.
        storage: how weights are stored.
    """
    if storage in _WIDTHS:
        return _WIDTHS[storage] * shape.parameters
    rest = shape.parameters - shape.layers * shape.layer_weights
    of_layer = sum(_quantized_bytes(inner, outer, storage) for inner, outer in shape.linear)
    return FLOAT * rest + shape.layers * of_layer


def _quantized_bytes(inner: int, outer: int, storage: Storage) -> int:
    number = inner * outer
    if storage == "int8":
        return number + FLOAT * outer
    scales = math.ceil(number / _BLOCK)
    return math.ceil(number / 2) + scales + FLOAT * math.ceil(scales / _SCALES) + _TABLES


def layer_bytes(shape: BackboneShape, storage: Storage) -> int:
    """Return the bytes of the layers alone, which sharding would gather for each chunk."""
    outside = _WIDTHS.get(storage, FLOAT)
    return weight_bytes(shape, storage) - outside * shape.outside_parameters


def adapter_bytes(shape: BackboneShape, tuning: Tuning) -> int:
    """Return the bytes of what LoRA adds, also those of its file without the header; 0 for other tuning."""
    return FLOAT * shape.trained_parameters(tuning) if tuning.kind == "lora" else 0


def optimizer_bytes(trained: int, *, moments: int = FLOAT) -> int:
    """Return the bytes of gradients and of AdamW's two moments.

    Args:
        trained: parameters.
        moments: bytes of a moment: 4, or 1 with `optimizer.kind: adamw_8bit` (whose scales are left out).
    """
    return (FLOAT + 2 * moments) * trained


def vector_bytes(number: int, width: int) -> int:
    """Return the bytes of vectors in float32."""
    return FLOAT * number * width


def trunk_bytes(shape: BackboneShape, tokens: int, *, width: int = FLOAT) -> int:
    """Return the bytes of the states that enter the lowest tuned layer, one a token without padding.

    Args:
        shape: of the backbone.
        tokens: of all texts.
        width: bytes of a number: 4, or 2 with `encoder.cache.dtype: float16`.
    """
    return width * tokens * shape.width


def token_bytes(texts: int, tokens: int) -> int:
    """Return the bytes of the tokens of texts, and of where each begins, as they are cached."""
    return 8 * (tokens + texts + 1)


def graph_bytes(
    shape: BackboneShape, tuning: Tuning, precision: Precision = "float32", storage: Storage = "float32"
) -> float:
    """Return the bytes that the graph of a text holds until the way back, for each padded token.

    In float32, of each tuned layer: states before and behind each of its steps, 6 H + 2 K numbers; of the
    feed-forward part 2 F, of a gated one 4 F; A for attention's sums; 4 for two norms of an encoder, 2 for those of a
    decoder; r for each module with LoRA. Where the norms of a decoder train, 2 H more. With `mixed_precision: bf16`
    most are of two bytes, but norms keep float32, and those of an encoder whose weights are float32 hold more of it.
    What `full` holds of embeddings and of the last norm is left out.

    Args:
        shape: of the backbone.
        tuning: what trains.
        precision: of the passes; `bf16` for LoRA alone.
        storage: of the weights; read for `bf16` alone.
    Raises:
        ValueError: for `full` under bf16, which nobody has measured.
    """
    width, inner, keys = shape.width, shape.feedforward, shape.key_width
    rank = tuning.rank * len(shape.linear) if tuning.kind == "lora" else 0
    decoder = shape.kind == "decoder"
    if precision == "bf16":
        if tuning.kind == "full":
            raise ValueError("graphs of full fine-tuning under bf16 have not been measured; use float32")
        states = 24 if decoder else 18 if storage == "bfloat16" else 22
        layer = states * width + 4 * keys + (8 if decoder else 4) * inner + FLOAT * shape.heads + 2 * rank
    else:
        norms = 2 * width * (decoder and tuning.kind == "full") + (2 if decoder else 4)
        numbers = 6 * width + 2 * keys + (4 if decoder else 2) * inner + shape.heads + norms + rank
        layer = FLOAT * numbers
    return float(shape.tuned_layers(tuning) * layer)


def host_bytes(users: int, events: int, *, times: bool = False) -> int:
    """Return the bytes of events and of what training keeps of them, in the memory of each process, without ids.

    Of an event its item, whether it is a target, and how many were before it; of a user where its events begin, how
    many train, and how they are cut into windows.

    Args:
        users: how many.
        events: of all users.
        times: whether events have times.
    """
    return events * (8 + 1 + 8 + 8 * times) + users * 6 * 8
