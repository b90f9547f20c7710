"""An optimiser step: gradients of all processes, penalties, rates, clipping."""

from __future__ import annotations

from typing import Any

import torch

from peftrec.launch import Ranks
from peftrec.models import RecommenderModel
from peftrec.training.config import OptimizerConfig
from peftrec.training.optimizer import is_lm_group, rate_factor
from peftrec.training.state import TrainingState


class Stepper:
    """Steps the optimiser, each group at the rate of its own schedule.

    Args:
        model: whose methods are told of steps.
        optimizer: of all groups.
        config: the `optimizer` section.
        num_steps: optimiser steps in all.
        num_encoder_steps: those of the language model, which makes fewer than the head; its schedule counts its own.
        accelerator: clips gradients.
        ranks: the processes whose gradients are added up.
    """

    def __init__(
        self,
        model: RecommenderModel,
        optimizer: torch.optim.Optimizer,
        config: OptimizerConfig,
        *,
        num_steps: int,
        num_encoder_steps: int,
        accelerator: Any,
        ranks: Ranks,
    ) -> None:
        self.model, self.optimizer, self.accelerator, self.ranks = model, optimizer, accelerator, ranks
        self._clip_norm = config.clip_norm
        steps = {True: num_encoder_steps, False: num_steps}
        self._rates = {
            group["name"]: (group["lr"], rate_factor(config, steps[is_lm_group(group["name"])]))
            for group in optimizer.param_groups
        }

    def step(self, state: TrainingState, *, moves_encoder: bool) -> None:
        """Step with the gradients that are there, and forget them.

        Args:
            state: says how many steps were made; those of the language model are counted here.
            moves_encoder: whether the language model steps too.
        """
        self.ranks.add_gradients([one for group in self.optimizer.param_groups for one in group["params"]])
        if moves_encoder:
            for method in self.model.methods():
                penalty = method.penalty()
                if penalty is not None:
                    penalty.backward()  # type: ignore[no-untyped-call]
        for group in self.optimizer.param_groups:
            rate, factor = self._rates[group["name"]]
            group["lr"] = rate * factor(state.encoder_steps if is_lm_group(group["name"]) else state.step)
            if self._clip_norm is not None:
                self.accelerator.clip_grad_norm_(group["params"], self._clip_norm)
        self.optimizer.step()
        if moves_encoder:
            for method in self.model.methods():
                method.after_optimizer_step(state.encoder_steps)
            state.encoder_steps += 1
            self.model.weights_changed()
        self.optimizer.zero_grad(set_to_none=True)
