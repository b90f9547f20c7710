"""Metrics: ranks or lists in, one value per user out. Pure functions over numpy, one file per metric."""

from peftrec.metrics.auc import auc
from peftrec.metrics.better import higher_is_better
from peftrec.metrics.calibration import calibration
from peftrec.metrics.catalogue_coverage import catalogue_coverage
from peftrec.metrics.category_diversity import category_diversity
from peftrec.metrics.evaluation_module import evaluate_metric
from peftrec.metrics.exposure_counts import exposure_counts
from peftrec.metrics.gini import gini
from peftrec.metrics.group_gaps import GroupGaps, group_gaps
from peftrec.metrics.hit_rate import hit_rate
from peftrec.metrics.impression_auc import GroupAuc, group_auc, impression_auc
from peftrec.metrics.intra_list_diversity import intra_list_diversity
from peftrec.metrics.list_exposure import exposure_gap, exposure_ratio, group_shares, mean_popularity
from peftrec.metrics.list_facts import ListFacts
from peftrec.metrics.list_metrics import LIST_METRICS, OVERALL_LIST_METRICS, ListMetric, list_metrics
from peftrec.metrics.mean_average_precision import mean_average_precision
from peftrec.metrics.mrr import mrr
from peftrec.metrics.ndcg import ndcg
from peftrec.metrics.novelty import novelty
from peftrec.metrics.popularity_lift import history_popularity, popularity_lift
from peftrec.metrics.precision import precision
from peftrec.metrics.rank import MISS
from peftrec.metrics.rank_metrics import DEFAULT_RANK_METRICS, RANK_METRICS, RankMetric, rank_keys, rank_metrics
from peftrec.metrics.recall import recall
from peftrec.metrics.serendipity import serendipity

__all__ = [
    "DEFAULT_RANK_METRICS",
    "LIST_METRICS",
    "MISS",
    "OVERALL_LIST_METRICS",
    "RANK_METRICS",
    "GroupAuc",
    "GroupGaps",
    "ListFacts",
    "ListMetric",
    "RankMetric",
    "auc",
    "calibration",
    "catalogue_coverage",
    "category_diversity",
    "evaluate_metric",
    "exposure_counts",
    "exposure_gap",
    "exposure_ratio",
    "gini",
    "group_auc",
    "group_gaps",
    "group_shares",
    "higher_is_better",
    "history_popularity",
    "hit_rate",
    "impression_auc",
    "intra_list_diversity",
    "list_metrics",
    "mean_average_precision",
    "mean_popularity",
    "mrr",
    "ndcg",
    "novelty",
    "popularity_lift",
    "precision",
    "rank_keys",
    "rank_metrics",
    "recall",
    "serendipity",
]
