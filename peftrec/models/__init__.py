"""User encoders, scorers, and the recommender as one torch module."""

from peftrec.config import Registry
from peftrec.models.catalogue_scores import CatalogueScores, catalogue_scores, scores_with
from peftrec.models.given_attributes import given_features, given_users
from peftrec.models.profile import ProfilePlan, Profiles, ProfileVectors
from peftrec.models.profile_builder import build_profiles
from peftrec.models.profile_config import ProfileConfig
from peftrec.models.profile_text import ProfileTexts, ProfileTokens
from peftrec.models.recommender_model import RecommenderModel
from peftrec.models.scorer import ScorerConfig
from peftrec.models.user_encoder import UserEncoderConfig

USER_ENCODERS = Registry(
    "user",
    {
        "transformer": "peftrec.models.transformer:TransformerUserEncoder",
        "hstu": "peftrec.models.hstu:HstuUserEncoder",
        "gru": "peftrec.models.gru:GruUserEncoder",
        "attention": "peftrec.models.attention:AttentionUserEncoder",
        "mean": "peftrec.models.mean:MeanUserEncoder",
    },
)
SCORERS = Registry(
    "scorer",
    {
        "cosine": "peftrec.models.scorer:CosineScorer",
        "dot": "peftrec.models.scorer:DotScorer",
        "mlp": "peftrec.models.mlp_scorer:MlpScorer",
    },
)

__all__ = [
    "SCORERS",
    "USER_ENCODERS",
    "CatalogueScores",
    "ProfileConfig",
    "ProfilePlan",
    "ProfileTexts",
    "ProfileTokens",
    "ProfileVectors",
    "Profiles",
    "RecommenderModel",
    "ScorerConfig",
    "UserEncoderConfig",
    "build_profiles",
    "catalogue_scores",
    "given_features",
    "given_users",
    "scores_with",
]
