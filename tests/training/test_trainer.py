"""The loop: schedules, warm-up, clipping, stopping, what is kept, and going on after a stop."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from peftrec.build import build
from peftrec.config import InputError
from peftrec.training import OptimizerConfig
from peftrec.training.checkpoint import read_content
from peftrec.training.checkpoint_folder import CheckpointFolder
from peftrec.training.optimizer import build_optimizer, rate_factor


def test_schedule_by_hand() -> None:
    cosine = rate_factor(OptimizerConfig(warmup_steps=0, final_rate=0.1), 10)
    assert [cosine(0), cosine(5), cosine(10), cosine(20)] == pytest.approx([1.0, 0.55, 0.1, 0.1])
    constant = rate_factor(OptimizerConfig(warmup_steps=4, schedule="constant"), 10)
    assert [constant(step) for step in (0, 1, 3, 4, 9)] == pytest.approx([0.2, 0.4, 0.8, 1.0, 1.0])
    warm = rate_factor(OptimizerConfig(warmup_steps=1, final_rate=0.0), 4)
    assert [warm(0), warm(1), warm(2), warm(4)] == pytest.approx([0.5, (1 + math.cos(math.pi / 4)) / 2, 0.5, 0.0])


def test_rates_reach_the_groups(make_recipe: Callable[..., Any], prepare: Callable[..., Any]) -> None:
    overrides = (
        "training.num_epochs=3", "training.warmup_frozen_epochs=1", "training.batch_users=30",
        "encoder.inputs=text+ids", "optimizer.learning_rate=1e-3", "optimizer.head_learning_rate=2e-3",
        "optimizer.id_learning_rate=4e-3", "optimizer.final_rate=0.0", "optimizer.warmup_steps=1",
    )  # fmt: skip
    prepared = prepare(make_recipe(*overrides))
    assert (prepared.trainer.steps_per_epoch, prepared.trainer.num_steps) == (2, 6)
    prepared.trainer.train()
    rates = prepared.record.rates
    fall = [(1 + math.cos(math.pi * step / 6)) / 2 for step in range(6)]
    warm = [0.5, 1, 1, 1, 1, 1]
    assert [row["head"] for row in rates] == pytest.approx([2e-3 * w * f for w, f in zip(warm, fall, strict=True)])
    assert [row["ids"] for row in rates] == pytest.approx([4e-3 * w * f for w, f in zip(warm, fall, strict=True)])
    # The language model's schedule begins when it begins to move.
    late = [0.5, (1 + math.cos(math.pi / 4)) / 2, 0.5, (1 + math.cos(math.pi * 3 / 4)) / 2]
    assert [row["lm"] for row in rates[2:]] == pytest.approx([1e-3 * factor for factor in late])


def test_few_steps_of_the_language_model_have_its_whole_schedule(
    make_recipe: Callable[..., Any], prepare: Callable[..., Any]
) -> None:
    overrides = ("training.num_epochs=4", "training.batch_users=10", "training.encoder_interval=6")
    prepared = prepare(make_recipe(*overrides, "optimizer.learning_rate=1e-3", "optimizer.final_rate=0.0"))
    assert (prepared.trainer.num_steps, prepared.trainer.num_encoder_steps) == (24, 4)
    prepared.trainer.train()
    record = prepared.record
    moved = [row["lm"] for row, step in zip(record.rates, record.gradients, strict=True)
             if any(gradient is not None for name, gradient in step.items() if "lora" in name)]  # fmt: skip
    assert moved == pytest.approx([1e-3 * (1 + math.cos(math.pi * step / 4)) / 2 for step in range(4)])


def test_groups_and_their_weight_decay(make_recipe: Callable[..., Any], toy_dataset: Any) -> None:
    recipe = make_recipe("encoder.inputs=text+ids", "optimizer.weight_decay=0.1", "optimizer.id_weight_decay=0.5")
    groups = build_optimizer(build(recipe, toy_dataset).model, recipe.optimizer).param_groups
    assert {group["name"]: group["weight_decay"] for group in groups} == {"lm": 0.1, "head": 0.1, "ids": 0.5}
    assert {group["name"]: group["lr"] for group in groups} == {"lm": 0.002, "head": 0.01, "ids": 0.01}
    with pytest.raises(ValueError, match="are not resolved"):
        build_optimizer(build(recipe, toy_dataset).model, OptimizerConfig())


def test_frozen_warm_up_leaves_the_adapter_as_it_is(
    make_recipe: Callable[..., Any], prepare: Callable[..., Any]
) -> None:
    prepared = prepare(make_recipe("training.num_epochs=3", "training.warmup_frozen_epochs=2", "method.dropout=0.2"))
    start = prepared.model.trained_state()
    states: list[dict[str, torch.Tensor]] = []

    def evaluate(model: Any) -> dict[str, float]:
        states.append(model.trained_state())
        return {"ndcg@10": 0.1 * len(states)}

    prepared.trainer.evaluate = evaluate
    prepared.trainer.train()
    adapter = [name for name in start if name.startswith("adapter.")]
    head = [name for name in start if not name.startswith("adapter.") and "whitening" not in name]
    for warm in states[1:3]:
        assert all(torch.equal(warm[name], start[name]) for name in adapter)
        assert any(not torch.equal(warm[name], start[name]) for name in head)
    assert all(not torch.equal(states[3][name], start[name]) for name in adapter if "lora_B" in name)
    steps = prepared.trainer.steps_per_epoch
    moved = [any(g is not None for n, g in row.items() if "lora_" in n) for row in prepared.record.gradients]
    assert moved == [False] * 2 * steps + [True] * steps


def test_clipping_is_by_group(make_recipe: Callable[..., Any], prepare: Callable[..., Any]) -> None:
    one = ("training.num_epochs=1", "training.max_steps=1")
    free = prepare(make_recipe(*one))
    free.trainer.train()
    cut = prepare(make_recipe(*one, "optimizer.clip_norm=0.01"))
    cut.trainer.train()

    def norm(row: dict[str, Any], adapter: bool) -> float:
        found = [g for name, g in row.items() if g is not None and ("lora_" in name) == adapter]
        return float(torch.stack([g.norm() for g in found]).norm())

    for adapter in (True, False):
        before, after = norm(free.record.gradients[0], adapter), norm(cut.record.gradients[0], adapter)
        assert after == pytest.approx(min(before, 0.01), rel=1e-3)
    assert norm(free.record.gradients[0], False) > 0.01


def scripted(
    values: list[float], states: list[Any] | None = None, *, start: float | None = 0.0
) -> Callable[[Any], dict[str, float]]:
    """An evaluation that finds these values after each epoch, and keeps the states it saw then.

    `start` is what it finds before the first step, None in a run that goes on from a checkpoint.
    """
    left = iter(values if start is None else [start, *values])
    waiting = [] if start is None else [start]

    def evaluate(model: Any) -> dict[str, float]:
        if waiting:
            waiting.pop()
        elif states is not None:
            states.append(model.trained_state())
        return {"ndcg@10": next(left)}

    return evaluate


def test_early_stopping_and_the_best_weights(make_recipe: Callable[..., Any], prepare: Callable[..., Any]) -> None:
    states: list[dict[str, torch.Tensor]] = []
    values = [0.1, 0.3, 0.2, 0.3, 0.9]
    recipe = make_recipe("training.num_epochs=9", "training.patience=2")
    prepared = prepare(recipe, evaluate=scripted(values, states))
    result = prepared.trainer.train()
    # An equal value is no improvement.
    assert (len(result.epochs), result.best_epoch, result.best_metric) == (4, 2, 0.3)
    final = prepared.model.trained_state()
    assert all(torch.equal(final[name], states[1][name]) for name in final)
    assert not all(torch.equal(final[name], states[3][name]) for name in final)
    # The vectors of the catalogue are those of the best weights, not of the last.
    vectors, _ = prepared.model.encode_catalogue()
    prepared.model.weights_changed()
    assert torch.equal(vectors, prepared.model.encode_catalogue()[0])


def test_the_start_is_a_candidate_for_the_best_weights(
    make_recipe: Callable[..., Any], prepare: Callable[..., Any]
) -> None:
    prepared = prepare(make_recipe("training.num_epochs=2"), evaluate=scripted([0.2, 0.1], start=0.3))
    before = prepared.model.trained_state()
    result = prepared.trainer.train()
    assert (result.best_epoch, result.best_metric, result.start) == (0, 0.3, {"ndcg@10": 0.3})
    after = prepared.model.trained_state()
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_warm_up_epochs_do_not_count_towards_stopping(
    make_recipe: Callable[..., Any], prepare: Callable[..., Any]
) -> None:
    recipe = make_recipe("training.num_epochs=6", "training.patience=1", "training.warmup_frozen_epochs=3")
    result = prepare(recipe, evaluate=scripted([0.9, 0.1, 0.1, 0.1])).trainer.train()
    assert len(result.epochs) == 4


def test_no_patience_never_stops(make_recipe: Callable[..., Any], prepare: Callable[..., Any]) -> None:
    recipe = make_recipe("training.num_epochs=4", "training.patience=null")
    assert len(prepare(recipe, evaluate=scripted([0.9, 0.1, 0.1, 0.1])).trainer.train().epochs) == 4


def test_evaluate_every_and_max_steps(make_recipe: Callable[..., Any], prepare: Callable[..., Any]) -> None:
    recipe = make_recipe("training.num_epochs=5", "training.evaluate_every=2", "training.batch_users=30")
    result = prepare(recipe, evaluate=scripted([0.1, 0.2, 0.3])).trainer.train()
    assert ["ndcg@10" in row for row in result.epochs] == [False, True, False, True, True]
    short = make_recipe("training.num_epochs=5", "training.max_steps=3", "training.batch_users=30")
    result = prepare(short, evaluate=scripted([0.1, 0.2])).trainer.train()
    assert (result.num_steps, len(result.epochs), result.best_epoch) == (3, 2, 2)


def test_metrics_file(make_recipe: Callable[..., Any], prepare: Callable[..., Any], tmp_path: Path) -> None:
    prepared = prepare(make_recipe("training.num_epochs=3"), evaluate=scripted([0.1, 0.2, 0.3]), folder=tmp_path)
    result = prepared.trainer.train()
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert rows == list(result.epochs)
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert {"loss", "train_seconds", "ndcg@10"} < set(rows[0])


@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_a_loss_that_is_no_number_stops_and_keeps_the_checkpoint(
    poison: float, make_recipe: Callable[..., Any], prepare: Callable[..., Any], tmp_path: Path
) -> None:
    prepared = prepare(make_recipe("training.num_epochs=3"), folder=tmp_path)
    loop: Any = prepared.trainer
    began = loop._epoch

    def epoch(number: int, *known: Any) -> float:
        if number == 3:
            with torch.no_grad():
                prepared.model.scale.log_scale.fill_(poison)
        return float(began(number, *known))

    loop._epoch = epoch
    users = r"whose first users are 'u\d+', 'u\d+', 'u\d+'"
    with pytest.raises(
        InputError, match=rf"the loss became (nan|inf) in step \d+ \(epoch 3, step 1 of it, {users}\)\. Lower the learn"
    ):
        prepared.trainer.train()
    newest = CheckpointFolder(tmp_path / "private" / "checkpoints").paths()[0]
    assert read_content(newest)["state"].epoch == 2


def test_a_metric_that_is_no_number_stops(make_recipe: Callable[..., Any], prepare: Callable[..., Any]) -> None:
    with pytest.raises(InputError, match=r"ndcg@10 became nan in epoch 1"):
        prepare(make_recipe(), evaluate=scripted([math.nan])).trainer.train()
    with pytest.raises(InputError, match=r"training\.metric: 'ndcg@10' is not evaluated; there are hr@5"):
        prepare(make_recipe(), evaluate=lambda _: {"hr@5": 0.1}).trainer.train()


def test_the_same_seed_gives_the_same_run(make_recipe: Callable[..., Any], prepare: Callable[..., Any]) -> None:
    dropout = ("method.dropout=0.2", "encoder.dropout=0.2", "user.dropout=0.2", "training.num_epochs=1")
    finals = []
    for seed in (1, 1, 2):
        prepared = prepare(make_recipe(*dropout, f"training.seed={seed}"))
        prepared.trainer.train()
        finals.append(prepared.model.trained_state())
    same, other = ([torch.equal(finals[0][name], final[name]) for name in final] for final in finals[1:])
    assert all(same)
    assert not all(other)


def test_trackers_write_files(make_recipe: Callable[..., Any], prepare: Callable[..., Any], tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    recipe = make_recipe("training.num_epochs=1", "training.trackers=[tensorboard]")
    prepare(recipe, folder=tmp_path).trainer.train()
    files = [path for path in (tmp_path / "private" / "trackers").rglob("*tfevents*") if path.stat().st_size]
    assert files


def test_a_tracker_that_is_not_installed_is_refused(
    make_recipe: Callable[..., Any], prepare: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    import accelerate.tracking

    monkeypatch.setattr(accelerate.tracking, "get_available_trackers", lambda: ["tensorboard"])
    with pytest.raises(InputError, match=r"training\.trackers: 'wandb' is not installed; pip install wandb"):
        prepare(make_recipe("training.trackers=[wandb]"))
