"""How long a run will take and how much memory, from results that are there, else from arithmetic."""

from __future__ import annotations

import dataclasses
import functools
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from peftrec.benchmark.plan import PlannedRun, Row
from peftrec.benchmark.result_folder import Result
from peftrec.benchmark.workload import DataCounts, count_data, reach_of, run_operations, trained_share
from peftrec.recipe import Recipe

# Bytes of a stored weight, by `encoder.quantization`.
_QUANTIZED_BYTES: Final[Mapping[str, float]] = {"nf4": 0.56, "fp4": 0.56, "int8": 1.0}
_FULL_BYTES: Final[Mapping[str, float]] = {"float32": 4.0, "bfloat16": 2.0}
# Of a weight that trains in full: its gradient and two moments.
_TRAINED_BYTES: Final = 12.0
# Python, torch, transformers, and tables of some ten thousand rows.
_PROCESS_MIB: Final = 900.0
# Of the rate of a matrix product, what training reached with texts of some twenty tokens (`docs/speed.md` has more).
_EFFICIENCY: Final = 0.4
# Loading libraries and tables, writing the run folder.
_START_SECONDS: Final = 10.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a run is expected to take.

    Args:
        seconds: of the whole process: from results as it took there, by arithmetic with the machine to itself; None
            where nothing tells.
        memory_mib: at its peak; None likewise.
        basis: where the figures come from.
    """

    seconds: float | None
    memory_mib: float | None
    basis: str


class Estimator:
    """Estimates runs.

    Args:
        results: those that are there.
        flops: measures the floating point operations a second of this machine with the threads of a run; called at most
            once.
        places: overrides that say where the data lie.
    """

    def __init__(
        self,
        results: Iterable[Result],
        flops: Callable[[], float | None],
        places: Sequence[str] = (),
    ) -> None:
        self._results = [content for content in results if content["status"]["state"] == "ok"]
        self._places = places
        self._flops = functools.cache(flops)
        self._counted: dict[tuple[str, int], DataCounts | None] = {}

    def estimate(self, run: PlannedRun) -> Estimate:
        """Return what a run is expected to take."""
        row = run.row
        near = [
            ("other runs of it", [content for content in self._results if _is_of(content, row)]),
            ("runs that train the same layers", [content for content in self._results if _is_like(content, row)]),
        ]
        for basis, alike in near:
            if alike:
                return Estimate(
                    seconds=statistics.mean(_scaled_seconds(content, row.recipe) for content in alike),
                    memory_mib=max(float(content["training"].get("peak_memory_mib", 0.0)) for content in alike) or None,
                    basis=basis,
                )
        seconds, memory = self._planned_seconds(run), self._planned_memory(row)
        known = seconds is not None or memory is not None
        return Estimate(seconds=seconds, memory_mib=memory, basis="arithmetic" if known else "unknown")

    def _planned_seconds(self, run: PlannedRun) -> float | None:
        """Take what it computes at the speed of this machine."""
        row = run.row
        if row.launch is not None:  # what it is launched on is another machine
            return None
        counts = self._counts(row)
        operations = None if counts is None else run_operations(run.recipe(), row.size, counts)
        flops = None if operations is None else self._flops()
        if operations is None or flops is None:
            return None
        # Baselines tell the matrix product that takes as long as they do.
        return _START_SECONDS + operations / (flops if row.is_baseline else _EFFICIENCY * flops)

    def _planned_memory(self, row: Row) -> float | None:
        """Add up weights, gradients and moments of what is trained, and the graphs that the recipe allows."""
        if row.is_baseline:
            return self._baseline_memory(row)
        recipe = row.recipe
        if not recipe.encoder.uses_text:
            return self._table_memory(row)
        if row.size is None or row.size.parameters is None:
            return None
        full = _FULL_BYTES[recipe.encoder.dtype]
        width = _QUANTIZED_BYTES.get(recipe.encoder.quantization) or full
        share = trained_share(recipe, row.size)
        trained = _TRAINED_BYTES * share if recipe.method.kind == "full" else 0.0
        weights = row.size.parameters * (width + trained) + (row.size.embeddings or 0.0) * full
        graphs = recipe.training.graph_memory_mib if share else 0.0  # of frozen layers there are none
        return _PROCESS_MIB + weights / 2**20 + graphs

    def _baseline_memory(self, row: Row) -> float | None:
        """Add up what fitting holds."""
        counts = self._counts(row)
        if counts is None or row.recipe.baseline is None:
            return None
        return _PROCESS_MIB + row.recipe.baseline.fit_bytes(counts.dataset) / 2**20

    def _table_memory(self, row: Row) -> float | None:
        """Add up the vectors of ids with gradients and moments."""
        counts, width = self._counts(row), row.recipe.encoder.embedding_dim
        if counts is None or width is None:
            return None
        return _PROCESS_MIB + len(counts.dataset.catalogue) * width * (4.0 + _TRAINED_BYTES) / 2**20

    def _counts(self, row: Row) -> DataCounts | None:
        """Return what its data amount to; None where there are none."""
        key = (row.dataset, row.recipe.encoder.max_tokens)
        if key not in self._counted:
            self._counted[key] = count_data(row.recipe, self._places)
        return self._counted[key]


def _is_of(content: Result, row: Row) -> bool:
    run = content["run"]
    return (run["dataset"], run["backbone"], run["method"]) == (row.dataset, row.backbone, row.method)


def _is_like(content: Result, row: Row) -> bool:
    run, recipe = content["run"], content["recipe"]
    if row.is_baseline or recipe.get("baseline") is not None:
        return False
    same = (run["dataset"], run["backbone"]) == (row.dataset, row.backbone)
    return same and reach_of(recipe) == reach_of(row.recipe.to_dict())


def _scaled_seconds(content: Result, recipe: Recipe) -> float:
    epochs = content["recipe"]["training"]["num_epochs"]
    scale = recipe.training.num_epochs / epochs if recipe.baseline is None else 1.0
    return float(content["status"]["seconds"]) * scale
