"""Events and lists over HTTP."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from peftrec.recommender import Recommender

_numbers = itertools.count()
HISTORY = ["wine0", "wine1", "wine2"]


def event(user: str, item: str, **more: Any) -> dict[str, Any]:
    return {"event_id": f"event {next(_numbers)}", "user_id": user, "item_id": item, **more}


def post(client: TestClient, *events: dict[str, Any]) -> dict[str, Any]:
    answer = client.post("/v1/events", json={"events": list(events)})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def ids(answer: Any) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [entry["item_id"] for entry in answer.json()["items"]]


def test_a_click_changes_the_next_list(shared_client: TestClient, served_run: Path) -> None:
    recommender = Recommender.from_pretrained(served_run)
    url = "/v1/users/clicker/recommendations"
    first = shared_client.get(url)
    assert first.json()["fallback"] == "unknown user"
    assert ids(first) == [entry.item_id for entry in recommender.recommend([])]
    for length in (1, 2, 3):
        assert post(shared_client, event("clicker", HISTORY[length - 1])) == {
            "stored": 1, "repeated": 0, "unknown_items": [],
        }  # fmt: skip
        found = shared_client.get(url, params={"k": 5})
        expected = recommender.recommend(HISTORY[:length], 5)
        assert [(e["rank"], e["item_id"], e["title"]) for e in found.json()["items"]] == [
            (e.rank, e.item_id, e.title) for e in expected
        ]
        assert [e["score"] for e in found.json()["items"]] == pytest.approx([e.score for e in expected], abs=1e-5)
        assert (found.json()["fallback"], found.json()["reason"], found.json()["skipped"]) == (None, None, [])


def test_histories_that_are_sent_get_the_list_of_users_who_have_them(shared_client: TestClient) -> None:
    post(shared_client, *(event("equal", item, time_ms=number) for number, item in enumerate(HISTORY)))
    own = shared_client.get("/v1/users/equal/recommendations?k=7&exclude_history=false")
    sent = shared_client.post("/v1/recommendations", json={"history": HISTORY, "k": 7, "exclude_history": False})
    assert own.json() == sent.json()
    before = shared_client.app.state.service.store.counts()  # type: ignore[attr-defined]
    shared_client.post("/v1/recommendations", json={"history": HISTORY})
    assert shared_client.app.state.service.store.counts() == before  # type: ignore[attr-defined]


def test_events_are_ordered_by_time(shared_client: TestClient) -> None:
    post(shared_client, *(event("late", item, time_ms=9 - number) for number, item in enumerate(HISTORY)))
    backwards = shared_client.post("/v1/recommendations", json={"history": HISTORY[::-1]})
    assert shared_client.get("/v1/users/late/recommendations").json() == backwards.json()


def test_an_event_is_counted_once(shared_client: TestClient) -> None:
    one = event("once", "tea1")
    assert post(shared_client, one, one)["repeated"] == 1
    assert post(shared_client, one) == {"stored": 0, "repeated": 1, "unknown_items": []}
    answer = shared_client.post("/v1/events", json={"events": [event("once", "tea2"), one | {"item_id": "tea3"}]})
    assert answer.status_code == 409
    assert answer.json()["error"]["code"] == "conflict"
    assert "other content" in answer.json()["error"]["message"]
    past = shared_client.app.state.service.store.history("once", 9)  # type: ignore[attr-defined]
    assert [one.item_id for one in past] == ["tea1"]


def test_events_of_items_that_are_not_there_yet_are_kept_and_skipped(shared_client: TestClient) -> None:
    found = post(shared_client, event("ahead", "tomorrow"), event("ahead", "tea1"), event("lost", "tomorrow"))
    assert found["unknown_items"] == ["tomorrow"]
    answer = shared_client.get("/v1/users/ahead/recommendations").json()
    assert (answer["fallback"], answer["skipped"]) == (None, ["tomorrow"])
    answer = shared_client.get("/v1/users/lost/recommendations").json()
    assert answer["fallback"] == "no item of the user's events is in the catalogue"
    assert len(answer["items"]) == 10


def test_unknown_items_of_a_history_are_named_or_skipped(shared_client: TestClient) -> None:
    history = ["wine0", "wien1", "wine1"]
    answer = shared_client.post("/v1/recommendations", json={"history": history})
    assert answer.status_code == 422
    assert "no item has the id 'wien1'" in answer.json()["error"]["message"]
    skipped = shared_client.post("/v1/recommendations", json={"history": history, "unknown": "skip"}).json()
    plain = shared_client.post("/v1/recommendations", json={"history": ["wine0", "wine1"]}).json()
    assert skipped == plain | {"skipped": ["wien1"]}
    many = shared_client.post("/v1/recommendations", json={"history": [f"no{n}" for n in range(900)]})
    assert many.status_code == 422
    assert len(many.json()["error"]["message"]) <= 500
    gone = shared_client.post("/v1/recommendations", json={"history": ["no"], "unknown": "skip"}).json()
    assert gone["fallback"] == "no item of the history is in the catalogue"
    assert shared_client.post("/v1/recommendations", json={"history": []}).json()["fallback"] == "the history is empty"


def test_a_list_is_as_long_as_the_catalogue_at_most(shared_client: TestClient) -> None:
    body = {"history": HISTORY, "k": 1000}
    assert len(ids(shared_client.post("/v1/recommendations", json=body))) == 37
    assert len(ids(shared_client.get("/v1/users/nobody/recommendations?k=1000"))) == 40


def test_filters(shared_client: TestClient) -> None:
    only = {"only": ["tea1", "tea2", "wine0"]}
    sent = shared_client.post("/v1/recommendations", json={"history": HISTORY, "filter": only})
    assert sorted(ids(sent)) == ["tea1", "tea2"]
    asked = shared_client.get("/v1/users/nobody/recommendations", params={"filter": json.dumps(only)})
    assert sorted(ids(asked)) == ["tea1", "tea2", "wine0"]
    nothing = shared_client.post("/v1/recommendations", json={"history": HISTORY, "filter": {"only": ["wine0"]}})
    assert ids(nothing) == []
    assert nothing.json()["reason"]
    for wrong in (
        "{",
        "[]",
        "5",
        '"a"',
        "NaN",
        '{"only": [NaN]}',
        "[" * 5000,
        '{"colour": 1}',
        '{"blocked": "\\ud800"}',
    ):
        answer = shared_client.get("/v1/users/nobody/recommendations", params={"filter": wrong})
        assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid_request"), wrong
        assert "filter" in answer.json()["error"]["message"]


def test_a_deleted_user_is_unknown_and_in_no_file(client: TestClient, tmp_path: Path) -> None:
    name = "somebody in particular/ünïcode"
    path = "/v1/users/somebody%20in%20particular%2F%C3%BCn%C3%AFcode"
    post(client, *(event(name, item) for item in HISTORY), event("other", "tea1"))
    assert client.get(f"{path}/recommendations").json()["fallback"] is None
    everything = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert name.encode() in everything
    assert client.delete(path).json() == {"deleted_events": 3}
    assert client.delete(path).json() == {"deleted_events": 0}
    everything = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert name.encode() not in everything
    assert b"other" in everything
    assert client.get(f"{path}/recommendations").json()["fallback"] == "unknown user"


@pytest.mark.parametrize(
    "name",
    [
        "'; DROP TABLE events; --", "../../../etc/passwd", "..", "a/b", "a%2Fb", "a?b#c", "名前 🙂", "\u202e\u0000x",
        " ", "+", "x" * 256,
    ],
)  # fmt: skip
def test_any_text_is_an_id(shared_client: TestClient, name: str) -> None:
    from urllib.parse import quote

    post(shared_client, event(name, "wine0"))
    coded = quote(name, safe="").replace(".", "%2E")
    answer = shared_client.get(f"/v1/users/{coded}/recommendations?k=3")
    assert answer.json()["fallback"] is None
    assert len(ids(answer)) == 3


ONE = b'{"events": [{"event_id": "a", "user_id": "b", "item_id": "c", "time_ms": %s}]}'
BAD_BODIES: list[tuple[str, bytes, int, str]] = [
    ("/v1/events", b"", 422, "body"),
    ("/v1/events", b"{", 422, "JSON"),
    ("/v1/events", b"\xff\xfe", 422, "JSON"),
    ("/v1/events", b"[" * 50_000, 400, "body"),
    ("/v1/events", b'{"events": []}', 422, "events"),
    ("/v1/events", b'{"events": [{"event_id": "a", "user_id": "b"}]}', 422, "item_id"),
    ("/v1/events", b'{"events": [{"event_id": "a", "user_id": 7, "item_id": "c"}]}', 422, "user_id"),
    ("/v1/events", b'{"events": [{"event_id": "a", "user_id": "", "item_id": "c"}]}', 422, "user_id"),
    ("/v1/events", b'{"events": [{"event_id": "a", "user_id": "\\ud800", "item_id": "c"}]}', 422, "unicode"),
    ("/v1/events", b'{"events": [{"event_id": "a", "user_id": "b", "item_id": "c", "x": 1}]}', 422, "x"),
    ("/v1/events", ONE % b"1.5", 422, "time_ms"),
    ("/v1/events", ONE % b"NaN", 422, "time_ms"),
    ("/v1/events", ONE % b"-1", 422, "time_ms"),
    ("/v1/events", ONE % b"1" + b"0" * 40, 422, "JSON"),
    ("/v1/events", ONE % (b"1" + b"0" * 40), 422, "time_ms"),
    ("/v1/events", ONE % (b"1" + b"0" * 9000), 400, "body"),
    ("/v1/events", b'{"events": [{"event_id": "' + b"x" * 257 + b'", "user_id": "b", "item_id": "c"}]}', 422, "256"),
    ("/v1/recommendations", b'{"history": "wine0"}', 422, "history"),
    ("/v1/recommendations", b'{"history": [5]}', 422, "history"),
    ("/v1/recommendations", b'{"history": ["wine0"], "k": 0}', 422, "k"),
    ("/v1/recommendations", b'{"history": ["wine0"], "k": -3}', 422, "k"),
    ("/v1/recommendations", b'{"history": ["wine0"], "k": "3"}', 422, "k"),
    ("/v1/recommendations", b'{"history": ["wine0"], "k": true}', 422, "k"),
    ("/v1/recommendations", b'{"history": ["wine0"], "k": 1e400}', 422, "k"),
    ("/v1/recommendations", b'{"history": ["wine0"], "k": 1001}', 422, "1000"),
    ("/v1/recommendations", b'{"history": ["wine0"], "filter": {"only": [NaN]}}', 422, "number"),
    ("/v1/recommendations", b'{"history": ["wine0"], "filter": {"colour": "red"}}', 422, "filter"),
    ("/v1/recommendations", b'{"history": ["wine0"], "explian": true}', 422, "explian"),
    ("/v1/recommendations", b'{"history": ["wine0"], "attributes": "old"}', 422, "reads no"),
    ("/v1/recommendations", b'{"history": ["wine0"], "user_attributes": {"age": 3}}', 422, "reads none"),
    ("/v1/recommendations", b'{"history": ["wine0"], "events": ["view"]}', 422, "reads none"),
    ("/v1/recommendations", b'{"history": ["wine0"], "events": ["view", "view"]}', 422, "2 for 1 items"),
    ("/v1/recommendations", b'{"history": ["wine0"], "times_ms": [5]}', 422, "reads none"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "body", "status", "said"), BAD_BODIES)
def test_bad_bodies(shared_client: TestClient, path: str, body: bytes, status: int, said: str) -> None:
    answer = shared_client.post(path, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert set(error) == {"code", "message", "request_id"}
    assert said in error["message"]
    assert error["request_id"] == answer.headers["X-Request-ID"]


@pytest.mark.parametrize(
    "query", ["k=0", "k=-1", "k=abc", "k=1.5", "k=NaN", f"k=1{'0' * 400}", "k=1001", "kk=3", "exclude_history=maybe"]
)
def test_bad_queries(shared_client: TestClient, query: str) -> None:
    answer = shared_client.get(f"/v1/users/ann/recommendations?{query}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid_request")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/users//recommendations", 404), ("GET", "/v1/nothing", 404), ("DELETE", "/v1/users/", 404),
        ("GET", "/v1/users/%FF/recommendations", 422), ("GET", f"/v1/users/{'x' * 257}/recommendations", 422),
        ("PATCH", "/v1/events", 405), ("GET", "/v1/events", 405), ("GET", "/v1/../../etc/passwd", 404),
        ("GET", "/docs", 404),
    ],
)  # fmt: skip
def test_bad_paths(shared_client: TestClient, method: str, path: str, status: int) -> None:
    answer = shared_client.request(method, path)
    assert answer.status_code == status, answer.text
    assert set(answer.json()["error"]) == {"code", "message", "request_id"}
