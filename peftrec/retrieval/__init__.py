"""From scores to lists."""

from peftrec.retrieval.exact import BestItems, top_items, top_products
from peftrec.retrieval.fusion import By, Fusion, weight_grid
from peftrec.retrieval.listing import Asked, best_lists, ranks_of_item
from peftrec.retrieval.recommendation import Recommendation, describe

__all__ = [
    "Asked",
    "BestItems",
    "By",
    "Fusion",
    "Recommendation",
    "best_lists",
    "describe",
    "ranks_of_item",
    "top_items",
    "top_products",
    "weight_grid",
]
