"""An explanation in plain words, by template."""

from __future__ import annotations

import dataclasses
import string
import unicodedata
from collections.abc import Sequence
from typing import Final

from peftrec.config import InputError
from peftrec.explaining.explanation import Basis, HistoryEvidence, WordEvidence

# An event that moves the score by less than this share of it is not named: nor is a word.
LEAST_SHARE: Final = 0.01
_MOST_EVENTS: Final = 2
_MOST_WORDS: Final = 3
_LONGEST: Final = 80
_PLACEHOLDERS: Final = {"history": "items", "against": "items", "words": "words"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class SentenceTemplates:
    """What is said in each case; parts are put together with `between` and a full stop at the end.

    Args:
        history: where events carry the item; has `{items}`, once.
        words: where words do; has `{words}`, once.
        against: where the strongest event is one that speaks against the item; has `{items}`, once.
        nothing: where no single event carries it.
        attributes: where there is no history, but something else is known of the user.
        popularity: where nothing is.
        both: between two titles or words.
        between: between two parts.
    Raises:
        InputError: if a template lacks its placeholder, has it twice or has another, or is empty.
    """

    history: str = "Because you had {items}"
    words: str = "its text says {words}"
    against: str = "{items} speaks against it"
    nothing: str = "No single item of your history carries this"
    attributes: str = "From what is known of you; there is no history"
    popularity: str = "Popular: nothing is known of you yet"
    both: str = " and "
    between: str = "; "

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            template, wanted = getattr(self, field.name), _PLACEHOLDERS.get(field.name)
            if not isinstance(template, str) or not template:
                raise InputError(f"template {field.name}: {template!r} is no text; write one, or leave it out")
            _check(field.name, template, wanted)

    def fill(self, name: str, values: Sequence[str]) -> str:
        """Return a template with titles or words in the place of its placeholder, which they themselves never are."""
        template: str = getattr(self, name)
        return template.format(**{_PLACEHOLDERS[name]: self.both.join(values)})


def _check(name: str, template: str, wanted: str | None) -> None:
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise InputError(f"template {name}: {template!r} cannot be read ({error}); write {{{{ for a brace") from None
    found = [(field, spec, conversion) for _, field, spec, conversion in parts if field is not None]
    if wanted is None and found:
        raise InputError(f"template {name}: {template!r} has no placeholder to fill, but holds {{{found[0][0]}}}")
    if wanted is not None and found != [(wanted, "", None)]:
        raise InputError(f"template {name}: {template!r} must hold {{{wanted}}} once, and no other placeholder")


def sentence(
    templates: SentenceTemplates,
    basis: Basis,
    score: float,
    evidence: Sequence[HistoryEvidence],
    words: Sequence[WordEvidence] | None,
) -> str:
    """Say in plain words why an item has its score, and no more than the evidence bears.

    Named are the two items of the history whose loss would lower the score most, the one that would raise it most where
    that is more than any would lower it, and up to three words; each only if it moves the score by a hundredth of it.

    Args:
        templates: what to say.
        basis: what the score stands on.
        score: of the item.
        evidence: of the history, in any order.
        words: of the item's text, or None.
    """
    least = LEAST_SHARE * abs(score)
    ordered = sorted(evidence, key=lambda event: -event.change)
    carrying = [event for event in ordered if event.change > least]
    if basis == "history":
        parts = [templates.fill("history", _names(carrying)) if carrying else templates.nothing]
        strongest = carrying[0].change if carrying else least
        if ordered and -ordered[-1].change > strongest:
            parts.append(templates.fill("against", _names(ordered[-1:])))
    else:
        parts = [templates.attributes if basis == "attributes" else templates.popularity]
    said = _said(words or (), least)
    if said:
        parts.append(templates.fill("words", said))
    text = templates.between.join(parts)
    return text[0].upper() + text[1:] + "."


def _names(events: Sequence[HistoryEvidence]) -> list[str]:
    """Return the titles of the first events, each item once."""
    titles = {event.item_id: plain(event.title) or plain(event.item_id) for event in events}
    return list(titles.values())[:_MOST_EVENTS]


def _said(words: Sequence[WordEvidence], least: float) -> list[str]:
    """Return the words of letters or digits with the highest attributions in quotes, each once."""
    found: dict[str, str] = {}
    for word in sorted(words, key=lambda word: -word.attribution):
        if word.attribution > least and any(character.isalnum() for character in word.text):
            found.setdefault(word.text.casefold(), f"'{plain(word.text)}'")
    return list(found.values())[:_MOST_WORDS]


def plain(text: str) -> str:
    """Return a title as one line without control characters, cut to 80 characters.

    Marks that turn the direction of what follows are taken out too: they would turn the rest of the sentence.
    """
    line = " ".join("".join(_visible(character) for character in text).split())
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1].rstrip() + "…"


def _visible(character: str) -> str:
    if unicodedata.bidirectional(character) in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"):
        return ""
    return {"Cc": " ", "Zl": " ", "Zp": " ", "Cs": "\ufffd"}.get(unicodedata.category(character), character)
