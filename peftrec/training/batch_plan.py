"""How many users a step takes, so that items are encoded no more often than they must be.

Shapes: N items of the catalogue, W windows.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from peftrec.config import InputError
from peftrec.data import TrainingWindows
from peftrec.losses import DrawnNegatives, HardNegatives, LossConfig, log_missed_probability
from peftrec.models import RecommenderModel, UserEncoderConfig
from peftrec.training.config import TrainingConfig

# Where no text is encoded, nothing is saved by larger batches.
_FROZEN_USERS = 256
# Fewer users a step are never planned where there are more: they say little, and are few negatives of each other.
_LEAST_USERS = 64
_WINDOWS_AT_ONCE = 2**16


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepMemory:
    """What the user side of a step holds, in bytes.

    Args:
        place_bytes: for each place of a history.
        pair_bytes: for each pair of places of a history.
        item_bytes: for each item among the candidates.
    """

    place_bytes: int
    pair_bytes: int = 0
    item_bytes: int

    @classmethod
    def of(cls, user: UserEncoderConfig, dim: int) -> StepMemory:
        """Estimate from what the user encoder says of itself and the width of vectors.

        A candidate has its vector, what the head makes it of, and gradients, some 10 of its width.
        """
        history = user.memory(dim)
        return cls(place_bytes=4 * history.place, pair_bytes=4 * history.pair, item_bytes=4 * dim * 10)

    def held(self, num_users: int, count: ItemsPerBatch) -> float:
        """Return the bytes of a batch of so many users with the histories and candidates that are expected."""
        user = count.mean_places * self.place_bytes + count.mean_pairs * self.pair_bytes
        return num_users * user + count.expected(num_users) * self.item_bytes


@dataclasses.dataclass(frozen=True, kw_only=True)
class BatchPlan:
    """Users a step, and what an epoch comes to.

    Args:
        batch_users: windows in one batch.
        accumulation_steps: batches that make one optimiser step.
        steps: optimiser steps an epoch.
        tables: times an epoch that the candidates are encoded, for one step or several.
        items_an_epoch: items that steps take an epoch, each as often as they do; the mean over the order of the
            windows. Each is encoded once for that, and once more on the way back where its graph does not fit
            `training.graph_memory_mib`.
        num_items: N that have training events.
        reason: what decided, for people.
    """

    batch_users: int
    accumulation_steps: int
    steps: int
    tables: int
    items_an_epoch: float
    num_items: int
    reason: str

    def resolve(self, training: TrainingConfig) -> TrainingConfig:
        """Return the section with the planned numbers in the place of `auto`."""
        return dataclasses.replace(training, batch_users=self.batch_users, accumulation_steps=self.accumulation_steps)

    def describe(self) -> str:
        """Return a line for people."""
        together = "" if self.accumulation_steps == 1 else f" in {self.accumulation_steps} batches"
        users = self.batch_users * self.accumulation_steps
        steps = "1 step" if self.steps == 1 else f"{self.steps:,} steps"
        told = f"batches: {users:,} users a step{together}, {steps} an epoch"
        if self.items_an_epoch:
            each, times = self.items_an_epoch / self.tables, self.items_an_epoch / self.num_items
            encoded = "once" if self.tables == 1 else f"{self.tables:,} times"
            told += f"; {each:,.0f} of {self.num_items:,} items encoded {encoded} an epoch, "
            told += f"{self.items_an_epoch:,.0f} in all, each {times:.1f} times on average, "
            told += "and once more on the way back where graphs do not fit training.graph_memory_mib"
        return f"{told} ({self.reason})"


def plan_batches(
    windows: TrainingWindows,
    item_counts_N: NDArray[np.int64],
    loss: LossConfig,
    training: TrainingConfig,
    memory: StepMemory,
    *,
    encodes: bool,
) -> BatchPlan:
    """Choose the fewest users a step, from 64, with which steps take items `training.encodings` times an epoch at most.

    Fewer users a step make more steps, each of which encodes its candidates: all N items for a loss over the catalogue
    (one table serves `encoder_interval` steps), else the distinct items of the batch, and drawn ones. An item that is
    in m of W windows is in a batch of b of them with probability 1 - C(W - m, b) / C(W, b). Where a batch does not fit
    into `training.batch_memory_mib`, a loss over the catalogue makes the step of several, for which the items are
    encoded once all the same; others take the batch that fits. What is encoded again on the way back, as graphs do not
    fit `training.graph_memory_mib`, is not counted.

    Args:
        windows: of the users.
        item_counts_N: training events of every item.
        loss: says which candidates it needs.
        training: the section, with `batch_users: auto`.
        memory: of the user side.
        encodes: whether the language model is tuned; else nothing is encoded in steps.
    Raises:
        InputError: if a single user's window does not fit into the memory.
    """
    count = ItemsPerBatch(windows, item_counts_N, loss, training.seed)
    catalogue = loss.candidates == "catalogue"
    steps, reason = _wanted_steps(count, training, encodes=encodes)
    fits = _users_that_fit(count, memory, training.batch_memory_mib)
    batch, accumulated = math.ceil(windows.num_windows / steps), 1
    if batch > fits:
        reason = f"{fits:,} users fit into training.batch_memory_mib={training.batch_memory_mib:,}"
        accumulated = math.ceil(batch / fits) if catalogue else 1
        batch = math.ceil(batch / accumulated) if catalogue else fits
    steps = math.ceil(windows.num_batches(batch) / accumulated)
    tables = max(1, round(steps / training.encoder_interval)) if catalogue else steps
    return BatchPlan(
        batch_users=batch,
        accumulation_steps=accumulated,
        steps=steps,
        tables=tables,
        items_an_epoch=count.an_epoch(batch, tables=tables) if encodes else 0.0,
        num_items=count.num_items,
        reason=reason,
    )


def _wanted_steps(count: ItemsPerBatch, training: TrainingConfig, *, encodes: bool) -> tuple[int, str]:
    """Return the most steps an epoch that the setting allows, and what decided."""
    if not encodes:
        return math.ceil(count.num_windows / _FROZEN_USERS), "no text is encoded in training"
    # Half an item more, for sums that are not quite whole.
    allowed = training.encodings * count.num_items + 0.5

    def allows(steps: int) -> bool:
        tables = max(1, round(steps / training.encoder_interval))
        return count.an_epoch(math.ceil(count.num_windows / steps), tables=tables) <= allowed

    steps = _last(max(1, count.num_windows // _LEAST_USERS), allows)
    return steps, f"training.encodings is {training.encodings:g}"


def _last(most: int, holds: Callable[[int], bool]) -> int:
    """Return the largest of 1 to `most` for which something holds that ceases to hold at one place; 1 if for none."""
    low, high = 1, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if holds(middle) else (low, middle - 1)
    return low


def _users_that_fit(count: ItemsPerBatch, memory: StepMemory, limit_mib: int) -> int:
    def fits(num_users: int) -> bool:
        return memory.held(num_users, count) <= limit_mib * 2**20

    if not fits(1):
        raise InputError(
            f"training.batch_memory_mib is {limit_mib}, but one user and the candidates take more "
            f"({memory.held(1, count) / 2**20:,.0f} MiB); raise it, or give training.batch_users as a number"
        )
    return _last(count.num_windows, fits)


class ItemsPerBatch:
    """How many distinct items a step encodes, expected over the order of the windows.

    Args:
        windows: of the users.
        item_counts_N: training events of every item.
        loss: says which candidates it needs.
        seed: the run's; windows are those of its first epoch.
    """

    def __init__(self, windows: TrainingWindows, item_counts_N: NDArray[np.int64], loss: LossConfig, seed: int) -> None:
        self.loss, self.num_windows = loss, windows.num_windows
        self.num_items = int(np.count_nonzero(item_counts_N))
        self._windows_N = np.zeros(len(item_counts_N), dtype=np.int64)
        places = pairs = 0
        for batch in windows.epoch(seed, 1, _WINDOWS_AT_ONCE):
            lengths_B = (batch.inputs >= 0).sum(axis=1)
            places, pairs = places + int(lengths_B.sum()), pairs + int((lengths_B**2).sum())
            items_BX = np.sort(np.concatenate([batch.inputs, batch.targets], axis=1), axis=1)
            first_BX = (items_BX >= 0) & (np.diff(items_BX, axis=1, prepend=-1) > 0)
            self._windows_N += np.bincount(items_BX[first_BX], minlength=len(item_counts_N))
        self.mean_places, self.mean_pairs = places / self.num_windows, pairs / self.num_windows
        source = loss.source
        self._log_missed_N = np.zeros(len(item_counts_N))
        if isinstance(source, DrawnNegatives):
            frequencies_N = torch.from_numpy(source.frequencies(item_counts_N))
            self._log_missed_N = log_missed_probability(frequencies_N, source.num).numpy()
        # Of mined ones, only how many there are at most is known before training.
        self._mined_each = source.per_user if isinstance(source, HardNegatives) else 0

    def expected(self, num_users: int) -> float:
        """Return how many distinct items a batch of so many windows is expected to encode."""
        if self.loss.candidates == "catalogue":
            return float(self.num_items)
        users = min(num_users, self.num_windows)
        log_missed_N = _log_none(self.num_windows, self._windows_N, users) + self._log_missed_N
        return float(min(self.num_items, -np.expm1(log_missed_N).sum() + self._mined_each * users))

    def an_epoch(self, num_users: int, *, tables: int) -> float:
        """Return how many items an epoch is expected to encode.

        Args:
            num_users: windows a batch; the last has those that are left.
            tables: how often the catalogue is encoded, where the loss is over it.
        """
        if self.loss.candidates == "catalogue":
            return float(tables * self.num_items)
        whole, rest = divmod(self.num_windows, num_users)
        return whole * self.expected(num_users) + (self.expected(rest) if rest else 0.0)


def _log_none(total: int, marked_N: NDArray[np.int64], drawn: int) -> NDArray[np.float64]:
    """Return the log-probability that of so many drawn without replacement none is marked: C(W - m, b) / C(W, b)."""
    rest_N = total - marked_N
    possible_N = rest_N >= drawn
    rest = torch.from_numpy(np.where(possible_N, rest_N, drawn).astype(np.float64))
    whole = torch.tensor(float(total), dtype=torch.float64)

    def log_ways(of: torch.Tensor) -> torch.Tensor:
        return torch.lgamma(of + 1) - torch.lgamma(of - drawn + 1)

    return np.where(possible_N, (log_ways(rest) - log_ways(whole)).numpy(), -np.inf)


def plan_for_model(
    model: RecommenderModel,
    user: UserEncoderConfig,
    windows: TrainingWindows,
    item_counts_N: NDArray[np.int64],
    loss: LossConfig,
    training: TrainingConfig,
) -> BatchPlan:
    """Return the plan for a model: its user encoder says what a user takes, its method whether texts are encoded.

    Args:
        model: to be trained.
        user: config of its user encoder.
        windows: and `item_counts_N`, `loss`, `training`: as in `plan_batches`.
    """
    # Histories that are read as text are of the language model's memory, not of the user encoder's.
    reads_history = model.user_encoder is not None
    return plan_batches(
        windows,
        item_counts_N,
        loss,
        training,
        StepMemory.of(user if reads_history else UserEncoderConfig(), model.item_encoder.dim),
        encodes=bool(model.method_parameters() or model.pooling_parameters()),
    )
