"""Tokenised texts without padding, and length-sorted chunks of them.

Shapes: N texts, T tokens of all texts together, C texts in a chunk, P padded tokens of one text, H width of a state,
K states of one text.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from peftrec.config import InputError

# So many texts are tokenised at once.
_BATCH_TEXTS = 8192


@dataclasses.dataclass(frozen=True)
class ItemTexts:
    """Tokens of N texts, one after the other.

    Args:
        tokens_T: token ids.
        offsets: where each text begins, and the end; shape (N + 1,).
        num_cut: how many texts were longer than the limit and were cut.
        trunk_TH: states that enter the lowest layer that training changes, or None where they are not stored. Like the
            tokens they may be mapped from a file: index them, and never write or copy them whole.
        pooled_NKH: pooled states that a method beside the backbone reads, or None where they are not stored.
    """

    tokens_T: torch.Tensor
    offsets: torch.Tensor
    num_cut: int
    trunk_TH: torch.Tensor | None = None
    pooled_NKH: torch.Tensor | None = None

    @property
    def stored_bytes(self) -> int:
        """Bytes of stored states."""
        return sum(states.nbytes for states in (self.trunk_TH, self.pooled_NKH) if states is not None)

    @property
    def exact_states(self) -> bool:
        """Whether stored states, if any, are in full precision."""
        stored = (self.trunk_TH, self.pooled_NKH)
        return all(states is None or states.dtype == torch.float32 for states in stored)

    def without_states(self) -> ItemTexts:
        """Return the tokens alone."""
        return dataclasses.replace(self, trunk_TH=None, pooled_NKH=None)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @functools.cached_property
    def lengths(self) -> torch.Tensor:
        """Tokens of each text, shape (N,)."""
        return self.offsets[1:] - self.offsets[:-1]

    def gather(self, items_C: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return positions in the flat token axis, shape (C, P), and which of them are tokens; padding points at 0."""
        starts_C = self.offsets[items_C]
        lengths_C = self.offsets[items_C + 1] - starts_C
        place_P = torch.arange(int(lengths_C.max()), device=self.offsets.device)
        valid_CP = place_P < lengths_C[:, None]
        return (starts_C[:, None] + place_P) * valid_CP, valid_CP

    def chunks(self, items: torch.Tensor, token_budget: int) -> list[torch.Tensor]:
        """Cut indexes into `items` into chunks of similar length with at most `token_budget` padded tokens each.

        Returns:
            Positions in `items`, longest texts first, each position once.
        """
        lengths = self.lengths[items].cpu().numpy()
        order = np.argsort(-lengths, kind="stable")
        return [torch.from_numpy(order[start:end]) for start, end in _cuts(lengths[order], token_budget)]


# What a chunk costs beside its tokens, in tokens: small matrix products, and the time that passes between them.
_CHUNK_COST = 128


def _cuts(lengths: NDArray[np.int64], token_budget: int) -> list[tuple[int, int]]:
    """Return the ranges of descending lengths, each within the budget when padded, that cost least.

    A chunk of c texts, the longest of P tokens, costs c * P + `_CHUNK_COST`. Chunks begin where the length falls, or
    where the budget was used up by texts of one length; among those the least sum is found exactly, from the end.
    """
    if not len(lengths):
        return []
    if lengths[0] > token_budget:
        raise InputError(f"encoder.token_budget is {token_budget}, but one text has {lengths[0]} tokens; raise it")
    begins = np.append(np.flatnonzero(np.diff(lengths, prepend=-1)), len(lengths))  # of the runs of one length
    num_runs = len(begins) - 1
    least, following = np.zeros(num_runs + 1), np.zeros(num_runs, dtype=np.int64)
    for run in range(num_runs - 1, -1, -1):
        length = max(1, int(lengths[begins[run]]))
        padded = length * (begins[run + 1 :] - begins[run])
        chunks = np.where(padded <= token_budget, 1.0, np.inf)
        chunks[0] = -(-padded[0] // (token_budget // length * length))
        costs = padded + chunks * _CHUNK_COST + least[run + 1 :]
        following[run] = run + 1 + int(costs.argmin())
        least[run] = costs.min()
    cuts, run = [], 0
    while run < num_runs:
        start, end, fits = begins[run], begins[following[run]], token_budget // max(1, int(lengths[begins[run]]))
        cuts += [(int(place), int(min(place + fits, end))) for place in range(start, end, fits)]
        run = int(following[run])
    return cuts


@dataclasses.dataclass(frozen=True)
class TokenBatch:
    """Tokens of some texts, one after the other.

    Args:
        tokens: token ids, int64.
        lengths: tokens of each text, int64.
        num_cut: how many of the texts were cut.
    """

    tokens: NDArray[np.int64]
    lengths: NDArray[np.int64]
    num_cut: int


def token_batches(tokenizer: Any, texts: Sequence[str], *, max_tokens: int, prefix: str = "") -> Iterator[TokenBatch]:
    """Yield the tokens of a few thousand texts at a time, so that no more is held; see `tokenize_texts`."""
    for start in range(0, len(texts), _BATCH_TEXTS):
        batch = [prefix + text for text in texts[start : start + _BATCH_TEXTS]]
        encoded = tokenizer(batch, truncation=True, max_length=max_tokens, return_overflowing_tokens=True)
        owners = encoded.get("overflow_to_sample_mapping")
        if owners is None:
            raise InputError(f"{type(tokenizer).__name__} is not a fast tokenizer; peftrec needs one")
        first = {owner: row for row, owner in reversed(list(enumerate(owners)))}
        rows = [encoded["input_ids"][first[row]] for row in range(len(batch))]
        num_cut = len(set(np.asarray(owners)[np.diff(owners, prepend=-1) == 0].tolist()))
        lengths = np.array([len(row) for row in rows], dtype=np.int64)
        if not lengths.all():
            empty = start + int(lengths.argmin())
            raise InputError(f"text {empty} ({texts[empty][:60]!r}) gives no token")
        tokens = np.fromiter(itertools.chain.from_iterable(rows), dtype=np.int64, count=int(lengths.sum()))
        yield TokenBatch(tokens, lengths, num_cut)


def tokenize_texts(tokenizer: Any, texts: Sequence[str], *, max_tokens: int, prefix: str = "") -> ItemTexts:
    """Tokenise texts, cut to `max_tokens` tokens with the special tokens kept.

    Args:
        tokenizer: a fast `transformers` tokenizer.
        texts: N texts.
        max_tokens: at most this many tokens a text.
        prefix: put before every text.
    Raises:
        InputError: if the tokenizer makes no token of a text.
    """
    batches = list(token_batches(tokenizer, texts, max_tokens=max_tokens, prefix=prefix))
    nothing = np.zeros(0, dtype=np.int64)
    tokens = np.concatenate([nothing, *(batch.tokens for batch in batches)])
    lengths = np.concatenate([nothing, *(batch.lengths for batch in batches)])
    offsets = np.concatenate([[0], lengths.cumsum()]).astype(np.int64)
    num_cut = sum(batch.num_cut for batch in batches)
    return ItemTexts(torch.from_numpy(tokens), torch.from_numpy(offsets), num_cut)
