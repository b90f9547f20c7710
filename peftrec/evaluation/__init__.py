"""Evaluation: the whole catalogue ranked for each user, intervals over users, paired tests."""

from peftrec.evaluation.bootstrap import bootstrap_interval, crossed_interval
from peftrec.evaluation.config import EvaluationConfig, SampledCandidatesConfig
from peftrec.evaluation.evaluation import Evaluation
from peftrec.evaluation.holm import holm
from peftrec.evaluation.paired_test import PairedTest, arm_test, paired_test
from peftrec.evaluation.product import ProductScores
from peftrec.evaluation.ranking import Scores, UserScores, evaluate_cases, users_at_once
from peftrec.evaluation.sampled import draw_candidates, evaluate_sampled
from peftrec.evaluation.seed_spread import SeedSpread, seed_spread

__all__ = [
    "Evaluation",
    "EvaluationConfig",
    "PairedTest",
    "ProductScores",
    "SampledCandidatesConfig",
    "Scores",
    "SeedSpread",
    "UserScores",
    "arm_test",
    "bootstrap_interval",
    "crossed_interval",
    "draw_candidates",
    "evaluate_cases",
    "evaluate_sampled",
    "holm",
    "paired_test",
    "seed_spread",
    "users_at_once",
]
