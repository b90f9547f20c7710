"""Tokens, states and vectors that a frozen backbone gives a catalogue, computed once and kept in a folder.

Shapes: N texts, H width of a vector.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from peftrec.encoders.backbone import Backbone
from peftrec.encoders.build_watch import BuildWatch, Progress, Say
from peftrec.encoders.cache_key import backbone_identity, entry_key, rounding_identity, token_identity
from peftrec.encoders.config import CacheConfig
from peftrec.encoders.frozen_state import Rounding, compute_states, frozen_part, put_rows, refused_kind, why_refused
from peftrec.encoders.item_text import ItemTexts, token_batches
from peftrec.encoders.state_entry import BrokenEntryError, Entry, EntryWriter
from peftrec.encoders.state_store import StateStore
from peftrec.encoders.text_encoder import TextEncoder

_DTYPES = {"float32": torch.float32, "float16": torch.float16}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


class TextCache:
    """Reads what a backbone gives a catalogue from the cache folder, or computes it and writes it there.

    Entries are found by hashes of what they are made of, so that none is ever used for other weights, texts or settings
    (see `cache_key`). Without a folder nothing is read or written, and states are held in memory.

    Args:
        config: the `encoder.cache` section.
        backbone: before a method is put into it.
        say: is told what is read and computed, a line each.
        progress: is handed the state of the work after every chunk; None has lines said.
    """

    def __init__(self, config: CacheConfig, backbone: Backbone, say: Say, progress: Progress | None = None) -> None:
        self._say, self._progress = say, progress
        self.dtype = _DTYPES[config.dtype]
        self.store = None if config.folder is None else StateStore(Path(config.folder).expanduser())
        self._backbone = {} if self.store is None else backbone_identity(backbone)
        self._name = backbone.base.name
        self._tokens_key: str | None = None
        self._rounding: dict[str, Any] = {}

    @property
    def in_folder(self) -> bool:
        """Whether there is a folder."""
        return self.store is not None

    def tokens(self, encoder: TextEncoder, texts: Sequence[str]) -> ItemTexts:
        """Return the tokens of the catalogue, mapped where there is a folder; see `tokenize_texts`."""
        if self.store is None:
            return encoder.tokenize(texts)
        tokenizer = encoder.backbone.tokenizer
        settings: dict[str, Any] = {"max_tokens": encoder.config.max_tokens, "prefix": encoder.prefix}

        def write(writer: EntryWriter) -> None:
            num_cut, offsets = 0, [np.zeros(1, dtype=np.int64)]
            with writer.array("tokens", torch.int64, ()) as array:
                for batch in token_batches(tokenizer, texts, **settings):
                    array.append(torch.from_numpy(batch.tokens))
                    offsets.append(offsets[-1][-1] + batch.lengths.cumsum())
                    num_cut += batch.num_cut
            with writer.array("offsets", torch.int64, ()) as array:
                array.append(torch.from_numpy(np.concatenate(offsets)))
            writer.facts |= {"num_texts": len(texts), "num_cut": num_cut, "dtype": "int64"}

        identity = token_identity(tokenizer, texts, **settings)
        self._tokens_key = entry_key("tokens", identity)
        self._rounding = rounding_identity(encoder.backbone, encoder.config.token_budget)
        entry = self._entry("tokens", identity, write, num_bytes=8 * (2 * len(texts) + 1), label="tokens")
        return ItemTexts(entry.tensors["tokens"], entry.tensors["offsets"], entry.manifest["facts"]["num_cut"])

    def states(self, encoder: TextEncoder, texts: ItemTexts) -> ItemTexts:
        """Return texts with the states that stay the same in training; as they are where there are none.

        Args:
            encoder: with its method.
            texts: from `tokens`.
        """
        if refused_kind(encoder) is not None:
            self._say(f"cache: {why_refused(encoder)}; the frozen layers run in every step")
        part = frozen_part(encoder)
        if part is None:
            return texts
        num_bytes = part.num_bytes(texts, self.dtype)
        rounding = Rounding(self.dtype, part.label)
        if self.store is None:
            watch = self._watch(part.label, f"{num_bytes / 2**20:,.0f} MiB in memory", texts)
            states = torch.empty(part.num_rows(texts), *part.row_shape, dtype=self.dtype)
            compute_states(encoder, texts, lambda places_R, rows: put_rows(states, places_R, rows), rounding, watch)
            watch.finish(_error_note(rounding))
            return part.put(texts, states)

        def write(writer: EntryWriter) -> None:
            watch = self._watch(part.label, self._place(num_bytes), texts)
            with writer.array("states", self.dtype, part.row_shape, part.num_rows(texts)) as array:
                compute_states(encoder, texts, array.write, rounding, watch)
            watch.finish(_error_note(rounding))
            writer.facts |= {"num_texts": len(texts), "dtype": _NAMES[self.dtype]}
            if self.dtype != torch.float32:
                writer.facts["largest_relative_error"] = rounding.largest_error

        identity = self._identity() | part.identity | {"dtype": _NAMES[self.dtype]}
        entry = self._entry(part.kind, identity, write, num_bytes=num_bytes, label=part.label)
        return part.put(texts, entry.tensors["states"])

    def vectors(self, encoder: TextEncoder, texts: ItemTexts) -> torch.Tensor:
        """Return the vectors that the backbone gives without its method, shape (N, H), float32, mapped.

        Called before training moves anything.

        They are computed from stored states where these are exact.

        Args:
            encoder: with its method.
            texts: from `tokens` or `states`.
        """
        num_bytes = len(texts) * encoder.dim * 4
        if self.dtype != torch.float32:
            texts = texts.without_states()

        def write(writer: EntryWriter) -> None:
            watch = self._watch(_vectors_label(encoder.pooling), self._place(num_bytes), texts)
            chunks = texts.chunks(torch.arange(len(texts)), encoder.config.token_budget)
            # What changes the weights themselves cannot be switched off, and need not be: it starts as the backbone.
            starts_as_base = encoder.method_config.declared().identity_at_start
            without_method = contextlib.nullcontext() if starts_as_base else encoder.method.disabled()
            with writer.array("vectors", torch.float32, (encoder.dim,), len(texts)) as array, without_method:
                for chunk in chunks:
                    array.write(chunk, encoder.encode(texts, chunk))
                    watch.advance(int(texts.lengths[chunk].sum()))
            watch.finish()
            writer.facts |= {"num_texts": len(texts), "dtype": "float32"}

        identity = self._vectors_identity(encoder.pooling)
        label = _vectors_label(encoder.pooling)
        return self._entry("vectors", identity, write, num_bytes=num_bytes, label=label).tensors["vectors"]

    def stored_vectors(self, pooling: str) -> torch.Tensor | None:
        """Return vectors of another pooling than the encoder's, if they are in the folder."""
        if self.store is None:
            return None
        identity = self._vectors_identity(pooling)
        try:
            entry = self.store.open(entry_key("vectors", identity), identity)
        except BrokenEntryError:
            return None  # who makes it again will say so
        return None if entry is None else entry.tensors["vectors"]

    def _entry(
        self, kind: str, identity: dict[str, Any], write: Callable[[EntryWriter], None], *, num_bytes: int, label: str
    ) -> Entry:
        assert self.store is not None

        def write_named(writer: EntryWriter) -> None:
            writer.facts["backbone"] = self._name
            write(writer)

        key = entry_key(kind, identity)
        entry, written = self.store.get(key, identity, write_named, num_bytes=num_bytes, say=self._say)
        verb = "written to" if written else "read from"
        self._say(f"cache: {label}, {entry.num_bytes / 2**20:,.1f} MiB, {verb} {entry.folder}")
        return entry

    def _identity(self) -> dict[str, Any]:
        assert self._tokens_key is not None, "tokens come first"
        return {"tokens": self._tokens_key, "backbone": self._backbone} | self._rounding

    def _vectors_identity(self, pooling: str) -> dict[str, Any]:
        return self._identity() | {"pooling": pooling}

    def _place(self, num_bytes: int) -> str:
        assert self.store is not None
        free = shutil.disk_usage(self.store.root).free
        return f"{num_bytes / 2**20:,.1f} MiB in {self.store.folder} ({free / 2**30:,.1f} GiB are free there)"

    def _watch(self, label: str, place: str, texts: ItemTexts) -> BuildWatch:
        num_tokens = len(texts.tokens_T)
        place = f"{len(texts):,} texts, {num_tokens:,} tokens, {place}"
        return BuildWatch(self._say, self._progress, f"cache: {label}", place, num_tokens)


def _vectors_label(pooling: str) -> str:
    return f"vectors of the backbone as it is, pooled by {pooling}"


def _error_note(rounding: Rounding) -> str:
    if rounding.dtype == torch.float32:
        return ""
    return f"; {_NAMES[rounding.dtype]}, largest relative error of a state {rounding.largest_error:.1e}"
