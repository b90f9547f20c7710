"""From scores to lists."""

from peftrec.retrieval.exact import top_items
from peftrec.retrieval.fusion import By, Fusion, weight_grid
from peftrec.retrieval.recommendation import Recommendation, describe

__all__ = ["By", "Fusion", "Recommendation", "describe", "top_items", "weight_grid"]
