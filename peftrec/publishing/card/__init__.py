"""`README.md` of a run folder: what it is, what was trained, what it reached, what it cannot do."""

from peftrec.publishing.card.about import About
from peftrec.publishing.card.metadata import require_license
from peftrec.publishing.card.writing import CARD, make_card, write_card

__all__ = ["CARD", "About", "make_card", "require_license", "write_card"]
