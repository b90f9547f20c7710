"""Whatever breaks on the way: nothing is half published or half pulled, and the same command goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hub_double import Blob, Failure

COMMIT, STORE_PUT, STORE_GET = r"POST .*/commit/", r"PUT /_store/", r"GET /_store/"


@pytest.fixture(scope="session")
def small(make_recipe: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smallest run: a baseline."""
    from peftrec.run import train

    folder = tmp_path_factory.mktemp("small") / "run"
    train(make_recipe("baseline={kind: popularity}", output_dir=folder))
    return folder


@pytest.mark.parametrize(
    ("name", "failure", "words"),
    [
        ("whoami-500", Failure("GET /api/whoami-v2", "status"), "the Hub fails (HTTP 500"),
        ("create-500", Failure("POST /api/repos/create", "status"), "the Hub fails (HTTP 500"),
        ("create-403", Failure("POST /api/repos/create", "status", count=9, status=403), "may not"),
        ("commit-500", Failure(COMMIT, "status"), "the Hub fails (HTTP 500"),
        ("commit-401", Failure(COMMIT, "status", status=401), "does not know your token"),
        ("commit-403", Failure(COMMIT, "status", status=403), "you may not write there"),
        ("commit-409", Failure(COMMIT, "status", status=409), "changed by somebody else"),
        ("commit-429", Failure(COMMIT, "status", status=429), "takes no more requests"),
        ("commit-cut", Failure(COMMIT, "cut"), "the connection to the Hub failed"),
        ("store-500", Failure(STORE_PUT, "status", count=99), "the Hub fails (HTTP 500"),
        ("store-cut", Failure(STORE_PUT, "cut", count=99), "the connection to the Hub failed"),
        ("batch-cut", Failure("POST .*objects/batch", "cut", count=9), "the connection to the Hub failed"),
        ("yaml-400", Failure("POST /api/validate-yaml", "status", status=400), "refuses the metadata of the card"),
    ],
)
def test_a_push_that_fails_leaves_nothing_half_and_is_repeated(
    hub: Any, push: Any, worker: Any, refused: Any, small: Path, kept: Any, name: str, failure: Failure, words: str
) -> None:
    with kept(small), hub.failing(failure):
        message = refused("push", small, f"ann/{name}", license="mit")
    assert words in message
    repository = hub.hub.repositories.get(f"ann/{name}")
    assert repository is None or repository.files == {}
    report = push(small, f"ann/{name}")
    assert hub.hub.repositories[f"ann/{name}"].files.keys() == report["files"].keys()


@pytest.mark.parametrize(
    ("name", "failure"),
    [
        ("store-500", Failure(STORE_PUT, "status", count=2, status=503)),
        ("store-cut", Failure(STORE_PUT, "cut", count=2)),
        ("verify-500", Failure("POST .*objects/verify", "status")),
        ("batch-lost", Failure("POST .*objects/batch", "lost")),
        ("preupload-500", Failure("POST .*/preupload/", "status")),
        ("tree-500", Failure("GET .*/tree/", "status")),
        ("slow", Failure(COMMIT, "slow", seconds=0.5)),
    ],
)
def test_what_passes_by_is_tried_again_by_the_client(
    hub: Any, push: Any, small: Path, name: str, failure: Failure
) -> None:
    with hub.failing(failure) as failures:
        report = push(small, f"ann/again-{name}")
        assert len(failures.happened) == failure.count
    assert hub.hub.repositories[f"ann/again-{name}"].files.keys() == report["files"].keys()


def test_an_answer_that_is_lost_after_the_commit_is_found_by_the_next_push(
    hub: Any, push: Any, refused: Any, small: Path
) -> None:
    with hub.failing(Failure(COMMIT, "lost")):
        assert "the connection to the Hub failed" in refused("push", small, "ann/lost", license="mit")
    assert len(hub.hub.repositories["ann/lost"].history()) == 2
    report = push(small, "ann/lost", license="mit")
    assert not report["changed"]
    assert len(hub.hub.repositories["ann/lost"].history()) == 2


def test_an_earlier_state_stays_whole_when_the_next_push_fails(
    hub: Any, push: Any, refused: Any, small: Path, trained: Path
) -> None:
    push(trained, "ann/state")
    before = dict(hub.hub.repositories["ann/state"].files)
    with hub.failing(Failure(STORE_PUT, "cut", count=99)):
        refused("push", small, "ann/state", license="mit")
    assert hub.hub.repositories["ann/state"].files == before


