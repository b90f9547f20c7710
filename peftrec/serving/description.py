"""What a service says of itself."""

from __future__ import annotations

from peftrec.recommender import Recommender
from peftrec.retrieval.rules import ItemRule
from peftrec.serving.list_making import Answer


def described_service(recommender: Recommender) -> Answer:
    """Return what a recommender can be asked for over HTTP, as `ServiceAnswer` describes it."""
    can, rules, reranking = recommender.capabilities, recommender.rules, recommender.reranking
    all_rules = () if rules is None else rules.file.rules
    return {
        "items": len(recommender),
        "fields": recommender.field_kinds,
        "rules": [] if rules is None else list(rules.names),
        "ages": any(isinstance(rule, ItemRule) and rule.minimum_age is not None for rule in all_rules),
        "reranking": [] if reranking is None else [step.kind for step in reranking.steps],
        "diversity": can.vectors,
        "similar": can.vectors,
        "explains": True,
        "words": can.words,
        "new_items": can.new_items,
        "user_events": True,
        "event_kinds": None if can.event_kinds is None else list(can.event_kinds),
        "template": recommender.recipe.data.template if can.new_items else None,
    }
