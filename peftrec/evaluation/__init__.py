"""Evaluation: the whole catalogue ranked for each user, intervals over users, paired tests."""

from peftrec.evaluation.bootstrap import bootstrap_interval
from peftrec.evaluation.config import EvaluationConfig
from peftrec.evaluation.evaluation import Evaluation
from peftrec.evaluation.paired_test import PairedTest, paired_test
from peftrec.evaluation.ranking import Scores, UserScores, evaluate_cases

__all__ = [
    "Evaluation",
    "EvaluationConfig",
    "PairedTest",
    "Scores",
    "UserScores",
    "bootstrap_interval",
    "evaluate_cases",
    "paired_test",
]