def test_a_commit_of_somebody_else_meanwhile_is_not_overwritten(
    hub: Any, refused: Any, push: Any, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(small, "ann/meanwhile")
    repository = hub.hub.repositories["ann/meanwhile"]
    answer = hub.endpoints.answer

    def interfere(request: Any) -> Any:
        if request.method == "POST" and "preupload" in request.path:
            repository.commit("main", {**repository.files, "items.jsonl": Blob(b"theirs")}, "theirs")
        return answer(request)

    monkeypatch.setattr(hub.endpoints, "answer", interfere)
    message = refused("push", small, "ann/meanwhile", license="apache-2.0", language=["en"])
    assert "somebody else meanwhile" in message
    assert "Please refresh and try again" in message
    assert repository.files["items.jsonl"].content == b"theirs"
    monkeypatch.undo()
    assert push(small, "ann/meanwhile", language=["en"])["changed"]
    assert repository.files["items.jsonl"].content == (small / "items.jsonl").read_bytes()


def test_a_hub_that_lists_something_else_than_was_sent(
    hub: Any, refused: Any, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = hub.endpoints.answer

    def spoil(request: Any) -> Any:
        made = answer(request)
        if request.method == "POST" and "commit" in request.path:
            repository = hub.hub.repositories["ann/spoilt"]
            commit = repository.resolve("main")
            files = {**commit.files, "metrics.json": Blob(b"{}")}
            repository.commits[commit.sha] = type(commit)(commit.sha, commit.parent, commit.title, files)
        return made

    monkeypatch.setattr(hub.endpoints, "answer", spoil)
    assert "does not list what was sent (metrics.json)" in refused("push", small, "ann/spoilt", license="mit")


@pytest.mark.parametrize(
    ("name", "failure", "words"),
    [
        ("info-500", Failure("HEAD .*peftrec.json", "status", count=9), "connection to the Hub failed|the Hub fails"),
        ("file-404", Failure("GET .*/items.jsonl", "status", count=9, status=404), "HTTP 404"),
        ("store-403", Failure(STORE_GET, "status", count=99, status=403), "you may not read there"),
        ("store-500", Failure(STORE_GET, "status", count=99), "the Hub fails"),
        ("corrupt", Failure("GET .*/items.jsonl", "corrupt"), "its sha256 is not the one"),
        ("corrupt-large", Failure(STORE_GET, "corrupt", count=99), "sha256"),
    ],
)
def test_a_pull_that_fails_leaves_no_folder(
    hub: Any, push: Any, worker: Any, refused: Any, small: Path, tmp_path: Path, name: str, failure: Failure, words: str
) -> None:
    push(small, "ann/pulled")
    with hub.failing(failure):
        message = refused("pull", "ann/pulled", tmp_path / "run", cache=tmp_path / "cache")
    assert any(word in message for word in words.split("|")), message
    assert {path.name for path in tmp_path.iterdir()} <= {"cache"}


def test_a_pull_that_is_cut_goes_on_where_it_was(
    hub: Any, push: Any, worker: Any, small: Path, trained: Path, tmp_path: Path
) -> None:
    push(trained, "ann/cut")
    first = len(hub.requests)
    with hub.failing(Failure(STORE_GET, "cut", count=2), Failure("GET .*/metrics.json", "cut")) as failures:
        worker("pull", "ann/cut", tmp_path / "run", cache=tmp_path / "cache")
        assert len(failures.happened) == 3
    ranges = [request.headers["range"] for request in hub.requests[first:] if "range" in request.headers]
    assert len(ranges) == 3
    listed = json.loads((tmp_path / "run" / "peftrec.json").read_text())["files"]
    assert all((tmp_path / "run" / name).stat().st_size == entry["bytes"] for name, entry in listed.items())


def test_a_hub_that_does_not_list_its_files_still_hands_them_out(
    hub: Any, push: Any, worker: Any, small: Path, tmp_path: Path
) -> None:
    push(small, "ann/unlisted")
    with hub.failing(Failure("GET .*/tree/", "status", count=99)):
        worker("pull", "ann/unlisted", tmp_path / "run", cache=tmp_path / "cache")
    assert (tmp_path / "run" / "items.jsonl").read_bytes() == (small / "items.jsonl").read_bytes()


def test_no_network(refused: Any, small: Path, tmp_path: Path) -> None:
    nowhere = "http://127.0.0.1:9"
    for words in (
        ("push", small, "ann/nowhere"),
        ("pull", "ann/nowhere", tmp_path / "run"),
    ):
        options = {"license": "mit"} if words[0] == "push" else {"cache": tmp_path / "cache"}
        message = refused(*words, endpoint=nowhere, **options)
        assert "the connection to the Hub failed" in message
        assert "the same command can be run again" in message
    assert not (tmp_path / "run").exists()
