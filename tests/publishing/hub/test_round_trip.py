"""What is pushed and pulled recommends what the run recommends; nothing private is ever sent."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

HISTORIES = [["wine0", "wine1"], ["tea3"], ["bread0", "bread1", "bread2"], []]
LORA_FILES = {
    "README.md", "adapter_config.json", "adapter_model.safetensors", "environment.json", "head.safetensors",
    "ids.safetensors", "items.jsonl", "metrics.json", "peftrec.json", "probes.safetensors", "recipe.yaml",
}  # fmt: skip


@pytest.fixture(scope="session")
def runs(trained: Path, make_recipe: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run of peft's LoRA, one of a method of ours, a baseline, and an ensemble of the first and the last."""
    from peftrec.ensembling import ensemble
    from peftrec.run import train

    folder = tmp_path_factory.mktemp("runs")
    train(make_recipe("method={kind: adapter}", "training.num_epochs=1", output_dir=folder / "adapter"))
    train(make_recipe("baseline={kind: item_knn}", output_dir=folder / "baseline"))
    ensemble([trained, folder / "baseline"], folder / "ensemble")
    return {"lora": trained, **{name: folder / name for name in ("adapter", "baseline", "ensemble")}}


@pytest.fixture(scope="session")
def other_runs(make_recipe: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs that read texts of users, that stand on rounded weights, or that have ids and attributes of their own."""
    from peftrec.run import train

    folder, found = tmp_path_factory.mktemp("other_runs"), {}
    settings = {
        "profile": ("profile={max_tokens: 32, item_tokens: 4, attribute_tokens: 4}",),
        "quantised": ("encoder.quantization=nf4",),
        "ids": ("encoder.inputs=text+ids", "encoder.embedding_dim=16", "encoder.item_bias=true"),
        "bfloat16": ("encoder.dtype=bfloat16",),
    }
    for name, overrides in settings.items():
        found[name] = folder / name
        train(make_recipe("training.num_epochs=1", *overrides, output_dir=found[name]))
    return found


def ids(lists: list[list[list[Any]]]) -> list[list[str]]:
    return [[item for item, _ in found] for found in lists]


def scores(lists: list[list[list[Any]]]) -> list[float]:
    return [score for found in lists for _, score in found]


@pytest.mark.parametrize("with_vectors", [False, True])
@pytest.mark.parametrize("kind", ["lora", "adapter", "baseline", "ensemble"])
def test_a_run_comes_back_as_it_was_sent(
    hub: Any, worker: Any, push: Any, runs: Any, tmp_path: Path, kept: Any, kind: str, with_vectors: bool
) -> None:
    run, name = runs[kind], f"ann/{kind}-{with_vectors}"
    first = len(hub.requests)
    with kept(run):
        report = push(run, name, with_vectors=with_vectors)
    repository = hub.hub.repositories[name]
    assert repository.files.keys() == report["files"].keys()
    assert [commit.title for commit in repository.history()] == [f"Publish {run.name}", "initial commit"]
    assert report["commit"] == repository.branches["main"]
    worker("pull", name, tmp_path / "pulled")
    expected = worker("recommend", run, HISTORIES)
    for found in (worker("recommend", name, HISTORIES), worker("recommend", tmp_path / "pulled", HISTORIES)):
        assert ids(found) == ids(expected)
        assert scores(found) == pytest.approx(scores(expected), abs=1e-5)
    pulled = {p.relative_to(tmp_path / "pulled").as_posix() for p in (tmp_path / "pulled").rglob("*") if p.is_file()}
    assert pulled == repository.files.keys()
    # What is private was never in a body, neither by name nor by content.
    secret = [path.read_bytes() for path in (run / "private").rglob("*") if path.is_file()]
    assert secret
    for request in hub.requests[first:]:
        assert request.body not in secret
        assert b"private/" not in request.body
        assert "private" not in request.path


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["profile", "quantised", "ids", "bfloat16"])
def test_a_run_of_another_sort_comes_back_too(
    worker: Any, push: Any, other_runs: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    push(other_runs[kind], f"ann/sort-{kind}")
    worker("pull", f"ann/sort-{kind}", tmp_path / "pulled")
    expected, found = (
        worker("recommend", other_runs[kind], HISTORIES),
        worker("recommend", tmp_path / "pulled", HISTORIES),
    )
    assert ids(found) == ids(expected)
    assert scores(found) == pytest.approx(scores(expected), abs=1e-5)


def test_only_what_is_on_the_list_is_sent(hub: Any, push: Any, copy: Path) -> None:
    vectors = {"item_vectors.safetensors"}
    optional = {"items.safetensors"} & {path.name for path in copy.iterdir()}
    (copy / "report.html").write_text("<p>u1</p>")
    (copy / "notes.txt").write_text("mine")
    push(copy, "ann/listed", with_vectors=True)
    assert hub.hub.repositories["ann/listed"].files.keys() == LORA_FILES | vectors | optional
    if optional:
        push(copy, "ann/listed")
        assert hub.hub.repositories["ann/listed"].files.keys() == LORA_FILES | optional


def test_what_is_sent_names_the_model_of_the_hub_and_no_folder(
    hub: Any, push: Any, trained: Path, tiny_bert: Path, toy_data: Path
) -> None:
    report = push(trained, "ann/portable")
    files = hub.hub.repositories["ann/portable"].files
    for name, blob in files.items():
        for folder in (tiny_bert, toy_data, trained):
            assert str(folder).encode() not in blob.content, name
    base = hub.hub.repositories["acme/tiny-bert"]
    manifest = json.loads(files["peftrec.json"].content)
    assert manifest["backbone"]["name"] == "acme/tiny-bert"
    assert manifest["backbone"]["revision"] == base.branches["main"]
    assert "local" not in manifest["backbone"]
    config = json.loads(files["adapter_config.json"].content)
    assert config["base_model_name_or_path"] == "acme/tiny-bert"
    assert {str(tiny_bert), str(toy_data), str(trained)} == set(report["replaced"])
    assert report["replaced"][str(toy_data)] == toy_data.name
    card = files["README.md"].content.decode()
    assert "license: apache-2.0" in card
    assert "base_model: acme/tiny-bert" in card
    assert files["adapter_model.safetensors"].large


def test_the_very_same_makes_no_new_commit(hub: Any, push: Any, trained: Path) -> None:
    made = push(trained, "ann/twice")
    again = push(trained, "ann/twice")
    assert (made["changed"], again["changed"]) == (True, False)
    assert made["commit"] == again["commit"]
    assert len(hub.hub.repositories["ann/twice"].history()) == 2


def test_what_is_gone_is_deleted_in_the_same_commit_and_what_others_added_stays(
    hub: Any, push: Any, runs: dict[str, Path]
) -> None:
    from hub_double import Blob

    push(runs["lora"], "ann/replaced")
    repository = hub.hub.repositories["ann/replaced"]
    repository.commit("main", {**repository.files, "LICENSE": Blob(b"text")}, "Add a license")
    report = push(runs["baseline"], "ann/replaced", message="A baseline")
    assert {"adapter_model.safetensors", "head.safetensors"} <= set(report["deleted"])
    assert repository.files.keys() == {*report["files"], "LICENSE"}
    assert [commit.title for commit in repository.history()][:2] == ["A baseline", "Add a license"]


def test_a_branch_a_tag_and_a_commit_are_pulled_each(
    hub: Any, worker: Any, push: Any, runs: dict[str, Path], tmp_path: Path
) -> None:
    first = push(runs["lora"], "ann/branches")
    repository = hub.hub.repositories["ann/branches"]
    repository.tags["v1"] = first["commit"]
    second = push(runs["baseline"], "ann/branches", revision="next")
    assert repository.branches == {"main": first["commit"], "next": second["commit"]}
    for revision, expected in (("v1", "lora"), ("next", "baseline"), (second["commit"], "baseline")):
        worker("pull", f"ann/branches@{revision}", tmp_path / revision)
        assert (tmp_path / revision / "baseline.safetensors").exists() == (expected == "baseline")
    found = worker("recommend", "ann/branches@next", HISTORIES)
    assert ids(found) == ids(worker("recommend", runs["baseline"], HISTORIES))


def test_what_is_in_the_cache_needs_no_hub(
    hub: Any, worker: Any, push: Any, refused: Any, trained: Path, tmp_path: Path
) -> None:
    push(trained, "ann/offline")
    expected = worker("recommend", "ann/offline", HISTORIES)
    asked = len(hub.requests)
    assert worker("recommend", "ann/offline", HISTORIES, offline=True) == expected
    worker("pull", "ann/offline", tmp_path / "pulled", offline=True)
    assert len(hub.requests) == asked
    message = refused("pull", "ann/offline", tmp_path / "other", offline=True, cache=tmp_path / "empty")
    assert "HF_HUB_OFFLINE is set" in message
    assert not (tmp_path / "other").exists()


def test_a_folder_that_is_there_wins(worker: Any, runs: dict[str, Path], hub: Any, refused: Any) -> None:
    asked = len(hub.requests)
    worker("recommend", runs["baseline"], HISTORIES)
    assert len(hub.requests) == asked
    message = refused("recommend", "ann/never-there", HISTORIES)
    assert "no such run folder here" in message
    assert "the Hub has no such repository" in message


def test_an_organisation_and_a_private_repository(
    hub: Any, worker: Any, push: Any, refused: Any, runs: dict[str, Path], tmp_path: Path
) -> None:
    report = push(runs["baseline"], "acme/private", private=True)
    assert hub.hub.repositories["acme/private"].private
    assert push(runs["baseline"], "acme/private", private=True)["commit"] == report["commit"]
    worker("pull", "acme/private", tmp_path / "pulled")
    for number, (token, words) in enumerate(((None, "hf auth login"), ("hf_" + "b" * 34, "you may not read it"))):
        message = refused("pull", "acme/private", tmp_path / str(number), token=token, cache=tmp_path / "empty")
        assert words in message
        assert not (tmp_path / str(number)).exists()


PLAIN = """
import json, sys
import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer
from peft import PeftModel

def vectors(base, folder):
    model = AutoModel.from_pretrained(base, add_pooling_layer=False)
    model = PeftModel.from_pretrained(model, folder).eval()
    settings = json.load(open(f"{folder}/peftrec.json"))["text"]
    items = [json.loads(line)["text"] for line in open(f"{folder}/items.jsonl")]
    places = load_file(f"{folder}/probes.safetensors")["items"].tolist()
    tokens = AutoTokenizer.from_pretrained(base)(
        [settings["prefix"] + items[place] for place in places],
        padding=True, truncation=True, max_length=settings["max_tokens"], return_tensors="pt",
    )
    with torch.no_grad():
        states = model(**tokens).last_hidden_state
    mask = tokens["attention_mask"][..., None]
    return {"pooling": settings["pooling"], "vectors": ((states * mask).sum(1) / mask.sum(1)).tolist()}

base, *folders = sys.argv[1:]
for folder in folders:
    try:
        found = vectors(base, folder)
    except Exception as error:
        found = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(found))
