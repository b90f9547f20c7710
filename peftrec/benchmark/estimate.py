"""How long a run will take and how much memory, from results that are there, else from arithmetic."""

from __future__ import annotations

import dataclasses
import functools
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from peftrec.benchmark.plan import PlannedRun, Row
from peftrec.benchmark.result_folder import Result
from peftrec.config import InputError
from peftrec.data import load_dataset
from peftrec.recipe import Recipe, recipe_with

# Bytes of a stored weight, by `encoder.quantization`.
_QUANTIZED_BYTES: Final[Mapping[str, float]] = {"nf4": 0.56, "fp4": 0.56, "int8": 1.0}
_FULL_BYTES: Final[Mapping[str, float]] = {"float32": 4.0, "bfloat16": 2.0}
# Of a weight that trains in full: its gradient and two moments.
_TRAINED_BYTES: Final = 12.0
# Python, torch, transformers, and tables of some ten thousand rows.
_PROCESS_MIB: Final = 900.0
# Of the rate of a matrix product, what training reached with texts of some twenty tokens (`docs/speed.md` has more).
_EFFICIENCY: Final = 0.4


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
        flops: measures the floating point operations a second of this machine; called at most once.
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
        self._counted: dict[str, tuple[float, float] | None] = {}

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
        seconds, memory = self._planned_seconds(row), self._planned_memory(row)
        known = seconds is not None or memory is not None
        return Estimate(seconds=seconds, memory_mib=memory, basis="arithmetic" if known else "unknown")

    def _planned_seconds(self, row: Row) -> float | None:
        """Take tokens times operations at the speed of this machine.

        Forward 2 P operations a token, backward through layers that train twice that, frozen layers below them once for
        the whole catalogue. Every event of a user is one text, as if no item occurred twice in a step: this is at most.
        """
        if row.size is None or row.size.parameters is None or row.is_baseline:
            return None
        if row.launch is not None:  # what it is launched on is another machine
            return None
        tokens = self._tokens(row)
        flops = None if tokens is None else self._flops()
        if tokens is None or flops is None:
            return None
        share = _trained_share(row)
        once = 2 * (1 - share) * tokens[0]
        operations = row.size.parameters * (once + 6 * share * row.recipe.training.num_epochs * tokens[1])
        return operations / (_EFFICIENCY * flops)

    def _planned_memory(self, row: Row) -> float | None:
        """Add up weights, gradients and moments of what is trained, and the graphs that the recipe allows."""
        if row.size is None or row.size.parameters is None or row.is_baseline:
            return None
        parameters, encoder = row.size.parameters, row.recipe.encoder
        full = _FULL_BYTES[encoder.dtype]
        width = _QUANTIZED_BYTES.get(encoder.quantization) or full
        share = _trained_share(row)
        trained = _TRAINED_BYTES * share if row.recipe.method.kind == "full" else 0.0
        weights = parameters * (width + trained) + (row.size.embeddings or 0.0) * full
        graphs = row.recipe.training.graph_memory_mib if share else 0.0  # of frozen layers there are none
        return _PROCESS_MIB + weights / 2**20 + graphs

    def _tokens(self, row: Row) -> tuple[float, float] | None:
        """Return the tokens of the catalogue and those of all training events; None where there are no data."""
        if row.dataset not in self._counted:
            self._counted[row.dataset] = _count_tokens(row.recipe, self._places)
        return self._counted[row.dataset]


def _count_tokens(recipe: Recipe, places: Sequence[str]) -> tuple[float, float] | None:
    try:
        placed = recipe_with(recipe, [place for place in places if place.startswith("data.")])
        dataset = load_dataset(placed.data)
    except (InputError, OSError):
        return None
    # Words and marks make some 1.3 pieces each.
    lengths = [min(1.3 * len(text.split()) + 2, recipe.encoder.max_tokens) for text in dataset.catalogue.texts]
    return float(sum(lengths)), float((dataset.item_counts() * lengths).sum())


def _is_of(content: Result, row: Row) -> bool:
    run = content["run"]
    return (run["dataset"], run["backbone"], run["method"]) == (row.dataset, row.backbone, row.method)


def _is_like(content: Result, row: Row) -> bool:
    run, recipe = content["run"], content["recipe"]
    if row.is_baseline or recipe.get("baseline") is not None:
        return False
    same = (run["dataset"], run["backbone"]) == (row.dataset, row.backbone)
    return same and _reach(recipe) == _reach(row.recipe.to_dict())


def _reach(recipe: Mapping[str, Any]) -> Any:
    """Return which layers gradients go through: `none`, `all`, or how many of the top."""
    method = recipe["method"]
    if recipe["encoder"]["inputs"] == "ids" or method["kind"] in ("frozen", "side"):
        return "none"
    return method.get("layers", "all")


def _trained_share(row: Row) -> float:
    """Return the share of the layers that gradients go through; all where the suite does not tell their number."""
    reach, layers = _reach(row.recipe.to_dict()), None if row.size is None else row.size.layers
    if reach == "none":
        return 0.0
    return 1.0 if reach == "all" or layers is None else min(1.0, float(reach) / layers)


def _scaled_seconds(content: Result, recipe: Recipe) -> float:
    epochs = content["recipe"]["training"]["num_epochs"]
    scale = recipe.training.num_epochs / epochs if recipe.baseline is None else 1.0
    return float(content["status"]["seconds"]) * scale
