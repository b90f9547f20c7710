"""The section that says how lists are made anew."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

from peftrec.config import Range, RecipeError, Registry, parse_section, read_yaml
from peftrec.retrieval.reranking.step import Objective, Step

RERANKERS = Registry(
    "reranking",
    {
        "mmr": "peftrec.retrieval.reranking.mmr:Mmr",
        "calibration": "peftrec.retrieval.reranking.calibration:Calibration",
        "freshness": "peftrec.retrieval.reranking.freshness:Freshness",
        "cap": "peftrec.retrieval.reranking.cap:Cap",
        "exposure": "peftrec.retrieval.reranking.exposure:Exposure",
    },
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reranking:
    """How the best candidates are made into a list; see `make_lists`.

    Args:
        steps: objectives, whose strengths sum to 1 at most, and constraints, of which the first gives way last.
        candidates: how many of the best items a list is made from; of lists longer than half of it, twice the length.
    """

    steps: tuple[Annotated[Step, RERANKERS], ...] = ()
    candidates: Annotated[int, Range(ge=1)] = 100

    def __post_init__(self) -> None:
        total = sum(step.weight for step in self.steps if isinstance(step, Objective))
        if total > 1 + 1e-9:
            raise ValueError(f"steps: the strengths sum to {total:g}; together they are 1 at most")

    def num_candidates(self, k: int) -> int:
        """Return how many of the best items a list of k is made from."""
        return max(self.candidates, 2 * k)


def read_reranking(path: str | Path) -> Reranking:
    """Read a YAML file with the keys of `Reranking`.

    Raises:
        RecipeError: naming file and key.
    """
    try:
        return parse_section(Reranking, read_yaml(path))
    except RecipeError as error:
        text = str(error)
        raise RecipeError(text if text.startswith(str(path)) else f"{path}: {text}") from None
