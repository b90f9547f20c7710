"""Lists made anew from the best candidates: diverse, calibrated, fresh, capped, fair; one file a step."""

from peftrec.retrieval.reranking.candidate import Candidates
from peftrec.retrieval.reranking.fact import ItemFacts, TableFacts, groups_among
from peftrec.retrieval.reranking.field_fact import FieldFacts
from peftrec.retrieval.reranking.list_making import make_lists
from peftrec.retrieval.reranking.section import RERANKERS, Reranking, read_reranking
from peftrec.retrieval.reranking.step import Constraint, Objective, Step

__all__ = [
    "RERANKERS",
    "Candidates",
    "Constraint",
    "FieldFacts",
    "ItemFacts",
    "Objective",
    "Reranking",
    "Step",
    "TableFacts",
    "groups_among",
    "make_lists",
    "read_reranking",
]
