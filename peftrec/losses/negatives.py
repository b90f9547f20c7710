"""Where the candidates of a step come from: what the registry `negatives` offers.

Shapes: N items of the catalogue.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from peftrec.config import Range, Registry

Candidates = Literal["catalogue", "batch", "sampled"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class NegativesConfig:
    """What all sources share: `candidates`, the items that a step encodes for the loss.

    All that have training events (`catalogue`), the distinct items of the batch (`batch`), or those and others drawn
    for the step (`sampled`). Items without training events are never drawn.
    """

    kind: ClassVar[str]
    candidates: ClassVar[Candidates]


@dataclasses.dataclass(frozen=True, kw_only=True)
class CatalogueNegatives(NegativesConfig):
    """All items that have training events."""

    kind: ClassVar[str] = "catalogue"
    candidates: ClassVar[Candidates] = "catalogue"


@dataclasses.dataclass(frozen=True, kw_only=True)
class BatchNegatives(NegativesConfig):
    """The distinct items of the batch, which are there the more likely the more popular they are."""

    kind: ClassVar[str] = "batch"
    candidates: ClassVar[Candidates] = "batch"


@dataclasses.dataclass(frozen=True, kw_only=True)
class DrawnNegatives(NegativesConfig):
    """What the drawn ones share.

    Args:
        num: draws a batch, with replacement; an item that is drawn twice is one candidate.
    """

    candidates: ClassVar[Candidates] = "sampled"

    num: Annotated[int, Range(ge=1)] = 512

    def frequencies(self, item_counts_N: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the probability of each item in one draw, shape (N,); they add up to 1.

        Args:
            item_counts_N: training events of every item, not all 0.
        """
        return _uniform(item_counts_N)


@dataclasses.dataclass(frozen=True, kw_only=True)
class UniformNegatives(DrawnNegatives):
    """Items with training events, each as likely as another: q = 1 / their number."""

    kind: ClassVar[str] = "uniform"


@dataclasses.dataclass(frozen=True, kw_only=True)
class PopularityNegatives(DrawnNegatives):
    """Items by their training events: q = count^power / sum of all count^power.

    Args:
        power: 1 draws by popularity, 0 draws uniformly.
    Source:
        Mikolov et al. (2013), Distributed Representations of Words and Phrases and their Compositionality, sec. 2.2.
    """

    kind: ClassVar[str] = "popularity"

    power: Annotated[float, Range(ge=0)] = 0.75

    def frequencies(self, item_counts_N: NDArray[np.int64]) -> NDArray[np.float64]:
        weights_N = np.where(item_counts_N > 0, item_counts_N.astype(np.float64) ** self.power, 0.0)
        result: NDArray[np.float64] = weights_N / weights_N.sum()
        return result


@dataclasses.dataclass(frozen=True, kw_only=True)
class HardNegatives(DrawnNegatives):
    """Items that the model itself scores high for the batch's users, beside uniform ones.

    For every row of the batch, `per_user` are drawn without replacement from the `depth` items that score highest after
    its last event and that the user has no training event with. Scores are of a table of all item vectors that is
    refreshed now and then; the candidates themselves are encoded anew in every step, whatever the table's age. An item
    that stands among the `depth` of m rows is mined with probability 1 - (1 - per_user / depth)^m, which is 1 where
    `depth` is `per_user`; this and its uniform draws make up the probability that logQ corrects by.

    Args:
        num: uniform draws beside the mined ones; hard ones alone teach little of the easy rest.
        per_user: mined for each row of the batch.
        depth: from so many of the highest-scoring; the very highest are often what the user likes and has not met yet.
        refresh_batches: batches between two tables; None takes one an epoch. Each encodes the whole catalogue.
    Source:
        Xiong et al. (2021), Approximate Nearest Neighbor Negative Contrastive Learning for Dense Text Retrieval, sec.
        4: negatives from a table refreshed as training goes; here for the users of a batch together, as in its loss.
    """

    kind: ClassVar[str] = "hard"

    num: Annotated[int, Range(ge=0)] = 256
    per_user: Annotated[int, Range(ge=1)] = 2
    depth: Annotated[int, Range(ge=1)] = 50
    refresh_batches: Annotated[int, Range(ge=1)] | None = None

    def __post_init__(self) -> None:
        if self.depth < self.per_user:
            raise ValueError(f"depth: {self.depth} is fewer than per_user, {self.per_user}; raise it")


NEGATIVES = Registry(
    "negatives",
    {
        "uniform": "peftrec.losses.negatives:UniformNegatives",
        "popularity": "peftrec.losses.negatives:PopularityNegatives",
        "hard": "peftrec.losses.negatives:HardNegatives",
        "batch": "peftrec.losses.negatives:BatchNegatives",
        "catalogue": "peftrec.losses.negatives:CatalogueNegatives",
    },
)


def _uniform(item_counts_N: NDArray[np.int64]) -> NDArray[np.float64]:
    return (item_counts_N > 0) / np.count_nonzero(item_counts_N)
