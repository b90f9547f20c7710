"""Penalties in training: they are part of every step, and lists of the trained model follow them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from peftrec.build import build, build_debias, item_groups
from peftrec.data import TrainingWindows
from peftrec.losses.debias import group_parts
from peftrec.metrics.list_exposure import exposure_gap, group_shares, mean_popularity
from peftrec.retrieval import top_items
from peftrec.training.step import plan_step, step_loss

FAST = ("method.kind=frozen", "training.num_epochs=6", "optimizer.schedule=constant")
GROUPS = "debias.groups={weight: %s, column: category, part: uniform}"


def lists_of(prepared: Any, dataset: Any, k: int) -> np.ndarray[Any, Any]:
    """The best items of every test user, history left out, after training."""
    prepared.trainer.train()
    model, cases = prepared.model.eval(), dataset.split.test
    histories = torch.from_numpy(cases.histories(dataset.sequences, 0, len(cases)))
    scores = model.scores(histories, *model.encode_catalogue())
    return top_items(scores, k, exclude_BL=histories)[0].numpy()


@pytest.mark.parametrize("loss", ["full_softmax", "in_batch_softmax"])
def test_lists_become_less_popular(
    loss: str, make_recipe: Callable[..., Any], prepare: Callable[..., Any], toy_dataset: Any
) -> None:
    counts = toy_dataset.item_counts()
    found = []
    for penalty in ((), ("debias.popularity.weight=0.5",), ("debias.popularity.weight=5",)):
        recipe = make_recipe(*FAST, "training.batch_users=20", f"loss.kind={loss}", *penalty)
        found.append(float(mean_popularity(lists_of(prepare(recipe), toy_dataset, 5), counts).mean()))
    assert found[0] > found[1] > found[2]
    assert found[2] < 0.9 * found[0]


@pytest.mark.parametrize("loss", ["full_softmax", "in_batch_softmax"])
def test_gaps_between_groups_close(
    loss: str, make_recipe: Callable[..., Any], prepare: Callable[..., Any], toy_dataset: Any
) -> None:
    """All users are in one batch: penalties are on the exposure in each, and small ones differ in their users."""
    fast = (*FAST, "training.batch_users=60", f"loss.kind={loss}")
    recipes = [make_recipe(*fast, *extra) for extra in ((), (GROUPS % 1,), (GROUPS % 100,))]
    groups = item_groups(recipes[1], toy_dataset)
    assert groups is not None
    assert set(groups.names) == {"wine", "cheese", "bread", "tea"}
    parts = group_parts(recipes[1].debias.groups, groups, toy_dataset.item_counts())
    assert parts.tolist() == [0.25] * 4
    shares = [group_shares(lists_of(prepare(recipe), toy_dataset, 3), groups.group_N, 4) for recipe in recipes]
    gaps = [exposure_gap(share, parts) for share in shares]
    assert gaps[0] > gaps[1] > gaps[2]
    assert gaps[2] < 0.75 * gaps[0]


def test_a_step_is_the_loss_and_the_penalty(make_recipe: Callable[..., Any], toy_dataset: Any) -> None:
    recipe = make_recipe(
        "method.kind=frozen", "debias={popularity: {weight: 0.7}, groups: {weight: 3, popularity_bins: 2}}"
    )
    built = build(recipe, toy_dataset)
    (batch,) = TrainingWindows(toy_dataset, 10).epoch(0, 1, 1000)
    assert built.model.catalogue_text is not None
    built.model.eval()
    debias = build_debias(recipe, toy_dataset)
    assert debias is not None
    counts = toy_dataset.item_counts()
    plan = plan_step(batch, recipe.loss, counts)
    text = built.model.catalogue_text.vectors()[plan.items_C]
    plain = step_loss(built.model, plan, recipe.loss, text)
    both = step_loss(built.model, plan, recipe.loss, text, None, debias)
    # The penalty once more, from scores of whole histories.
    vectors, bias = built.model.encode_catalogue()
    exposure, taken = torch.zeros(len(counts)), []
    for row in range(len(batch)):
        inputs = batch.inputs[row][batch.inputs[row] >= 0]
        for number, target in enumerate(batch.targets[row][batch.targets[row] >= 0], start=1):
            scores = built.model.scores(torch.from_numpy(inputs[None, :number]), vectors, bias)[0]
            scores[torch.from_numpy(inputs[:number])] = -torch.inf
            scores[torch.from_numpy(counts == 0)] = -torch.inf
            exposure += scores.softmax(0)
            taken.append(np.log(counts[target]))
    exposure /= len(taken)
    log_counts = torch.from_numpy(np.log(np.maximum(counts, 1))).float()
    popular = counts > np.quantile(counts[counts > 0], 0.5, method="higher") - 1
    shown = float(exposure[torch.from_numpy(popular)].sum())
    expected = 0.7 * (float(exposure @ log_counts) - np.mean(taken)) + 3 * 2 * (shown - 0.5) ** 2
    assert float((both - plain).detach()) == pytest.approx(expected, rel=1e-4)


def test_off_by_default(make_recipe: Callable[..., Any], prepare: Callable[..., Any], toy_dataset: Any) -> None:
    recipe = make_recipe()
    assert recipe.debias is None
    assert build_debias(recipe, toy_dataset) is None
    assert prepare(recipe).trainer.debias is None
