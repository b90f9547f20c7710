"""How many floating point operations steps, catalogues and lists take; matrix products alone.

Shapes: P positions that have a next item, C candidates, N items, H width of text vectors, D width of item vectors.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from peftrec.benchmark.scale.shape import BackboneShape, Tuning
from peftrec.benchmark.speed.floor import layer_flops


@dataclasses.dataclass(frozen=True, kw_only=True)
class Passes:
    """Operations of the language model for some texts, in training.

    Args:
        forward: of the layers that run.
        backward: of the same.
    """

    forward: int
    backward: int

    def total(self, kept: float) -> float:
        """Return those of a step: texts whose graphs are not kept run forward twice.

        Args:
            kept: share of the texts whose graphs fit `training.graph_memory_mib`.
        """
        return self.forward + self.backward + (1 - kept) * self.forward


def encoding_flops(shape: BackboneShape, lengths: Sequence[int]) -> int:
    """Return those of encoding texts with all layers, without gradients and with LoRA merged.

    2 m T + 4 H A a layer, with m its weights, T the tokens and A the sum of squared lengths; 2 H a token for the mean
    of an encoder's states.
    """
    whole = Tuning(kind="full")
    return layer_flops(shape.sizes(whole), shape.width, lengths, full=True, below=True)[0] + _pooling(shape, lengths)


def training_flops(shape: BackboneShape, tuning: Tuning, lengths: Sequence[int]) -> Passes:
    """Return those of training on texts: `layer_flops` of the tuned layers, and pooling both ways.

    Kernels of attention compute their scores once more on the way back: 2 H A a layer on top.
    """
    layers = shape.sizes(tuning)
    if not layers:
        return Passes(forward=0, backward=0)
    full = tuning.kind == "full"
    # A decoder's norms stand before its products, and wait for a gradient where they train.
    below = full and (len(layers) == shape.layers or shape.kind == "decoder")
    forward, backward = layer_flops(layers, shape.width, lengths, full=full, below=below)
    again = 2 * shape.width * sum(length * length for length in lengths) * len(layers)
    pooled = _pooling(shape, lengths)
    return Passes(forward=forward + pooled, backward=backward + again + pooled)


def _pooling(shape: BackboneShape, lengths: Sequence[int]) -> int:
    # The last token's state of a decoder is taken as it is.
    return 2 * shape.width * sum(lengths) if shape.kind == "encoder" else 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class UserSide:
    """Head and user encoder of a recipe: the residual head with whitening, and the causal transformer.

    Args:
        text_dim: H.
        dim: D.
        residual: inner width of the head, `encoder.residual_dim`.
        blocks: of the transformer, `user.num_layers`.
        feedforward: `user.feedforward`.
        heads: `user.num_heads`.
        max_history: `user.max_history`.
        recent: events of the weighted mean, `user.num_recent`.
    """

    text_dim: int
    dim: int
    residual: int = 128
    blocks: int = 1
    feedforward: int = 1
    heads: int = 4
    max_history: int = 50
    recent: int = 8

    @property
    def parameters(self) -> int:
        """Of head, transformer, weighted mean and scale."""
        head = (self.text_dim + 1) * self.residual + (self.residual + 1) * self.dim
        inner = self.feedforward * self.dim
        block = (self.dim + 1) * 4 * self.dim + 4 * self.dim + (self.dim + 1) * inner + (inner + 1) * self.dim
        around = 2 * self.dim + (self.dim + 1) * self.dim + self.recent + 1
        return head + self.blocks * (block + self.heads * self.max_history) + around

    def item_flops(self, candidates: int) -> int:
        """Return those of the head, both ways: whitening once for its inputs, the rest for its weights too.

        2 C (2 H^2 + 3 H R + 3 R D) with R the inner width.
        """
        whitening = 2 * self.text_dim * self.text_dim
        return 2 * candidates * (whitening + 3 * self.residual * (self.text_dim + self.dim))

    def history_flops(self, places: int, pairs: int) -> int:
        """Return those of the user encoder, both ways.

        6 times its weights a place, and 12 D a pair of places in each block and 6 D in the weighted mean.

        Args:
            places: of all histories.
            pairs: the sum of their squared lengths, padding within buckets left out.
        """
        weights = self.blocks * (4 + 2 * self.feedforward) * self.dim**2 + self.dim**2
        return 6 * weights * places + (12 * self.blocks + 6) * self.dim * pairs


def loss_flops(positions: int, candidates: int, dim: int) -> int:
    """Return those of softmax over candidates, both ways: logits, and gradients of both sides; 6 P C D."""
    return 6 * positions * candidates * dim


def ranking_flops(users: int, items: int, dim: int) -> int:
    """Return those of scoring all items for some users: 2 U N D."""
    return 2 * users * items * dim
