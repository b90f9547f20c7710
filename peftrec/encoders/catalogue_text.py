"""The texts of a catalogue together with the encoder that reads them.

Shapes: N items, H width of text vectors.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from peftrec.encoders.gradient_cache import TrainingVectors
from peftrec.encoders.item_text import ItemTexts
from peftrec.encoders.text_encoder import TextEncoder


class CatalogueText:
    """Text vectors of all items, computed once per state of the encoder.

    Args:
        encoder: the text encoder.
        texts: one text an item; tokenised on first use.
    """

    def __init__(self, encoder: TextEncoder, texts: Sequence[str]) -> None:
        self.encoder = encoder
        self._raw = tuple(texts)
        self._tokenized: ItemTexts | None = None
        self._vectors_NH: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self._raw)

    @property
    def tokenized(self) -> ItemTexts:
        """The tokens of all texts, with the states of the frozen trunk where training has asked for them."""
        if self._tokenized is None:
            self._tokenized = self.encoder.tokenize(self._raw)
        return self._tokenized

    def vectors(self) -> torch.Tensor:
        """Return the vectors of all items for the present weights, shape (N, H), without gradients."""
        if self._vectors_NH is None:
            self._vectors_NH = self.encoder.encode(self.tokenized)
        # The encoder may have moved to another device since.
        self._vectors_NH = self._vectors_NH.to(self.encoder.device)
        return self._vectors_NH

    def store_trunk(self) -> None:
        """Hold the states of the frozen trunk in memory from now on (see `TextEncoder.store_trunk`)."""
        if not self.tokenized.stored_bytes:
            self._tokenized = self.encoder.store_trunk(self.tokenized)

    def base_vectors(self) -> torch.Tensor:
        """Return the vectors that the backbone gives without its method, before training has changed it."""
        method = self.encoder.method
        if self.encoder.method_config.declared().identity_at_start:
            return self.vectors()
        with method.disabled():
            return self.encoder.encode(self.tokenized)

    def weights_changed(self) -> None:
        """Forget the vectors: the encoder's weights have moved."""
        self._vectors_NH = None

    def training_vectors(self, items: torch.Tensor, *, graph_bytes: int) -> TrainingVectors:
        """Return vectors of some items as leaves; graphs are kept as far as they fit into `graph_bytes`.

        `store_trunk` first saves running the frozen layers each time.
        """
        return self.encoder.training_vectors(self.tokenized, items, graph_bytes=graph_bytes)
