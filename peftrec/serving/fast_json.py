"""JSON in and out, with nothing that JSON does not have."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from starlette.responses import Response

_DEEPEST: Final = 6
_LARGEST: Final = 2**63 - 1


def json_response(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a response that is written at once; what we made ourselves needs no second validation."""
    body = json.dumps(content, allow_nan=False, separators=(",", ":")).encode()
    return Response(body, status, headers, "application/json")


def plain_json(value: Any, depth: int = 0) -> Any:
    """Return a value that came as JSON, or refuse what only Python takes for it.

    Raises:
        ValueError: for NaN and infinities, numbers beyond 64 bits, half letters (lone surrogates), deep nesting.
    """
    if depth > _DEEPEST:
        raise ValueError(f"is nested more than {_DEEPEST} levels deep")
    if isinstance(value, str):
        _require_whole(value)
    elif isinstance(value, float):
        if not -1e300 < value < 1e300:
            raise ValueError("holds a number that is none, or is too large")
    elif isinstance(value, int):
        if abs(value) > _LARGEST:
            raise ValueError("holds a number that is too large")
    elif isinstance(value, list):
        for one in value:
            plain_json(one, depth + 1)
    elif isinstance(value, dict):
        for key, one in value.items():
            _require_whole(key)
            plain_json(one, depth + 1)
    return value


def _require_whole(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("holds half a letter (a lone surrogate)") from None
