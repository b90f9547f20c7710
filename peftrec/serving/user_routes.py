"""Routes of users: what they did, and what they are recommended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from peftrec.config import InputError
from peftrec.recommender import Recommender
from peftrec.serving.answer import EventsAnswer, ExplanationsAnswer, ListAnswer, PastAnswer, UserDeletedAnswer
from peftrec.serving.event import Event
from peftrec.serving.fast_json import json_response
from peftrec.serving.guard import USERS
from peftrec.serving.list_making import Answer, list_for
from peftrec.serving.message import (
    MOST_WITH_WORDS,
    EventsMessage,
    ExplanationsMessage,
    HistoryMessage,
    ListQuery,
    PastQuery,
    PathId,
)
from peftrec.serving.one_user import OneUser, user_of_message, user_of_store
from peftrec.serving.reason_making import explained, reasons_of
from peftrec.serving.route import ERRORS, TheService
from peftrec.serving.service import Service

router = APIRouter(prefix="/v1", tags=["users"], responses=ERRORS)


@router.post("/events", response_model=EventsAnswer)
async def post_events(message: EventsMessage, request: Request, service: TheService) -> Response:
    """Store events. When this answers they are on the disk, and the user's next list knows them."""
    request.scope[USERS] = list(dict.fromkeys(event.user_id for event in message.events))
    recommender = service.recommender
    words = recommender.recipe.data.event_words
    for event in message.events:
        if words is not None and event.kind is not None and event.kind not in words:
            raise InputError(f"kind: {event.kind!r} is not a kind of event of this run; there are {', '.join(words)}")
    events = [Event(one.event_id, one.user_id, one.item_id, one.time_ms, one.kind) for one in message.events]
    appended = await asyncio.wrap_future(service.store.append(events))
    service.measurements.events.inc(appended.stored)
    unknown = dict.fromkeys(event.item_id for event in events if not recommender.readable(event.item_id))
    return json_response({"stored": appended.stored, "repeated": appended.repeated, "unknown_items": list(unknown)})


@router.get("/users/{user_id}/recommendations", response_model=ListAnswer)
async def get_list(user_id: PathId, query: Annotated[ListQuery, Query()], service: TheService) -> Response:
    """Return the list of a user; of one who is unknown, the most popular items, and that it is so."""
    recommender, store = service.recommender, service.store

    def work() -> tuple[OneUser, Answer]:
        user = user_of_store(recommender, store, user_id)
        return user, list_for(recommender, user, query)

    return await _listed(service, recommender, work, explain=query.explain)


@router.post("/recommendations", response_model=ListAnswer)
async def post_history(message: HistoryMessage, service: TheService) -> Response:
    """Return the list for a history that is sent; nothing of it is stored."""
    recommender = service.recommender

    def work() -> tuple[OneUser, Answer]:
        user = user_of_message(recommender, message)
        return user, list_for(recommender, user, message)

    return await _listed(service, recommender, work, explain=message.explain)


@router.post("/explanations", response_model=ExplanationsAnswer)
async def post_explanations(message: ExplanationsMessage, service: TheService) -> Response:
    """Return why items have their scores for a history that is sent: by which events and, if asked, by which words."""
    recommender, ids = service.recommender, message.item_ids
    if message.words and len(ids) > MOST_WITH_WORDS:
        raise InputError(f"item_ids: words are found for {MOST_WITH_WORDS} items at a time, and these are {len(ids)}")
    gone = next((item_id for item_id in ids if item_id not in recommender), None)
    if gone is not None:
        raise InputError(f"item_ids: no item has the id {gone!r}")
    user = user_of_message(recommender, message)
    # With words, one by one: new items, which need the encoder too, come in between.
    parts = [[item_id] for item_id in ids] if message.words else [ids]
    lane = service.words if message.words else service.reasons
    found = await lane.run([partial(explained, recommender, user, part, words=message.words) for part in parts])
    return json_response({"explanations": [one for part in found for one in part], "skipped": user.skipped})


@router.get("/users/{user_id}/history", response_model=PastAnswer)
async def get_past(user_id: PathId, query: Annotated[PastQuery, Query()], service: TheService) -> Response:
    """Return a user's newest events, newest first."""
    recommender = service.recommender

    def read() -> list[dict[str, object]]:
        past = service.store.history(user_id, query.k)
        return [
            {
                "event_id": event.event_id,
                "item_id": event.item_id,
                "title": recommender.title(event.item_id),
                "time_ms": event.time_ms,
                "kind": event.kind,
            }
            for event in reversed(past)
        ]

    return json_response({"events": await service.aside(read)})


@router.delete("/users/{user_id}", response_model=UserDeletedAnswer)
async def delete_user(user_id: PathId, service: TheService) -> Response:
    """Erase all events of a user. When this answers, nothing of them is left in the store's files, nor in the log of
    what rules hid."""
    deleted = await asyncio.wrap_future(service.store.delete_user(user_id))
    rules = service.recommender.rules
    if rules is not None:
        await service.in_lists(lambda: None)  # what was asked of the user before has been logged
        await service.aside(partial(rules.forget, user_id))
    return json_response({"deleted_events": deleted})


async def _listed(
    service: Service, recommender: Recommender, work: Callable[[], tuple[OneUser, Answer]], *, explain: bool
) -> Response:
    user, answer = await service.in_lists(work)
    service.measurements.listed(answer)
    items = answer["items"]
    if explain and items:
        ids = [item["item_id"] for item in items]
        (reasons,) = await service.reasons.run([partial(reasons_of, recommender, user, ids)])
        for item in items:
            item["explanation"] = reasons.get(item["item_id"])
    return json_response(answer)
