"""`peftrec push` and `peftrec pull` from the command line, and the same from Python."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

BASE = ("--base-model-id", "acme/tiny-bert")


def test_push_and_pull(hub: Any, worker: Any, trained: Path, tmp_path: Path) -> None:
    words = ("push", str(trained), "ann/verbs", "--license", "mit", "--language", "en", "--language", "de", *BASE)
    dry = worker("main", *words, "--dry-run")
    assert dry["code"] == 0
    assert "adapter_model.safetensors" in dry["out"]
    assert "nothing was sent (--dry-run)" in dry["out"]
    assert "in the recipe, " in dry["out"]
    done = worker("main", *words)
    assert done["code"] == 0
    repository = hub.hub.repositories["ann/verbs"]
    assert f"{hub.address}/ann/verbs: commit {repository.branches['main']}" in done["out"]
    assert "loaded and checked" in done["err"]
    card = repository.files["README.md"].content.decode()
    assert "license: mit" in card
    assert "- en\n- de\n" in card
    again = json.loads(worker("main", *words, "--json")["out"])
    assert (again["changed"], again["commit"]) == (False, repository.branches["main"])
    pulled = worker("main", "pull", "ann/verbs", str(tmp_path / "run"))
    assert pulled["code"] == 0
    assert f"{len(repository.files)} files" in pulled["out"]


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("push", "{run}", "ann/x", *BASE, "--license", "mit", "--beside", "full"), 2, "--beside"),
        (("push", "{run}", "ann/x", *BASE), 2, "--license"),
        (("push", "{run}", "nobody", "--license", "mit"), 2, "write user/name"),
        (("push", "{run}", "ann/x", "--license", "mit"), 1, "--base-model-id"),
        (("push", "gone", "ann/x", "--license", "mit"), 1, "no such run folder"),
        (("pull", "ann/gone", "{folder}/run"), 1, "no such repository"),
        (("pull", "ann/gone", "{folder}"), 2, "is there already"),
        (("recommend", "ann/gone", "--history", "tea3"), 1, "no such run folder here"),
    ],
)
def test_mistakes_are_one_line_and_an_exit_code(
    worker: Any, trained: Path, tmp_path: Path, words: tuple[str, ...], code: int, told: str
) -> None:
    (tmp_path / "file").touch()
    done = worker("main", *(word.format(run=trained, folder=tmp_path) for word in words))
    assert done["code"] == code
    assert told in done["err"]
    assert len(done["err"].splitlines()) == 1


def test_recommend_reads_a_run_of_the_hub(worker: Any, push: Any, trained: Path) -> None:
    push(trained, "ann/by-name")
    here, there = (
        worker("main", "recommend", name, "--history", "tea3", "--json") for name in (str(trained), "ann/by-name")
    )
    assert here["code"] == there["code"] == 0
    lists = [json.loads(done["out"]) for done in (here, there)]
    first, second = ([(row["item_id"], round(row["score"], 4)) for row in found] for found in lists)
    assert first == second


def test_a_loaded_recommender_is_pushed_from_its_folder(
    hub: Any, worker: Any, refused: Any, trained: Path, tmp_path: Path
) -> None:
    options = {"license": "mit", "base_model_id": "acme/tiny-bert", "private": True, "message": "From Python"}
    report = worker("recommender_push", trained, "ann/python", **options)
    repository = hub.hub.repositories["ann/python"]
    assert repository.private
    assert repository.history()[0].title == "From Python"
    assert report["files"].keys() == repository.files.keys()
    # What was pulled can be pushed on, from the cache, where it names a model of the Hub already.
    again = worker("recommender_push", "ann/python", "ann/copied", license="mit")
    assert again["files"].keys() == report["files"].keys()
    message = refused("recommender_push", trained, "ann/more", added=True, **options)
    assert "items were added" in message
