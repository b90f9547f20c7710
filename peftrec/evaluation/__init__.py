"""Evaluation: the whole catalogue ranked for each user, intervals over users, paired tests."""

from peftrec.evaluation.bootstrap import bootstrap_interval
from peftrec.evaluation.config import EvaluationConfig
from peftrec.evaluation.evaluation import Evaluation
from peftrec.evaluation.paired_test import PairedTest, paired_test
from peftrec.evaluation.product import ProductScores
from peftrec.evaluation.ranking import Scores, UserScores, evaluate_cases, users_at_once

__all__ = [
    "Evaluation",
    "EvaluationConfig",
    "PairedTest",
    "ProductScores",
    "Scores",
    "UserScores",
    "bootstrap_interval",
    "evaluate_cases",
    "paired_test",
    "users_at_once",
]
