"""Lists made place by place from candidates, all objectives and constraints at once.

Shapes: B users, C candidates of a user, K places of a list, R users whose lists still grow.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from peftrec.retrieval.reranking.candidate import Candidates
from peftrec.retrieval.reranking.fact import ItemFacts
from peftrec.retrieval.reranking.step import Bools, Constraint, Floats, Gain, Limit, Objective, Step

_DIGITS: Final = 6


def make_lists(steps: Sequence[Step], candidates: Candidates, facts: ItemFacts, k: int) -> NDArray[np.int64]:
    """Make each user's list greedily.

    At each place stands the candidate with the most gain among those that the constraints allow,

        gain = (1 - sum of weights) * relevance + sum over objectives of weight * what the item adds to the list so far

    with relevance from 0 to 1 (`Candidates.relevance_BC`). Of equal gains the candidate with the better score is first,
    so without steps, or with weights of 0, the order of the scores stays. A constraint narrows what those before it
    allow; where nothing would be left, it gives way, unless it is hard: then the list ends. The order of objectives
    does not matter, that of constraints says which gives way.

    Args:
        steps: objectives, whose weights sum to 1 at most, and constraints.
        candidates: of the users.
        facts: of items.
        k: length of the lists, from 1.
    Returns:
        Places among the user's candidates, -1 behind the end of a list, shape (B, K).
    Raises:
        ValueError: if k is below 1 or weights sum to more than 1.
        InputError: if the facts lack what a step needs.
    """
    if k < 1:
        raise ValueError(f"k is {k}; a list has at least 1 item")
    objectives = [step for step in steps if isinstance(step, Objective) and step.weight > 0]
    constraints = [step for step in steps if isinstance(step, Constraint)]
    rest = 1.0 - sum(step.weight for step in objectives)
    if rest < -1e-9:
        raise ValueError(f"the strengths of the steps sum to {1 - rest:g}; together they are 1 at most")
    places_BK = np.full((len(candidates.items_BC), k), -1, dtype=np.int64)
    if not candidates.items_BC.size:
        return places_BK
    relevance_BC = max(rest, 0.0) * candidates.relevance_BC
    gains = [(step.weight, step.begin(candidates, facts)) for step in objectives]
    limits = [(step.is_hard, step.begin(candidates, facts, k)) for step in constraints]
    free_BC = candidates.items_BC >= 0
    everyone = np.arange(len(free_BC))
    for place in range(min(k, free_BC.shape[1])):
        allowed_BC = _allowed(free_BC, limits, place)
        # Rounded, so that equal gains are not told apart by the order in which something was added up.
        gain_BC = np.where(allowed_BC, np.round(_gain(relevance_BC, gains), _DIGITS), -np.inf)
        chosen_B = gain_BC.argmax(axis=1)
        rows = everyone[allowed_BC[everyone, chosen_B]]
        if not len(rows):
            break
        chosen = chosen_B[rows]
        places_BK[rows, place] = chosen
        free_BC[rows, chosen] = False
        # A list that has ended stays so: what a hard constraint left free is no longer asked about.
        if len(rows) < len(everyone):
            ended = np.ones(len(everyone), dtype=bool)
            ended[rows] = False
            free_BC[ended] = False
        running: list[Gain | Limit] = [*(gain for _, gain in gains), *(limit for _, limit in limits)]
        for one in running:
            one.take(rows, chosen)
    return places_BK


def _gain(relevance_BC: Floats, gains: Sequence[tuple[float, Gain]]) -> Floats:
    total_BC = relevance_BC
    for weight, gain in gains:
        total_BC = total_BC + weight * gain.gain()
    return total_BC


def _allowed(free_BC: Bools, limits: Sequence[tuple[bool, Limit]], place: int) -> Bools:
    """Narrow what is free by each constraint in turn."""
    allowed_BC = free_BC
    for is_hard, limit in limits:
        narrowed_BC = allowed_BC & limit.allowed(place)
        if not is_hard:
            some_B1 = narrowed_BC.any(axis=1, keepdims=True)
            narrowed_BC = np.where(some_B1, narrowed_BC, allowed_BC)
        allowed_BC = narrowed_BC
    return allowed_BC
