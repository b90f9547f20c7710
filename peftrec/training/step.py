"""From a batch of users to a loss.

Shapes: B users, L places, C candidates, N items of the catalogue, H width of text vectors, P positions, S items of one
user, K picks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from peftrec.config import InputError
from peftrec.data import UserBatch
from peftrec.encoders import to_device
from peftrec.losses import Debias, LossConfig, LossInputs
from peftrec.models import ProfilePlan, Profiles, ProfileVectors, RecommenderModel
from peftrec.training.candidates import Candidates, Drawn, find_candidates


@dataclasses.dataclass(frozen=True)
class StepPlan:
    """Which items a step encodes, and where the batch finds them.

    Args:
        items_C: the items, each encoded once, ascending.
        inputs_BL: places among them of the history, -1 for padding on the left.
        targets_BL: places among them of the next item, -1 where there is none.
        seen_BS: places among them of all training items of each user in order of time, -1 otherwise.
        past_BL: how many of those lie before each target.
        log_q_C: log-probability that an item is among them; None where all items are.
        profiles: users' texts, where the model reads them.
        times_BL: when the inputs happened, int64 milliseconds; None where the data hold only an order.
        users_B: indexes of the users.
        negative_C: which of the items were drawn as negatives; None where all may be.
        picks_BLK: places among the items of each position's own negatives; None where positions share all.
        ratings_BL: how the next item was rated; None where the data have no ratings.
        num_items: items that have training events.
        weights_BL: how much each target counts, float32, 0 where there is none; None counts all alike.
    """

    items_C: torch.Tensor
    inputs_BL: torch.Tensor
    targets_BL: torch.Tensor
    seen_BS: torch.Tensor
    past_BL: torch.Tensor
    log_q_C: torch.Tensor | None
    profiles: ProfilePlan | None = None
    times_BL: torch.Tensor | None = None
    users_B: torch.Tensor | None = None
    negative_C: torch.Tensor | None = None
    picks_BLK: torch.Tensor | None = None
    ratings_BL: torch.Tensor | None = None
    num_items: int | None = None
    weights_BL: torch.Tensor | None = None

    @property
    def num_positions(self) -> int:
        """Positions that have a next item."""
        return int((self.targets_BL >= 0).sum())

    @property
    def total_weight(self) -> float:
        """Their weights' sum; their number where all count alike."""
        if self.weights_BL is None:
            return float(self.num_positions)
        return float(self.weights_BL[self.targets_BL >= 0].sum(dtype=torch.float64))


@dataclasses.dataclass(frozen=True)
class StepTotals:
    """What a step has in all its batches, those of other processes among them.

    Args:
        weight: the sum of its positions' weights.
        positions: that have a next item.
    """

    weight: float
    positions: float


def totals_of(plans: Sequence[StepPlan]) -> StepTotals:
    """Add up batches."""
    return StepTotals(sum(plan.total_weight for plan in plans), sum(plan.num_positions for plan in plans))


def plan_step(
    batch: UserBatch,
    loss: LossConfig,
    item_counts_N: NDArray[np.int64],
    profiles: Profiles | None = None,
    drawn: Drawn | None = None,
    random: np.random.Generator | None = None,
    target_weights_N: NDArray[np.float64] | None = None,
    rows: tuple[int, int] | None = None,
) -> StepPlan:
    """Find the items that a step encodes, and where the batch finds them.

    Args:
        batch: users of the step.
        loss: says which candidates it needs.
        item_counts_N: training events of every item.
        profiles: reads users' texts; None where the model reads none.
        drawn: negatives, where the loss has some drawn.
        random: of this batch; draws the negatives of each position, and where users' texts end.
        target_weights_N: how much a target of each item counts; None counts all alike.
        rows: plan these users alone, among the candidates of all; None plans all.
    Raises:
        InputError: if the loss is of ratings and there are none.
    """
    if loss.needs_ratings and batch.ratings is None:
        raise InputError(
            f"loss.kind: {loss.kind} learns how events were rated, but the data set was made without ratings; set "
            f"data.ratings: true"
        )
    found = find_candidates(batch, loss, item_counts_N, drawn, random)
    # Of the whole batch, so that what is drawn for a user does not hang on which process has it.
    keys_BL = None if profiles is None or random is None else random.random(batch.inputs.shape)
    if rows is not None:
        batch, found = batch.rows(*rows), found.rows(*rows)
        keys_BL = None if keys_BL is None else keys_BL[slice(*rows)]
    seen_BS = _pad_rows(batch.seen_items, batch.seen_offsets)
    past_BL = batch.past_events()
    # One more place than items, so that -1 maps to -1.
    place = np.full(len(item_counts_N) + 1, -1)
    place[found.items] = np.arange(len(found.items))
    plan = _to_plan(found, place[batch.inputs], place[batch.targets], place[seen_BS], past_BL)
    plan = dataclasses.replace(
        plan,
        times_BL=None if batch.times is None else torch.from_numpy(batch.times),
        users_B=torch.from_numpy(batch.users),
        ratings_BL=None if batch.ratings is None else torch.from_numpy(batch.ratings),
        num_items=int(np.count_nonzero(item_counts_N)),
        weights_BL=None if target_weights_N is None else _weights(target_weights_N, batch.targets),
    )
    return plan if profiles is None else _with_profiles(plan, batch, profiles, keys_BL)


