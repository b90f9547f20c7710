"""Explanations as the service answers them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from peftrec.config import InputError
from peftrec.explaining import Explanation
from peftrec.recommender import Recommender
from peftrec.serving.list_making import Answer
from peftrec.serving.one_user import OneUser

_NUM_EVIDENCE: Final = 3
_TRIES: Final = 3


def reasons_of(recommender: Recommender, user: OneUser, item_ids: Sequence[str]) -> dict[str, Answer]:
    """Return why each item of a list is there, but for items that have been removed since it was made."""
    for _ in range(_TRIES):
        there = [item_id for item_id in item_ids if item_id in recommender]
        try:
            found = recommender.explain(user.history, there, num_evidence=_NUM_EVIDENCE, **user.told)
        except InputError:
            if all(item_id in recommender for item_id in there):
                raise
            continue  # one was removed meanwhile
        return {one.item_id: {"sentence": one.sentence, "evidence": _evidence(one, user.places)} for one in found}
    return {}


def explained(recommender: Recommender, user: OneUser, item_ids: Sequence[str], *, words: bool) -> list[Answer]:
    """Return explanations of items that were asked for.

    Raises:
        InputError: if an item is not there, the run does not read what it is told, or has no words to find.
    """
    for _ in range(_TRIES):
        texts = [recommender.item(item_id).text for item_id in item_ids]
        found = recommender.explain(user.history, item_ids, words=words, num_evidence=_NUM_EVIDENCE, **user.told)
        # Words have their places in the text that was explained: it may have been replaced meanwhile.
        if not words or texts == [recommender.item(item_id).text for item_id in item_ids]:
            break
    return [_answer(one, text, user) for one, text in zip(found, texts, strict=True)]


def _answer(one: Explanation, text: str, user: OneUser) -> Answer:
    told = one.word_attribution
    words: list[dict[str, Any]] | None = None
    if one.words is not None:
        words = [
            {"text": word.text, "start": word.start, "end": word.end, "attribution": word.attribution}
            for word in one.words
        ]
    return {
        "item_id": one.item_id,
        "score": one.score,
        "sentence": one.sentence,
        "evidence": _evidence(one, user.places),
        "text": text,
        "words": words,
        "complete": None if told is None else told.complete,
    }


def _evidence(one: Explanation, places: Sequence[int] | None) -> list[Answer]:
    return [
        {
            "item_id": event.item_id,
            "title": event.title,
            "event": event.event if places is None else places[event.event],
            "change": event.change,
            "attention": event.attention,
        }
        for event in one.evidence
    ]
