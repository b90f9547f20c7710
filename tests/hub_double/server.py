"""The HTTP server of the double: reads requests, lets switched failures happen, writes what was done down."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from hub_double.answer import Answer, RefusedError, Request
from hub_double.endpoints import Endpoints
from hub_double.failure import Failure, Failures
from hub_double.store import Hub


class HubDouble:
    """A Hub that listens on 127.0.0.1.

    Args:
        hub: what it holds.
    """

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.failures = Failures()
        self.requests: list[Request] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        port = self._server.server_address[1]
        self.address = f"http://127.0.0.1:{port}"
        # Large files lie with another host, whom the client does not send its token.
        self.endpoints = Endpoints(hub, self.address, f"http://localhost:{port}")
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    @contextlib.contextmanager
    def failing(self, *failures: Failure) -> Iterator[Failures]:
        """Let things go wrong for a while; each must have happened in the end."""
        self.failures.switch_on(failures)
        try:
            yield self.failures
        finally:
            self.failures.switch_on(())

    def sent(self) -> list[bytes]:
        """Return the bodies of all requests."""
        return [request.body for request in self.requests]


def _handler(double: HubDouble) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            self._serve()

        do_HEAD = do_POST = do_PUT = do_GET

        def _serve(self) -> None:
            parts = urlsplit(self.path)
            failure = double.failures.at(f"{self.command} {parts.path}")
            if failure is not None and failure.kind == "slow":
                time.sleep(failure.seconds)
            length = int(self.headers.get("Content-Length") or 0)
            if failure is not None and failure.kind == "cut" and length:
                self.rfile.read(length // 2)
                self._break()
                return
            body = self._chunks() if self.headers.get("Transfer-Encoding") == "chunked" else self.rfile.read(length)
            request = _read(double.hub, self.command, parts, self.headers, body)
            double.requests.append(request)
            self._write(request, failure, self._answer(request, failure))

        def _answer(self, request: Request, failure: Failure | None) -> Answer:
            if failure is not None and failure.kind == "status":
                return RefusedError(failure.status, "switched on by a test").answer
            try:
                with double.hub.lock:
                    return double.endpoints.answer(request)
            except RefusedError as refused:
                return refused.answer

        def _write(self, request: Request, failure: Failure | None, answer: Answer) -> None:
            if failure is not None and failure.kind == "lost":
                self._break()
                return
            body = answer.body
            if failure is not None and failure.kind == "corrupt" and body:
                body = bytes([body[0] ^ 1]) + body[1:]
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if request.method == "HEAD":
                return
            if failure is not None and failure.kind == "cut":
                self.wfile.write(body[: len(body) // 2])
                self.wfile.flush()
                self._break()
                return
            self.wfile.write(body)

        def _chunks(self) -> bytes:
            found = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                found += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return found

        def _break(self) -> None:
            self.close_connection = True
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)

    return Handler


def _read(hub: Hub, method: str, parts: Any, headers: Any, body: bytes) -> Request:
    small = {name.lower(): value for name, value in headers.items()}
    kind, _, token = small.get("authorization", "").partition(" ")
    given = token if kind == "Bearer" and token else None
    path = tuple(unquote(part) for part in parts.path.strip("/").split("/"))
    return Request(
        method=method,
        path=path,
        query=dict(parse_qsl(parts.query)),
        headers=small,
        body=body,
        user=hub.users.get(given or ""),
        token=given,
    )
