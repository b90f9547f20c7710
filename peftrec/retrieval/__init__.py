"""From scores to lists."""

from peftrec.retrieval.exact import top_items

__all__ = ["top_items"]
