"""Trainers on the toy data, with a record of every optimiser step."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

from peftrec.build import build, build_debias
from peftrec.data import TrainingWindows
from peftrec.models import RecommenderModel
from peftrec.training import Trainer


@dataclass
class Record:
    """What the optimiser saw: per step the gradients by name (None where there was none) and the rates by group."""

    gradients: list[dict[str, torch.Tensor | None]] = field(default_factory=list)
    rates: list[dict[str, float]] = field(default_factory=list)


@dataclass
class Prepared:
    """A trainer, its model, and the record of its steps."""

    trainer: Trainer
    model: RecommenderModel
    record: Record


@pytest.fixture
def prepare(toy_dataset: Any) -> Callable[..., Prepared]:
    """Make a trainer from a recipe; its evaluation finds progress in every epoch unless told otherwise."""

    def prepare(recipe: Any, *, evaluate: Any = None, folder: Any = None, dataset: Any = None) -> Prepared:
        dataset = toy_dataset if dataset is None else dataset
        built = build(recipe, dataset)
        model = built.model
        rising = itertools.count(0.0, 0.01)
        trainer = Trainer(
            model=model,
            windows=TrainingWindows(dataset, recipe.user.max_history),
            item_counts=dataset.item_counts(),
            loss=recipe.loss,
            optimizer=recipe.optimizer,
            training=recipe.training,
            text_vectors=built.base_vectors_NH,
            debias=build_debias(recipe, dataset),
            evaluate=evaluate or (lambda _: {"ndcg@10": next(rising)}),
            folder=folder,
            recipe=recipe.to_dict(),
        )
        record = Record()
        names = {id(parameter): name for name, parameter in model.named_parameters()}

        def before_step(optimizer: torch.optim.Optimizer, *_: Any) -> None:
            groups = optimizer.param_groups
            record.rates.append({group["name"]: group["lr"] for group in groups})
            found = {names[id(p)]: p.grad for group in groups for p in group["params"]}
            record.gradients.append({n: None if g is None else g.detach().clone() for n, g in found.items()})

        trainer.optimizer.optimizer.register_step_pre_hook(before_step)
        return Prepared(trainer, model, record)

    return prepare
