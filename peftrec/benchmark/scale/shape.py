"""Shapes of backbones, and what of them trains.

Shapes: H width of a state, F inner width of the feed-forward part, K width of keys.
"""

from __future__ import annotations

import dataclasses
from typing import Final, Literal

from peftrec.benchmark.speed.floor import LayerSizes


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tuning:
    """What of a backbone trains.

    Args:
        kind: `lora` on all linear modules, `full` for all weights, `frozen` for none.
        rank: of LoRA.
        layers: the top ones alone, over states of the others that are computed once; None for all layers.
    """

    kind: Literal["lora", "full", "frozen"] = "lora"
    rank: int = 8
    layers: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class BackboneShape:
    """A language model by its numbers.

    Args:
        name: for people.
        kind: `encoder` is built as BERT: biases, two products in the feed-forward part, learned positions and kinds of
            segments. `decoder` as Llama: no biases, three products, nothing but words in the embeddings.
        layers: how many.
        width: H.
        feedforward: F.
        vocabulary: words of the embeddings.
        heads: of attention.
        key_heads: of keys and values; None for as many.
        positions: learned ones, of an encoder.
        segments: kinds of them, of an encoder.
    """

    name: str
    kind: Literal["encoder", "decoder"]
    layers: int
    width: int
    feedforward: int
    vocabulary: int
    heads: int
    key_heads: int | None = None
    positions: int = 512
    segments: int = 2

    @property
    def key_width(self) -> int:
        """K, H where there are as many heads of keys as of queries."""
        return self.width * (self.key_heads or self.heads) // self.heads

    @property
    def linear(self) -> tuple[tuple[int, int], ...]:
        """Inputs and outputs of the linear modules of a layer, those that read what enters it first."""
        width, inner, keys = self.width, self.feedforward, self.key_width
        attention = ((width, width), (width, keys), (width, keys), (width, width))
        gates = 2 if self.kind == "decoder" else 1
        return (*attention, *((width, inner) for _ in range(gates)), (inner, width))

    @property
    def layer_weights(self) -> int:
        """Weights of the linear modules of a layer, without biases."""
        return sum(inner * outer for inner, outer in self.linear)

    @property
    def layer_parameters(self) -> int:
        """All parameters of a layer: an encoder has biases, and norms of two numbers a dimension."""
        if self.kind == "decoder":
            return self.layer_weights + 2 * self.width
        return self.layer_weights + sum(outer for _, outer in self.linear) + 4 * self.width

    @property
    def outside_parameters(self) -> int:
        """Embeddings and the norm beside them or behind the layers; no pooler and no head."""
        if self.kind == "decoder":
            return (self.vocabulary + 1) * self.width
        return (self.vocabulary + self.positions + self.segments + 2) * self.width

    @property
    def parameters(self) -> int:
        """All of them."""
        return self.layers * self.layer_parameters + self.outside_parameters

    def tuned_layers(self, tuning: Tuning) -> int:
        """Return how many layers run in a training step."""
        if tuning.kind == "frozen":
            return 0
        return self.layers if tuning.layers is None else min(tuning.layers, self.layers)

    def trained_parameters(self, tuning: Tuning) -> int:
        """Return how many parameters train: of LoRA the sum of rank * (in + out), of `full` those of the layers."""
        layers = self.tuned_layers(tuning)
        if tuning.kind == "full":
            return layers * self.layer_parameters + (layers == self.layers) * self.outside_parameters
        return layers * sum(tuning.rank * (inner + outer) for inner, outer in self.linear)

    def sizes(self, tuning: Tuning) -> list[LayerSizes]:
        """Return the sizes of the layers that run in a training step, for `layer_flops`."""
        rank = tuning.rank if tuning.kind == "lora" else 0
        entering = self.linear[:3]
        layer = LayerSizes(
            weights=self.layer_weights,
            entering=sum(inner * outer for inner, outer in entering),
            low_rank=sum(rank * (inner + outer) for inner, outer in self.linear),
            low_rank_entering=sum(rank * inner for inner, _ in entering),
        )
        return [layer] * self.tuned_layers(tuning)


MINILM: Final = BackboneShape(
    name="MiniLM-L6", kind="encoder", layers=6, width=384, feedforward=1536, vocabulary=30_522, heads=12
)
LLAMA_7B: Final = BackboneShape(
    name="7B decoder", kind="decoder", layers=32, width=4096, feedforward=11_008, vocabulary=32_000, heads=32
)
