"""A run on quantised weights beside one on full precision: same references, same sizes, one folder layout."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from peftrec.config import InputError, read_yaml
from peftrec.publishing import load_run
from peftrec.recommender import Recommender
from peftrec.run import train


@pytest.fixture(scope="module")
def folders(make_recipe: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run for each kind of weights; read only."""
    pytest.importorskip("bitsandbytes")
    made = {}
    for kind in ("none", "nf4"):
        made[kind] = tmp_path_factory.mktemp(kind) / "run"
        overrides = (f"encoder.quantization={kind}", "method.layers=2", "optimizer.kind=adamw_8bit")
        train(make_recipe("training.num_epochs=2", *overrides, output_dir=made[kind]))
    return made


def content(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text())


def test_references_and_counts_are_those_of_full_precision(folders: dict[str, Path]) -> None:
    full, quantized = (content(folders[kind], "metrics.json") for kind in ("none", "nf4"))
    for split in ("valid", "test"):
        for reference in ("popularity", "content_knn"):
            assert quantized[split][reference] == full[split][reference]
    assert quantized["parameters"] == full["parameters"]
    assert quantized["training"]["start"] != full["training"]["start"]


def test_the_folder_says_what_the_weights_were_and_loads_as_trained(folders: dict[str, Path]) -> None:
    full, quantized = (content(folders[kind], "peftrec.json")["backbone"] for kind in ("none", "nf4"))
    assert (full["quantization"], quantized["quantization"]) == ("none", "nf4")
    assert full["fingerprint"] != quantized["fingerprint"]
    assert "bitsandbytes" in content(folders["nf4"], "environment.json")["packages"]
    run = load_run(folders["nf4"])
    assert run.model is not None
    assert run.model.text_encoder is not None
    assert run.model.text_encoder.backbone.quantization == "nf4"
    vectors, _ = run.model.encode_catalogue()
    torch.testing.assert_close(vectors, run.vectors_ND, rtol=0, atol=1e-6)
    recommender = Recommender.from_pretrained(folders["nf4"])
    assert len(recommender.recommend(["wine1", "wine2"], k=3)) == 3
    recommender.add_items(["new"], ["small red wine. wine"])


def test_other_weights_are_told_apart_by_the_fingerprint(folders: dict[str, Path], tmp_path: Path) -> None:
    import shutil

    from peftrec.publishing.manifest import MANIFEST, file_table, sealed

    copy = Path(shutil.copytree(folders["nf4"], tmp_path / "copy"))
    recipe = (copy / "recipe.yaml").read_text()
    assert "quantization: nf4" in recipe
    (copy / "recipe.yaml").write_text(recipe.replace("quantization: nf4", "quantization: fp4"))
    held = {"files": file_table(copy), "recipe": read_yaml(copy / "recipe.yaml")}
    (copy / MANIFEST).write_text(json.dumps(sealed({**content(copy, MANIFEST), **held})))
    with pytest.raises(InputError, match=r"fingerprint .* use the same weights .* on the same kind of device"):
        load_run(copy)
