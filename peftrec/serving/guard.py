"""What stands before every request: who may ask, how often, how much; and what is noted of it."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import secrets
import time
import traceback
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from peftrec.serving.error import REQUEST_ID, ApiError, error_response
from peftrec.serving.measurements import Measurements
from peftrec.serving.rate_limit import RateLimit
from peftrec.serving.settings import ServiceSettings, is_loopback

USERS: Final = "peftrec.users"
"""Key in a request's scope under which a route that reads users from the body names them for the log."""
_GUARDED: Final = ("/v1/", "/metrics", "/openapi.json")
_UNLIMITED: Final = ("/health", "/ready")
_BODY_SECONDS: Final = 30.0
_HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"content-security-policy", b"default-src 'self'; base-uri 'none'; frame-ancestors 'none'"),
)
_log = logging.getLogger("peftrec.serving")

_Scope = MutableMapping[str, Any]
_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]


class Guard:
    """ASGI middleware; paths are matched as they were sent, so that an id may hold any character, coded as %2F.

    Args:
        app: what answers.
        settings: of the service.
        measurements: where answers are counted.
    """

    def __init__(self, app: Any, settings: ServiceSettings, measurements: Measurements) -> None:
        self._app, self._settings, self._measurements = app, settings, measurements
        self._limit = RateLimit(settings.rate)
        self._token = None if settings.token is None else settings.token.encode()

    async def __call__(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        request_id = scope[REQUEST_ID] = secrets.token_hex(8)
        scope["path"] = scope.get("raw_path", scope["path"].encode()).split(b"?")[0].decode("latin-1")
        status = 0

        async def answer(message: _Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                given = {name for name, _ in message["headers"]}
                added = [header for header in _HEADERS if header[0] not in given]
                message["headers"] = [*message["headers"], *added, (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            self._admit(scope)
            await self._app(scope, self._limited(receive), answer)
        except ApiError as error:
            await error_response(scope, error.status_code, str(error.detail), error.headers)(scope, receive, answer)
        except Exception as error:
            self._note_fault(request_id, error)
            if not status:
                message = "a fault of the service; its log has more under the request id"
                await error_response(scope, 500, message)(scope, receive, answer)
        finally:
            self._note(scope, status, time.perf_counter() - started)

    def _admit(self, scope: _Scope) -> None:
        """Refuse who may not ask, or asks too often or for too much."""
        path, headers = scope["path"], dict(scope["headers"])
        if self._settings.local_only and not is_loopback(_host(headers.get(b"host", b""))):
            raise ApiError(403, "the service answers only to this machine: ask for 127.0.0.1 or localhost")
        if path not in _UNLIMITED:
            seconds = self._limit.wait_seconds((scope.get("client") or ("",))[0], time.monotonic())
            if seconds:
                raise ApiError(429, f"too many requests; try again in {seconds} s", {"Retry-After": str(seconds)})
        if self._token is not None and path.startswith(_GUARDED):
            scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
            if scheme.lower() != b"bearer" or not hmac.compare_digest(given.strip(), self._token):
                message = "send the service's token: Authorization: Bearer TOKEN"
                raise ApiError(401, message, {"WWW-Authenticate": "Bearer"})
        has_body = headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers
        # A page of another site may send other types without asking first.
        if has_body and headers.get(b"content-type", b"").split(b";")[0].strip().lower() != b"application/json":
            raise ApiError(415, "send a body as Content-Type: application/json")
        if has_body and headers.get(b"content-encoding", b"identity").strip().lower() != b"identity":
            raise ApiError(415, "send a body as it is, without Content-Encoding: the service unpacks none")
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length[:20]) > self._settings.max_body:
            raise self._too_large()

    def _limited(self, receive: _Receive) -> _Receive:
        """Return what hands out the body, until it is too large or too slow, whatever its headers said."""
        received = 0
        is_whole = False

        async def limited() -> _Message:
            nonlocal received, is_whole
            if is_whole:
                return await receive()  # waits until the client goes
            try:
                message = await asyncio.wait_for(receive(), _BODY_SECONDS)
            except TimeoutError:
                raise ApiError(408, f"the body did not come within {_BODY_SECONDS:.0f} s") from None
            received += len(message.get("body", b""))
            is_whole = not message.get("more_body", False)
            if received > self._settings.max_body:
                raise self._too_large()
            return message

        return limited

    def _too_large(self) -> ApiError:
        message = f"a body has at most {self._settings.max_body:,} bytes"
        return ApiError(413, message, {"Connection": "close"})

    def _note(self, scope: _Scope, status: int, seconds: float) -> None:
        """Count and log an answer, by the route's template: the path itself may name a user."""
        route = getattr(scope.get("route"), "path", "none")
        self._measurements.answered(scope["method"], route, status, seconds)
        if not _log.isEnabledFor(logging.INFO):
            return
        line = {
            "request_id": scope[REQUEST_ID],
            "method": scope["method"],
            "route": route,
            "status": status,
            "ms": round(1000 * seconds, 2),
        }
        if self._settings.log_users:
            own = scope.get("path_params", {}).get("user_id")
            line["users"] = scope.get(USERS, [] if own is None else [own])
        _log.info(json.dumps(line))

    def _note_fault(self, request_id: str, error: Exception) -> None:
        """Log where it happened; the message of the error may hold what was sent, a user's id among it."""
        where = "".join(traceback.format_tb(error.__traceback__))
        said = f": {error}" if self._settings.log_users else ""
        _log.error("request %s: %s%s\n%s", request_id, type(error).__name__, said, where)


def _host(header: bytes) -> str:
    """Return the name in a Host header, without the port."""
    text = header.decode("latin-1")
    return text.partition("]")[0] + "]" if text.startswith("[") else text.partition(":")[0]
