"""Who may ask, how often and how much; what is logged and counted."""

from __future__ import annotations

import gzip
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from peftrec.serving.rate_limit import RateLimit

TOKEN = "a-token-that-nobody-guesses"
NAME = "Rosalind"
LIST = "/v1/users/ann/recommendations"


@pytest.fixture(scope="module")
def closed(served_run: Path, start_service: Callable[..., TestClient], tmp_path_factory: Any) -> TestClient:
    """A service that wants a token, and small bodies."""
    store = tmp_path_factory.mktemp("closed") / "events.db"
    return start_service(served_run, store, token=TOKEN, max_body=2000, local_only=False)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.parametrize("path", [LIST, "/v1/items", "/metrics", "/openapi.json", "/v1/nothing"])
def test_without_the_token_nothing_is_told(closed: TestClient, path: str) -> None:
    refused: list[dict[str, str]] = [
        {}, bearer(""), bearer(TOKEN[:-1]), bearer(TOKEN + "x"), bearer("é"), {"Authorization": TOKEN},
        {"Authorization": f"Basic {TOKEN}"}, {"Cookie": f"token={TOKEN}"},
    ]  # fmt: skip
    for headers in refused:
        sent = {name: value.encode() for name, value in headers.items()}
        answer = closed.get(path, headers=sent)  # type: ignore[arg-type]
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "unauthorized")
        assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert closed.get(path, headers=bearer(TOKEN)).status_code == (404 if "nothing" in path else 200)
    assert closed.get(path, headers={"Authorization": f"bearer {TOKEN}"}).status_code != 401


@pytest.mark.parametrize("path", ["/v1%2Fitems", "/%761/items", "//v1/items", "/V1/items", "/x/../v1/items"])
def test_no_spelling_of_a_path_gets_around_the_token(closed: TestClient, path: str) -> None:
    assert closed.get(path).status_code in (401, 404)


def test_health_needs_no_token(closed: TestClient) -> None:
    assert closed.get("/health").json() == {"status": "ok"}
    assert closed.get("/ready").json() == {"status": "ready", "items": 40}


