"""AdaLoRA in the training loop: its schedule, its penalty, its checkpoint, its budget."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from peftrec.config import InputError, RecipeError
from peftrec.methods.adalora import AdaLoraConfig, AppliedAdaLora

ADALORA = ("method.kind=adalora", "method.initial_rank=4", "method.target_rank=2", "training.patience=null")


def method_of(prepared: Any) -> AppliedAdaLora:
    (method,) = prepared.model.methods()
    assert isinstance(method, AppliedAdaLora)
    return method


@pytest.mark.parametrize(
    "overrides",
    [
        ("training.encoder_interval=1",),
        ("training.encoder_interval=3", "training.num_epochs=3"),
        ("training.encoder_interval=2", "training.warmup_frozen_epochs=1", "training.num_epochs=3"),
        ("training.accumulation_steps=2", "training.num_epochs=3"),
        ("training.max_steps=5", "training.encoder_interval=2", "training.batch_users=8"),
        ("loss.kind=in_batch_softmax", "training.batch_users=16", "training.warmup_frozen_epochs=1"),
    ],
)
def test_it_is_told_as_many_steps_as_it_makes(
    overrides: tuple[str, ...], make_recipe: Callable[..., Any], prepare: Callable[..., Any]
) -> None:
    prepared = prepare(make_recipe(*ADALORA, *overrides))
    told, made, penalties = method_of(prepared).config.total_step, [], []
    method = method_of(prepared)
    after, penalty = method.after_optimizer_step, method.penalty
    method.after_optimizer_step = lambda step: (made.append(step), after(step))  # type: ignore[method-assign]
    method.penalty = lambda: (penalties.append(1), penalty())[1]  # type: ignore[method-assign]
    prepared.trainer.train()
    assert made == list(range(told))
    # Once an optimiser step, however many batches it has.
    assert len(penalties) == told
    assert method.settled


def test_the_budget_is_reached_by_a_falling_schedule(
    make_recipe: Callable[..., Any], prepare: Callable[..., Any]
) -> None:
    prepared = prepare(make_recipe(*ADALORA, "training.num_epochs=8", "method.final_share=0.25"))
    method = method_of(prepared)
    totals = []
    after = method.after_optimizer_step

    def record(step: int) -> None:
        after(step)
        totals.append(sum(method.summary()["ranks"].values()))

    method.after_optimizer_step = record  # type: ignore[method-assign]
    prepared.trainer.train()
    modules = len(method.summary()["ranks"])
    assert totals[0] == 4 * modules
    assert totals == sorted(totals, reverse=True)
    last = method.config.total_step - method.config.tfinal
    assert all(total <= 2 * modules for total in totals[last:])
    assert any(2 * modules < total < 4 * modules for total in totals[:last])
    # Importance differs between modules: some keep more than others.
    assert len(set(method.summary()["ranks"].values())) > 1


def test_penalty_by_hand(make_recipe: Callable[..., Any], prepare: Callable[..., Any]) -> None:
    method = method_of(prepare(make_recipe(*ADALORA, "method.orthogonal_weight=0.3")))
    gaps = []
    for name, parameter in method.named_parameters().items():
        rows = parameter.detach() if ".lora_A." in name else parameter.detach().T
        if ".lora_E." not in name:
            gaps.append(
                sum((float(a @ b) - (i == j)) ** 2 for i, a in enumerate(rows) for j, b in enumerate(rows)) ** 0.5
            )
    penalty = method.penalty()
    assert penalty is not None
    assert penalty.item() == pytest.approx(0.3 * sum(gaps) / len(gaps), rel=1e-5)
    assert method_of(prepare(make_recipe(*ADALORA, "method.orthogonal_weight=0"))).penalty() is None


def test_only_epochs_within_the_budget_are_judged(make_recipe: Callable[..., Any], prepare: Callable[..., Any]) -> None:
    values = iter([0.9, 0.8, 0.7, 0.6, 0.3, 0.2, 0.4])
    recipe = make_recipe(*ADALORA, "training.num_epochs=6", "training.patience=1", "method.final_share=0.4")
    result = prepare(recipe, evaluate=lambda _: {"ndcg@10": next(values)}).trainer.train()
    # Two steps an epoch, twelve in all: the budget is reached in step 12 - 5, in the fourth epoch.
    assert (result.best_epoch, result.best_metric) == (4, 0.3)
    assert len(result.epochs) == 5


def test_a_run_whose_ranks_never_moved_fails(
    make_recipe: Callable[..., Any], prepare: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = prepare(make_recipe(*ADALORA))
    tuner = method_of(prepared).peft_model.base_model
    monkeypatch.setattr(type(tuner), "update_and_allocate", lambda *_: None)
    with pytest.raises(InputError, match=r"adalora ended with \d+ ranks in all, \d+ were to be reached"):
        prepared.trainer.train()


def test_too_few_steps_are_refused(make_recipe: Callable[..., Any], prepare: Callable[..., Any]) -> None:
    with pytest.raises(InputError, match="adalora needs at least 2 steps of the language model"):
        prepare(make_recipe(*ADALORA, "training.num_epochs=1", "training.encoder_interval=9"))


def test_settings_that_leave_nothing_to_deal_out(make_recipe: Callable[..., Any]) -> None:
    with pytest.raises(RecipeError, match=r"method\.target_rank: 4 is not below initial_rank \(4\)"):
        make_recipe("method.kind=adalora", "method.initial_rank=4", "method.target_rank=4")
    with pytest.raises(ValueError, match="leaves no steps"):
        AdaLoraConfig(warmup_share=0.7, final_share=0.3)


def test_a_checkpoint_holds_the_averages(
    make_recipe: Callable[..., Any], prepare: Callable[..., Any], tmp_path: Path
) -> None:
    recipe = make_recipe(*ADALORA, "training.num_epochs=4")
    whole = prepare(recipe, folder=tmp_path / "whole")
    whole.trainer.train()
    first = prepare(make_recipe(*ADALORA, "training.num_epochs=4"), folder=tmp_path / "cut")
    save, stop = first.trainer.saving.epoch_ended, RuntimeError("killed")

    def kill(state: Any) -> None:
        save(state)
        if state.epoch == 2:
            raise stop

    first.trainer.saving.epoch_ended = kill
    with pytest.raises(RuntimeError, match="killed"):
        first.trainer.train()
    second = prepare(make_recipe(*ADALORA, "training.num_epochs=4"), folder=tmp_path / "cut")
    second.trainer.train(resume=True)
    assert method_of(second).summary() == method_of(whole).summary()
    for name, tensor in whole.model.trained_state().items():
        assert torch.equal(second.model.trained_state()[name], tensor), name
    # Without the averages the ranks would be dealt out by two epochs alone.
    state = method_of(whole).training_state()
    assert {key.partition("/")[0] for key in state} >= {"num_done", "num_steps", "pattern"}


def test_another_number_of_steps_is_not_resumed(
    make_recipe: Callable[..., Any], prepare: Callable[..., Any], tmp_path: Path
) -> None:
    prepare(make_recipe(*ADALORA, "training.num_epochs=2"), folder=tmp_path).trainer.train()
    longer = prepare(make_recipe(*ADALORA, "training.num_epochs=3"), folder=tmp_path)
    with pytest.raises(InputError, match="over 4 steps of the language model, the recipe now makes 6"):
        longer.trainer.train(resume=True)


def test_rates_of_lora_plus_reach_the_optimizer(make_recipe: Callable[..., Any], prepare: Callable[..., Any]) -> None:
    prepared = prepare(make_recipe("method.b_rate_factor=16", "optimizer.schedule=constant", "training.num_epochs=1"))
    prepared.trainer.train()
    assert {name: rate for name, rate in prepared.record.rates[0].items() if name.startswith("lm")} == pytest.approx(
        {"lm": 0.002, "lm x 16": 0.032}
    )
    groups = {group["name"]: group["params"] for group in prepared.trainer.optimizer.param_groups}
    names = {id(parameter): name for name, parameter in prepared.model.named_parameters()}
    assert all("lora_B" in names[id(parameter)] for parameter in groups["lm x 16"])
    assert all("lora_A" in names[id(parameter)] for parameter in groups["lm"])
