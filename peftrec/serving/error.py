"""Errors as callers get them: one shape, whatever went wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from peftrec.config import InputError
from peftrec.retrieval.rules import AuditUnavailable
from peftrec.serving.event_store import StoreConflict, StoreUnavailable
from peftrec.serving.fast_json import json_response

REQUEST_ID: Final = "peftrec.request_id"
"""Key of a request's id in its scope."""
_LONGEST: Final = 500
_UNREADABLE: Final = "There was an error parsing the body"  # FastAPI's words
_CODES: Final = {
    400: "bad_request", 401: "unauthorized", 403: "forbidden", 404: "not_found", 405: "method_not_allowed",
    408: "timeout", 409: "conflict", 413: "too_large", 415: "unsupported_media_type", 422: "invalid_request",
    429: "rate_limited", 500: "internal", 503: "unavailable",
}  # fmt: skip


class ApiError(HTTPException):
    """A request is refused.

    Args:
        status_code: of the answer.
        message: one sentence for whoever sent the request.
        headers: of the answer.
    """

    def __init__(self, status_code: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status_code, message, dict(headers or {}))


def error_response(
    scope: Mapping[str, Any], status: int, message: str, headers: Mapping[str, str] | None = None
) -> Response:
    """Return an error in the one shape that all have."""
    error = {
        "code": _CODES.get(status, "error"),
        "message": message[:_LONGEST],
        "request_id": scope.get(REQUEST_ID, ""),
    }
    return json_response({"error": error}, status, headers)


def add_handlers(app: Any) -> None:
    """Let an application answer every exception that a request may cause in the one shape."""
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(InputError, _input)
    app.add_exception_handler(StoreConflict, _conflict)
    app.add_exception_handler(StoreUnavailable, _unavailable)
    app.add_exception_handler(AuditUnavailable, _unlogged)


async def _invalid(request: Request, error: RequestValidationError) -> Response:
    # What was sent is not repeated: it may be large, no JSON, or about somebody.
    found = [f"{'.'.join(str(part)[:50] for part in one['loc'])}: {one['msg']}" for one in error.errors()[:3]]
    return error_response(request.scope, 422, "; ".join(found))


async def _http(request: Request, error: HTTPException) -> Response:
    message = str(error.detail)
    if error.status_code == 400 and message == _UNREADABLE:
        message = "body: is no JSON that can be read, or is nested too deep"
    return error_response(request.scope, error.status_code, message, error.headers)


async def _input(request: Request, error: InputError) -> Response:
    return error_response(request.scope, 422, str(error))


async def _conflict(request: Request, error: StoreConflict) -> Response:
    return error_response(request.scope, 409, str(error))


async def _unlogged(request: Request, error: AuditUnavailable) -> Response:
    return error_response(request.scope, 503, f"the log of what rules hid: {error}", {"Retry-After": "1"})


async def _unavailable(request: Request, error: StoreUnavailable) -> Response:
    return error_response(request.scope, 503, f"the event store: {error}", {"Retry-After": "1"})