def step_loss(
    model: RecommenderModel,
    plan: StepPlan,
    loss: LossConfig,
    text_vectors_CH: torch.Tensor | None,
    profile: ProfileVectors | None = None,
    debias: Debias | None = None,
    step: StepTotals | None = None,
) -> torch.Tensor:
    """Return the mean loss over the positions of a batch, with what the scorer's second stage and penalties add to it.

    Where a step is made of several batches, the result is this batch's part of their mean, so that the parts add up to
    what one large batch would give: a loss counts by its share of the positions' weights, a penalty, which weighs all
    positions alike, by its share of their number. A penalty that is no mean over positions (`debias.groups`) is then
    the mean over batches of what each has by itself.

    Args:
        model: in training mode.
        plan: from `plan_step`.
        loss: config of the loss.
        text_vectors_CH: text vectors of `plan.items_C`, all from one state of the encoder; None for ids alone.
        profile: vectors of the users' texts, where the model reads them.
        debias: penalties beside the loss; None adds nothing.
        step: of all batches of the step, this one among them; None where it is the only one.
    """
    step = totals_of([plan]) if step is None else step
    inputs = step_inputs(model, plan, text_vectors_CH, profile)
    result = loss.compute(inputs)
    if model.second_stage is not None:
        result = result + model.second_stage.loss(inputs, model.scale())
    result = result * (plan.total_weight / step.weight)
    if debias is None or not debias.config.has_penalty:
        return result
    penalty = debias.penalty(inputs, plan.items_C.to(model.device))
    return result + penalty * (plan.num_positions / step.positions)


def step_inputs(
    model: RecommenderModel,
    plan: StepPlan,
    text_vectors_CH: torch.Tensor | None,
    profile: ProfileVectors | None = None,
) -> LossInputs:
    """Return what the loss sees of a step; arguments as in `step_loss`."""

    def sent(tensor: torch.Tensor) -> torch.Tensor:
        return to_device(tensor, model.device)

    def sent_if(tensor: torch.Tensor | None) -> torch.Tensor | None:
        return None if tensor is None else sent(tensor)

    items_C = sent(plan.items_C)
    vectors_CD = model.item_vectors(text_vectors_CH, items_C)
    # Found where the plan is: on a GPU the host would have to wait to learn how many there are.
    counted_BL = plan.targets_BL >= 0
    rows_P, places_P = counted_BL.nonzero(as_tuple=True)
    users_PD = model.user_vectors(
        vectors_CD,
        sent(plan.inputs_BL),
        profile,
        sent_if(plan.times_BL),
        sent_if(plan.users_B),
        at=(sent(rows_P), sent(places_P)),
    )
    return LossInputs(
        queries_PD=users_PD * model.scale(),
        candidates_CD=vectors_CD,
        targets_P=sent(plan.targets_BL[counted_BL]),
        bias_C=model.scale.add_offset(model.item_encoder.candidate_bias(items_C), len(items_C)),
        rows_P=sent(rows_P),
        seen_BS=sent(plan.seen_BS),
        past_P=sent(plan.past_BL[counted_BL]),
        log_q_C=sent_if(plan.log_q_C),
        negative_C=sent_if(plan.negative_C),
        picks_PK=None if plan.picks_BLK is None else sent(plan.picks_BLK[counted_BL]),
        ratings_P=None if plan.ratings_BL is None else sent(plan.ratings_BL[counted_BL]),
        num_items=plan.num_items,
        weights_P=None if plan.weights_BL is None else sent(plan.weights_BL[counted_BL]),
    )


def _with_profiles(
    plan: StepPlan, batch: UserBatch, profiles: Profiles, keys_BL: NDArray[np.float64] | None
) -> StepPlan:
    """Return the plan with the texts of its users; places of which nothing else tells lose their targets."""
    texts = profiles.plan(batch.inputs, batch.events, batch.users, batch.targets >= 0, keys_BL)
    if profiles.config.fusion == "add":
        return dataclasses.replace(plan, profiles=texts)
    told_BL = torch.zeros(plan.targets_BL.shape, dtype=torch.bool)
    told_BL[texts.row_R, texts.place_R] = True
    return dataclasses.replace(plan, profiles=texts, targets_BL=torch.where(told_BL, plan.targets_BL, -1))


def _to_plan(
    found: Candidates,
    inputs: NDArray[np.int64],
    targets: NDArray[np.int64],
    seen: NDArray[np.int64],
    past: NDArray[np.int64],
) -> StepPlan:
    return StepPlan(
        items_C=torch.from_numpy(found.items),
        inputs_BL=torch.from_numpy(inputs),
        targets_BL=torch.from_numpy(targets),
        seen_BS=torch.from_numpy(seen),
        past_BL=torch.from_numpy(past),
        log_q_C=found.log_q_C,
        negative_C=found.negative_C,
        picks_BLK=found.picks_BLK,
    )


def _weights(target_weights_N: NDArray[np.float64], targets_BL: NDArray[np.int64]) -> torch.Tensor:
    weights_BL = np.where(targets_BL >= 0, target_weights_N[np.maximum(targets_BL, 0)], 0.0)
    return torch.from_numpy(weights_BL.astype(np.float32))


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
