"""Targets weighed by inverse propensity in training: in every loss, and over the batches of a step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from peftrec.build import build, build_debias
from peftrec.data import TrainingWindows
from peftrec.losses import LOSSES
from peftrec.metrics.list_exposure import mean_popularity
from peftrec.retrieval import top_items
from peftrec.training.planner import Planner
from peftrec.training.step import step_inputs, step_loss

FROZEN = ("method.kind=frozen", "optimizer.schedule=constant")
WEIGHED = "debias.propensity={power: 1, clip: 0.05}"
KINDS = [kind for kind in LOSSES.kinds() if not LOSSES.load(kind).needs_ratings]


def weights_of(dataset: Any, clip: float) -> Any:
    """Weights by power 1, written down once more."""
    counts = dataset.item_counts()
    weights = 1 / np.maximum(np.maximum(counts, 1) / counts.max(), clip)
    return weights / (weights * counts).sum() * counts.sum()


@pytest.mark.parametrize("kind", KINDS)
def test_positions_have_the_weights_of_their_targets(
    kind: str, make_recipe: Callable[..., Any], toy_dataset: Any
) -> None:
    recipe = make_recipe(*FROZEN, f"loss.kind={kind}", WEIGHED)
    built, debias = build(recipe, toy_dataset), build_debias(recipe, toy_dataset)
    assert debias is not None
    model, counts = built.model.eval(), toy_dataset.item_counts()
    (batch,) = TrainingWindows(toy_dataset, 10).epoch(0, 1, 1000)
    plain, weighed = (
        Planner(model, recipe.loss, counts, 0, weights).plan(batch) for weights in (None, debias.target_weights_N)
    )
    expected = weights_of(toy_dataset, 0.05)[batch.targets[batch.targets >= 0]]
    assert weighed.total_weight == pytest.approx(expected.sum())
    assert plain.total_weight == plain.num_positions == len(expected)
    # Every training event but each user's first is a target.
    assert expected.mean() == pytest.approx(1, abs=0.2)
    text = None if model.catalogue_text is None else model.catalogue_text.vectors()[plain.items_C]
    inputs = step_inputs(model, weighed, text)
    assert inputs.weights_P is not None
    np.testing.assert_allclose(inputs.weights_P.numpy(), expected, rtol=1e-6)
    values = [float(step_loss(model, plan, recipe.loss, text, None, debias).detach()) for plan in (plain, weighed)]
    assert abs(values[0] - values[1]) > 1e-3


def test_power_zero_is_training_without(make_recipe: Callable[..., Any], prepare: Callable[..., Any]) -> None:
    states = []
    for extra in ((), ("debias.propensity.power=0",)):
        prepared = prepare(make_recipe("training.num_epochs=1", *extra))
        prepared.trainer.train()
        states.append(prepared.model.trained_state())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize("penalty", [(), ("debias.popularity.weight=0.5",)])
def test_batches_of_a_step_add_up_to_one_large_batch(
    penalty: tuple[str, ...], make_recipe: Callable[..., Any], prepare: Callable[..., Any]
) -> None:
    """Their losses by their share of the weights, penalties by that of the positions."""
    found = []
    for users, batches in ((60, 1), (31, 2), (23, 3)):
        sizes = (f"training.batch_users={users}", f"training.accumulation_steps={batches}")
        prepared = prepare(
            make_recipe(*FROZEN, "training.num_epochs=1", "training.max_steps=1", WEIGHED, *penalty, *sizes)
        )
        result = prepared.trainer.train()
        found.append((result.epochs[0]["loss"], prepared.record.gradients[0]))
    (value, gradients), *others = found
    for other_value, other in others:
        assert other_value == pytest.approx(value, rel=1e-5)
        for name, gradient in gradients.items():
            if gradient is not None:
                torch.testing.assert_close(other[name], gradient, rtol=1e-3, atol=1e-6)


def test_the_loss_of_an_epoch_is_the_weighted_mean(
    make_recipe: Callable[..., Any], prepare: Callable[..., Any], toy_dataset: Any
) -> None:
    still = ("optimizer.head_learning_rate=1e-30", "optimizer.weight_decay=0", "training.num_epochs=1")
    losses = [
        prepare(make_recipe(*FROZEN, *still, WEIGHED, f"training.batch_users={users}"))
        .trainer.train()
        .epochs[0]["loss"]
        for users in (60, 17)
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


def test_profiles_alone_count_only_what_they_tell(make_recipe: Callable[..., Any], toy_dataset: Any) -> None:
    recipe = make_recipe("profile={max_tokens: 24, item_tokens: 8, attribute_tokens: 8, fusion: alone}", WEIGHED)
    built, debias = build(recipe, toy_dataset), build_debias(recipe, toy_dataset)
    assert debias is not None
    model = built.model.eval()
    (batch,) = TrainingWindows(toy_dataset, 10).epoch(0, 1, 1000)
    plan = Planner(model, recipe.loss, toy_dataset.item_counts(), 0, debias.target_weights_N).plan(batch)
    assert 0 < plan.num_positions < (batch.targets >= 0).sum()
    assert plan.profiles is not None
    assert model.profiles is not None
    assert model.catalogue_text is not None
    inputs = step_inputs(
        model, plan, model.catalogue_text.vectors()[plan.items_C], model.profiles.vectors(plan.profiles)
    )
    assert inputs.weights_P is not None
    assert len(inputs.weights_P) == plan.num_positions
    assert plan.total_weight == pytest.approx(float(inputs.weights_P.sum()), rel=1e-5)
    told = plan.items_C[inputs.targets_P].numpy()
    np.testing.assert_allclose(inputs.weights_P.numpy(), weights_of(toy_dataset, 0.05)[told], rtol=1e-6)


@pytest.mark.parametrize("scorer", ["cosine", "mlp"])
def test_lists_become_less_popular(
    scorer: str, make_recipe: Callable[..., Any], prepare: Callable[..., Any], toy_dataset: Any
) -> None:
    counts, cases = toy_dataset.item_counts(), toy_dataset.split.test
    histories = torch.from_numpy(cases.histories(toy_dataset.sequences, 0, len(cases)))
    found = []
    for extra in ((), ("debias.propensity={power: 2, clip: 0.001}",)):
        recipe = make_recipe(
            *FROZEN, f"scorer.kind={scorer}", "training.num_epochs=4", "training.batch_users=20", *extra
        )
        prepared = prepare(recipe)
        prepared.trainer.train()
        model = prepared.model.eval()
        lists = top_items(model.scores(histories, *model.encode_catalogue()), 5, exclude_BL=histories)[0].numpy()
        found.append(float(mean_popularity(lists, counts).mean()))
    assert found[1] < found[0]
