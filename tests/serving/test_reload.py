"""A run folder is loaded again while requests are answered."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

BODY = {"history": ["wine0", "wine1", "wine2"], "k": 1000}


@pytest.fixture(scope="session")
def other_run(make_recipe: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another run on the same items."""
    from peftrec.run import train

    folder = tmp_path_factory.mktemp("other") / "run"
    train(make_recipe("training.num_epochs=1", "training.seed=5", "method.rank=2", output_dir=folder))
    return folder


@pytest.fixture
def link(served_run: Path, tmp_path: Path) -> Path:
    """What the service serves: a link, as whoever deploys would set it."""
    link = tmp_path / "current"
    link.symlink_to(served_run)
    return link


def point(link: Path, folder: Path) -> None:
    aside = link.with_name("next")
    aside.symlink_to(folder)
    aside.replace(link)


def test_a_reload_drops_nothing(
    link: Path, served_run: Path, other_run: Path, start_service: Callable[..., TestClient], tmp_path: Path
) -> None:
    client = start_service(link, tmp_path / "events.db")
    second = start_service(link, tmp_path / "events.db")
    client.post("/v1/items", json={"items": [{"item_id": "new", "text": "red wine. wine"}]})
    client.delete("/v1/items/tea1")
    fresh = start_service(other_run, tmp_path / "other.db")
    fresh.post("/v1/items", json={"items": [{"item_id": "new", "text": "red wine. wine"}]})
    fresh.delete("/v1/items/tea1")
    before, after = (one.post("/v1/recommendations", json=BODY).json()["items"] for one in (client, fresh))
    assert before != after
    seen: list[Any] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            answer = client.post("/v1/recommendations", json=BODY)
            seen.append(answer.json()["items"] if answer.status_code == 200 else answer.text)

    askers = [threading.Thread(target=ask) for _ in range(3)]
    for asker in askers:
        asker.start()
    point(link, other_run)
    answer = client.post("/v1/reload")
    assert (answer.status_code, answer.json()) == (200, {"status": "reloaded", "items": 40})
    count = len(seen)
    while len(seen) < count + 10:
        time.sleep(0.01)
    stop.set()
    for asker in askers:
        asker.join()
    assert seen[0] == before
    assert seen[-1] == after
    assert all(one in (before, after) for one in seen), "a list is of one run or of the other"
    end = time.monotonic() + 20
    while second.post("/v1/recommendations", json=BODY).json()["items"] != after:
        assert time.monotonic() < end, "the other service on the store has not followed"
        time.sleep(0.05)
    assert client.post("/v1/items", json={"items": [{"item_id": "more", "text": "tea"}]}).status_code == 201


def test_a_folder_that_is_not_fit_is_refused_and_the_old_one_goes_on(
    link: Path, served_run: Path, start_service: Callable[..., TestClient], tmp_path: Path
) -> None:
    client = start_service(link, tmp_path / "events.db")
    before = client.post("/v1/recommendations", json=BODY).json()
    broken = tmp_path / "broken"
    shutil.copytree(served_run, broken)
    head = broken / "head.safetensors"
    head.write_bytes(head.read_bytes()[:-7])
    point(link, broken)
    refused = client.post("/v1/reload")
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "conflict")
    assert refused.json()["error"]["message"].startswith("the old run goes on: ")
    assert "head.safetensors" in refused.json()["error"]["message"]
    link.unlink()
    assert client.post("/v1/reload").status_code == 409
    assert client.post("/v1/recommendations", json=BODY).json() == before
    assert client.get("/ready").status_code == 200
    metrics = client.get("/metrics").text
    assert 'peftrec_reloads_total{outcome="refused"} 2.0' in metrics
