"""The gradients of one step: equal to plain autograd through everything, however they are computed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from peftrec.build import build
from peftrec.data import TrainingWindows
from peftrec.losses import LOSSES, log_inclusion_probability
from peftrec.training.step import plan_step

ONE_STEP = ("training.num_epochs=1", "training.max_steps=1", "training.batch_users=60")


def assert_same_gradients(
    found: dict[str, torch.Tensor | None], expected: dict[str, torch.Tensor | None], tolerance: float = 1e-5
) -> None:
    """Compare by group of size: the difference of each tensor relative to the norm of the expected one."""
    assert found.keys() == expected.keys()
    largest = max(float(tensor.norm()) for tensor in expected.values() if tensor is not None)
    for name, wanted in expected.items():
        gradient = found[name]
        assert (gradient is None) == (wanted is None), name
        if gradient is not None and wanted is not None:
            gap = float((gradient - wanted).norm())
            assert gap <= tolerance * max(float(wanted.norm()), 1e-3 * largest), (name, gap, float(wanted.norm()))


def away_from_the_start(model: Any) -> None:
    """Move every trained tensor, so that no gradient is zero because of the zeros that training starts with."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad and parameter.ndim:
                parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    model.weights_changed()


def events_of(batch: Any) -> set[tuple[int, int]]:
    """The events that a batch draws, as (user, place): inputs and targets are the same ones, a place apart."""
    events = set()
    for row in range(len(batch)):
        user, start, length = int(batch.users[row]), int(batch.starts[row]), int((batch.inputs[row] >= 0).sum())
        events |= {(user, start + place) for place in range(length + int(batch.targets[row, -1] >= 0))}
    return events


def naive_gradients(recipe: Any, dataset: Any) -> dict[str, torch.Tensor | None]:
    """One big graph, written down plainly: all texts in one padded batch, positions one by one."""
    model = build(recipe, dataset).model
    away_from_the_start(model)
    model.eval()
    (batch,) = TrainingWindows(dataset, recipe.user.max_history).epoch(recipe.training.seed, 1, 1000)
    counts = dataset.item_counts()
    catalogue = recipe.loss.kind == "full_softmax"
    events = np.concatenate([batch.inputs[batch.inputs >= 0], batch.targets[batch.targets >= 0]])
    # Items that nobody has touched could only be pushed down: they are no candidates.
    items = np.flatnonzero(counts) if catalogue else np.unique(events)
    place = {int(item): number for number, item in enumerate(items)}
    text = None
    if model.catalogue_text is not None:
        tokens = model.catalogue_text.encoder.tokenize(dataset.catalogue.texts)
        text = model.text_encoder(tokens, torch.from_numpy(items))
    vectors = model.item_vectors(text, torch.from_numpy(items))
    bias = model.item_encoder.candidate_bias(torch.from_numpy(items))
    losses = []
    for row in range(len(batch)):
        inputs = [int(item) for item in batch.inputs[row] if item >= 0]
        seen = batch.seen_items[batch.seen_offsets[row] : batch.seen_offsets[row + 1]].tolist()
        history = vectors[[place[item] for item in inputs]][None]
        times = (torch.from_numpy(batch.times[row, -len(inputs) :])[None],) if model.needs_times else ()
        valid = torch.ones(1, len(inputs), dtype=torch.bool)
        users = model.scorer.prepare(model.user_encoder(history, valid, *times))[0]
        targets = [int(item) for item in batch.targets[row] if item >= 0]
        assert seen[int(batch.starts[row]) : int(batch.starts[row]) + len(inputs)] == inputs
        # Places before the first target are context.
        for number, target in enumerate(targets, start=len(inputs) - len(targets)):
            past = seen[: int(batch.starts[row]) + number + 1] if catalogue else seen
            logits = model.scale() * (vectors @ users[number])
            logits = logits if bias is None else logits + bias
            if not catalogue:
                frequencies = torch.from_numpy(counts[items] / counts.sum())
                logits = logits - log_inclusion_probability(frequencies, len(events_of(batch)))
            kept = [place[int(c)] for c in items if c == target or c not in past]
            losses.append(torch.logsumexp(logits[kept], 0) - logits[place[target]])
    torch.stack(losses).mean().backward()
    grouped = {id(p) for p in [*model.method_parameters(), *model.head_parameters(), *model.id_parameters()]}
    return {name: p.grad for name, p in model.named_parameters() if id(p) in grouped}


def trained_gradients(prepare: Callable[..., Any], recipe: Any) -> dict[str, torch.Tensor | None]:
    prepared = prepare(recipe)
    away_from_the_start(prepared.model)
    prepared.trainer.train()
    assert len(prepared.record.gradients) == 1
    gradients: dict[str, torch.Tensor | None] = prepared.record.gradients[0]
    return gradients


