"""Routes for whoever runs the service."""

from __future__ import annotations

from fastapi import APIRouter, Response

from peftrec.config import InputError
from peftrec.serving.answer import HealthAnswer, ServiceAnswer, StateAnswer
from peftrec.serving.description import described_service
from peftrec.serving.error import ApiError
from peftrec.serving.fast_json import json_response
from peftrec.serving.route import ERRORS, TheService

router = APIRouter(tags=["operation"], responses=ERRORS)


@router.get("/health", response_model=HealthAnswer)
async def health() -> Response:
    """Say that the process lives."""
    return json_response({"status": "ok"})


@router.get("/ready", response_model=StateAnswer)
async def ready(service: TheService) -> Response:
    """Say whether requests are answered as they should be; 503 where not, with the reason."""
    if service.trouble is not None:
        raise ApiError(503, service.trouble)
    return json_response({"status": "ready", "items": len(service.recommender)})


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics(service: TheService) -> Response:
    """Return counts and times for Prometheus."""
    text = await service.aside(service.measurements.text)
    return Response(text, media_type="text/plain; version=0.0.4")


@router.get("/v1/service", response_model=ServiceAnswer)
async def describe_service(service: TheService) -> Response:
    """Say what the service can be asked for, which run, rules and re-ranking decide."""
    return json_response(described_service(service.recommender))


@router.post("/v1/reload", response_model=StateAnswer)
async def reload(service: TheService) -> Response:
    """Load the run folder again and go on with it; a folder that is not fit is refused, and the old one goes on."""
    try:
        await service.in_reload(service.reload)
    except InputError as error:
        raise ApiError(409, f"the old run goes on: {error}") from None
    return json_response({"status": "reloaded", "items": len(service.recommender)})
