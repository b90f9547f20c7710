"""Every sort of run behind the service: baselines, ensembles, ids alone, and runs that read more than histories."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from peftrec.ensembling import ensemble
from peftrec.recommender import Recommender
from peftrec.run import train

HISTORY = ["wine0", "wine1", "wine2"]
KINDS = ["view", "buy", "view"]
TIMES = [1_600_000_000_000, 1_600_000_500_000, 1_600_900_000_000]
FIELDS = 'data.item_fields=["category", "price"]'
SORTS = {
    "ids": (FIELDS, "encoder.inputs=ids", "encoder.embedding_dim=16", "scorer.kind=mlp", "scorer.num_candidates=10"),
    "knn": (FIELDS, "baseline.kind=item_knn"),
    "told": (
        "data.event_words={view: saw, buy: got}",
        "data.users=users.csv",
        "data.user_template='{taste}'",
        "profile={method: null, max_tokens: 40, item_tokens: 8, attribute_tokens: 8}",
    ),
    "columns": (
        FIELDS,
        "method.kind=frozen",
        "user.time_intervals=true",
        "data.item_attributes={category: {kind: categorical}}",
        "data.users=users.csv",
        "data.user_attributes={age: {kind: numeric}, taste: {kind: categorical}}",
    ),
}


@pytest.fixture(scope="module")
def runs(make_recipe: Callable[..., Any], shop_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("sorts")
    for sort, overrides in SORTS.items():
        train(make_recipe("training.num_epochs=1", *overrides, output_dir=root / sort, data=shop_data))
    ensemble([root / "ids", root / "knn"], root / "ensemble")
    return {sort: root / sort for sort in (*SORTS, "ensemble")}


@pytest.fixture(scope="module")
def services(
    runs: dict[str, Path], start_service: Callable[..., TestClient], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, TestClient]:
    return {sort: start_service(run, tmp_path_factory.mktemp(sort) / "events.db") for sort, run in runs.items()}


ALL = (*SORTS, "ensemble")
TOLD: dict[str, dict[str, Any]] = {
    "told": {"events": KINDS, "attributes": "wine"},
    "columns": {"times_ms": TIMES, "user_attributes": {"age": 31, "taste": "wine"}},
}


def post(client: TestClient, path: str, **body: Any) -> Any:
    answer = client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def expected(run: Path, **more: Any) -> list[tuple[str, float]]:
    found = Recommender.from_pretrained(run).recommend(HISTORY, 10, **more)
    return [(one.item_id, pytest.approx(one.score, abs=1e-4)) for one in found]


def pairs(answer: Any) -> list[tuple[str, float]]:
    return [(one["item_id"], one["score"]) for one in answer["items"]]


@pytest.mark.parametrize("sort", ALL)
def test_lists_of_users_and_histories(sort: str, services: dict[str, TestClient], runs: dict[str, Path]) -> None:
    client = services[sort]
    events = [
        {"event_id": item, "user_id": "ann", "item_id": item, "time_ms": time_ms, "kind": kind}
        for item, kind, time_ms in zip(HISTORY, KINDS, TIMES, strict=True)
    ]
    assert post(client, "/v1/events", events=events)["unknown_items"] == []
    told = {"events": KINDS} if sort == "told" else {"times": TIMES} if sort == "columns" else {}
    own = client.get("/v1/users/ann/recommendations?explain=true")
    assert own.status_code == 200, own.text
    assert pairs(own.json()) == expected(runs[sort], **told)
    assert own.json()["fallback"] is None
    assert all(one["explanation"]["evidence"] for one in own.json()["items"])
    named = {"times": "times_ms"}
    sent = post(client, "/v1/recommendations", history=HISTORY, **{named.get(k, k): v for k, v in told.items()})
    assert pairs(sent) == expected(runs[sort], **told)
    nobody = client.get("/v1/users/nobody/recommendations?explain=true").json()
    assert nobody["fallback"] == "unknown user"
    assert len(nobody["items"]) == 10


@pytest.mark.parametrize("sort", TOLD)
def test_what_is_told_beside_the_history_counts(
    sort: str, services: dict[str, TestClient], runs: dict[str, Path]
) -> None:
    body = {"history": HISTORY, **TOLD[sort]}
    found = post(services[sort], "/v1/recommendations", **body, explain=True)
    told = {("times" if key == "times_ms" else key): value for key, value in TOLD[sort].items()}
    assert pairs(found) == expected(runs[sort], **told)
    one = post(services[sort], "/v1/explanations", **body, item_ids=["wine5"])["explanations"][0]
    listed = {entry["item_id"]: entry for entry in found["items"]}
    if "wine5" in listed:
        assert one["sentence"] == listed["wine5"]["explanation"]["sentence"]
    # Of whom no event is known something is known all the same.
    own = {key: value for key, value in TOLD[sort].items() if key in ("attributes", "user_attributes")}
    alone = post(services[sort], "/v1/recommendations", history=[], **own, explain=True)
    assert alone["fallback"] is None
    assert alone["items"][0]["explanation"]["sentence"].startswith("From what is known of you")
    if sort == "columns":
        refused = services[sort].post("/v1/recommendations", json={"history": HISTORY})
        assert refused.status_code == 422, "times are needed"
        assert "time" in refused.json()["error"]["message"]
    else:
        assert services[sort].post("/v1/recommendations", json={"history": HISTORY}).status_code == 200
        wrong = {"event_id": "x", "user_id": "u", "item_id": "tea1", "kind": "stolen"}
        assert "'stolen'" in services[sort].post("/v1/events", json={"events": [wrong]}).json()["error"]["message"]


def test_a_kind_that_is_not_told_is_the_first(services: dict[str, TestClient], runs: dict[str, Path]) -> None:
    events = [
        {"event_id": f"b {item}", "user_id": "bob", "item_id": item, "time_ms": time_ms}
        for item, time_ms in zip(HISTORY, TIMES, strict=True)
    ]
    post(services["told"], "/v1/events", events=events)
    found = services["told"].get("/v1/users/bob/recommendations").json()
    assert pairs(found) == expected(runs["told"], events=["view"] * 3)


@pytest.mark.parametrize("sort", ALL)
def test_new_items(sort: str, services: dict[str, TestClient]) -> None:
    client = services[sort]
    item: dict[str, Any] = {"item_id": "new", "text": "small red wine. wine"}
    if sort == "columns":
        item |= {"attributes": {"category": "wine"}, "fields": {"price": 5}}
    answer = client.post("/v1/items", json={"items": [item]})
    offered = client.get("/v1/service").json()
    assert offered["new_items"] == (answer.status_code == 201) == (sort in TOLD)
    only = {"filter": {"only": ["new"]}, **({"times_ms": TIMES} if sort == "columns" else {})}
    if sort in TOLD:
        assert pairs(post(client, "/v1/recommendations", history=HISTORY, **only))[0][0] == "new"
        if sort == "columns":
            refused = client.put("/v1/items/new", json={"text": "x", "attributes": {"colour": "red"}})
            assert refused.status_code == 422
            assert "colour" in refused.json()["error"]["message"]
        assert client.delete("/v1/items/new").status_code == 204
    else:
        assert answer.status_code == 422
        said = {"ids": "knows ids only", "knn": "a baseline", "ensemble": "an ensemble"}[sort]
        assert said in answer.json()["error"]["message"]
        assert client.get("/v1/items/new").status_code == 404
    # All of them let items change their titles, and go.
    if sort != "told":
        text = client.get("/v1/items/bread3").json()["text"]
        changed = client.put("/v1/items/bread3", json={"text": text, "title": "Other", "fields": {"price": 70}})
        assert changed.status_code == 200, changed.text
        assert changed.json() == {"item_id": "bread3", "title": "Other", "text": text, "fields": {"price": 70.0}}
        dear = {**only, "filter": {"fields": {"price": {"gt": 50}}}}
        found = post(client, "/v1/recommendations", history=HISTORY, **dear)
        assert [one["item_id"] for one in found["items"]] == ["bread3"]
    assert client.delete("/v1/items/bread2").status_code == 204
    assert client.get("/v1/items/bread2").status_code == 404


@pytest.mark.parametrize("sort", ALL)
def test_what_can_be_offered(sort: str, services: dict[str, TestClient]) -> None:
    client = services[sort]
    offered = client.get("/v1/service").json()
    body: dict[str, Any] = {"history": ["wine0"], "item_ids": ["wine5"], "words": True}
    words = client.post("/v1/explanations", json=body)
    assert offered["words"] == (words.status_code == 200) == (sort in TOLD)
    assert words.status_code in (200, 422)
    similar = client.get("/v1/items/wine0/similar")
    assert offered["similar"] == (similar.status_code == 200) == (sort not in ("knn", "ensemble"))
    diverse = client.post("/v1/recommendations", json={"history": ["wine0"], "diversity": 0.3})
    assert offered["diversity"] == (diverse.status_code == 200)
    assert client.post("/v1/recommendations", json={"history": ["wine0"], "diversity": 0}).status_code == 200
    assert offered["event_kinds"] == (["view", "buy"] if sort == "told" else None)
    assert (offered["template"] is None) == (sort not in TOLD)


def test_words_and_new_items_of_a_model_that_holds_what_it_is_told_wait_for_each_other_alone(
    services: dict[str, TestClient],
) -> None:
    """Lists there hold what new items need too: they would wait for each other without end if words did."""
    client = services["told"]
    words = {"history": HISTORY, "item_ids": ["wine5", "wine6", "wine7"], "words": True, **TOLD["told"]}
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        jobs = [pool.submit(client.post, "/v1/explanations", json=words) for _ in range(3)]
        for number in range(6):
            item = {"item_id": f"n{number}", "text": "small red wine. wine"}
            jobs.append(pool.submit(client.post, "/v1/items", json={"items": [item]}))
            jobs.append(pool.submit(client.post, "/v1/recommendations", json={"history": HISTORY, "explain": True}))
        assert {job.result(60).status_code for job in jobs} == {200, 201}
