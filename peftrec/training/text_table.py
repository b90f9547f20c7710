"""The text vectors that training steps work on, and the gradient that they leave on them.

Shapes: C items of a step, H width of text vectors.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import nn

from peftrec.encoders import TrainingVectors
from peftrec.launch import Ranks
from peftrec.losses import LossConfig
from peftrec.models import ProfileVectors, RecommenderModel
from peftrec.training.config import TrainingConfig
from peftrec.training.shared_vectors import shared_vectors
from peftrec.training.step import StepPlan


class TextTable:
    """Hands out text vectors and carries their gradient into the language model when its step is due.

    Where the loss is over the catalogue, one table of all items serves about `encoder_interval` steps, so that all
    candidates of a loss come from one state of the encoder: an epoch of S steps has round(S / encoder_interval) tables,
    at least one, that serve equally many steps. Where the loss is over the batch, or over drawn items beside it, the
    candidates of every batch are encoded for themselves.
    Users' texts are encoded for every batch; the gradients that they leave on the language model are held back until
    its step.

    Args:
        model: the recommender.
        loss: says whether the candidates are the catalogue.
        config: the `training` section.
        steps_per_epoch: S.
        ranks: the processes that share the encoding; None is one alone.
    """

    def __init__(
        self,
        model: RecommenderModel,
        loss: LossConfig,
        config: TrainingConfig,
        *,
        steps_per_epoch: int,
        ranks: Ranks | None = None,
    ) -> None:
        self.model = model
        self.whole_catalogue = loss.candidates == "catalogue"
        self.steps_per_epoch = steps_per_epoch
        self.ranks = Ranks() if ranks is None else ranks
        self.tables_per_epoch = max(1, round(steps_per_epoch / config.encoder_interval))
        self.graph_bytes = config.graph_memory_mib * 2**20
        self._table: TrainingVectors | None = None
        self._users: TrainingVectors | None = None
        self._held: dict[nn.Parameter, torch.Tensor] = {}
        self._steps = 0

    @contextlib.contextmanager
    def sharing(self) -> Iterator[None]:
        """Let the processes share the encoding of the catalogue, while all of them ask for it together."""
        catalogue = self.model.catalogue_text
        if catalogue is None:
            yield
            return
        catalogue.ranks = self.ranks
        try:
            yield
        finally:
            catalogue.ranks = Ranks()

    @property
    def idle(self) -> bool:
        """Whether nothing is under way: no gradients wait for a step of the language model."""
        return self._table is None and not self._steps and not self._held

    def forget(self) -> None:
        """Leave what is under way, as after a step that failed."""
        self._table = self._users = None
        self._held, self._steps = {}, 0

    def num_encoder_steps(self, first: int, num_steps: int) -> int:
        """Return how many steps the language model makes in training.

        Args:
            first: optimiser steps before it moves.
            num_steps: optimiser steps in all.
        """
        if not self.whole_catalogue:
            return max(0, num_steps - first)
        due = [self._due(step % self.steps_per_epoch + 1) for step in range(first, num_steps)]
        return sum(due) + bool(due and not due[-1])

    def vectors(self, plan: StepPlan, *, tuned: bool) -> torch.Tensor | None:
        """Return the text vectors of the step's items, shape (C, H): leaves if the language model is tuned."""
        catalogue = self.model.catalogue_text
        if catalogue is None:
            return None
        if not (tuned and catalogue.encoder.trained_parameters()):
            return catalogue.vectors()[plan.items_C.to(self.model.device)]
        if self._table is None:
            self._table = shared_vectors(catalogue, plan.items_C, self.ranks, graph_bytes=self.graph_bytes)
        return self._table.vectors_NH

    def profile(self, plan: StepPlan, *, tuned: bool) -> ProfileVectors | None:
        """Return the vectors of the batch's users' texts: leaves if the language model is tuned."""
        if plan.profiles is None:
            return None
        profiles = self.model.profiles
        assert profiles is not None
        if not (tuned and profiles.encoder.trained_parameters()):
            return profiles.vectors(plan.profiles)
        # One memory for both: the table's graphs may stay for several batches.
        free = self.graph_bytes - (0 if self._table is None else self._table.kept_bytes)
        self._users = profiles.training_vectors(plan.profiles, graph_bytes=free)
        return ProfileVectors(plan.profiles, self._users.vectors_NH)

    def batch_done(self) -> None:
        """After the backward pass of one batch: its users' texts, and a table of that batch alone, are used up."""
        if self._users is not None:
            if self._users.vectors_NH.grad is not None:  # None in a process that has no user of this batch
                self._users.backward()
            self._users = None
        if self._table is not None and not self.whole_catalogue:
            self._table.backward()
            self._table = None

    def step_done(self, number: int, *, last: bool) -> bool:
        """Before an optimiser step: return whether the language model now has its gradients and steps too.

        Args:
            number: of the step in its epoch, from 1.
            last: whether training ends here.
        """
        if not self.whole_catalogue:
            return True
        self._steps += 1
        self._hold_back()
        if not self._due(number) and not last:
            return False
        for parameter, gradient in self._held.items():
            parameter.grad = gradient / self._steps
        if self._table is not None:
            if self._table.vectors_NH.grad is not None:  # None in a process that had no user since the last step
                self._table.vectors_NH.grad /= self._steps
            self._table.backward()
        self._table, self._steps, self._held = None, 0, {}
        return True

    def _hold_back(self) -> None:
        """Take the gradients that users' texts have left on the language model, lest the head's step use them."""
        if self.model.profiles is None:
            return
        for parameter in self.model.profiles.encoder.trained_parameters():
            if parameter.grad is not None:
                held = self._held.get(parameter)
                self._held[parameter] = parameter.grad if held is None else held + parameter.grad
                parameter.grad = None

    def _due(self, number: int) -> bool:
        """Whether a table ends with the given step of an epoch, counted from 1."""
        before, after = (step * self.tables_per_epoch // self.steps_per_epoch for step in (number - 1, number))
        return before < after
