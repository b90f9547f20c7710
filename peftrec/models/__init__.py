"""User encoders, scorers, and the recommender as one torch module."""

from peftrec.config import Registry
from peftrec.models.recommender_model import RecommenderModel
from peftrec.models.scorer import ScorerConfig
from peftrec.models.user_encoder import UserEncoderConfig

USER_ENCODERS = Registry(
    "user",
    {
        "transformer": "peftrec.models.transformer:TransformerUserEncoder",
        "mean": "peftrec.models.mean:MeanUserEncoder",
    },
)
SCORERS = Registry(
    "scorer",
    {
        "cosine": "peftrec.models.scorer:CosineScorer",
        "dot": "peftrec.models.scorer:DotScorer",
    },
)

__all__ = ["SCORERS", "USER_ENCODERS", "RecommenderModel", "ScorerConfig", "UserEncoderConfig"]
