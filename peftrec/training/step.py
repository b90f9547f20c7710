"""From a batch of users to a loss.

Shapes: B users, L places, C candidates, N items of the catalogue, H width of text vectors, P positions, S items of one
user.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from peftrec.data import UserBatch
from peftrec.losses import LossConfig, LossInputs, log_inclusion_probability
from peftrec.models import ProfilePlan, Profiles, ProfileVectors, RecommenderModel


@dataclasses.dataclass(frozen=True)
class StepPlan:
    """Which items a step encodes, and where the batch finds them.

    Args:
        items_C: the items, each encoded once, ascending.
        inputs_BL: places among them of the history, -1 for padding on the left.
        targets_BL: places among them of the next item, -1 where there is none.
        seen_BS: places among them of all training items of each user in order of time, -1 otherwise.
        past_BL: how many of those lie before each target.
        log_q_C: log-probability that an item is among a batch's items; None where the items are not a batch's.
        profiles: users' texts, where the model reads them.
        users_B: indexes of the users.
    """

    items_C: torch.Tensor
    inputs_BL: torch.Tensor
    targets_BL: torch.Tensor
    seen_BS: torch.Tensor
    past_BL: torch.Tensor
    log_q_C: torch.Tensor | None
    profiles: ProfilePlan | None = None
    users_B: torch.Tensor | None = None

    @property
    def num_positions(self) -> int:
        """Positions that have a next item."""
        return int((self.targets_BL >= 0).sum())


def plan_step(
    batch: UserBatch, loss: LossConfig, item_counts_N: NDArray[np.int64], profiles: Profiles | None = None
) -> StepPlan:
    """Find the items that a step encodes: all that have training events, or the distinct ones of the batch.

    Args:
        batch: users of the step.
        loss: says which candidates it needs.
        item_counts_N: training events of every item.
        profiles: reads users' texts; None where the model reads none.
    """
    seen_BS = _pad_rows(batch.seen_items, batch.seen_offsets)
    # The newest input stands last; the one before it has one event fewer behind it.
    lengths_B1 = (batch.inputs >= 0).sum(axis=1, keepdims=True)
    past_BL = batch.starts[:, None] + np.arange(batch.inputs.shape[1]) + 1 - (batch.inputs.shape[1] - lengths_B1)
    if loss.candidates == "catalogue":
        items, log_q = np.flatnonzero(item_counts_N), None
    else:
        events = np.concatenate([batch.inputs[batch.inputs >= 0], batch.targets[batch.targets >= 0]])
        items = np.unique(events)
        frequencies = torch.from_numpy(item_counts_N[items] / item_counts_N.sum())
        log_q = log_inclusion_probability(frequencies, _num_events(batch)).float()
    # One more place than items, so that -1 maps to -1.
    place = np.full(len(item_counts_N) + 1, -1)
    place[items] = np.arange(len(items))
    plan = _to_plan(items, place[batch.inputs], place[batch.targets], place[seen_BS], past_BL, log_q)
    plan = dataclasses.replace(plan, users_B=torch.from_numpy(batch.users))
    return plan if profiles is None else _with_profiles(plan, batch, profiles)


def step_loss(
    model: RecommenderModel,
    plan: StepPlan,
    loss: LossConfig,
    text_vectors_CH: torch.Tensor | None,
    profile: ProfileVectors | None = None,
) -> torch.Tensor:
    """Return the mean loss over the positions of a step.

    Args:
        model: in training mode.
        plan: from `plan_step`.
        loss: config of the loss.
        text_vectors_CH: text vectors of `plan.items_C`, all from one state of the encoder; None for ids alone.
        profile: vectors of the users' texts, where the model reads them.
    """
    device = model.device
    items_C = plan.items_C.to(device)
    vectors_CD = model.item_vectors(text_vectors_CH, items_C)
    targets_BL = plan.targets_BL.to(device)
    users_B = None if plan.users_B is None else plan.users_B.to(device)
    users_BLD = model.user_vectors(vectors_CD, plan.inputs_BL.to(device), profile, users_B=users_B)
    counted_BL = targets_BL >= 0
    return loss.compute(
        LossInputs(
            queries_PD=users_BLD[counted_BL] * model.scale(),
            candidates_CD=vectors_CD,
            targets_P=targets_BL[counted_BL],
            bias_C=model.item_encoder.candidate_bias(items_C),
            rows_P=counted_BL.nonzero()[:, 0],
            seen_BS=plan.seen_BS.to(device),
            past_P=plan.past_BL.to(device)[counted_BL],
            log_q_C=None if plan.log_q_C is None else plan.log_q_C.to(device),
        )
    )


def _with_profiles(plan: StepPlan, batch: UserBatch, profiles: Profiles) -> StepPlan:
    """Return the plan with the texts of its users; places of which nothing else tells lose their targets."""
    texts = profiles.plan(batch.inputs, batch.events, batch.users, batch.targets >= 0)
    if profiles.config.fusion == "add":
        return dataclasses.replace(plan, profiles=texts)
    told_BL = torch.zeros(plan.targets_BL.shape, dtype=torch.bool)
    told_BL[texts.row_R, texts.place_R] = True
    return dataclasses.replace(plan, profiles=texts, targets_BL=torch.where(told_BL, plan.targets_BL, -1))


def _num_events(batch: UserBatch) -> int:
    """Count the distinct events of a batch: inputs and targets are the same ones, a place apart; windows overlap."""
    lengths = (batch.inputs >= 0).sum(axis=1) + (batch.targets[:, -1] >= 0)
    rows = np.repeat(np.arange(len(batch)), lengths)
    within = np.arange(len(rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    places = batch.starts[rows] + within
    return len(np.unique(batch.users[rows] * (places.max() + 1) + places))


def _to_plan(
    items: NDArray[np.int64],
    inputs: NDArray[np.int64],
    targets: NDArray[np.int64],
    seen: NDArray[np.int64],
    past: NDArray[np.int64],
    log_q: torch.Tensor | None,
) -> StepPlan:
    return StepPlan(
        items_C=torch.from_numpy(items),
        inputs_BL=torch.from_numpy(inputs),
        targets_BL=torch.from_numpy(targets),
        seen_BS=torch.from_numpy(seen),
        past_BL=torch.from_numpy(past),
        log_q_C=log_q,
    )


def _pad_rows(values: NDArray[np.int64], offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Lay out rows of unequal length as a rectangle, -1 behind each row's end."""
    lengths = np.diff(offsets)
    place = np.arange(int(lengths.max(initial=0)))
    valid = place < lengths[:, None]
    return np.where(valid, values[np.where(valid, offsets[:-1, None] + place, 0)], -1)


def grouped(batches: Iterable[UserBatch], size: int) -> Iterator[list[UserBatch]]:
    """Yield lists of `size` batches; the last may be shorter."""
    group: list[UserBatch] = []
    for batch in batches:
        group.append(batch)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group
