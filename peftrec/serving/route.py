"""What all routes share: how they reach the service, and which errors they may answer."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import Depends, Request

from peftrec.serving.answer import ErrorAnswer
from peftrec.serving.service import Service

_ERRORS: Final = {
    400: "The body cannot be read",
    401: "The token is missing or wrong",
    403: "The service answers only to its own machine",
    404: "There is no such thing",
    405: "The path does not take this method",
    408: "The body came too slowly",
    409: "It contradicts what is there; nothing was changed",
    413: "The body is too large",
    415: "The body is not declared as JSON",
    422: "The request is wrong; the message says where",
    429: "Too many requests; Retry-After says when to try again",
    500: "A fault of the service",
    503: "The event store cannot do it now",
}
ERRORS: Final[dict[int | str, dict[str, Any]]] = {
    status: {"model": ErrorAnswer, "description": description} for status, description in _ERRORS.items()
}


async def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


TheService = Annotated[Service, Depends(_service)]