OVERRIDES: list[tuple[str, ...]] = [
    (),
    ("training.graph_memory_mib=0", "encoder.token_budget=32"),
    ("user.max_history=3",),
    ("method.layers=1",),
    ("method.layers=2", "training.graph_memory_mib=0", "encoder.token_budget=32"),
    ("encoder.inputs=text+ids", "encoder.item_bias=true", "encoder.id_std=0.1"),
    ("encoder.inputs=ids", "encoder.embedding_dim=32", "encoder.id_std=0.1"),
    ("method.kind=full", "optimizer.learning_rate=1e-4", "training.graph_memory_mib=0"),
    ("method.kind=frozen",),
    ("encoder.head=projection", "scorer.kind=dot"),
    *(
        ("method.kind=frozen", f"user={{{user}, max_history: 10, dropout: 0}}")
        for user in (
            "kind: transformer, num_heads: 2, positions: learned, time_intervals: true",
            "kind: hstu, num_heads: 2, time_intervals: true",
            "kind: gru, num_layers: 2, state_dim: 5",
            "kind: attention, pooling: multi_head",
        )
    ),
]
# The step of a batch differs in its items alone; with the later settings it is checked by the longer tests. The step of
# every loss is in test_losses.py.
STEPS = [
    pytest.param(loss, overrides, marks=[pytest.mark.slow] if loss == "in_batch_softmax" and number > 6 else [])
    for loss in ("full_softmax", "in_batch_softmax")
    for number, overrides in enumerate(OVERRIDES)
]


@pytest.mark.parametrize(("loss", "overrides"), STEPS)
def test_a_step_has_the_gradient_of_plain_autograd(
    overrides: tuple[str, ...],
    loss: str,
    make_recipe: Callable[..., Any],
    prepare: Callable[..., Any],
    toy_dataset: Any,
) -> None:
    steps = ("training.num_epochs=1", "training.max_steps=1", "training.batch_users=1000")
    recipe = make_recipe(*steps, f"loss.kind={loss}", *overrides)
    found = trained_gradients(prepare, recipe)
    assert_same_gradients(found, naive_gradients(recipe, toy_dataset), tolerance=1e-4)


@pytest.mark.parametrize(
    ("loss", "layers", "dropout"),
    [
        ("full_softmax", "all", 0.3),
        ("full_softmax", "2", 0.0),
        ("in_batch_softmax", "2", 0.3),
        pytest.param("full_softmax", "2", 0.3, marks=pytest.mark.slow),
        pytest.param("in_batch_softmax", "all", 0.3, marks=pytest.mark.slow),
    ],
)
def test_gradient_caching_equals_kept_graphs(
    layers: str, dropout: float, loss: str, make_recipe: Callable[..., Any], prepare: Callable[..., Any]
) -> None:
    """With dropout the random states of the first pass are replayed in the second."""
    common = (
        *ONE_STEP, f"loss.kind={loss}", f"method.layers={layers}", f"method.dropout={dropout}",
        "encoder.token_budget=40", "encoder.dropout=0.2", "user.dropout=0.2",
    )  # fmt: skip
    kept = trained_gradients(prepare, make_recipe(*common, "training.graph_memory_mib=4096"))
    cached = trained_gradients(prepare, make_recipe(*common, "training.graph_memory_mib=0"))
    assert_same_gradients(cached, kept)


def test_replayed_dropout_leaves_the_stream_of_random_numbers_alone(
    make_recipe: Callable[..., Any], prepare: Callable[..., Any]
) -> None:
    common = ("training.num_epochs=1", "method.dropout=0.3", "encoder.dropout=0.2", "encoder.token_budget=40")
    states = []
    for memory in (4096, 0):
        prepared = prepare(make_recipe(*common, f"training.graph_memory_mib={memory}"))
        prepared.trainer.train()
        states.append(torch.get_rng_state())
    assert torch.equal(*states)


@pytest.mark.parametrize("loss", ["full_softmax"])
def test_two_batches_accumulated_are_one_of_double_size(
    loss: str, make_recipe: Callable[..., Any], prepare: Callable[..., Any]
) -> None:
    one = trained_gradients(prepare, make_recipe(*ONE_STEP, f"loss.kind={loss}"))
    halves = (*ONE_STEP[:2], "training.batch_users=31", "training.accumulation_steps=2")
    assert_same_gradients(trained_gradients(prepare, make_recipe(*halves, f"loss.kind={loss}")), one)
    thirds = (*ONE_STEP[:2], "training.batch_users=23", "training.accumulation_steps=3")
    cached = ("training.graph_memory_mib=0", "encoder.token_budget=32")
    assert_same_gradients(trained_gradients(prepare, make_recipe(*thirds, *cached)), one)


def test_in_batch_accumulation_weighs_batches_by_their_positions(
    make_recipe: Callable[..., Any], prepare: Callable[..., Any]
) -> None:
    common = ("loss.kind=in_batch_softmax", "training.num_epochs=1", "training.batch_users=40")
    apart = prepare(make_recipe(*common, "optimizer.learning_rate=1e-30", "optimizer.head_learning_rate=1e-30"))
    away_from_the_start(apart.model)
    apart.trainer.train()
    together = prepare(make_recipe(*common, "training.accumulation_steps=2"))
    away_from_the_start(together.model)
    together.trainer.train()
    first, second = apart.record.gradients
    (both,) = together.record.gradients
    windows = apart.trainer.windows
    counts = [int((batch.targets >= 0).sum()) for batch in windows.epoch(0, 1, 40)]
    shares = [count / sum(counts) for count in counts]
    expected = {name: first[name] * shares[0] + second[name] * shares[1] for name in first}
    assert_same_gradients(both, expected)


