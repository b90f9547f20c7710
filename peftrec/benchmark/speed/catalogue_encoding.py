"""Encoding a catalogue, tokenising included, against `SentenceTransformer.encode`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from peftrec.benchmark.speed.machine import undisturbed
from peftrec.encoders import TextEncoder

TOLERANCE = 1e-5


class CatalogueEncoding:
    """Two ways from texts to vectors.

    Args:
        encoder: ours, as published, with mean pooling.
        other: a SentenceTransformer of the same backbone.
        texts: what is encoded.
    """

    def __init__(self, encoder: TextEncoder, other: Any, texts: Sequence[str]) -> None:
        self.encoder, self.other, self.texts = encoder, other, list(texts)
        self.num_tokens = int(encoder.tokenize(self.texts).lengths.sum())

    def ours(self) -> tuple[float, torch.Tensor]:
        """Tokenise and encode; return seconds and vectors."""
        began = time.perf_counter()
        vectors_NH = self.encoder.encode(self.encoder.tokenize(self.texts))
        return time.perf_counter() - began, vectors_NH

    def theirs(self, batch_size: int, texts: Sequence[str] | None = None) -> tuple[float, torch.Tensor]:
        """Run `SentenceTransformer.encode`, which sorts by length too; return seconds and vectors.

        Args:
            batch_size: texts at a time.
            texts: None takes all.
        """
        began = time.perf_counter()
        vectors_NH = self.other.encode(
            self.texts if texts is None else list(texts),
            batch_size=batch_size,
            show_progress_bar=False,
            convert_to_tensor=True,
        )
        return time.perf_counter() - began, vectors_NH

    def best_batch_size(
        self, sizes: Sequence[int], say: Callable[[str], None], *, sample: int = 768
    ) -> tuple[int, dict[int, float]]:
        """Find the batch size with the fewest seconds on some of the texts; ends when one is slower by a tenth.

        Args:
            sizes: ascending.
            say: is handed a line for every size.
            sample: texts, evenly spread.
        """
        places = np.linspace(0, len(self.texts) - 1, min(sample, len(self.texts))).astype(int).tolist()
        some = [self.texts[place] for place in places]
        found: dict[int, float] = {}
        for size in sizes:
            found[size] = min(undisturbed(lambda: self.theirs(size, some)[0]) for _ in range(2)) / len(some)  # noqa: B023
            say(f"  {size} texts a batch: {found[size] * 1e3:.2f} ms a text")
            if found[size] > 1.1 * min(found.values()):
                break
        return min(found, key=lambda size: found[size]), found


def largest_difference(left_NH: torch.Tensor, right_NH: torch.Tensor) -> float:
    """Return the largest |a - b| over all numbers, by the largest |a|."""
    return float((left_NH - right_NH).abs().max() / left_NH.abs().max())
