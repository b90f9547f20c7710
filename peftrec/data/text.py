"""Cleaning of item texts: HTML entities, HTML tags, white space."""

from __future__ import annotations

import html
import html.entities
import re

import polars as pl

_INLINE = "a|abbr|b|big|cite|code|del|em|font|i|ins|mark|q|s|small|span|strike|strong|sub|sup|tt|u|wbr"
_BLOCK = (
    "address|article|aside|blockquote|body|br|button|caption|center|dd|div|dl|dt|fieldset|figcaption|figure|footer|"
    "form|h[1-6]|head|header|hr|html|iframe|img|input|label|li|link|main|meta|nav|object|ol|option|p|pre|section|"
    "select|table|tbody|td|textarea|tfoot|th|thead|title|tr|ul|video"
)
# With its semicolon: html.unescape alone makes "¬ice" of "&notice".
_ENTITY = r"&(?:#\d+|#[xX][0-9a-fA-F]+|[A-Za-z][A-Za-z0-9]*);"
_HIDDEN = r"(?is)<!--.*?-->|<script\b[^>]*>.*?</script\s*>|<style\b[^>]*>.*?</style\s*>"


def clean_text(values: pl.Series, *, strip_html: bool = True) -> pl.Series:
    """Texts as people would read them.

    HTML entities are decoded (twice, as '&amp;amp;' is common), known HTML tags dropped: what breaks a line leaves a
    space, what only marks ('<b>') leaves none; comments, scripts and styles go with their content. '<' that begins
    no known tag stays. Control characters and white space of any kind become single spaces.

    Args:
        values: a text column.
        strip_html: False leaves entities and tags, and only makes white space single.
    Returns:
        The column cleaned, null where it was null.
    """
    cleaned = values
    if strip_html:
        cleaned = _decoded(_decoded(cleaned))
        marked = cleaned.str.contains("<", literal=True).fill_null(False)
        if marked.any():
            plain = (
                cleaned.str.replace_all(_HIDDEN, " ")
                .str.replace_all(rf"(?i)</?(?:{_BLOCK})(?:\s[^<>]*)?/?>", " ")
                .str.replace_all(rf"(?i)</?(?:{_INLINE})(?:\s[^<>]*)?/?>", "")
            )
            cleaned = plain
    return cleaned.str.replace_all(r"[\s\p{Cc}]+", " ").str.strip_chars(" ")


def _decoded(values: pl.Series) -> pl.Series:
    """HTML entities decoded; only the distinct values that may hold one are handed to Python."""
    held = values.str.contains(_ENTITY).fill_null(False)
    if not held.any():
        return values
    old = values.filter(held).unique()
    new = pl.Series([re.sub(_ENTITY, _character, value) for value in old.to_list()], dtype=pl.String)
    return values.replace(old, new)


def _character(entity: re.Match[str]) -> str:
    name = entity[0][1:]
    return html.unescape(entity[0]) if name.startswith("#") or name in html.entities.html5 else entity[0]
