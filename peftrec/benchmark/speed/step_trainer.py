"""Our side of every comparison: the training loop itself, run one step at a time, with a clock on its parts."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch

from peftrec.build import build
from peftrec.data import Dataset, TrainingWindows, UserBatch
from peftrec.recipe import Recipe
from peftrec.training import Trainer
from peftrec.training.config import TrainingConfig
from peftrec.training.progress import TrainingProgress
from peftrec.training.step import step_loss, totals_of

# What a step's seconds are told apart into; the rest is the user model with the loss, forward and backward.
PARTS = ("planning", "encoder forward", "encoder backward", "optimiser", "user model and loss")


class _OneBatch(TrainingWindows):
    """Windows whose epochs hold the one batch that is put here."""

    def __init__(self, dataset: Dataset, max_history: int, *, skip_repeats: bool) -> None:
        super().__init__(dataset, max_history, skip_repeats=skip_repeats)
        self.batch: UserBatch | None = None

    def num_batches(self, batch_size: int) -> int:
        del batch_size
        return 1

    def epoch(self, seed: int, epoch: int, batch_size: int) -> Iterator[UserBatch]:
        del seed, epoch, batch_size
        assert self.batch is not None, "there is no batch yet"
        yield self.batch


class StepTrainer(Trainer):
    """A trainer whose epochs are single steps on batches that it is handed.

    Args:
        recipe: resolved.
        dataset: of the batches.
    """

    def __init__(self, recipe: Recipe, dataset: Dataset) -> None:
        model = build(recipe, dataset).model
        self._one = _OneBatch(dataset, recipe.user.max_history, skip_repeats=recipe.loss.skip_repeats)
        super().__init__(
            model=model,
            windows=self._one,
            item_counts=dataset.item_counts(),
            loss=recipe.loss,
            optimizer=recipe.optimizer,
            training=_endless(recipe),
            evaluate=lambda _: {},
        )
        self._state = self._start(resume=False)
        self._bar = TrainingProgress(self.num_steps, enabled=False)
        self.parts = dict.fromkeys(PARTS, 0.0)
        self._watch()

    def step(self, batch: UserBatch) -> float:
        """Run one whole training step and return its loss."""
        self._one.batch = batch
        self._state.steps_in_epoch, self._state.loss_sum, self._state.loss_weight = 0, 0.0, 0.0
        return self._epoch(1, self._state, self._bar)

    def timed_step(self, batch: UserBatch) -> float:
        """Run one whole training step and return its seconds; `parts` then holds those of its parts."""
        self.parts = dict.fromkeys(PARTS, 0.0)
        began = time.perf_counter()
        self.step(batch)
        seconds = time.perf_counter() - began
        self.parts["user model and loss"] = seconds - sum(self.parts.values())
        return seconds

    def gradients(self, batch: UserBatch) -> tuple[float, dict[str, torch.Tensor]]:
        """Return the loss of a batch and the gradients of what the method trains, by name; nothing moves.

        Only for losses over the items of the batch.
        """
        self.model.train()
        plan = self.planner.plan(batch)
        loss = self._accumulate([plan], totals_of([plan]), True)
        encoder = self.model.text_encoder
        assert encoder is not None
        found = {
            name: parameter.grad.clone()
            for name, parameter in encoder.method.named_parameters().items()
            if parameter.grad is not None
        }
        self.optimizer.zero_grad(set_to_none=True)
        return loss, found

    def head_flops(self, batch: UserBatch) -> int:
        """Count the FLOP of the matrix products of user model and loss, forward and backward, as torch sees them."""
        from torch.utils.flop_counter import FlopCounterMode

        plan, catalogue = self.planner.plan(batch), self.model.catalogue_text
        assert catalogue is not None
        text_CH = catalogue.vectors()[plan.items_C].clone().requires_grad_()
        with FlopCounterMode(display=False) as counter:
            step_loss(self.model, plan, self.loss, text_CH).backward()  # type: ignore[no-untyped-call]
        self.optimizer.zero_grad(set_to_none=True)
        return int(counter.get_total_flops())

    def tokens(self, batch: UserBatch) -> list[int]:
        """Return how many tokens the text of each item of a step has; no padding, each item once."""
        catalogue = self.model.catalogue_text
        assert catalogue is not None
        lengths: list[int] = catalogue.tokenized.lengths[self.planner.plan(batch).items_C].tolist()
        return lengths

    def _watch(self) -> None:
        for owner, name, part in (
            (self.planner, "plan", "planning"),
            (self.text_table, "vectors", "encoder forward"),
            (self.text_table, "batch_done", "encoder backward"),
            (self.text_table, "step_done", "encoder backward"),
            (self.optimizer, "step", "optimiser"),
            (self.optimizer, "zero_grad", "optimiser"),
        ):
            setattr(owner, name, self._clocked(getattr(owner, name), part))

    def _clocked(self, call: Callable[..., Any], part: str) -> Callable[..., Any]:
        def clocked(*arguments: Any, **settings: Any) -> Any:
            began = time.perf_counter()
            result = call(*arguments, **settings)
            self.parts[part] += time.perf_counter() - began
            return result

        return clocked


def _endless(recipe: Recipe) -> TrainingConfig:
    return dataclasses.replace(
        recipe.training, num_epochs=10_000, max_steps=None, warmup_frozen_epochs=0, accumulation_steps=1, trackers=()
    )
