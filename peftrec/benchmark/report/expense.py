"""What the rows of a table cost: parameters, bytes, memory, seconds, and these made into one number."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from peftrec.benchmark.report.result import mean
from peftrec.benchmark.report.row import Row

TPME_WEIGHTS: Final = (0.45, 0.1, 0.45)
"""Of training time, trained parameters and memory, as in the paper."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Expense:
    """What a row costs; None where it was not measured or does not exist.

    Args:
        trained_lm: parameters of the language model that were trained, those of an adapter.
        share_lm: these as a share of all of the language model.
        trained: parameters trained in the whole recommender; None for baselines, which count none.
        file_bytes: of the published folder, mean over seeds.
        memory_mib: peak of training above what imports, data and weights take.
        step_seconds: median.
        epoch_seconds: step_seconds times the steps of an epoch.
    """

    trained_lm: int | None
    share_lm: float | None
    trained: int | None
    file_bytes: float
    memory_mib: float | None
    step_seconds: float | None
    epoch_seconds: float | None


def measure_expense(row: Row) -> Expense:
    """Collect what a row costs from its results.

    Times and memory come from measurements of their own: runs share their machine, so how long they took compares
    nothing.
    """
    parts = row.first.content["parameters"]
    lm = [part for part in parts if part["part"] == "lm"]
    trained_lm = sum(part["trainable"] for part in lm) if lm else None
    total_lm = sum(part["total"] for part in lm)
    cost = row.cost
    step = None if cost is None else cost["step_seconds"]["median"]
    return Expense(
        trained_lm=trained_lm,
        share_lm=trained_lm / total_lm if trained_lm is not None and total_lm else None,
        trained=sum(part["trainable"] for part in parts) if parts else None,
        file_bytes=mean(sum(run.content["files"].values()) for run in row.runs),
        memory_mib=None if cost is None else cost["memory_mib"]["training"],
        step_seconds=step,
        epoch_seconds=None if cost is None or step is None else step * cost["steps_per_epoch"],
    )


def tpme(measured: Sequence[tuple[float, float, float]]) -> list[float]:
    """Compute TPME, the training-time, parameter and memory efficiency, of methods that stand side by side.

    TPME = 0.45 T + 0.1 P + 0.45 M, each of T, P and M being (x - min) / (max - min) over the methods: 0 is the
    cheapest in everything, 1 the dearest. A term that all methods share is 0. Since it depends on which methods there
    are, it compares the rows of one table and nothing else.

    Args:
        measured: for each method the seconds of an epoch, trained parameters, and peak memory of training.
    Returns:
        One value a method, 0 to 1.
    Source:
        Fu et al. (2024), IISAN, SIGIR. Verified, in the README of the authors' code: the three terms, and their weights
        of 0.45 for training time and memory and 0.1 for parameters. Not verified: that the terms are scaled from the
        least to the most, since the formula was at hand as a picture alone. Memory here is above the baseline of
        imports, data and weights; there it is all that a GPU has allocated.
    """
    if not measured:
        return []
    terms = []
    for values in zip(*measured, strict=True):
        low, high = min(values), max(values)
        terms.append([(value - low) / (high - low) if high > low else 0.0 for value in values])
    return [
        sum(weight * term for weight, term in zip(TPME_WEIGHTS, of_one, strict=True))
        for of_one in zip(*terms, strict=True)
    ]


def table_tpme(rows: Sequence[Row], expenses: Sequence[Expense]) -> list[float | None]:
    """Compute TPME for the models of a table, if the costs of all of them were measured, on one machine.

    Args:
        rows: of the table.
        expenses: theirs.
    Returns:
        None for baselines, which have no steps. None for all if there are fewer than two models, costs or memory of one
        are not known, since it may be the dearest or the cheapest, or machines differ.
    """
    places = [place for place, row in enumerate(rows) if not row.is_baseline]
    found: list[float | None] = [None] * len(rows)
    known = all(rows[place].cost is not None and expenses[place].memory_mib is not None for place in places)
    if len(places) < 2 or not known or len(cost_machines(rows)) > 1:
        return found
    measured = [
        (expenses[place].epoch_seconds or 0.0, float(expenses[place].trained or 0), expenses[place].memory_mib or 0.0)
        for place in places
    ]
    for place, value in zip(places, tpme(measured), strict=True):
        found[place] = value
    return found


def cost_machines(rows: Sequence[Row]) -> set[str]:
    """Return the kinds of machines that costs were measured on."""
    return {machine_of(row.cost["environment"]) for row in rows if row.cost is not None}


def machine_of(environment: Mapping[str, Any]) -> str:
    """Return a text that is equal for environments of the same kind of machine, used alike."""
    return json.dumps(environment.get("machine", environment), sort_keys=True)
