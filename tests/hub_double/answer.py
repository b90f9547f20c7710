"""What a request says, and what is answered."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Request:
    """One request as the server has read it.

    Args:
        method: such as `GET`.
        path: without the query, unquoted piece by piece.
        query: names to values.
        headers: names in small letters.
        body: as sent.
        user: whose token it carries; None without one.
        token: as sent; None without one.
    """

    method: str
    path: tuple[str, ...]
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    user: str | None
    token: str | None

    @property
    def place(self) -> str:
        return "/" + "/".join(self.path)

    def json(self) -> Any:
        return json.loads(self.body)


@dataclasses.dataclass(frozen=True)
class Answer:
    status: int
    body: bytes = b""
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, content: Any, status: int = 200, **headers: str) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return cls(status, json.dumps(content).encode(), {"Content-Type": "application/json", **named})


class RefusedError(Exception):
    """An error that the Hub answers with."""

    def __init__(self, status: int, message: str, code: str | None = None, **more: Any) -> None:
        super().__init__(message)
        headers = {"X-Error-Message": message} | ({} if code is None else {"X-Error-Code": code})
        self.answer = Answer(
            status,
            json.dumps({"error": message, **more}).encode(),
            {"Content-Type": "application/json", **headers},
        )
