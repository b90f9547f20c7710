"""Users' texts in whole runs: trained, saved, reloaded, evaluated, recommended from."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from peftrec.publishing import load_run
from peftrec.recommender import Recommender
from peftrec.run import evaluate, train

PROFILE = "profile={method: {kind: lora, rank: 4}, max_tokens: 40, item_tokens: 8, attribute_tokens: 8}"


@pytest.mark.parametrize("family", ["bert", "llama"])
@pytest.mark.parametrize("fusion", ["add", "alone"])
def test_a_run_with_texts_of_users(
    family: str, fusion: str, backbones: dict[str, Path], make_recipe: Callable[..., Any], tmp_path: Path
) -> None:
    overrides = (f"encoder.backbone={backbones[family]}", PROFILE, f"profile.fusion={fusion}")
    recipe = make_recipe(*overrides, output_dir=tmp_path / "run")
    lines: list[str] = []
    metrics = train(recipe, report=lines.append)
    assert any("profiles: 60 users" in line for line in lines)
    assert any("lora for users changes" in line for line in lines)
    assert metrics["texts"]["num_profiles"] == 60
    parts = {row["part"]: row for row in metrics["parameters"]}
    assert parts["user_lm"]["trainable"] == parts["lm"]["trainable"] > 0
    run = load_run(tmp_path / "run")
    for adapter in ("adapter_model.safetensors", "user_adapter/adapter_model.safetensors"):
        moved = [t for name, t in load_file(tmp_path / "run" / adapter).items() if "lora_B" in name]
        assert all(bool(tensor.any()) for tensor in moved)
    again = evaluate(run)
    assert again["model"]["metrics"] == pytest.approx(metrics["test"]["model"]["metrics"])
    assert json.loads((tmp_path / "run" / "peftrec.json").read_text())["files"].keys() >= {
        "user_adapter/adapter_config.json",
        "user_adapter/adapter_model.safetensors",
    }
    recommender = Recommender(run)
    assert len(recommender.recommend(["wine0", "wine1"], k=3)) == 3
