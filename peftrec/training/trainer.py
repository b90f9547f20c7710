"""The one training loop, on Accelerate."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from peftrec.config import InputError
from peftrec.data import TrainingWindows, UserBatch
from peftrec.launch import Ranks
from peftrec.losses import Debias, LossConfig
from peftrec.models import RecommenderModel
from peftrec.training.accelerator import make_accelerator
from peftrec.training.augmentation import build_augmenter
from peftrec.training.config import OptimizerConfig, TrainingConfig
from peftrec.training.device_setting import with_encoder_settings, with_tf32
from peftrec.training.finite import check_finite
from peftrec.training.margin import fit_margin
from peftrec.training.memory import peak_memory_mib
from peftrec.training.optimizer import build_optimizer
from peftrec.training.out_of_memory import MemoryGuard
from peftrec.training.planner import Planner
from peftrec.training.progress import TrainingProgress
from peftrec.training.result import TrainingResult
from peftrec.training.same_recipe import flatten
from peftrec.training.saving import Saving
from peftrec.training.selection import Evaluate, Selection
from peftrec.training.sharding import shard_backbones
from peftrec.training.snapshot import Snapshots
from peftrec.training.state import TrainingState
from peftrec.training.step import StepPlan, StepTotals, grouped, step_loss, totals_of
from peftrec.training.stepper import Stepper
from peftrec.training.text_table import TextTable
from peftrec.training.tracking import Row, Tracking


class Trainer:
    """Trains a model on windows of user histories.

    Args:
        model: from `build`.
        windows: training windows.
        item_counts: training events of every item, shape (N,).
        loss: config of the loss.
        optimizer: the `optimizer` section, resolved.
        training: the `training` section.
        evaluate: maps the model to validation metrics.
        text_vectors: of the catalogue, before training, shape (N, H); read only where inputs are substituted.
        debias: weights of targets, and penalties beside the loss; None leaves both out.
        folder: for checkpoints, `metrics.jsonl` and tracker files; None keeps nothing.
        recipe: handed to the trackers as hyper-parameters; a checkpoint is only resumed with the same one.
        ranks: the processes that train together; None asks Accelerate.
    Raises:
        InputError: if a setting does not fit the loss.
    """

    def __init__(
        self,
        *,
        model: RecommenderModel,
        windows: TrainingWindows,
        item_counts: NDArray[np.int64],
        loss: LossConfig,
        optimizer: OptimizerConfig,
        training: TrainingConfig,
        evaluate: Evaluate,
        text_vectors: torch.Tensor | None = None,
        debias: Debias | None = None,
        folder: Path | None = None,
        recipe: dict[str, Any] | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        if loss.candidates != "catalogue" and training.encoder_interval > 1:
            raise InputError(
                f"training.encoder_interval is {training.encoder_interval}, but {loss.kind} encodes other items in "
                f"every step, so there is no table to keep; use 1, or loss.kind=full_softmax"
            )
        self.accelerator = make_accelerator(training, folder)
        self.ranks = Ranks.of(self.accelerator) if ranks is None else ranks
        if training.shard_backbone:
            shard_backbones(model, self.ranks)
        model.to(self.accelerator.device)
        self.model, self.windows = model, windows
        target_weights = None if debias is None else debias.target_weights_N
        self.planner = Planner(model, loss, item_counts, training.seed, target_weights, self.ranks)
        self.loss, self.debias, self.config, self.evaluate, self.folder = loss, debias, training, evaluate, folder
        self.augmenter = build_augmenter(training.augmentation, training.seed, text_vectors, item_counts)
        self.recipe, self._began = flatten(recipe or {}), time.perf_counter()
        self.optimizer = self.accelerator.prepare(build_optimizer(model, optimizer))
        self.text_table = TextTable(model, loss, training, steps_per_epoch=self.steps_per_epoch, ranks=self.ranks)
        first_tuned = min(training.warmup_frozen_epochs * self.steps_per_epoch, self.num_steps)
        self.num_encoder_steps = self.text_table.num_encoder_steps(first_tuned, self.num_steps)
        self.stepper = Stepper(
            model,
            self.optimizer,
            optimizer,
            num_steps=self.num_steps,
            num_encoder_steps=self.num_encoder_steps,
            accelerator=self.accelerator,
            ranks=self.ranks,
        )
        self.memory = MemoryGuard(model, self.text_table, training, self.ranks)
        self.selection = Selection(model, training, self.ranks, self.memory)
        self.saving = Saving(
            Snapshots(
                folder,
                model,
                self.optimizer,
                self.planner,
                self.ranks,
                settings=self.recipe,
                keep_every=training.keep_every,
            ),
            self.selection,
            self.text_table,
            self.memory,
            self.ranks,
            every=training.checkpoint_steps,
        )
        if self._moves_encoder and first_tuned >= self.num_steps:
            raise InputError(
                f"training.max_steps is {training.max_steps}: all of these steps lie in the frozen warm-up, so the "
                f"language model would never train; raise it, or lower training.warmup_frozen_epochs"
            )
        for method in model.methods():
            method.begin_training(self.num_encoder_steps)
        self.tracking = Tracking(self.accelerator, training.trackers, self.recipe)

    @property
    def _moves_encoder(self) -> bool:
        return bool(self.model.method_parameters() or self.model.pooling_parameters())

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps of one epoch."""
        return math.ceil(self.windows.num_batches(self._users_at_once) / self.config.accumulation_steps)

    @property
    def _users_at_once(self) -> int:
        """Users of a batch in all processes together."""
        return self.config.users_a_batch * self.ranks.count

    @property
    def num_steps(self) -> int:
        """Optimiser steps planned in all."""
        planned = self.steps_per_epoch * self.config.num_epochs
        return min(planned, self.config.max_steps or planned)

    @with_encoder_settings
    def train(self, *, resume: bool = False) -> TrainingResult:
        """Run all epochs, keep the best weights in the model, and return what happened.

        Args:
            resume: go on from the last whole checkpoint in `folder`.
        Raises:
            InputError: if the loss or a metric is not finite, memory runs out, a checkpoint cannot be written, another
                process does not answer, or there is nothing to resume from.
            TrainingStopped: after SIGTERM, when the step has ended and is saved.
        """
        self.tracking.begin()
        try:
            with self.text_table.sharing():
                return self._train(resume)
        except BaseException:
            self.tracking.abandon()
            raise

    def _train(self, resume: bool) -> TrainingResult:
        state = self._start(resume)
        progress = TrainingProgress(self.num_steps, enabled=self.ranks.is_first, folder=self.folder, recipe=self.recipe)
        with self.saving.stop, progress:
            if state.start:
                progress.go_on(
                    state.step, epoch=state.epoch, best_metric=state.best_metric, best_epoch=state.best_epoch
                )
            else:
                state.start = self.selection.judge(0, state, self.evaluate)
                progress.start(state.start, best=math.isfinite(state.best_metric))
            for epoch in range(state.epoch + 1, self.config.num_epochs + 1):
                if self.selection.has_ended(state) or (state.step >= self.num_steps and not state.steps_in_epoch):
                    break
                self._began = time.perf_counter() - state.epoch_seconds
                row = {"epoch": float(epoch), "loss": self._epoch(epoch, state, progress)}
                row["train_seconds"] = time.perf_counter() - self._began
                last = epoch == self.config.num_epochs or state.step >= self.num_steps
                if epoch % self.config.evaluate_every == 0 or last:
                    row |= self.selection.judge(epoch, state, self.evaluate)
                state.end_epoch(row, time.perf_counter() - self._began)
                progress.epoch(row, best=state.best_epoch == epoch)
                self.tracking.log(row, state.step)
                self.saving.epoch_ended(state)
        # Before the best weights are put back: a method speaks of how training ended.
        for method in self.model.methods():
            method.finish_training()
        self.model.load_trained_state(self.selection.best)
        if self.model.catalogue_text is not None:
            self.model.catalogue_text.drop_rounded_states()  # what is reported and saved is of the published weights
            if not self.ranks.alone:
                self.model.catalogue_text.vectors()  # while the processes share what that costs
        return TrainingResult(
            start=state.start,
            epochs=tuple(state.epochs),
            best_epoch=state.best_epoch,
            best_metric=state.best_metric,
            num_steps=state.step,
            train_seconds=state.seconds,
            peak_memory_mib=peak_memory_mib(),
        )

    def close(self, table: Sequence[Row] = ()) -> None:
        """End trackers, and the talk between processes: what needs them all comes before.

        Args:
            table: told to the trackers, from `final_table`.
        """
        self.tracking.finish(table)

    def _start(self, resume: bool) -> TrainingState:
        self._fits_margin = self.loss.learns_margin and not resume
        self.ranks.begin_alike(self.model, self.config.seed)
        if resume:
            return self.saving.go_on()
        self.selection.best = self.model.trained_state()
        return TrainingState()

    @with_tf32
    def _epoch(self, epoch: int, state: TrainingState, progress: TrainingProgress) -> float:
        """Train one epoch, or what is left of it, and return its mean loss."""
        self.model.train()
        tuned = self._moves_encoder and epoch > self.config.warmup_frozen_epochs
        batches = self.windows.epoch(self.config.seed, epoch, self._users_at_once)
        batches = batches if self.augmenter is None else self.augmenter.epoch(batches, epoch)
        groups = enumerate(grouped(batches, self.config.accumulation_steps), start=1)
        self.planner.start_epoch(epoch, done=state.steps_in_epoch * self.config.accumulation_steps)
        for number, group in itertools.islice(groups, state.steps_in_epoch, None):
            if state.step >= self.num_steps:
                break
            loss, totals, moves_encoder = self._gradients(number, group, state, tuned=tuned)
            check_finite(loss, group[0], self.windows, step=state.step + 1, epoch=epoch, number=number)
            with self.memory.told(state.step + 1):
                self.stepper.step(state, moves_encoder=moves_encoder)
            state.step_done(loss, totals.weight)
            progress.advance(1, loss=loss, positions=int(totals.positions))
            self.saving.step_ended(state, time.perf_counter() - self._began)
        return state.mean_loss

    def _gradients(
        self, number: int, group: list[UserBatch], state: TrainingState, *, tuned: bool
    ) -> tuple[float, StepTotals, bool]:
        """Add up the gradients of a step; return its loss, what it has, and whether the language model steps too."""
        first = (number - 1) * self.config.accumulation_steps + 1
        plans = [self.planner.plan(batch) for batch in group]
        own = totals_of(plans)
        totals = StepTotals(*self.ranks.total([own.weight, own.positions]))
        last = state.step + 1 >= self.num_steps

        def add_up() -> tuple[float, bool]:
            if self._fits_margin:
                self._fit_margin(group[0], first, plans[0], tuned)
            loss = self._accumulate(plans, totals, tuned)
            return loss, tuned and self.text_table.step_done(number, last=last)

        loss, moves_encoder = self.memory.guarded(state.step + 1, add_up)
        return loss, totals, moves_encoder

    def _accumulate(self, plans: list[StepPlan], step: StepTotals, tuned: bool) -> float:
        """Add up the gradients of the batches of a step and return their loss, that of all processes together."""
        total = 0.0
        for plan in plans:
            text_CH = self.text_table.vectors(plan, tuned=tuned)
            profile = self.text_table.profile(plan, tuned=tuned)
            if plan.num_positions:  # of a last batch some processes may have no user
                # Head and loss are small beside the language model, and stay float32 where that trains in bfloat16.
                loss = step_loss(self.model, plan, self.loss, text_CH, profile, self.debias, step)
                self.accelerator.backward(loss)
                total += float(loss.detach())
            if tuned:
                self.text_table.batch_done()
        return self.saving.total(total)

    def _fit_margin(self, batch: UserBatch, number: int, plan: StepPlan, tuned: bool) -> None:
        """Start the learned margin from the whole first batch, whichever of its users are this process's."""
        text_CH = self.text_table.vectors(plan, tuned=tuned)
        whole = plan if self.ranks.alone else self.planner.whole(batch, number)
        fit_margin(self.model, whole, self.loss, text_CH, self.text_table.profile(whole, tuned=False))
        margin = self.model.scale.margin
        assert margin is not None, "the loss learns a margin"
        # What texts of users came to may differ by rounding.
        margin.data.fill_(self.ranks.same([float(margin.detach())])[0])
        self._fits_margin = False
