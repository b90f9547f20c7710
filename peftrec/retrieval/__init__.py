"""From scores to lists."""

from peftrec.retrieval.allowed import Allowed
from peftrec.retrieval.candidates import Candidate, fuse
from peftrec.retrieval.exact import BestItems, top_items, top_products
from peftrec.retrieval.field_table import FieldTable, FieldView
from peftrec.retrieval.fusion import By, Fusion, weight_grid
from peftrec.retrieval.item_filter import FieldRule, Filter
from peftrec.retrieval.item_index import INDEXES, IndexConfig, IndexView, ItemIndex, index_recall
from peftrec.retrieval.listing import Asked, best_lists, ranks_of_item
from peftrec.retrieval.recommendation import Item, Recommendation, Recommendations, Suppressed, describe
from peftrec.retrieval.retrieval_config import RetrievalConfig

__all__ = [
    "INDEXES",
    "Allowed",
    "Asked",
    "BestItems",
    "By",
    "Candidate",
    "FieldRule",
    "FieldTable",
    "FieldView",
    "Filter",
    "Fusion",
    "IndexConfig",
    "IndexView",
    "Item",
    "ItemIndex",
    "Recommendation",
    "Recommendations",
    "RetrievalConfig",
    "Suppressed",
    "best_lists",
    "describe",
    "fuse",
    "index_recall",
    "ranks_of_item",
    "top_items",
    "top_products",
    "weight_grid",
]