def test_large_bodies_are_refused_before_they_are_read(closed: TestClient) -> None:
    sent: list[int] = []

    def chunks() -> Iterator[bytes]:
        for _ in range(10_000):
            sent.append(1000)
            yield b" " * 1000

    whole = closed.post(
        "/v1/events", content=b" " * 10_000_000, headers=bearer(TOKEN) | {"Content-Type": "application/json"}
    )
    chunked = closed.post("/v1/events", content=chunks(), headers=bearer(TOKEN) | {"Content-Type": "application/json"})
    for answer in (whole, chunked):
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")
        assert "2,000 bytes" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""]
)
def test_what_a_page_of_another_site_could_send_is_refused(shared_client: TestClient, kind: str) -> None:
    body = b'{"events": [{"event_id": "a", "user_id": "b", "item_id": "c"}]}'
    answer = shared_client.post("/v1/events", content=body, headers={"Content-Type": kind} if kind else {})
    assert (answer.status_code, answer.json()["error"]["code"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize("body", [b"\xff\xfe{", b"[" * 100_000, b'{"k": ' + b"9" * 5000 + b"}"])
def test_bodies_that_cannot_be_read_are_told(shared_client: TestClient, body: bytes) -> None:
    answer = shared_client.post("/v1/recommendations", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == "body: is no JSON that can be read, or is nested too deep"


def test_packed_bodies_are_refused(shared_client: TestClient) -> None:
    packed = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    answer = shared_client.post("/v1/recommendations", content=gzip.compress(b'{"history": []}'), headers=packed)
    assert (answer.status_code, answer.json()["error"]["code"]) == (415, "unsupported_media_type")
    assert "without Content-Encoding" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("host", "is_local"),
    [
        ("127.0.0.1", True), ("localhost:8000", True), ("[::1]:8000", True), ("evil.example", False),
        ("127.0.0.1.evil.example", False), ("10.0.0.1:8000", False), ("", False),
    ],
)  # fmt: skip
def test_names_that_lead_here_from_elsewhere_are_refused(shared_client: TestClient, host: str, is_local: bool) -> None:
    answer = shared_client.get("/health", headers={"Host": host})
    assert answer.status_code == (200 if is_local else 403)


def test_no_other_site_may_read_answers(shared_client: TestClient) -> None:
    asked = {"Origin": "https://evil.example", "Access-Control-Request-Method": "DELETE"}
    for answer in (shared_client.options(LIST, headers=asked), shared_client.get(LIST, headers=asked)):
        assert not [name for name in answer.headers if name.lower().startswith("access-control")]


def test_every_answer_has_the_headers(shared_client: TestClient) -> None:
    for answer in (
        shared_client.get(LIST),
        shared_client.get("/nothing"),
        shared_client.post("/v1/events", content=b"{"),
    ):
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert answer.headers["Cache-Control"] == "no-store"
        assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
        assert len(answer.headers["X-Request-ID"]) == 16


def test_who_asks_too_often_waits(served_run: Path, start_service: Callable[..., TestClient], tmp_path: Path) -> None:
    client = start_service(served_run, tmp_path / "events.db", rate=2.0)
    answers = [client.get(LIST) for _ in range(20)]
    assert [answer.status_code for answer in answers[:4]] == 4 * [200]
    assert answers[-1].status_code == 429
    assert answers[-1].headers["Retry-After"] == "1"
    assert answers[-1].json()["error"]["code"] == "rate_limited"
    assert client.get("/health").status_code == client.get("/ready").status_code == 200


def test_the_bucket_fills_at_its_rate() -> None:
    limit = RateLimit(2.0)
    assert [limit.wait_seconds("a", 0.0) for _ in range(5)] == [0, 0, 0, 0, 1]
    assert limit.wait_seconds("b", 0.0) == 0
    assert [limit.wait_seconds("a", 0.5) for _ in range(2)] == [0, 1]
    assert [limit.wait_seconds("a", 100.0) for _ in range(5)] == [0, 0, 0, 0, 1]
    slow = RateLimit(0.1)
    assert [slow.wait_seconds("a", 0.0) for _ in range(2)] == [0, 10]
    assert all(RateLimit(0).wait_seconds("a", 0.0) == 0 for _ in range(100))


def test_clients_that_are_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("peftrec.serving.rate_limit._MOST_CLIENTS", 3)
    limit = RateLimit(1.0)
    for number in range(100):
        limit.wait_seconds(str(number), 0.0)
    assert len(limit._buckets) == 3


def send_names(client: TestClient) -> None:
    """Name a user in every way that a request can."""
    client.post("/v1/events", json={"events": [{"event_id": "named", "user_id": "Rosalind", "item_id": "tea1"}]})
    client.post("/v1/events", json={"events": [{"event_id": "named", "user_id": "Rosalind", "item_id": "tea2"}]})
    client.post("/v1/events", json={"events": [{"event_id": "x", "user_id": "Rosalind"}]})
    client.get("/v1/users/Rosalind/recommendations")
    client.get("/v1/users/Rosalind/recommendations?k=0")
    client.get("/v1/users/Rosalind/nothing")
    client.get("/v1/Rosalind")
    client.delete("/v1/users/Rosalind")


def test_no_user_stands_in_the_log(
    client: TestClient, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)
    logging.getLogger("httpx2").setLevel(logging.WARNING)  # the client of this test

    def fail(*_: object) -> None:
        raise RuntimeError(NAME)  # not its text: the line of code is logged

    send_names(client)
    monkeypatch.setattr("peftrec.serving.user_routes.user_of_store", fail)
    answer = client.get("/v1/users/Rosalind/recommendations")
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal")
    assert answer.headers["X-Frame-Options"] == "DENY"
    assert "Rosalind" not in caplog.text
    assert "Rosalind" not in client.get("/metrics").text
    assert answer.json()["error"]["request_id"] in caplog.text
    assert "RuntimeError" in caplog.text
    lines = [json.loads(record.getMessage()) for record in caplog.records if record.getMessage().startswith("{")]
    assert {line["route"] for line in lines} >= {"/v1/events", "/v1/users/{user_id}/recommendations", "none"}
    assert all(set(line) == {"request_id", "method", "route", "status", "ms"} for line in lines)


def test_users_are_logged_where_that_is_asked_for(
    served_run: Path, start_service: Callable[..., TestClient], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    send_names(start_service(served_run, tmp_path / "events.db", log_users=True))
    lines = [json.loads(record.getMessage()) for record in caplog.records if record.getMessage().startswith("{")]
    named = [(line["method"], line["status"]) for line in lines if line["users"] == ["Rosalind"]]
    assert named[:2] == [("POST", 200), ("POST", 409)]
    assert set(named[2:]) >= {("GET", 200), ("DELETE", 200)}


def test_prometheus_is_told(client: TestClient) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    send_names(client)
    client.post("/v1/items", json={"items": [{"item_id": "new", "text": "tea"}]})
    text = client.get("/metrics").text
    found = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert found["peftrec_events_stored_total",] == 1
    assert found["peftrec_items",] == 41
    assert found["peftrec_store_events",] == 0
    assert found["peftrec_store_changed_items",] == 1
    assert found["peftrec_ready",] == 1
    assert found["peftrec_requests_total", "POST", "/v1/events", "200"] == 1
    assert found["peftrec_requests_total", "POST", "/v1/events", "409"] == 1
    assert found["peftrec_requests_total", "GET", "none", "404"] == 2
    assert found["peftrec_request_seconds_count", "/v1/items"] == 1
