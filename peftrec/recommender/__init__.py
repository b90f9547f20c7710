"""What people hold: a trained recommender with its catalogue."""

from peftrec.recommender.recommender import Recommender

__all__ = ["Recommender"]
