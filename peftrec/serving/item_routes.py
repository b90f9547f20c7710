"""Routes of items: finding, adding, changing and removing them."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Query, Response

from peftrec.config import InputError
from peftrec.serving.answer import AddedAnswer, FoundAnswer, ItemAnswer, ListAnswer
from peftrec.serving.error import ApiError
from peftrec.serving.event import ItemContent
from peftrec.serving.event_store import WrittenItem
from peftrec.serving.fast_json import json_response
from peftrec.serving.list_making import similar_items
from peftrec.serving.message import ContentMessage, ItemsMessage, PathId, SearchQuery, SimilarQuery
from peftrec.serving.route import ERRORS, TheService
from peftrec.serving.service import Service
from peftrec.serving.title_search import described

router = APIRouter(prefix="/v1/items", tags=["items"], responses=ERRORS)


@router.get("", response_model=FoundAnswer)
async def search_items(query: Annotated[SearchQuery, Query()], service: TheService) -> Response:
    """Return items whose titles hold all words of the query."""
    recommender = service.recommender

    def search() -> dict[str, object]:
        ids = service.titles.find(recommender, query.query, query.k)
        return {"items": [described(recommender, item_id) for item_id in ids if item_id in recommender]}

    return json_response(await service.aside(search))


@router.post("", response_model=AddedAnswer, status_code=201)
async def post_items(message: ItemsMessage, service: TheService) -> Response:
    """Add items. When this answers they are on the disk, encoded, and can be recommended; nothing is trained."""
    ids = [item.item_id for item in message.items]
    if len(set(ids)) < len(ids):
        raise InputError("items: two of them have the same item_id")
    known = next((item_id for item_id in ids if item_id in service.recommender), None)
    if known is not None:
        raise ApiError(409, f"item {known!r} is in the catalogue already")
    contents = [(item.item_id, _content(item)) for item in message.items]
    written = await asyncio.wrap_future(service.store.add_items(contents))
    await _taken_in(service, list(zip(ids, written, strict=True)))
    return json_response({"item_ids": ids}, 201)


@router.get("/{item_id}", response_model=ItemAnswer)
async def get_item(item_id: PathId, service: TheService) -> Response:
    """Return an item."""
    return json_response(_described(service, item_id))


@router.put("/{item_id}", response_model=ItemAnswer)
async def put_item(item_id: PathId, message: ContentMessage, service: TheService) -> Response:
    """Replace what an item says about itself. When this answers, lists go by the new content."""
    _described(service, item_id)
    written = await asyncio.wrap_future(service.store.update_item(item_id, _content(message)))
    await _taken_in(service, [(item_id, written)])
    return json_response(_described(service, item_id))


@router.delete("/{item_id}", status_code=204)
async def delete_item(item_id: PathId, service: TheService) -> Response:
    """Remove an item from all lists. Histories that have it still count it."""
    _described(service, item_id)
    written = await asyncio.wrap_future(service.store.remove_item(item_id))
    await _taken_in(service, [(item_id, written)])
    return Response(status_code=204)


@router.get("/{item_id}/similar", response_model=ListAnswer)
async def get_similar(item_id: PathId, query: Annotated[SimilarQuery, Query()], service: TheService) -> Response:
    """Return the items whose vectors are most like an item's."""
    _described(service, item_id)
    recommender = service.recommender
    answer = await service.in_lists(lambda: similar_items(recommender, item_id, query))
    service.measurements.listed(answer)
    return json_response(answer)


def _content(message: ContentMessage) -> ItemContent:
    title = message.text if message.title is None else message.title
    return ItemContent(message.text, title, message.attributes, message.fields)


def _described(service: Service, item_id: str) -> dict[str, object]:
    recommender = service.recommender
    if item_id not in recommender:
        raise ApiError(404, f"no item has the id {item_id!r}")
    return described(recommender, item_id)


async def _taken_in(service: Service, written: list[tuple[str, WrittenItem]]) -> None:
    """Wait until changes are in the index; where one cannot be, take all of them back."""
    reasons = await asyncio.gather(*(service.applied(change.number) for _, change in written))
    reason = next((one for one in reasons if one is not None), None)
    if reason is None:
        return
    for item_id, change in written:
        number = await asyncio.wrap_future(service.store.revert_item(item_id, change))
        if number is not None:
            await service.applied(number)
    raise InputError(reason)
