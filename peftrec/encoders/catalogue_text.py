"""The texts of a catalogue together with the encoder that reads them.

Shapes: N items, H width of text vectors.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from functools import partial

import torch

from peftrec.encoders.gradient_cache import TrainingVectors
from peftrec.encoders.item_text import ItemTexts
from peftrec.encoders.text_cache import TextCache
from peftrec.encoders.text_encoder import TextEncoder
from peftrec.launch import Ranks, all_or_none


class CatalogueText:
    """Text vectors of all items, computed once per state of the encoder.

    Args:
        encoder: the text encoder.
        texts: one text an item; tokenised on first use.
        cache: of the encoder's backbone, which keeps tokens, states and vectors; None computes them here.

    Attributes:
        ranks: processes that share the encoding of `vectors`, which then all of them must ask for; this one alone
            unless it is set.
    """

    def __init__(self, encoder: TextEncoder, texts: Sequence[str], cache: TextCache | None = None) -> None:
        self.encoder = encoder
        self.cache = cache
        self.ranks = Ranks()
        self._raw = tuple(texts)
        self._tokenized: ItemTexts | None = None
        self._vectors_NH: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self._raw)

    @property
    def tokenized(self) -> ItemTexts:
        """The tokens of all texts, with the states of the frozen trunk where training has asked for them."""
        if self._tokenized is None:
            source = self.encoder.tokenize if self.cache is None else partial(self.cache.tokens, self.encoder)
            self._tokenized = source(self._raw)
        return self._tokenized

    def vectors(self) -> torch.Tensor:
        """Return the vectors of all items for the present weights, shape (N, H), without gradients.

        Several processes encode about as many tokens each. Their chunks are others than those of one process, so that
        vectors may round otherwise.
        """
        if self._vectors_NH is None:
            self._vectors_NH = self._encoded()
        # The encoder may have moved to another device since.
        self._vectors_NH = self._vectors_NH.to(self.encoder.device)
        return self._vectors_NH

    def _encoded(self) -> torch.Tensor:
        """Return the vectors of all items, each process encoding its share."""
        texts, ranks = self.tokenized, self.ranks
        if ranks.alone:
            return self.encoder.encode(texts)
        shares = ranks.shares(texts.lengths)
        own = shares[ranks.index]
        nothing = torch.empty(0, self.encoder.dim, device=self.encoder.device)
        with all_or_none(ranks) if not self.encoder.in_step else contextlib.nullcontext():
            own_KH = self.encoder.encode(texts, own) if len(own) else nothing
            self._wait_in_step(own)
        return ranks.gather(own_KH, shares)

    @torch.no_grad()
    def _wait_in_step(self, own_K: torch.Tensor) -> None:
        """Take part in the chunks of processes that have more of them, where layers are dealt out."""
        if not self.encoder.in_step:
            return
        num_own = len(self.encoder.chunks(self.tokenized, own_K)) if len(own_K) else 0
        was_training = self.encoder.training
        self.encoder.eval()
        for _ in range(self.ranks.most(num_own) - num_own):
            self.encoder(self.tokenized, self.tokenized.lengths.argmin()[None])
        self.encoder.train(was_training)

    def store_trunk(self) -> None:
        """Read the states of the frozen trunk from the cache, or hold them in memory, from now on."""
        if not self.tokenized.stored_bytes:
            source = self.encoder.store_trunk if self.cache is None else partial(self.cache.states, self.encoder)
            self._tokenized = source(self.tokenized)

    def drop_rounded_states(self) -> None:
        """Read texts through the whole backbone from now on, if stored states are of half precision."""
        if not self.tokenized.exact_states:
            self._tokenized = self.tokenized.without_states()
            self._vectors_NH = None

    def base_vectors(self) -> torch.Tensor:
        """Return the vectors that the backbone gives without its method, before training has changed it."""
        is_identity = self.encoder.method_config.declared().identity_at_start
        if is_identity and self._vectors_NH is not None:
            return self.vectors()
        if self.cache is not None and self.cache.in_folder:
            vectors_NH = self.cache.vectors(self.encoder, self.tokenized).to(self.encoder.device)
        else:
            texts = self.tokenized if self.tokenized.exact_states else self.tokenized.without_states()
            with contextlib.nullcontext() if is_identity else self.encoder.method.disabled():
                vectors_NH = self.encoder.encode(texts)
        if is_identity:
            self._vectors_NH = vectors_NH
        return vectors_NH

    def take_vectors(self, other: CatalogueText) -> None:
        """Take the vectors of the same texts for the same weights, which need not be encoded again."""
        assert self._raw == other._raw, "other texts"
        self._vectors_NH = other.vectors()

    def weights_changed(self) -> None:
        """Forget the vectors: the encoder's weights have moved."""
        self._vectors_NH = None

    def training_vectors(self, items: torch.Tensor, *, graph_bytes: int) -> TrainingVectors:
        """Return vectors of some items as leaves; graphs are kept as far as they fit into `graph_bytes`.

        `store_trunk` first saves running the frozen layers each time.
        """
        return self.encoder.training_vectors(self.tokenized, items, graph_bytes=graph_bytes)
