"""Items over HTTP: found, added, changed, removed, and seen by every service on the store."""

from __future__ import annotations

import concurrent.futures
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from peftrec.recommender import Recommender
from peftrec.serving.service import Service

HISTORY = ["wine0", "wine1", "wine2"]
NEW = {"item_id": "new", "text": "red wine. wine", "title": "A new one"}


def ids(client: TestClient, **more: Any) -> list[str]:
    answer = client.post("/v1/recommendations", json={"history": HISTORY, "k": 1000, **more})
    assert answer.status_code == 200, answer.text
    return [entry["item_id"] for entry in answer.json()["items"]]


def add(client: TestClient, *items: dict[str, Any]) -> Any:
    return client.post("/v1/items", json={"items": list(items)})


def eventually(holds: Callable[[], bool], seconds: float = 5.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if holds():
            return True
        time.sleep(0.02)
    return False


def test_a_new_item_is_recommended_at_once_where_its_text_belongs(client: TestClient, served_run: Path) -> None:
    before = ids(client)
    answer = add(client, NEW)
    assert (answer.status_code, answer.json()) == (201, {"item_ids": ["new"]})
    after = ids(client)
    assert [item for item in after if item != "new"] == before
    reference = Recommender.from_pretrained(served_run)
    reference.add_items(["new"], [NEW["text"]])
    assert after == [entry.item_id for entry in reference.recommend(HISTORY, 1000)]
    expected = {"item_id": "new", "title": "A new one", "text": "red wine. wine", "fields": {}}
    assert client.get("/v1/items/new").json() == expected
    assert "new" not in ids(client, history=["new", "wine0"])


def test_items_change_and_go_and_come_back(client: TestClient) -> None:
    add(client, NEW)
    place = ids(client).index("new")
    changed = client.put("/v1/items/new", json={"text": "green tea. tea"})
    assert changed.json() == {"item_id": "new", "title": "green tea. tea", "text": "green tea. tea", "fields": {}}
    assert ids(client).index("new") > place
    renamed = client.put("/v1/items/wine5", json={"text": "large white wine. wine", "title": "Renamed"})
    assert renamed.json()["title"] == "Renamed"
    for name in ("new", "wine5"):
        assert client.delete(f"/v1/items/{name}").status_code == 204
        assert name not in ids(client)
        for answer in (
            client.get(f"/v1/items/{name}"),
            client.delete(f"/v1/items/{name}"),
            client.put(f"/v1/items/{name}", json={"text": "x"}),
            client.get(f"/v1/items/{name}/similar"),
        ):
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
    assert add(client, NEW).status_code == 201
    assert ids(client).index("new") == place - 1  # wine5, which stood before it, has gone


def test_similar_items(client: TestClient) -> None:
    found = client.get("/v1/items/wine0/similar?k=3").json()["items"]
    assert [entry["rank"] for entry in found] == [1, 2, 3]
    assert "wine0" not in {entry["item_id"] for entry in found}
    blocked = client.get(
        "/v1/items/wine0/similar", params={"k": 3, "filter": json.dumps({"blocked": [found[0]["item_id"]]})}
    )
    assert blocked.json()["items"][0]["item_id"] == found[1]["item_id"]


def test_search(client: TestClient) -> None:
    def found(query: str, k: int = 100) -> list[str]:
        answer = client.get("/v1/items", params={"query": query, "k": k})
        assert answer.status_code == 200, answer.text
        return [item["title"] for item in answer.json()["items"]]

    assert len(found("")) == 40
    assert len(found("", 3)) == 3
    assert sorted(found("WINE red")) == ["large red wine", "small red wine"]
    assert found("nothing of the kind") == []
    add(client, NEW, {"item_id": "x", "text": "Straße 100% _'\""})
    assert found("a NEW") == ["A new one"]
    assert found("strasse") == found("100% _'\"") == ["Straße 100% _'\""]


@pytest.mark.parametrize(
    ("items", "status", "said"),
    [
        ([{"item_id": "wine0", "text": "x"}], 409, "'wine0' is in the catalogue already"),
        ([{"item_id": "a", "text": "x"}, {"item_id": "a", "text": "y"}], 422, "two of them"),
        ([{"item_id": "a", "text": "x"}, {"item_id": "wine0", "text": "y"}], 409, "'wine0'"),
        ([{"item_id": "a", "text": " "}], 422, "text"),
        ([{"item_id": "a", "text": ""}], 422, "text"),
        ([{"item_id": "a"}], 422, "text"),
        ([{"item_id": "a", "text": "x" * 20_001}], 422, "20000"),
        ([{"item_id": "a", "text": "x", "vector": [1]}], 422, "vector"),
        ([{"item_id": "a", "text": "x", "fields": {"a": {"b": {"c": {"d": {"e": {"f": {"g": 1}}}}}}}}], 422, "deep"),
        ([{"item_id": "a", "text": "x", "fields": {"price": 10**30}}], 422, "too large"),
        ([{"item_id": "ok", "text": "x"}, {"item_id": "a", "text": "x", "attributes": {"age": 1}}], 422, "reads none"),
        ([], 422, "items"),
    ],
)
def test_items_that_are_refused_leave_nothing_behind(
    client: TestClient, items: list[dict[str, Any]], status: int, said: str
) -> None:
    answer = add(client, *items)
    assert answer.status_code == status, answer.text
    assert said in answer.json()["error"]["message"]
    assert client.get("/ready").json()["items"] == 40
    assert add(client, {"item_id": "a", "text": "x"}).status_code == 201
    assert eventually(lambda: set(ids(client)) >= {"a"} and "ok" not in ids(client))


def test_items_that_come_together_are_encoded_together(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    service: Service = client.app.state.service  # type: ignore[attr-defined]
    passes: list[int] = []
    real = Recommender.add_items

    def slow(self: Recommender, names: Any, *more: Any, **named: Any) -> None:
        passes.append(len(names))
        time.sleep(0.1)
        real(self, names, *more, **named)

    monkeypatch.setattr(Recommender, "add_items", slow)
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda n: add(client, {"item_id": f"n{n}", "text": f"red wine {n}"}), range(20)))
    assert {answer.status_code for answer in answers} == {201}
    assert sum(passes) == 20
    assert len(passes) <= 4
    assert len(service.recommender) == 60


def test_of_two_who_add_the_same_item_one_is_told(client: TestClient) -> None:
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: add(client, NEW), range(8)))
    assert sorted(answer.status_code for answer in answers) == [201] + 7 * [409]


def test_two_services_on_one_store_agree(
    served_run: Path, start_service: Callable[..., TestClient], tmp_path: Path
) -> None:
    first, second = (start_service(served_run, tmp_path / "events.db") for _ in range(2))
    add(first, NEW)
    assert eventually(lambda: "new" in ids(second))
    assert ids(first) == ids(second)
    second.put("/v1/items/new", json={"text": "green tea. tea"})
    second.delete("/v1/items/wine5")
    assert eventually(lambda: "wine5" not in ids(first) and ids(first) == ids(second))
    assert add(first, {"item_id": "x", "text": "x"}).status_code == 201
    assert add(second, {"item_id": "x", "text": "x"}).status_code == 409
    first.post("/v1/events", json={"events": [{"event_id": "e", "user_id": "ann", "item_id": "tea1"}]})
    url = "/v1/users/ann/recommendations"
    assert second.get(url).json() == first.get(url).json()
    assert second.get(url).json()["fallback"] is None
    # A third comes later, as after a restart.
    assert ids(start_service(served_run, tmp_path / "events.db")) == ids(first)
