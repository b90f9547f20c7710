"""Users' texts, put together from tokens of their parts: nothing is tokenised while training runs.

Shapes: B users, L places of a history (left-padded: the newest event is last), S parts of a text, R vectors.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from peftrec.config import InputError
from peftrec.encoders import ItemTexts
from peftrec.models.profile_config import ProfileConfig

Ints = NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class ProfileTexts:
    """Texts of B users, and the tokens after which they have been told of an event.

    Args:
        texts: tokens; `num_cut` counts the users of whom something was cut.
        ends_BL: place of the last token of each event within its text; -1 where the event was left out, or not whole.
        num_left_out: events that no text holds whole.
    """

    texts: ItemTexts
    ends_BL: Ints
    num_left_out: int


class ProfileTokens:
    """Tokens of all that users' texts are made of.

    Args:
        tokenizer: a fast `transformers` tokenizer.
        config: the `profile` section.
        item_texts: one an item.
        event_words: by kind of event; None where there are no kinds.
        oldest_first: the order of decoders.
        prefix: put before every text.
    """

    def __init__(
        self,
        tokenizer: Any,
        config: ProfileConfig,
        item_texts: Sequence[str],
        event_words: Sequence[str] | None,
        *,
        oldest_first: bool,
        prefix: str = "",
    ) -> None:
        self.tokenizer, self.config, self.oldest_first = tokenizer, config, oldest_first
        self.words: tuple[str | None, ...] = (None,) if event_words is None else tuple(event_words)
        self._head, self._tail = _special_tokens(tokenizer)
        if oldest_first:  # what stands behind the newest event would be read, but never in training
            self._tail = []
        self._head += self._tokenize([prefix], None)[0] if prefix.strip() else []
        self._separator = self._tokenize([config.separator], None)[0] if config.separator.strip() else []
        fixed = len(self._head) + len(self._tail) + 2 * len(self._separator)
        if fixed + config.attribute_tokens + config.item_tokens > config.max_tokens:
            raise InputError(
                f"profile.max_tokens is {config.max_tokens}, but attributes, one event, separators and special tokens "
                f"take {fixed + config.attribute_tokens + config.item_tokens}"
            )
        self._items = list(item_texts)
        self._events = _Pool(self._event_rows(self._items))
        self._attributes = _Pool([])

    @property
    def num_special(self) -> int:
        """Special tokens of a text."""
        return len(self._head) + len(self._tail)

    def set_users(self, texts: Sequence[str] | None) -> None:
        """Take the attributes of all users, one text a user, empty where nothing is known; None forgets them."""
        written = [text if text.strip() else "" for text in texts or ()]
        rows = self._tokenize(written, self.config.attribute_tokens)
        self._attributes = _Pool([row + self._separator if row else [] for row in rows])

    def add_items(self, texts: Sequence[str]) -> None:
        """Take the texts of items that come after those known so far."""
        self._items += list(texts)
        self._events = _Pool(self._event_rows(self._items))

    def assemble(self, items_BL: Ints, events_BL: Ints | None, users_B: Ints | None) -> ProfileTexts:
        """Return the texts of users.

        Args:
            items_BL: histories as indexes of items, -1 for padding.
            events_BL: kinds of the events; None takes the first kind for all.
            users_B: whose attributes to put first, -1 for none; None for none at all.
        """
        num_users, length = items_BL.shape
        kinds_BL = np.zeros_like(items_BL) if events_BL is None else np.maximum(events_BL, 0)
        rows_BL = np.where(items_BL >= 0, kinds_BL * len(self._items) + items_BL, -1)
        if not self.oldest_first:
            rows_BL = rows_BL[:, ::-1]
        users_B = np.full(num_users, -1) if users_B is None else users_B
        start_BS, size_BS, pool = self._parts(rows_BL, users_B)
        whole_BS = size_BS.copy()
        (self._leave_out_oldest if self.oldest_first else self._cut_end)(size_BS)
        ends_BS = size_BS.cumsum(axis=1)
        kept_BL = (size_BS == whole_BS)[:, 2 : 2 + length] & (whole_BS[:, 2 : 2 + length] > 0)
        ends_BL = np.where(kept_BL, ends_BS[:, 2 : 2 + length] - 1, -1)
        flat = size_BS.reshape(-1)
        first = start_BS.reshape(-1) - (flat.cumsum() - flat)
        tokens_T = pool[np.repeat(first, flat) + np.arange(flat.sum())]
        texts = ItemTexts(
            torch.from_numpy(tokens_T),
            torch.from_numpy(np.concatenate([[0], ends_BS[:, -1].cumsum()]).astype(np.int64)),
            int((size_BS != whole_BS).any(axis=1).sum()),
        )
        left_out = int((rows_BL >= 0).sum() - kept_BL.sum())
        return ProfileTexts(texts, ends_BL if self.oldest_first else ends_BL[:, ::-1], left_out)

    def _parts(self, rows_BL: Ints, users_B: Ints) -> tuple[Ints, Ints, Ints]:
        """Return where the parts of every text begin in one array of tokens, how long they are, and that array."""
        ends = np.array([*self._head, *self._tail], dtype=np.int64)
        pool = np.concatenate([ends, self._attributes.tokens, self._events.tokens])
        column = np.ones((len(rows_BL), 1), dtype=np.int64)
        attribute_start, attribute_size = self._attributes.find(users_B)
        event_start, event_size = self._events.find(rows_BL)
        starts = [
            0 * column,
            attribute_start[:, None] + len(ends),
            event_start + len(ends) + len(self._attributes.tokens),
            len(self._head) * column,
        ]
        sizes = [len(self._head) * column, attribute_size[:, None], event_size, len(self._tail) * column]
        return np.concatenate(starts, axis=1), np.concatenate(sizes, axis=1), pool

    def _cut_end(self, size_BS: Ints) -> None:
        """Cut texts at `max_tokens`, in place; special tokens at the end stay."""
        room_BS = self.config.max_tokens - len(self._tail) - (size_BS.cumsum(axis=1) - size_BS)
        size_BS[:, :-1] = np.clip(size_BS, 0, np.maximum(room_BS, 0))[:, :-1]

    def _leave_out_oldest(self, size_BS: Ints) -> None:
        """Leave out the oldest events that do not fit into `max_tokens`, in place."""
        events_BL = size_BS[:, 2:-1]
        room_B1 = self.config.max_tokens - size_BS[:, :2].sum(axis=1, keepdims=True) - len(self._tail)
        from_newest_BL = events_BL[:, ::-1].cumsum(axis=1)[:, ::-1]
        size_BS[:, 2:-1] = np.where(from_newest_BL <= room_B1, events_BL, 0)

    def _event_rows(self, items: list[str]) -> list[list[int]]:
        # A space in front, as within a sentence: tokenizers of decoders tell the two apart.
        texts = [" " + self.config.event_text(word, item) for word in self.words for item in items]
        return [row + self._separator for row in self._tokenize(texts, self.config.item_tokens)]

    def _tokenize(self, texts: Sequence[str], limit: int | None) -> list[list[int]]:
        rows: list[list[int]] = []
        for start in range(0, len(texts), 8192):
            batch = list(texts[start : start + 8192])
            settings = {} if limit is None else {"truncation": True, "max_length": limit}
            rows += self.tokenizer(batch, add_special_tokens=False, **settings)["input_ids"]
        return rows


class _Pool:
    """Rows of tokens, one after the other."""

    def __init__(self, rows: Sequence[Sequence[int]]) -> None:
        self.sizes = np.array([len(row) for row in rows], dtype=np.int64)
        self.tokens = np.fromiter((token for row in rows for token in row), dtype=np.int64, count=self.sizes.sum())
        self.starts = self.sizes.cumsum() - self.sizes

    def find(self, rows: Ints) -> tuple[Ints, Ints]:
        """Return where rows begin and how long they are; -1 is an empty one."""
        if not len(self.sizes):
            return np.zeros_like(rows), np.zeros_like(rows)
        known = np.maximum(rows, 0)
        return np.where(rows >= 0, self.starts[known], 0), np.where(rows >= 0, self.sizes[known], 0)


def _special_tokens(tokenizer: Any) -> tuple[list[int], list[int]]:
    """Return the tokens that the tokenizer puts before and behind a text."""
    plain = tokenizer("a", add_special_tokens=False)["input_ids"]
    full = tokenizer("a")["input_ids"]
    for place in range(len(full) - len(plain) + 1):
        if full[place : place + len(plain)] == plain:
            return full[:place], full[place + len(plain) :]
    raise InputError(f"{type(tokenizer).__name__} changes a text when it adds special tokens; profiles cannot use it")
