"""Every method in a whole run: gradients reach it and the head alone, and what is saved is what was trained."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from peftrec.build import build
from peftrec.data import TrainingWindows
from peftrec.encoders import TextEncoder
from peftrec.methods import METHODS
from peftrec.publishing import load_run
from peftrec.run import train
from peftrec.training.step import plan_step, step_loss
from peftrec.training.text_table import TextTable

KINDS = METHODS.kinds()
# Small enough for the tiny backbone.
SETTINGS: dict[str, dict[str, Any]] = {
    "lora": {"rank": 4},
    "adalora": {"initial_rank": 4, "target_rank": 2},
    "adapter": {"reduction_factor": 4},
    "side": {"width": 8},
    "prompt": {"num_tokens": 3},
    "p_tuning": {"num_tokens": 3, "hidden_dim": 8},
    "vera": {"rank": 8},
    "oft": {"block_size": 8},
    "peft": {"peft_type": "LOHA", "settings": {"r": 2}},
}


def overrides(kind: str, path: str = "method") -> list[str]:
    settings = json.dumps({"kind": kind, **SETTINGS.get(kind, {})})
    return [f"{path}={settings}"]


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_the_method_and_the_head_alone(
    kind: str, make_recipe: Callable[..., Any], toy_dataset: Any
) -> None:
    recipe = make_recipe(*overrides(kind), "encoder.inputs=text+ids", "training.batch_users=60")
    model = build(recipe, toy_dataset).model
    with torch.no_grad():  # away from zeros, behind which gradients vanish
        for parameter in model.head_parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    model.train()
    (batch,) = TrainingWindows(toy_dataset, recipe.user.max_history).epoch(0, 1, 60)
    plan = plan_step(batch, recipe.loss, toy_dataset.item_counts())
    table = TextTable(model, recipe.loss, recipe.training, steps_per_epoch=1)
    step_loss(model, plan, recipe.loss, table.vectors(plan, tuned=True)).backward()
    table.batch_done()
    assert table.step_done(1, last=True)
    found = {id(parameter) for parameter in model.parameters() if parameter.grad is not None}
    expected = [*model.method_parameters(), *model.head_parameters(), *model.id_parameters()]
    assert found == set(map(id, expected))
    still = [parameter for parameter in [*model.head_parameters(), *model.id_parameters()] if not parameter.grad.any()]
    assert not still


@pytest.mark.parametrize("kind", [*KINDS, "attention pooling"])
def test_vectors_are_those_of_the_weights_that_were_loaded(
    kind: str, make_recipe: Callable[..., Any], toy_dataset: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And where no weight of the language model trains, none is computed again."""
    chosen = overrides(kind) if kind in KINDS else [*overrides("frozen"), "encoder.pooling=attention"]
    model = build(make_recipe(*chosen, "training.batch_users=60"), toy_dataset).model
    assert model.catalogue_text is not None
    model.encode_catalogue()
    calls, encode = [], TextEncoder.encode
    monkeypatch.setattr(TextEncoder, "encode", lambda *given, **named: calls.append(1) or encode(*given, **named))
    moved = {
        name: tensor + 0.1 * torch.randn_like(tensor) if tensor.is_floating_point() else tensor
        for name, tensor in model.trained_state().items()
    }
    model.load_trained_state(moved)
    found_NH = model.catalogue_text.vectors()
    assert bool(calls) == (kind != "frozen")
    expected_NH = encode(model.text_encoder, model.catalogue_text.tokenized)
    assert torch.allclose(found_NH, expected_NH, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_trains_saves_and_reloads(kind: str, make_recipe: Callable[..., Any], tmp_path: Path) -> None:
    recipe = make_recipe(*overrides(kind), "training.num_epochs=2", output_dir=tmp_path / "run")
    metrics = train(recipe)
    parts = {row["part"]: row for row in metrics["parameters"]}
    run = load_run(tmp_path / "run")
    assert run.model is not None
    adapter = tmp_path / "run" / "adapter_model.safetensors"
    assert adapter.exists() == (kind != "frozen")
    if kind == "frozen":
        assert parts["lm"]["trainable"] == parts["lm"]["stored"] == 0
        return
    assert parts["lm"]["trainable"] > 0
    stored = load_file(adapter)
    assert parts["lm"]["stored"] == sum(tensor.numel() for tensor in stored.values())
    assert parts["lm"]["stored_bytes"] == sum(tensor.nbytes for tensor in stored.values())
    start = build(recipe).model.text_encoder
    assert start is not None
    untrained = start.method.published_tensors()
    if metrics["training"]["best_epoch"] > 0:
        same = [key for key, tensor in stored.items() if key in untrained and torch.equal(untrained[key], tensor)]
        assert len(same) < len(stored)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("frozen", "side")])
def test_users_have_any_method_of_their_own(kind: str, make_recipe: Callable[..., Any], tmp_path: Path) -> None:
    profile = json.dumps(
        {"method": {"kind": kind, **SETTINGS.get(kind, {})}, "max_tokens": 40, "item_tokens": 8, "attribute_tokens": 8}
    )
    train(make_recipe(f"profile={profile}", "method.layers=1", "training.num_epochs=2", output_dir=tmp_path / "run"))
    assert load_run(tmp_path / "run").model is not None
    assert load_file(tmp_path / "run" / "user_adapter" / "adapter_model.safetensors")


@pytest.mark.parametrize("kind", KINDS)
def test_every_method_starts_from_the_cache(
    kind: str, make_recipe: Callable[..., Any], toy_dataset: Any, tmp_path: Path
) -> None:
    """The second start finds all that the first has computed, and has the same vectors of the backbone."""
    recipe = make_recipe(*overrides(kind), f"encoder.cache.folder={tmp_path}")
    found, said = [], []
    for _ in range(2):
        said.clear()
        built = build(recipe, toy_dataset, said.append)
        assert built.base_vectors_NH is not None
        found.append(built.base_vectors_NH.clone())
    assert sum("read from" in line for line in said) >= 2
    assert not any("written to" in line for line in said)
    assert torch.equal(*found)
