"""The recipe's `retrieval` section: which index finds the items, and whose candidates make a list."""

from __future__ import annotations

import dataclasses
import math
from typing import Annotated, Final, Literal, get_args

from peftrec.config import Range
from peftrec.retrieval.exact_index import ExactConfig
from peftrec.retrieval.fusion import By
from peftrec.retrieval.item_index import INDEXES, IndexConfig
from peftrec.retrieval.reranking.section import Reranking

Source = Literal["model", "content", "popularity"]
SOURCES: Final[tuple[str, ...]] = get_args(Source)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RetrievalConfig:
    """How lists are made of a trained run; decides no trained weight and nothing that is measured.

    Args:
        index: what finds the items by their vectors.
        sources: weights of those whose candidates are fused to one list: `model`; `content`, items like the newest of
            the history by their vectors; `popularity`, training events. Users of whom nothing is known get what is
            popular in any case.
        fusion: `rank` adds reciprocal ranks, `score` standardised scores; read where there are several sources.
        candidates: items of each source that are fused, at least; for lists of k never fewer than 10 k.
        reranking: how lists are made of the best items; without steps they are these.
    """

    index: Annotated[IndexConfig, INDEXES] = dataclasses.field(default_factory=ExactConfig)
    sources: dict[str, float] = dataclasses.field(default_factory=lambda: {"model": 1.0})
    fusion: By = "rank"
    candidates: Annotated[int, Range(ge=1)] = 100
    reranking: Reranking = dataclasses.field(default_factory=Reranking)

    def __post_init__(self) -> None:
        for name, weight in self.sources.items():
            if name not in SOURCES:
                raise ValueError(f"sources.{name}: is no source; there are {', '.join(SOURCES)}")
            if not math.isfinite(weight) or weight < 0:
                raise ValueError(f"sources.{name}: {weight} is out of range; it must be >= 0 (0 leaves it out)")
        if not any(self.sources.values()):
            raise ValueError("sources: none has a weight above 0; give model: 1.0")
        if self.fusion not in get_args(By):
            raise ValueError(f"fusion: {self.fusion!r} is not one of {', '.join(get_args(By))}")

    @property
    def counted(self) -> dict[str, float]:
        """The sources that have a say, with their weights."""
        return {name: weight for name, weight in self.sources.items() if weight}
