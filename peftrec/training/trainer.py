"""The one training loop, on Accelerate."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
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
from peftrec.training.checkpoint import load_checkpoint, save_checkpoint, write_epochs
from peftrec.training.config import OptimizerConfig, TrainingConfig
from peftrec.training.device_setting import with_encoder_settings, with_tf32
from peftrec.training.margin import fit_margin
from peftrec.training.memory import peak_memory_mib
from peftrec.training.optimizer import build_optimizer, is_lm_group, rate_factor
from peftrec.training.planner import Planner
from peftrec.training.progress import TrainingProgress
from peftrec.training.result import TrainingResult
from peftrec.training.same_recipe import flatten
from peftrec.training.step import StepPlan, StepTotals, grouped, step_loss, totals_of
from peftrec.training.text_table import TextTable

Evaluate = Callable[[RecommenderModel], dict[str, float]]


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
        recipe: handed to the trackers as hyper-parameters.
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
    ) -> None:
        if loss.candidates != "catalogue" and training.encoder_interval > 1:
            raise InputError(
                f"training.encoder_interval is {training.encoder_interval}, but {loss.kind} encodes other items in "
                f"every step, so there is no table to keep; use 1, or loss.kind=full_softmax"
            )
        self.accelerator = make_accelerator(training, folder)
        self.ranks = Ranks.of(self.accelerator)
        model.to(self.accelerator.device)
        self.model, self.windows = model, windows
        target_weights = None if debias is None else debias.target_weights_N
        self.planner = Planner(model, loss, item_counts, training.seed, target_weights, self.ranks)
        self.loss, self.debias, self.config, self.evaluate, self.folder = loss, debias, training, evaluate, folder
        self.augmenter = build_augmenter(training.augmentation, training.seed, text_vectors, item_counts)
        self.clip_norm = optimizer.clip_norm
        self.recipe = flatten(recipe or {})
        self.optimizer = self.accelerator.prepare(build_optimizer(model, optimizer))
        self.text_table = TextTable(model, loss, training, steps_per_epoch=self.steps_per_epoch, ranks=self.ranks)
        first_tuned = min(training.warmup_frozen_epochs * self.steps_per_epoch, self.num_steps)
        self.num_encoder_steps = self.text_table.num_encoder_steps(first_tuned, self.num_steps)
        # The language model makes fewer steps than the head; its schedule counts its own.
        steps = {True: self.num_encoder_steps, False: self.num_steps}
        self._rates = {
            group["name"]: (group["lr"], rate_factor(optimizer, steps[is_lm_group(group["name"])]))
            for group in self.optimizer.param_groups
        }
        if self._moves_encoder and first_tuned >= self.num_steps:
            raise InputError(
                f"training.max_steps is {training.max_steps}: all of these steps lie in the frozen warm-up, so the "
                f"language model would never train; raise it, or lower training.warmup_frozen_epochs"
            )
        for method in model.methods():
            method.begin_training(self.num_encoder_steps)
        if training.trackers:
            self.accelerator.init_trackers("peftrec", config=self.recipe)

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
            resume: go on from the last checkpoint in `folder`.
        Raises:
            InputError: if the loss or a metric is not finite, or there is nothing to resume from.
        """
        state = self._start(resume)
        with TrainingProgress(self.num_steps, enabled=self.accelerator.is_main_process) as progress:
            progress.advance(state["step"])
            if not resume:
                state["start"] = self._validate(0, state)
                progress.start(state["start"])
            for epoch in range(state["epoch"] + 1, self.config.num_epochs + 1):
                if state["stopped"] or state["step"] >= self.num_steps:
                    break
                began = time.perf_counter()
                row = {"epoch": float(epoch), "loss": self._epoch(epoch, state, progress)}
                row["train_seconds"] = time.perf_counter() - began
                last = epoch == self.config.num_epochs or state["step"] >= self.num_steps
                if epoch % self.config.evaluate_every == 0 or last:
                    row |= self._validate(epoch, state)
                state["epoch"] = epoch
                state["epochs"].append(row)
                state["seconds"] += time.perf_counter() - began
                progress.epoch(row, best=state["best_epoch"] == epoch)
                self._record(row, state)
        # Before the best weights are put back: a method speaks of how training ended.
        for method in self.model.methods():
            method.finish_training()
        self.model.load_trained_state(self.best)
        self.accelerator.end_training()
        return TrainingResult(
            start=state["start"],
            epochs=tuple(state["epochs"]),
            best_epoch=state["best_epoch"],
            best_metric=state["best_metric"],
            num_steps=state["step"],
            train_seconds=state["seconds"],
            peak_memory_mib=peak_memory_mib(),
        )

    @property
    def _checkpoint(self) -> Path:
        assert self.folder is not None, "checkpoints need a folder"
        return self.folder / "private" / "checkpoints" / "last"

    def _start(self, resume: bool) -> dict[str, Any]:
        self._fits_margin = self.loss.learns_margin and not resume
        self.ranks.begin_alike(self.model, self.config.seed)
        if resume:
            state, self.best = load_checkpoint(
                self._checkpoint, model=self.model, optimizer=self.optimizer, recipe=self.recipe
            )
            return state
        self.best = self.model.trained_state()
        progress = {"epoch": 0, "step": 0, "encoder_steps": 0, "seconds": 0.0, "epochs": []}
        return progress | {
            "best_epoch": 0,
            "best_metric": -math.inf,
            "waited": 0,
            "stopped": False,
            "recipe": self.recipe,
        }

    @with_tf32
    def _epoch(self, epoch: int, state: dict[str, Any], progress: TrainingProgress) -> float:
        """Train one epoch and return the mean loss over its positions, weighted as the loss weighs them."""
        self.model.train()
        tuned = self._moves_encoder and epoch > self.config.warmup_frozen_epochs
        batches = self.windows.epoch(self.config.seed, epoch, self._users_at_once)
        batches = batches if self.augmenter is None else self.augmenter.epoch(batches, epoch)
        self.planner.start_epoch(epoch)
        total = weights = 0.0
        for number, group in enumerate(grouped(batches, self.config.accumulation_steps), start=1):
            plans = [self.planner.plan(batch) for batch in group]
            own = totals_of(plans)
            step = StepTotals(*self.ranks.total([own.weight, own.positions]))
            if self._fits_margin:
                self._fit_margin(group[0], plans[0], tuned)
            loss, weight = self._accumulate(plans, step, tuned), step.weight
            if not math.isfinite(loss):
                raise InputError(
                    f"the loss became {loss} in step {state['step'] + 1} (epoch {epoch}). Lower the learning rates or "
                    f"set optimizer.clip_norm; checkpoints of earlier epochs are kept"
                )
            total, weights = total + loss * weight, weights + weight
            last = state["step"] + 1 >= self.num_steps
            moves_encoder = tuned and self.text_table.step_done(number, last=last)
            self._optimizer_step(state, moves_encoder=moves_encoder)
            progress.advance(1, loss=loss)
            if state["step"] >= self.num_steps:
                break
        return total / weights if weights else 0.0

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
        return self.ranks.total([total])[0]

    def _fit_margin(self, batch: UserBatch, plan: StepPlan, tuned: bool) -> None:
        """Start the learned margin from the whole first batch, whichever of its users are this process's."""
        text_CH = self.text_table.vectors(plan, tuned=tuned)
        whole = plan if self.ranks.alone else self.planner.whole(batch)
        fit_margin(self.model, whole, self.loss, text_CH, self.text_table.profile(whole, tuned=False))
        self._fits_margin = False

    def _optimizer_step(self, state: dict[str, Any], *, moves_encoder: bool) -> None:
        self.ranks.add_gradients([one for group in self.optimizer.param_groups for one in group["params"]])
        if moves_encoder:
            for method in self.model.methods():
                penalty = method.penalty()
                if penalty is not None:
                    penalty.backward()  # type: ignore[no-untyped-call]
        for group in self.optimizer.param_groups:
            rate, factor = self._rates[group["name"]]
            group["lr"] = rate * factor(state["encoder_steps" if is_lm_group(group["name"]) else "step"])
            if self.clip_norm is not None:
                self.accelerator.clip_grad_norm_(group["params"], self.clip_norm)
        self.optimizer.step()
        if moves_encoder:
            for method in self.model.methods():
                method.after_optimizer_step(state["encoder_steps"])
            state["encoder_steps"] += 1
            self.model.weights_changed()
        self.optimizer.zero_grad(set_to_none=True)
        state["step"] += 1

    def _validate(self, epoch: int, state: dict[str, Any]) -> dict[str, float]:
        """Evaluate, keep the weights if they are the best so far, and see whether to stop."""
        self.model.eval()
        measured = self.evaluate(self.model)
        metrics = dict(zip(measured, self.ranks.same(list(measured.values())), strict=True))
        if self.config.metric not in metrics:
            raise InputError(
                f"training.metric: '{self.config.metric}' is not evaluated; there are {', '.join(metrics)}"
            )
        value = metrics[self.config.metric]
        if not math.isfinite(value):
            raise InputError(f"{self.config.metric} became {value} in epoch {epoch}")
        settled = all(method.settled for method in self.model.methods())
        if settled and value > state["best_metric"]:
            state.update(best_metric=value, best_epoch=epoch, waited=0)
            self.best = self.model.trained_state()
        else:
            # Before the adapter has moved, or while it must, there is nothing that stopping early could judge.
            state["waited"] += settled and epoch > self.config.warmup_frozen_epochs
        state["stopped"] = self.config.patience is not None and state["waited"] >= self.config.patience
        return metrics

    def _record(self, row: dict[str, float], state: dict[str, Any]) -> None:
        if self.config.trackers:
            self.accelerator.log(row, step=state["step"])
        if self.folder is None or not self.accelerator.is_main_process:
            return
        save_checkpoint(self._checkpoint, model=self.model, optimizer=self.optimizer, best=self.best, state=state)
        write_epochs(self.folder, state["epochs"])
