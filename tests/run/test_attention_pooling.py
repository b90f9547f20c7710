"""Attention pooling in whole runs: it trains with the language model, is saved, proven and loaded."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from peftrec.config import InputError
from peftrec.evaluating import evaluate
from peftrec.publishing import load_run
from peftrec.publishing.export import EXPORTS, export_run
from peftrec.publishing.manifest import file_table, sealed
from peftrec.recommender import Recommender
from peftrec.run import train

ATTENTION = ("encoder.pooling=attention", "encoder.attention_dim=8", "optimizer.head_learning_rate=0.05")
NAMES = {f"token_attention.{name}" for name in ("query", "project.weight", "project.bias")}


@pytest.mark.parametrize("method", ["frozen", "lora"])
def test_a_run(method: str, make_recipe: Callable[..., Any], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    recipe = make_recipe(*ATTENTION, f"method.kind={method}", "training.batch_users=16", output_dir=folder)
    metrics = train(recipe)
    head = load_file(folder / "head.safetensors")
    pooling = {name.removeprefix("text_encoder."): t for name, t in head.items() if name.startswith("text_encoder.")}
    assert pooling.keys() == NAMES
    assert pooling["token_attention.query"].any()
    run = load_run(folder)
    assert run.model is not None
    vectors_ND, _ = run.model.encode_catalogue()
    torch.testing.assert_close(vectors_ND, run.vectors_ND)
    assert evaluate(run)["model"]["metrics"] == pytest.approx(metrics["test"]["model"]["metrics"])
    parts = {row["part"]: row for row in metrics["parameters"]}
    item_head = sum(p.numel() for p in run.model.item_encoder.parameters()) + 1  # and the scale
    assert parts["head"]["trainable"] == item_head + sum(tensor.numel() for tensor in pooling.values())
    assert json.loads((folder / "peftrec.json").read_text())["text"]["pooling"] == "attention"
    recommender = Recommender(run)
    text = recommender.catalogue.texts[5]
    recommender.add_items(["same"], [text])
    torch.testing.assert_close(recommender._stock.view.index.vectors_ND[-1], vectors_ND[5], rtol=0, atol=1e-5)  # type: ignore[union-attr]
    with pytest.raises(InputError, match=r"encoder\.pooling attention, whose weights|leaves nothing to merge"):
        export_run(folder, tmp_path / "merged", EXPORTS.load("merged")())
    # Weights that are not those of the run are found.
    head["text_encoder.token_attention.query"] += 0.5
    save_file(head, folder / "head.safetensors")
    manifest = json.loads((folder / "peftrec.json").read_text())
    (folder / "peftrec.json").write_text(json.dumps(sealed({**manifest, "files": file_table(folder)})))
    with pytest.raises(InputError, match=r"does not give the (text|item) vectors that were stored"):
        load_run(folder)


@pytest.mark.parametrize("family", ["bert", pytest.param("llama", marks=pytest.mark.slow)])
def test_users_texts_have_their_own_or_share_it(
    family: str, backbones: dict[str, Path], make_recipe: Callable[..., Any], tmp_path: Path
) -> None:
    sizes = "max_tokens: 40, item_tokens: 8, attribute_tokens: 8"
    for number, method in enumerate(("null", "{kind: lora, rank: 2}")):
        folder = tmp_path / str(number)
        profile = f"profile={{method: {method}, {sizes}}}"
        train(make_recipe(*ATTENTION, profile, f"encoder.backbone={backbones[family]}", output_dir=folder))
        names = {name for name in load_file(folder / "head.safetensors") if "token_attention" in name}
        own = number == 1 and family == "bert"  # decoders give a vector after every event, and pool nothing
        assert names == {f"text_encoder.{name}" for name in NAMES} | (
            {f"profiles.text_encoder.{name}" for name in NAMES} if own else set()
        )
        run = load_run(folder)
        assert evaluate(run)["model"]["metrics"]["hr@10"] >= 0
