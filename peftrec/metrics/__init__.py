"""Metrics: ranks in, one value per user out. Pure functions over numpy, one file per metric."""

from peftrec.metrics.hit_rate import hit_rate
from peftrec.metrics.mrr import mrr
from peftrec.metrics.ndcg import ndcg
from peftrec.metrics.rank import MISS
from peftrec.metrics.rank_metrics import RANK_METRICS, RankMetric, rank_metrics

__all__ = ["MISS", "RANK_METRICS", "RankMetric", "hit_rate", "mrr", "ndcg", "rank_metrics"]
