"""The words of a text, and which of its tokens belong to which.

Shapes: T tokens of one text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

# Scripts that put no space between words: each character by itself, until a token holds several.
_UNSPACED: Final = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
# Marks that are written over, under or behind letters, and joiners.
_MARKS: Final = "\u0300-\u036f\u0483-\u0489\u0591-\u05bd\u0610-\u061a\u064b-\u065f\u0900-\u0dff\u200c\u200d"
_LETTER: Final = rf"[^\W{_UNSPACED}][{_MARKS}]*"
_WORD: Final = re.compile(rf"[{_UNSPACED}]|{_LETTER}(?:['’\-]?{_LETTER})*|[^\w\s]+|_+|\S", re.DOTALL)

Span = tuple[int, int]


def token_spans(tokenizer: Any, text: str, *, max_tokens: int, prefix: str = "") -> list[Span | None]:
    """Return which characters of a text each of its tokens stands for; None for those that stand for none of them.

    Tokens that the tokenizer adds, those of the prefix, and white space alone have none.

    Args:
        tokenizer: a fast `transformers` tokenizer.
        text: as the catalogue has it.
        max_tokens: and `prefix`, as texts are encoded with them.
    """
    whole = prefix + text
    encoded = tokenizer(whole, truncation=True, max_length=max_tokens, return_offsets_mapping=True)
    spans: list[Span | None] = []
    for start, end in encoded["offset_mapping"]:
        # Byte-level tokenizers count the space before a word as part of it.
        while start < end and whole[start].isspace():
            start += 1
        while start < end and whole[end - 1].isspace():
            end -= 1
        start, end = max(start, len(prefix)) - len(prefix), end - len(prefix)
        spans.append((start, end) if start < end else None)
    return spans


def words_of(text: str, spans: Sequence[Span | None]) -> list[tuple[Span, list[int]]]:
    """Return the words that tokens stand for, in the order of the text, with the places of their tokens.

    A word is a run of letters and digits, with apostrophes and hyphens inside; punctuation makes words of its own, and
    so does each character of scripts without spaces. Where one token lies in several of these, they are one word: so
    that every token with characters is in exactly one. Words without a token (those that were cut off) are left out.

    Args:
        text: that spans are of.
        spans: of its T tokens, from `token_spans`.
    """
    atoms = [match.span() for match in _WORD.finditer(text)]
    owned: list[tuple[Span, list[int]]] = []
    order = sorted((span, place) for place, span in enumerate(spans) if span is not None)
    for (start, end), place in order:
        touched = [atom for atom in atoms if atom[0] < end and atom[1] > start]
        low, high = min([start, *(atom[0] for atom in touched)]), max([end, *(atom[1] for atom in touched)])
        places = [place]
        while owned and owned[-1][0][1] > low:
            (before, after), others = owned.pop()
            low, high, places = min(low, before), max(high, after), [*others, *places]
        owned.append(((low, high), places))
    return owned
