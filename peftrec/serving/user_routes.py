"""Routes of users: what they did, and what they are recommended."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from peftrec.config import InputError
from peftrec.serving.event import Event
from peftrec.serving.fast_json import json_response
from peftrec.serving.guard import USERS
from peftrec.serving.list_making import Answer, list_for_history, list_for_user
from peftrec.serving.message import (
    EventsAnswer,
    EventsMessage,
    HistoryMessage,
    ListAnswer,
    ListQuery,
    PathId,
    UserDeletedAnswer,
)
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
    return _counted(service, await service.in_lists(lambda: list_for_user(recommender, store, user_id, query)))


@router.post("/recommendations", response_model=ListAnswer)
async def post_history(message: HistoryMessage, service: TheService) -> Response:
    """Return the list for a history that is sent; nothing of it is stored."""
    recommender = service.recommender
    return _counted(service, await service.in_lists(lambda: list_for_history(recommender, message)))


@router.delete("/users/{user_id}", response_model=UserDeletedAnswer)
async def delete_user(user_id: PathId, service: TheService) -> Response:
    """Erase all events of a user. When this answers, nothing of them is left in the store's files."""
    return json_response({"deleted_events": await asyncio.wrap_future(service.store.delete_user(user_id))})


def _counted(service: Service, answer: Answer) -> Response:
    if answer["fallback"] is not None:
        service.measurements.fallbacks.inc()
    return json_response(answer)
