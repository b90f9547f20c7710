"""The scorer with a network behind the dot product."""

from __future__ import annotations

import dataclasses
from typing import Annotated, ClassVar

from peftrec.config import Range
from peftrec.models.scorer import CosineScorer
from peftrec.models.second_stage import SecondStage


@dataclasses.dataclass(frozen=True, kw_only=True)
class MlpScorer(CosineScorer):
    """score = cosine score + MLP([user, item, user * item]), for the best `num_candidates` items by cosine score.

    All other items stand below those, in order of their cosine scores, so that an index over item vectors finds what
    the MLP is asked about. Its last layer is zero at first: training starts from `cosine`. Vectors train by the loss of
    the recipe exactly as with `cosine`; to it is added the cross-entropy of the MLP over target and best other
    candidates, whose gradient reaches the MLP alone. Scores of users without history are those of `cosine`.

    Args:
        num_candidates: items that the MLP scores, history included; take more than a list and a history hold.
        hidden_dim: width of its hidden layer.
        num_positions: positions of a step that it learns from, drawn at random.
    Source:
        He et al. (2017), Neural Collaborative Filtering, for the MLP beside a product; two stages as in Covington et
        al. (2016), Deep Neural Networks for YouTube Recommendations. One hidden layer and the residual start differ.
    """

    kind: ClassVar[str] = "mlp"

    num_candidates: Annotated[int, Range(ge=2)] = 200
    hidden_dim: Annotated[int, Range(ge=1)] = 64
    num_positions: Annotated[int, Range(ge=1)] = 256

    def second_stage(self, dim: int) -> SecondStage:
        return SecondStage(dim, self.hidden_dim, self.num_candidates, self.num_positions)
