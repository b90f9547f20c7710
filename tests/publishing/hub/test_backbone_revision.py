"""The revision of a backbone: the commit that was loaded is known, and one that the Hub does not have is named."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

BASE = "acme/tiny-bert"


def test_the_commit_is_known_and_can_be_asked_for(worker: Any) -> None:
    commit = worker("backbone", BASE)
    assert re.fullmatch("[0-9a-f]{40}", commit)
    assert worker("backbone", BASE, "main") == commit
    assert worker("backbone", BASE, commit) == commit
    # From the cache as well.
    assert worker("backbone", BASE, offline=True) == commit


def test_a_revision_that_the_hub_does_not_have_is_named(refused: Any) -> None:
    for revision in ("v9", "f" * 40):
        assert (
            f"encoder.revision: the Hub's '{BASE}' has no revision '{revision}'; give one of its branches, tags or "
            f"commits" in refused("backbone", BASE, revision)
        )
    assert "encoder.backbone: 'acme/none' cannot be loaded" in refused("backbone", "acme/none")


def test_a_published_run_stays_with_the_commit_of_its_backbone(
    hub: Any, worker: Any, refused: Any, make_recipe: Any, tiny_bert: Path, other_tiny_bert: Path, tmp_path: Path
) -> None:
    from hub_double import Blob

    hub.hub.add("acme/moving", tiny_bert)
    backbone = hub.hub.repositories["acme/moving"]
    recipe, run = tmp_path / "recipe.yaml", tmp_path / "run"
    recipe.write_text(make_recipe("training.num_epochs=1", "method.layers=2").to_yaml())
    words = ("train", recipe, "encoder.backbone=acme/moving", f"output_dir={run}")
    trained = worker("main", *words)
    assert trained["code"] == 0, trained["err"]
    commit = backbone.branches["main"]
    assert "revision: null" in (run / "recipe.yaml").read_text()
    # The token is told of, not the backbone that cannot be fetched with it.
    message = refused("push", run, "ann/moving", license="mit", token="hf_" + "z" * 34, cache=tmp_path / "empty")
    assert "does not know your token" in message
    expected = worker("recommend", run, [["wine0", "wine1"]])
    weights = (other_tiny_bert / "model.safetensors").read_bytes()
    backbone.commit("main", {**backbone.files, "model.safetensors": Blob(weights, large=True)}, "other weights")
    # The run that was trained here stays with it as well, and so does what is made of it.
    assert worker("recommend", run, [["wine0", "wine1"]]) == expected
    exported = worker("main", "export", run, "--to", "merged", tmp_path / "merged")
    assert exported["code"] == 0, exported["err"]
    assert json.loads((tmp_path / "merged" / "export.json").read_text())["backbone"]["revision"] == commit
    worker("push", run, "ann/moving", license="mit")
    sent = hub.hub.repositories["ann/moving"].files["recipe.yaml"].content.decode()
    assert f"revision: {commit}" in sent
    assert worker("recommend", "ann/moving", [["wine0", "wine1"]], cache=tmp_path / "fresh") == expected
