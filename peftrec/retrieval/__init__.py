"""From scores to lists."""

from peftrec.retrieval.exact import top_items
from peftrec.retrieval.fusion import By, Fusion, weight_grid

__all__ = ["By", "Fusion", "top_items", "weight_grid"]
