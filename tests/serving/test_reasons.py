"""Explanations over HTTP, and lists with more than items: details, diversity, what users did before."""

from __future__ import annotations

import concurrent.futures
import importlib
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from peftrec.recommender import Recommender
from peftrec.retrieval.reranking import Reranking
from peftrec.retrieval.reranking.mmr import Mmr

HISTORY = ["wine0", "wine1", "wine2", "tea3"]


@pytest.fixture(scope="module")
def shop(shop_run: Path, start_service: Callable[..., TestClient], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A service for tests that leave its items alone and name users of their own."""
    return start_service(shop_run, tmp_path_factory.mktemp("store") / "events.db")


@pytest.fixture
def own_shop(shop_run: Path, start_service: Callable[..., TestClient], tmp_path: Path) -> TestClient:
    """A service of the test's own."""
    return start_service(shop_run, tmp_path / "events.db")


def post(client: TestClient, path: str, **body: Any) -> Any:
    answer = client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def tell(client: TestClient, user: str, *items: str) -> None:
    events = [
        {"event_id": f"{user} {place}", "user_id": user, "item_id": item, "time_ms": 1000 + place, "kind": "view"}
        for place, item in enumerate(items)
    ]
    post(client, "/v1/events", events=events)


def test_a_list_says_why(shop: TestClient, shop_run: Path) -> None:
    expected = Recommender.from_pretrained(shop_run)
    plain = post(shop, "/v1/recommendations", history=HISTORY)
    found = post(shop, "/v1/recommendations", history=HISTORY, explain=True, details=True)
    ids = [one["item_id"] for one in found["items"]]
    reasons = expected.explain(HISTORY, ids, num_evidence=3)
    for one, reason in zip(found["items"], reasons, strict=True):
        assert one["explanation"]["sentence"] == reason.sentence
        assert [(event["item_id"], event["event"]) for event in one["explanation"]["evidence"]] == [
            (event.item_id, event.event) for event in reason.evidence
        ]
        assert [event["change"] for event in one["explanation"]["evidence"]] == pytest.approx(
            [event.change for event in reason.evidence], abs=1e-4
        )
        assert all(0 < event["attention"] < 1 for event in one["explanation"]["evidence"])
        assert one["fields"] == dict(expected.item(one["item_id"]).fields)
        assert set(one["fields"]) == {"category", "price"}
    for one in found["items"]:
        del one["explanation"], one["fields"]
    assert found == plain
    assert plain["suppressed"] == []


def test_users_of_the_store_are_told_the_same(shop: TestClient) -> None:
    tell(shop, "told", *HISTORY)
    sent = post(shop, "/v1/recommendations", history=HISTORY, k=5, explain=True, details=True, diversity=0.4)
    asked = shop.get("/v1/users/told/recommendations?k=5&explain=true&details=true&diversity=0.4")
    assert asked.json() == sent
    nobody = shop.get("/v1/users/nobody at all/recommendations?k=2&explain=true").json()
    assert nobody["fallback"] == "unknown user"
    assert [one["explanation"] for one in nobody["items"]] == 2 * [
        {"sentence": "Popular: nothing is known of you yet.", "evidence": []}
    ]


def test_evidence_has_its_place_in_what_was_sent(shop: TestClient) -> None:
    history = ["gone", *HISTORY[:2], "gone too", *HISTORY[2:]]
    found = post(shop, "/v1/recommendations", history=history, unknown="skip", explain=True, k=3)
    assert found["skipped"] == ["gone", "gone too"]
    for one in found["items"]:
        assert all(history[event["event"]] == event["item_id"] for event in one["explanation"]["evidence"])
    alone = post(shop, "/v1/explanations", history=history, unknown="skip", item_ids=["wine5"])
    assert alone["skipped"] == ["gone", "gone too"]
    (one,) = alone["explanations"]
    assert all(history[event["event"]] == event["item_id"] for event in one["evidence"])


def test_diversity_takes_the_place_of_the_own_reranking(
    shop_run: Path, start_service: Callable[..., TestClient], tmp_path: Path
) -> None:
    steps = tmp_path / "steps.yaml"
    steps.write_text("steps: [{kind: calibration, field: category, strength: 0.9}]\n")
    client = start_service(shop_run, tmp_path / "events.db", reranking=steps)
    expected = Recommender.from_pretrained(shop_run)

    def ids(**more: Any) -> list[str]:
        return [one["item_id"] for one in post(client, "/v1/recommendations", history=HISTORY, **more)["items"]]

    def made(*steps: Any) -> list[str]:
        return [one.item_id for one in expected.recommend(HISTORY, reranking=Reranking(steps=steps))]

    assert ids(diversity=0) == made()
    assert ids(diversity=0.8) == made(Mmr(diversity=0.8)) != made()
    assert ids() not in (made(), made(Mmr(diversity=0.8)))
    assert client.get("/v1/service").json()["reranking"] == ["calibration"]


def test_words_stand_at_their_places(shop: TestClient) -> None:
    found = post(shop, "/v1/explanations", history=HISTORY, item_ids=["wine5", "tea1", "wine5"], words=True)
    assert [one["item_id"] for one in found["explanations"]] == ["wine5", "tea1", "wine5"]
    listed = post(shop, "/v1/recommendations", history=HISTORY, k=1000, exclude_history=False)["items"]
    scores = {one["item_id"]: one["score"] for one in listed}
    for one in found["explanations"]:
        assert one["complete"] is True
        assert [one["text"][word["start"] : word["end"]] for word in one["words"]] == [w["text"] for w in one["words"]]
        assert one["text"] == shop.get(f"/v1/items/{one['item_id']}").json()["text"]
        assert one["score"] == pytest.approx(scores[one["item_id"]], abs=1e-4)
        assert len(one["evidence"]) == 3
    plain = post(shop, "/v1/explanations", history=HISTORY, item_ids=["wine5"])["explanations"][0]
    assert (plain["words"], plain["complete"]) == (None, None)
    assert plain["evidence"] == found["explanations"][0]["evidence"]
    empty = post(shop, "/v1/explanations", history=[], item_ids=["wine5"], words=True)["explanations"][0]
    assert (empty["words"], empty["evidence"]) == (None, [])


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"item_ids": []}, "item_ids"),
        ({"item_ids": ["wine0"] * 101}, "100"),
        ({"item_ids": ["wine0"] * 6, "words": True}, "5 items at a time, and these are 6"),
        ({"item_ids": ["no"]}, "no item has the id 'no'"),
        ({"item_ids": ["wine0"], "history": ["no"]}, "history: no item has the id 'no'"),
        ({"item_ids": ["wine0"], "times_ms": [5, 6, 7, 8]}, "reads none"),
        ({"item_ids": ["wine0"], "times_ms": [5]}, "1 for 4 items"),
        ({"item_ids": ["wine0"], "attributes": "old"}, "reads no"),
        ({"item_ids": ["wine0"], "age": 7}, "age"),
        ({"item_ids": ["wine0"], "words": "yes"}, "words"),
    ],
)
def test_explanations_that_cannot_be_had(shop: TestClient, body: dict[str, Any], said: str) -> None:
    answer = shop.post("/v1/explanations", json={"history": HISTORY} | body)
    assert answer.status_code == 422, answer.text
    assert said in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "query",
    [
        "diversity=1", "diversity=-0.1", "diversity=nan", "diversity=0.91", "diversity=inf", "age=-1", "age=nan",
        "age=151", "age=old", "explain=perhaps", "details=2", "words=true",
    ],
)  # fmt: skip
def test_lists_that_cannot_be_had(shop: TestClient, query: str) -> None:
    answer = shop.get(f"/v1/users/ann/recommendations?{query}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid_request"), answer.text
    key, _, value = query.partition("=")
    with_number = value.replace(".", "").lstrip("-").isdecimal()
    body = {"history": [], key: float(value) if with_number else value}
    assert shop.post("/v1/recommendations", json=body).status_code == 422


