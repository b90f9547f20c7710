"""Item text from columns: `"{title}. {category}"`, without dangling separators where a value is empty."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from string import Formatter
from typing import TYPE_CHECKING

from peftrec.config import RecipeError, nearest
from peftrec.data.naming import listed

if TYPE_CHECKING:
    import polars as pl

_CLOSERS = {"(": ")", "[": "]", "{": "}", '"': '"', "“": "”", "«": "»"}
# What parts two values: sentence punctuation before white space, a dash or bar among white space, a line break, the
# punctuation of scripts that put no space after it. The literal's ends count as white space.
_SEPARATOR = re.compile(r"\s*[.,;!?](?=\s|$)\s*|(?:^|\s+)[-/|>–—•·]+(?:\s+|$)|\s*\n\s*|\s*[。、，；！？،؛۔।]\s*")
_LEADING = " \t\n.,;:!?-/|>–—•·。、，；：！？،؛۔।"
_SENTENCE_END = (".", "!", "?", "…", "。", "！", "？", "۔", "।")
_FULL_STOPS = (".", "。", "۔", "।")


@dataclass(frozen=True)
class _Token:
    text: str  # one character of a literal, or a field's name
    is_field: bool


@dataclass(frozen=True)
class _Part:
    """A field, or a bracketed group of fields, with the literals around it."""

    field: str | None = None
    group: _Level | None = None
    brackets: str = ""
    separator: str = ""  # stands between two parts that both hold something
    prefix: str = ""  # belongs to this part: ' by ', 'Brand: '
    suffix: str = ""  # belongs to this part: ' kg'


@dataclass(frozen=True)
class _Level:
    parts: tuple[_Part, ...]


@dataclass(frozen=True)
class Template:
    """A text with `{column}` fields, filled without string formatting, so braces in values are only braces.

    A value is empty if it is null or white space. Literal text follows these rules:

    1. The literal between two fields falls into what belongs to the field before (`" kg"`), the separator (`". "`,
       `" - "`, `", "`, a line break) and what belongs to the field after (`"Brand: "`, `" by "`). An empty field takes
       its own literals along, and a separator stands only between two fields that hold something.
    2. Brackets or double quotes with fields inside are one field: empty if all of them are, and else kept with the
       same rules inside. `"{title} ({year}, {country})"` gives "Toy", "Toy (1995)", "Toy (US)", "Toy (1995, US)".
    3. Where the first field is empty, the text starts without separator: `". Genre: {genre}"` gives "Genre: Drama".
    4. A full stop that follows a value ending in `. ! ? …` is left out: "Dr. No." + ". Action" is "Dr. No. Action".
    5. Where all fields are empty, the text is empty.

    `{{` and `}}` stand for braces.

    Args:
        text: the template.
    Raises:
        ValueError: if it has no field, an empty or positional field, a conversion, or a format.
    """

    text: str

    def __post_init__(self) -> None:
        assert self._level is not None

    @property
    def fields(self) -> tuple[str, ...]:
        """The columns it names, each once, in order."""
        return tuple(dict.fromkeys(field for _, field in _tokens(self.text) if field is not None))

    def check(self, columns: Iterable[str], *, table: str, key: str = "data.template") -> None:
        """Refuses a template that names a column which is not there.

        Args:
            columns: the columns of the table.
            table: what the table is called in the message.
            key: the recipe's key that holds the template, for the message.
        Raises:
            RecipeError: naming the column, the nearest one, and those that are there.
        """
        there = tuple(columns)
        for field in self.fields:
            if field not in there:
                raise RecipeError(
                    f"{key} {self.text!r} names the column {field!r}, which {table} lacks."
                    f"{nearest(field, there)} Columns there: {listed(there)}"
                )

    def render(self, frame: pl.DataFrame) -> pl.Series:
        """The text of each row.

        Args:
            frame: holds the template's columns, as text.
        Returns:
            One text a row, "" where all fields are empty; never null.
        """
        return _render(self._level, frame).alias("text")

    @cached_property
    def _level(self) -> _Level:
        return _parse(self.text)


def _tokens(text: str) -> list[tuple[str, str | None]]:
    """(literal, field after it or None) pairs, checked."""
    tokens: list[tuple[str, str | None]] = []
    try:
        parsed = list(Formatter().parse(text))
    except ValueError as error:
        raise ValueError(f"template {text!r}: {error}; write {{{{ and }}}} for braces") from None
    for literal, field, spec, conversion in parsed:
        if field is not None and (not field.strip() or field.isdigit()):
            raise ValueError(f"template {text!r}: {{{field}}} must name a column")
        if spec or conversion or (field is not None and ("[" in field or "{" in field)):
            raise ValueError(f"template {text!r}: {{{field}}} takes a column name only, no format or conversion")
        tokens.append((literal, field))
    if all(field is None for _, field in tokens):
        raise ValueError(f"template {text!r} names no column; e.g. '{{title}}. {{category}}'")
    return tokens


def _parse(text: str) -> _Level:
    characters_and_fields: list[_Token] = []
    for literal, field in _tokens(text):
        characters_and_fields += [_Token(character, is_field=False) for character in literal]
        if field is not None:
            characters_and_fields.append(_Token(field, is_field=True))
    return _level_of(characters_and_fields)


def _level_of(tokens: Sequence[_Token]) -> _Level:
    """Finds the outermost brackets that hold a field, and gives the literals to the parts around them."""
    literals, elements = [""], []
    place = 0
    while place < len(tokens):
        token, close = tokens[place], _closing(tokens, place)
        if token.is_field:
            elements.append(_Part(field=token.text))
            literals.append("")
        elif close is not None:
            group = _level_of(tokens[place + 1 : close])
            elements.append(_Part(group=group, brackets=token.text + tokens[close].text))
            literals.append("")
            place = close
        else:
            literals[-1] += token.text
        place += 1
    return _Level(_with_literals(elements, literals))


def _closing(tokens: Sequence[_Token], place: int) -> int | None:
    """Where the bracket at `place` closes, if it is one and a field lies inside."""
    opener = tokens[place]
    if opener.is_field or opener.text not in _CLOSERS:
        return None
    depth, fields = 1, 0
    for later in range(place + 1, len(tokens)):
        token = tokens[later]
        fields += token.is_field
        if token.is_field:
            continue
        if token.text == _CLOSERS[opener.text]:  # asked first: a straight quote opens and closes
            depth -= 1
        elif token.text == opener.text:
            depth += 1
        if depth == 0:
            return later if fields else None
    return None


def _with_literals(elements: Sequence[_Part], literals: Sequence[str]) -> tuple[_Part, ...]:
    """Gives each literal to the parts around it: suffix of the one before, separator, prefix of the one after."""
    assert len(literals) == len(elements) + 1
    separators, prefixes, suffixes = [""], [literals[0]], []
    for literal in literals[1:-1]:
        match = _SEPARATOR.search(literal)
        if match is None:
            suffixes.append("")
            separators.append("")
            prefixes.append(literal)
        else:
            suffixes.append(literal[: match.start()])
            separators.append(match.group())
            prefixes.append(literal[match.end() :])
    suffixes.append(literals[-1])
    return tuple(
        replace(element, separator=separator, prefix=prefix, suffix=suffix)
        for element, separator, prefix, suffix in zip(elements, separators, prefixes, suffixes, strict=True)
    )


def _render(level: _Level, frame: pl.DataFrame) -> pl.Series:
    import polars as pl  # recipes are checked without it

    text = pl.repeat("", frame.height, dtype=pl.String, eager=True)
    for number, part in enumerate(level.parts):
        if part.field is not None:
            value = frame[part.field].fill_null("").str.strip_chars()
        else:
            assert part.group is not None
            value = _render(part.group, frame)
            value = _choose(value == "", value, part.brackets[0] + value + part.brackets[1])
        filled = _append(value, part.suffix)
        first = part.prefix if number == 0 else part.prefix.lstrip(_LEADING)
        joined = _append(text, part.separator + part.prefix) + filled
        text = _choose(value == "", text, _choose(text == "", first + filled, joined))
    return text.str.strip_chars()


def _append(text: pl.Series, literal: str) -> pl.Series:
    """`text + literal`, without the literal's full stop where the text already ends a sentence."""
    bare = literal.lstrip()
    if not bare.startswith(_FULL_STOPS):
        return text + literal
    ended = text.str.slice(-1).is_in(_SENTENCE_END)
    return _choose(ended, text + bare[1:], text + literal)


def _choose(condition: pl.Series, yes: pl.Series, no: pl.Series) -> pl.Series:
    import polars as pl  # recipes are checked without it

    return pl.select(pl.when(condition).then(yes).otherwise(no)).to_series()
