"""Formulas of what processes send against what is handed to torch.distributed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch

from peftrec.benchmark.scale.traffic import StepTraffic, gathered_bytes, padded_rows, shard_bytes, summed_bytes
from peftrec.build import build
from peftrec.fitting import make_trainer
from peftrec.launch import Ranks
from peftrec.launch import ranks as module

# Totals and losses of a step, of 8 bytes each.
SCALARS = 64


class Wire:
    """Takes the place of torch.distributed, and notes the bytes of every call as each process contributes them."""

    def __init__(self) -> None:
        self.gathered: list[int] = []
        self.summed: list[int] = []

    def all_gather(self, sent: list[torch.Tensor], own: torch.Tensor, **_: Any) -> None:
        self.gathered.append(sum(tensor.nbytes for tensor in sent))
        for tensor in sent:
            tensor.copy_(own)

    def all_reduce(self, tensor: torch.Tensor, **_: Any) -> None:
        self.summed.append(tensor.nbytes)

    def broadcast(self, tensor: torch.Tensor, src: int, **_: Any) -> None:
        """Nothing: the start of a run, and decisions between epochs."""

    def clear(self) -> None:
        self.gathered, self.summed = [], []


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Wire:
    found = Wire()
    for name in ("all_gather", "all_reduce", "broadcast"):
        monkeypatch.setattr(module.dist, name, getattr(found, name))
    return found


@pytest.mark.parametrize("loss", ["in_batch_softmax", "full_softmax"])
@pytest.mark.parametrize("processes", [2, 5])
def test_a_step(loss: str, processes: int, wire: Wire, make_recipe: Callable[..., Any], toy_dataset: Any) -> None:
    """A whole step of one of several processes: vectors, their gradients, and those of all that trains."""
    recipe = make_recipe(f"loss={{kind: {loss}}}", "training.batch_users=5")
    training = dataclasses.replace(recipe.training, max_steps=1, num_epochs=1)
    recipe = dataclasses.replace(recipe, training=training)
    built = build(recipe, toy_dataset)
    _, trainer = make_trainer(built, recipe, toy_dataset, lambda _: None, None, ranks=Ranks(0, processes))
    loop: Any = trainer
    loop.evaluate = lambda _: {recipe.training.metric: 0.0}
    plans: list[Any] = []
    plan, step = loop.planner.plan, loop.stepper.step
    loop.planner.plan = lambda batch: plans.append(plan(batch)) or plans[-1]
    began = loop._epoch

    def epoch(*arguments: Any) -> float:
        wire.clear()
        return float(began(*arguments))

    sent: dict[str, list[int]] = {}

    def optimizer_step(*arguments: Any, **settings: Any) -> None:
        step(*arguments, **settings)
        sent.update(gathered=list(wire.gathered), summed=list(wire.summed))

    loop._epoch, loop.stepper.step = epoch, optimizer_step
    loop.train()
    parameters = [one for group in loop.optimizer.param_groups for one in group["params"]]
    planned = StepTraffic(
        processes=processes,
        candidates=len(plans[0].items_C),
        width=32,
        parameters=sum(parameter.numel() for parameter in parameters),
        tensors=len(parameters),
    )
    assert planned.candidates > processes
    assert sum(sent["gathered"]) == planned.vectors
    summed = planned.vector_gradients + planned.gradients
    assert summed <= sum(sent["summed"]) <= summed + SCALARS


def test_a_gathered_catalogue(wire: Wire) -> None:
    """Each process has its share of the vectors, padded to the largest; joined rows say first how many they are."""
    ranks = Ranks(0, 4)
    shares = ranks.shares(torch.tensor([9, 3, 5, 7, 1, 2, 8, 4, 6, 3]))
    assert ranks.gather(torch.randn(len(shares[0]), 16), shares).shape == (10, 16)
    assert wire.gathered == [4 * padded_rows(10, 4) * 16]
    wire.clear()
    ranks.joined(torch.randn(3, 16).numpy())
    assert wire.gathered == [8 * 4, 4 * padded_rows(12, 4) * 16]


def test_rings() -> None:
    """Of R - 1 rounds, in each of which a process hands on the R-th part; a sum goes round twice."""
    parts = 6
    assert gathered_bytes(600, parts) == (parts - 1) * 100
    assert summed_bytes(600, parts) == 2 * (parts - 1) * 100
    assert gathered_bytes(600, 1) == summed_bytes(600, 1) == 0
    alone = StepTraffic(processes=1, candidates=10, width=4, parameters=100, tensors=2)
    assert alone.sent == 0
    two = dataclasses.replace(alone, processes=2)
    assert two.sent == gathered_bytes(two.vectors, 2) + summed_bytes(two.vector_gradients + two.gradients, 2)
    assert shard_bytes(800.0, 3, 8, passes=2) == 700.0 * 3 * 2