assert "peftrec" not in sys.modules
"""


@pytest.mark.slow
def test_plain_peft_reads_what_was_pulled_or_says_that_it_does_not_know_the_method(
    worker: Any, push: Any, runs: dict[str, Path], tiny_bert: Path, tmp_path: Path
) -> None:
    for kind in ("lora", "adapter"):
        push(runs[kind], f"ann/plain-{kind}")
        worker("pull", f"ann/plain-{kind}", tmp_path / kind)
    words = [sys.executable, "-c", PLAIN, str(tiny_bert), str(tmp_path / "lora"), str(tmp_path / "adapter")]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    lora, adapter = (json.loads(line) for line in done.stdout.splitlines()[-2:])
    assert lora["pooling"] == "mean"
    expected = load_file(tmp_path / "lora" / "probes.safetensors")["text_vectors"]
    assert abs(expected - expected.new_tensor(lora["vectors"])).max() < 1e-5
    assert adapter["error"] == (
        "KeyError: 'PEFTREC_ADAPTER (of the package peftrec: load it with peftrec.Recommender, or call "
        "peftrec.register_with_peft() first)'"
    )


def test_sizes_and_sums_are_those_of_the_files(hub: Any, push: Any, trained: Path) -> None:
    report = push(trained, "ann/sums")
    files = hub.hub.repositories["ann/sums"].files
    assert {name: len(blob.content) for name, blob in files.items()} == report["files"]
    assert report["bytes"] == sum(report["files"].values())
    listed = json.loads(files["peftrec.json"].content)["files"]
    assert listed.keys() == files.keys() - {"peftrec.json"}
    for name, entry in listed.items():
        assert entry["sha256"] == hashlib.sha256(files[name].content).hexdigest()