def test_an_item_that_goes_while_its_list_is_explained(own_shop: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    from peftrec.serving import user_routes

    service = own_shop.app.state.service  # type: ignore[attr-defined]
    ids = [one["item_id"] for one in post(own_shop, "/v1/recommendations", history=HISTORY, k=3)["items"]]
    real = user_routes.list_for

    def listed(*arguments: Any) -> Any:
        answer = real(*arguments)
        service.recommender.remove_items([ids[1]])
        return answer

    monkeypatch.setattr(user_routes, "list_for", listed)
    found = post(own_shop, "/v1/recommendations", history=HISTORY, k=3, explain=True)["items"]
    assert [one["item_id"] for one in found] == ids
    assert [one["explanation"] is None for one in found] == [False, True, False]


def test_lists_do_not_wait_for_words_and_too_many_words_are_refused(
    own_shop: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    explain = importlib.import_module("peftrec.explaining.explain")
    service = own_shop.app.state.service  # type: ignore[attr-defined]
    go_on, started = threading.Event(), threading.Event()
    real = explain.attribute_words

    def slow(*arguments: Any) -> Any:
        started.set()
        assert go_on.wait(20)
        return real(*arguments)

    monkeypatch.setattr(explain, "attribute_words", slow)
    body = {"history": HISTORY, "item_ids": [f"wine{n}" for n in range(5)], "words": True}
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        words = [pool.submit(own_shop.post, "/v1/explanations", json=body) for _ in range(3)]
        assert started.wait(20)
        end = time.monotonic() + 20
        while service.words._taken < 15:
            assert time.monotonic() < end
            time.sleep(0.01)
        refused = own_shop.post("/v1/explanations", json=body | {"item_ids": ["wine0"] * 2})
        assert refused.status_code == 503
        assert refused.headers["Retry-After"] == "1"
        assert refused.json()["error"]["code"] == "unavailable"
        # The encoder is held now: lists, reasons, searches, users and metrics are answered, new items wait.
        assert post(own_shop, "/v1/recommendations", history=HISTORY, explain=True)["items"]
        assert own_shop.get("/v1/items?query=wine").json()["items"]
        assert own_shop.get("/v1/users/ann/history").status_code == 200
        assert own_shop.get("/metrics").status_code == 200
        new = pool.submit(own_shop.post, "/v1/items", json={"items": [{"item_id": "new", "text": "red wine"}]})
        time.sleep(0.2)
        assert not new.done()
        go_on.set()
        assert new.result(20).status_code == 201
        assert [one.result(20).status_code for one in words] == [200] * 3


def test_what_a_user_did(shop: TestClient) -> None:
    tell(shop, "past", "wine0", "nowhere", "tea1")
    found = shop.get("/v1/users/past/history").json()
    assert found["events"] == [
        {"event_id": "past 2", "item_id": "tea1", "title": "large green tea", "time_ms": 1002, "kind": "view"},
        {"event_id": "past 1", "item_id": "nowhere", "title": None, "time_ms": 1001, "kind": "view"},
        {"event_id": "past 0", "item_id": "wine0", "title": "small red wine", "time_ms": 1000, "kind": "view"},
    ]
    assert shop.get("/v1/users/past/history?k=1").json()["events"] == found["events"][:1]
    assert shop.get("/v1/users/nobody/history").json() == {"events": []}
    assert shop.get("/v1/users/past/history?k=0").status_code == 422


def test_fields_over_http(own_shop: TestClient) -> None:
    def ids(wanted: dict[str, Any]) -> set[str]:
        body = {"history": HISTORY, "k": 1000, "exclude_history": False, "filter": {"fields": wanted}}
        found = {one["item_id"] for one in post(own_shop, "/v1/recommendations", **body)["items"]}
        query = {"k": 1000, "exclude_history": "false", "filter": json.dumps({"fields": wanted})}
        asked = own_shop.get("/v1/users/nobody/recommendations", params=query)
        assert {one["item_id"] for one in asked.json()["items"]} == found
        return found

    item = {"item_id": "new", "text": "red wine. wine", "fields": {"category": "wine", "price": 99}}
    assert own_shop.post("/v1/items", json={"items": [item]}).status_code == 201
    assert own_shop.get("/v1/items/new").json()["fields"] == {"category": "wine", "price": 99.0}
    assert ids({"price": {"gt": 50}}) == {"new"}
    assert ids({"price": {"le": 0.5}, "category": "tea"}) == {"tea0"}
    # An update says all there is; what it leaves out is missing.
    changed = {"text": "red wine. wine", "fields": {"price": 3}}
    assert own_shop.put("/v1/items/new", json=changed).json()["fields"] == {"price": 3.0}
    assert ids({"category": {"missing": True}}) == {"new"}
    other = own_shop.put("/v1/items/wine1", json={"text": "green tea. tea", "fields": {"category": "tea", "price": 70}})
    assert other.json()["fields"] == {"category": "tea", "price": 70.0}
    assert ids({"price": {"gt": 50}}) == {"wine1"}
    for fields, said in (({"colour": "red"}, "colour"), ({"price": "dear"}, "price"), ({"price": [1]}, "price")):
        refused = own_shop.put("/v1/items/wine2", json={"text": "x", "fields": fields})
        assert refused.status_code == 422
        assert said in refused.json()["error"]["message"]
    assert own_shop.get("/v1/items/wine2").json()["fields"] == {"category": "wine", "price": 2.5}
    similar = own_shop.get("/v1/items/wine2/similar?k=2&details=true").json()["items"]
    assert all(set(one["fields"]) <= {"category", "price"} for one in similar)
    refused = own_shop.get("/v1/users/a/recommendations", params={"filter": '{"fields": {"colour": "red"}}'})
    assert refused.status_code == 422


def test_what_the_service_offers(shop: TestClient) -> None:
    assert shop.get("/v1/service").json() == {
        "items": 40, "fields": {"category": "text", "price": "number"}, "rules": [], "ages": False, "reranking": [],
        "diversity": True, "similar": True, "explains": True, "words": True, "new_items": True, "user_events": True,
        "event_kinds": None, "template": "{title}. {category}",
    }  # fmt: skip
