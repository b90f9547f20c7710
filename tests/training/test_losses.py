"""Every loss in the loop: its gradient through the whole model, padding, and that it learns."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from peftrec.build import build
from peftrec.config import InputError
from peftrec.data import TrainingWindows
from peftrec.evaluation import evaluate_cases
from peftrec.losses import LOSSES, LossInputs
from peftrec.training.margin import fit_margin
from peftrec.training.negative_sampler import NegativeSampler
from peftrec.training.planner import Planner
from peftrec.training.step import StepPlan, plan_step, step_loss

# Every loss with the settings that suit the toy data; a new loss adds its line here.
SETTINGS = {
    "full_softmax": "{kind: full_softmax}",
    "in_batch_softmax": "{kind: in_batch_softmax}",
    "sampled_softmax": "{kind: sampled_softmax, negatives: {kind: popularity, num: 8}}",
    "bpr": "{kind: bpr, negatives: {kind: uniform, num: 12}}",
    "bce": "{kind: bce, per_position: 4, negatives: {kind: catalogue}}",
    "gbce": "{kind: gbce, negatives: {kind: uniform, num: 12}}",
    "squared_error": "{kind: squared_error, l2: 0.001, mean_rating: 3.0}",
}
HARD = "{kind: sampled_softmax, negatives: {kind: hard, num: 6, per_user: 1, depth: 3, refresh_batches: 2}}"


def test_every_loss_is_here() -> None:
    assert set(SETTINGS) == set(LOSSES.kinds())


@pytest.fixture
def rated_dataset(toy_dataset: Any) -> Any:
    """The toy data with ratings of 1 to 5 that hang on the item."""
    ratings = 1 + (toy_dataset.sequences.items * 7 % 5).astype(np.float32)
    return dataclasses.replace(toy_dataset, sequences=dataclasses.replace(toy_dataset.sequences, ratings=ratings))


def overrides_of(loss: str) -> list[str]:
    return [f"loss={loss}", *(["data.ratings=true"] if "squared" in loss else [])]


def naive_loss(recipe: Any, dataset: Any, model: Any, plan: StepPlan, batch: Any) -> torch.Tensor:
    """One graph, all texts in one padded batch, users one by one without padding."""
    items = plan.items_C
    place = {int(item): number for number, item in enumerate(items)}
    tokens = model.catalogue_text.encoder.tokenize(dataset.catalogue.texts)
    vectors = model.item_vectors(model.text_encoder(tokens, items), items)
    queries, rows, targets, pasts, ratings, picks = [], [], [], [], [], []
    for row in range(len(batch)):
        inputs = [int(item) for item in batch.inputs[row] if item >= 0]
        history = vectors[[place[item] for item in inputs]][None]
        users = model.scorer.prepare(model.user_encoder(history, torch.ones(1, len(inputs), dtype=torch.bool)))[0]
        width = batch.inputs.shape[1]
        for number in range(len(inputs)):
            column = width - len(inputs) + number
            if batch.targets[row, column] < 0:
                continue
            queries.append(users[number] * model.scale())
            rows.append(row)
            targets.append(place[int(batch.targets[row, column])])
            pasts.append(int(batch.starts[row]) + number + 1)
            ratings.append(0.0 if batch.ratings is None else float(batch.ratings[row, column]))
            picks.append([0] if plan.picks_BLK is None else plan.picks_BLK[row, column].tolist())
    seen = [batch.seen_items[batch.seen_offsets[r] : batch.seen_offsets[r + 1]].tolist() for r in range(len(batch))]
    longest = max(map(len, seen))
    margin = model.scale.margin
    places = [[place.get(item, -1) for item in own] + [-1] * (longest - len(own)) for own in seen]
    found: torch.Tensor = recipe.loss.compute(
        LossInputs(
            queries_PD=torch.stack(queries),
            candidates_CD=vectors,
            targets_P=torch.tensor(targets),
            bias_C=None if margin is None else -(model.scale() * margin).expand(len(items)),
            rows_P=torch.tensor(rows),
            seen_BS=torch.tensor(places),
            past_P=torch.tensor(pasts),
            log_q_C=plan.log_q_C,
            negative_C=plan.negative_C,
            picks_PK=None if plan.picks_BLK is None else torch.tensor(picks),
            ratings_P=torch.tensor(ratings),
            num_items=int((dataset.item_counts() > 0).sum()),
        )
    )
    return found


@pytest.mark.parametrize("memory", [1024, 0])
@pytest.mark.parametrize("loss", [*SETTINGS.values(), HARD])
def test_a_step_has_the_gradient_of_plain_autograd(
    loss: str, memory: int, make_recipe: Callable[..., Any], prepare: Callable[..., Any], rated_dataset: Any
) -> None:
    one_step = ("training.num_epochs=1", "training.max_steps=1", "training.batch_users=1000", "encoder.token_budget=32")
    recipe = make_recipe(*one_step, f"training.graph_memory_mib={memory}", *overrides_of(loss))
    prepared = prepare(recipe, dataset=rated_dataset)
    model = build(recipe, rated_dataset).model
    for each in (prepared.model, model):  # away from zeros
        generator = torch.Generator().manual_seed(3)
        with torch.no_grad():
            for parameter in each.parameters():
                if parameter.requires_grad and parameter.ndim:
                    parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
        each.weights_changed()
    prepared.trainer.train()
    (found,) = prepared.record.gradients
    planner = Planner(model, recipe.loss, rated_dataset.item_counts(), recipe.training.seed)
    planner.start_epoch(1)
    (batch,) = TrainingWindows(rated_dataset, recipe.user.max_history).epoch(recipe.training.seed, 1, 1000)
    plan = planner.plan(batch)
    model.eval()
    if model.scale.margin is not None:  # training starts with it too
        fit_margin(model, plan, recipe.loss, model.catalogue_text.vectors()[plan.items_C])
    naive_loss(recipe, rated_dataset, model, plan, batch).backward()
    wanted = {name: p.grad for name, p in model.named_parameters() if name in found}
    largest = max(float(gradient.norm()) for gradient in wanted.values() if gradient is not None)
    assert largest > 0
    for name, expected in wanted.items():
        gradient = found[name]
        assert (gradient is None) == (expected is None), name
        if gradient is not None and expected is not None:
            # The margin starts where its gradient is zero: what is left of a sum that cancels is rounding.
            floor = (3e-2 if name == "scale.margin" else 1e-3) * largest
            assert float((gradient - expected).norm()) <= 1e-4 * max(float(expected.norm()), floor), name


@pytest.mark.parametrize("loss", SETTINGS)
def test_what_judges_single_logits_learns_a_margin(
    loss: str, make_recipe: Callable[..., Any], rated_dataset: Any
) -> None:
    recipe = make_recipe("method.kind=frozen", *overrides_of(SETTINGS[loss]))
    model = build(recipe, rated_dataset).model
    if loss not in ("bce", "gbce"):
        assert model.scale.margin is None
        return
    assert "scale.margin" in model.head_state()
    batch = next(TrainingWindows(rated_dataset, 10).epoch(0, 1, 12))
    planner = Planner(model, recipe.loss, rated_dataset.item_counts(), 0)
    planner.start_epoch(1)
    plan = planner.plan(batch)
    model.eval()
    text_CH = model.catalogue_text.vectors()[plan.items_C]
    losses, scores = [], []
    histories = torch.from_numpy(batch.inputs)
    for margin in (0.0, 0.67, 3.0):
        with torch.no_grad():
            model.scale.margin.fill_(margin)
        model.zero_grad()
        result = step_loss(model, plan, recipe.loss, text_CH)
        result.backward()
        losses.append((result.item(), model.scale.margin.grad.item()))
        scores.append(model.scores(histories, *model.encode_catalogue()))
    # At 0 all cosines say yes: a larger margin helps; at 3 nothing is a yes: a smaller one does.
    assert losses[0][1] < 0 < losses[2][1]
    # Training starts where the loss is least, which neither side is.
    fit_margin(model, plan, recipe.loss, text_CH)
    fitted = model.scale.margin.item()
    assert 0 < fitted < 3
    model.zero_grad()
    step_loss(model, plan, recipe.loss, text_CH).backward()
    assert abs(float(model.scale.margin.grad)) < 1e-3 * abs(losses[0][1])
    assert model.training is False
    assert all(torch.equal(scores[0], other) for other in scores[1:])


def test_a_margin_without_negatives_is_refused(make_recipe: Callable[..., Any], prepare: Callable[..., Any]) -> None:
    recipe = make_recipe("method.kind=frozen", "training.batch_users=1", "loss={kind: bce, negatives: {kind: batch}}")
    with pytest.raises(InputError, match=r"found no negative for any position.*training\.batch_users"):
        prepare(recipe).trainer.train()


@pytest.mark.parametrize("user", ["transformer", "hstu"])
def test_hard_negatives_are_mined_with_times(
    user: str,
    make_recipe: Callable[..., Any],
    prepare: Callable[..., Any],
    toy_dataset: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hard = "loss={kind: bpr, negatives: {kind: hard, num: 4, per_user: 1, depth: 3}}"
    encoder = f"user={{kind: {user}, num_heads: 2, time_intervals: true}}"
    recipe = make_recipe("method.kind=frozen", hard, encoder, "training.num_epochs=1")
    prepared = prepare(recipe)
    prepared.trainer.train()
    batch = next(TrainingWindows(toy_dataset, recipe.user.max_history).epoch(0, 1, 12))
    told, scores = [], prepared.model.scores
    monkeypatch.setattr(prepared.model, "scores", lambda *given, **known: told.append(known) or scores(*given, **known))
    sampler = NegativeSampler(recipe.loss.negatives, prepared.model, toy_dataset.item_counts())
    sampler.draw(batch, 1, np.random.default_rng(0))
    assert np.array_equal(told[0]["times_BL"], batch.times)
    assert np.array_equal(told[0]["users_B"], batch.users)


@pytest.mark.parametrize("loss", [*SETTINGS.values(), HARD])
def test_padding_of_the_batch_changes_nothing(loss: str, make_recipe: Callable[..., Any], rated_dataset: Any) -> None:
    recipe = make_recipe("method.kind=frozen", *overrides_of(loss))
    model = build(recipe, rated_dataset).model
    batch = next(TrainingWindows(rated_dataset, 10).epoch(0, 1, 12))

    def wider(values: Any, fill: float) -> Any:
        return np.concatenate([np.full((len(values), 3), fill, dtype=values.dtype), values], axis=1)

    padded = dataclasses.replace(
        batch,
        inputs=wider(batch.inputs, -1),
        targets=wider(batch.targets, -1),
        ratings=wider(batch.ratings, np.nan),
    )
    losses = []
    for each in (batch, padded):
        planner = Planner(model, recipe.loss, rated_dataset.item_counts(), 0)
        planner.start_epoch(1)
        plan = planner.plan(each)
        if plan.picks_BLK is not None:
            # The same picks: how many numbers are drawn hangs on the width.
            plan = dataclasses.replace(plan, picks_BLK=torch.full_like(plan.picks_BLK, 2))
        text = model.catalogue_text.vectors()[plan.items_C]
        losses.append(step_loss(model, plan, recipe.loss, text))
    torch.testing.assert_close(losses[1], losses[0])


def ndcg(model: Any, dataset: Any) -> dict[str, float]:
    model.eval()
    vectors, bias = model.encode_catalogue()
    found = evaluate_cases(
        lambda histories: model.scores(torch.from_numpy(histories), vectors, bias),
        dataset.split.valid,
        dataset.sequences,
        len(dataset.catalogue),
        ks=(10,),
    )
    return found.summary()


def closeness(model: Any, dataset: Any, mean_rating: float) -> dict[str, float]:
    """Minus the mean squared error of the ratings that the validation events were given."""
    model.eval()
    vectors, bias = model.encode_catalogue()
    cases, sequences = dataset.split.valid, dataset.sequences
    scores = model.scores(torch.from_numpy(cases.histories(sequences, 0, len(cases))), vectors, bias).numpy()
    ratings = sequences.ratings[sequences.offsets[cases.users] + cases.history_lengths]
    errors = scores[np.arange(len(cases)), cases.targets] + mean_rating - ratings
    return {"ndcg@10": -float((errors**2).mean())}


@pytest.mark.parametrize("loss", [*SETTINGS.values(), HARD])
def test_every_loss_learns(
    loss: str, make_recipe: Callable[..., Any], prepare: Callable[..., Any], rated_dataset: Any
) -> None:
    """From a random head, which knows nothing of similar texts; the language model is tuned in the last epochs."""
    common = (
        "training.num_epochs=10", "training.warmup_frozen_epochs=7", "training.batch_users=20",
        "encoder.head=projection", "user.recency_start=false", "scorer.start_scale=5.0",
    )  # fmt: skip
    recipe = make_recipe(*common, *overrides_of(loss))
    rated = "squared" in loss
    evaluate = (lambda m: closeness(m, rated_dataset, 3.0)) if rated else (lambda m: ndcg(m, rated_dataset))
    prepared = prepare(recipe, evaluate=evaluate, dataset=rated_dataset)
    result = prepared.trainer.train()
    assert result.epochs[-1]["loss"] < result.epochs[0]["loss"]
    assert result.best_epoch > 0
    assert any(gradient is not None for name, gradient in prepared.record.gradients[-1].items() if "lora_" in name)
    if rated:
        ratings = rated_dataset.sequences.ratings
        assert result.best_metric > -0.5 * float(np.var(ratings))
    else:
        assert result.best_metric > 2 * result.start["ndcg@10"]


def test_a_fixed_scale_is_left_alone(make_recipe: Callable[..., Any], prepare: Callable[..., Any]) -> None:
    for learned in (True, False):
        prepared = prepare(make_recipe("training.num_epochs=1", f"scorer.learn_scale={str(learned).lower()}"))
        before = prepared.model.scale().item()
        prepared.trainer.train()
        assert (prepared.model.scale().item() != before) == learned


def test_ratings_that_are_not_there_are_named(
    make_recipe: Callable[..., Any], prepare: Callable[..., Any], toy_dataset: Any
) -> None:
    recipe = make_recipe(*overrides_of(SETTINGS["squared_error"]))
    with pytest.raises(
        InputError, match=r"loss\.kind: squared_error learns how events were rated.*data\.ratings: true"
    ):
        prepare(recipe, dataset=toy_dataset).trainer.train()
    batch = next(TrainingWindows(toy_dataset, 4).epoch(0, 1, 5))
    with pytest.raises(InputError, match=r"data\.ratings: true"):
        plan_step(batch, recipe.loss, toy_dataset.item_counts())


@pytest.mark.parametrize("loss", ["{kind: sampled_softmax}", "{kind: bpr}"])
def test_an_interval_needs_candidates_that_stay(
    loss: str, make_recipe: Callable[..., Any], prepare: Callable[..., Any]
) -> None:
    recipe = make_recipe(f"loss={loss}")
    training = dataclasses.replace(recipe.training, encoder_interval=2)
    object.__setattr__(recipe, "training", training)  # past the recipe's own check
    with pytest.raises(InputError, match=r"training\.encoder_interval is 2, but \w+ encodes other items in every step"):
        prepare(recipe)
