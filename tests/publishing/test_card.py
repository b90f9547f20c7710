"""The card of a run folder says what the other files say."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard

from peftrec.publishing import load_run
from peftrec.run import train


def test_the_card_has_the_figures_of_the_run(make_recipe: Callable[..., Any], tmp_path: Path) -> None:
    lines: list[str] = []
    train(make_recipe("encoder.inputs=text+ids", output_dir=tmp_path / "run"), report=lines.append)
    card = ModelCard.load(tmp_path / "run" / "README.md")
    assert card.data.library_name == "peftrec"
    assert card.data.tags == ["recommendation", "peft", "lora"]
    # The backbone of this run is a folder: it means nothing elsewhere.
    assert card.data.base_model is None
    assert str(tmp_path) not in card.content
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert [row["part"] for row in metrics["parameters"]] == ["lm", "head", "user", "ids"]
    for row in metrics["parameters"]:
        figures = (
            f"{row['trainable']:,} | {row['total']:,} | {row['stored']:,} | {row['stored_bytes']:,} | {row['dtype']}"
        )
        assert f"| {row['part']} | {figures} |" in card.content
        logged = (
            f"{row['trainable']:,} of {row['total']:,} parameters train; {row['stored']:,} stored as {row['dtype']}"
        )
        assert any(line.startswith(f"{row['part']}: {logged} in {row['stored_bytes']:,} bytes") for line in lines)
    for name in ("model", "popularity", "content_knn"):
        assert f"| {name} | {metrics['test'][name]['metrics']['hr@10']:.4f} [" in card.content
    load_run(tmp_path / "run")


def test_cards_of_other_runs(make_recipe: Callable[..., Any], tmp_path: Path, minilm: str) -> None:
    train(make_recipe("baseline.kind=popularity", output_dir=tmp_path / "baseline"))
    assert "A baseline, `popularity`, over 40 items" in (tmp_path / "baseline" / "README.md").read_text()
    recipe = make_recipe(
        f"encoder.backbone={minilm}", "method.layers=1", "training.num_epochs=1",
        "profile={method: {kind: bitfit, layers: 1}, max_tokens: 40, item_tokens: 8, attribute_tokens: 8}",
        output_dir=tmp_path / "run",
    )  # fmt: skip
    train(recipe)
    card = ModelCard.load(tmp_path / "run" / "README.md")
    assert (card.data.base_model, card.data.base_model_relation) == (minilm, "adapter")
    assert "with `lora`, users by `bitfit` of their own." in card.content