def test_the_language_model_steps_on_the_mean_of_its_interval(
    make_recipe: Callable[..., Any], prepare: Callable[..., Any]
) -> None:
    """With rates near zero each step sees the same weights: the third has the mean gradient of all three."""
    still = ("optimizer.learning_rate=1e-30", "optimizer.head_learning_rate=1e-30", "optimizer.weight_decay=0")
    common = (*still, "training.num_epochs=2", "training.batch_users=20")
    every = prepare(make_recipe(*common))
    third = prepare(make_recipe(*common, "training.encoder_interval=2"))
    for prepared in (every, third):
        away_from_the_start(prepared.model)
        prepared.trainer.train()
    adapter = [name for name in every.record.gradients[0] if "lora_" in name]
    assert adapter
    has_gradient = [any(g[name] is not None for name in adapter) for g in third.record.gradients]
    # Three steps an epoch: the second closes an interval, and so does the last of the epoch.
    assert has_gradient == [False, True, True, False, True, True]
    assert len(every.record.gradients) == 6
    expected = {n: (every.record.gradients[0][n] + every.record.gradients[1][n]) / 2 for n in adapter}
    assert_same_gradients({n: third.record.gradients[1][n] for n in adapter}, expected)
    alone = {n: every.record.gradients[2][n] for n in adapter}
    assert_same_gradients({n: third.record.gradients[2][n] for n in adapter}, alone)
    head = [n for n in every.record.gradients[0] if "lora_" not in n]
    for found, wanted in zip(third.record.gradients, every.record.gradients, strict=True):
        assert_same_gradients({n: found[n] for n in head}, {n: wanted[n] for n in head})


def test_tables_share_an_epoch_evenly(make_recipe: Callable[..., Any], prepare: Callable[..., Any]) -> None:
    def steps_with_encoder(*overrides: str) -> list[int]:
        prepared = prepare(make_recipe("training.num_epochs=1", "training.batch_users=10", *overrides))
        prepared.trainer.train()
        return [
            number
            for number, gradients in enumerate(prepared.record.gradients, start=1)
            if any(gradient is not None for name, gradient in gradients.items() if "lora_" in name)
        ]

    assert steps_with_encoder() == [1, 2, 3, 4, 5, 6]
    assert steps_with_encoder("training.encoder_interval=4") == [3, 6]
    assert steps_with_encoder("training.encoder_interval=5") == [6]
    assert steps_with_encoder("training.encoder_interval=100") == [6]
    # Training that ends inside an interval still uses what was gathered.
    assert steps_with_encoder("training.encoder_interval=4", "training.max_steps=4") == [3, 4]


def test_an_interval_needs_a_table_of_the_catalogue(
    make_recipe: Callable[..., Any], prepare: Callable[..., Any]
) -> None:
    with pytest.raises(
        ValueError, match=r"training\.encoder_interval: 2 needs a loss over the catalogue; in_batch_softmax"
    ):
        prepare(make_recipe("loss.kind=in_batch_softmax", "training.encoder_interval=2"))


def test_a_plan_counts_what_lies_before_each_target(toy_dataset: Any) -> None:
    windows = TrainingWindows(toy_dataset, 2)
    (batch,) = windows.epoch(0, 1, 1000)
    plan = plan_step(batch, LOSSES.load("full_softmax")(), toy_dataset.item_counts())
    checked = 0
    for row in range(len(batch)):
        for column in range(batch.inputs.shape[1]):
            if batch.targets[row, column] < 0:
                continue
            past = int(plan.past_BL[row, column])
            seen = plan.items_C[plan.seen_BS[row]].tolist()
            assert seen[past] == batch.targets[row, column]
            assert seen[past - 1] == batch.inputs[row, column]
            checked += 1
    assert checked == windows.num_targets == plan.num_positions
    assert plan.items_C.tolist() == np.flatnonzero(toy_dataset.item_counts()).tolist()
    assert len(plan.items_C) < len(toy_dataset.catalogue)


def test_a_plan_of_the_batch_holds_each_item_once(toy_dataset: Any) -> None:
    batch = next(TrainingWindows(toy_dataset, 4).epoch(0, 1, 5))
    plan = plan_step(batch, LOSSES.load("in_batch_softmax")(), toy_dataset.item_counts())
    items = plan.items_C.numpy()
    assert sorted(set(items.tolist())) == items.tolist()
    for places, expected in ((plan.inputs_BL, batch.inputs), (plan.targets_BL, batch.targets)):
        found = np.where(places.numpy() >= 0, items[places.numpy().clip(0)], -1)
        assert np.array_equal(found, expected)
    assert plan.log_q_C is not None
    assert bool((plan.log_q_C < 0).all())
