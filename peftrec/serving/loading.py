"""The recommender that a service asks, with its rules and re-ranking."""

from __future__ import annotations

import dataclasses

from peftrec.config import RecipeError
from peftrec.recommender import Recommender
from peftrec.retrieval.reranking import read_reranking
from peftrec.retrieval.rules import Audit, read_rules
from peftrec.serving.settings import ServiceSettings


def load_recommender(settings: ServiceSettings) -> Recommender:
    """Load run, rules and re-ranking from where they lie, as they are now.

    Raises:
        InputError: if the run is damaged or does not fit its backbone, or rules or steps are wrong or do not fit it.
    """
    return Recommender.from_pretrained(
        settings.run,
        reranking=None if settings.reranking is None else read_reranking(settings.reranking),
        rules=settings.rules,
        audit=_audit(settings),
    )


def _audit(settings: ServiceSettings) -> Audit | None:
    """Return where it is written down what rules hid, where the settings say other than the rules' file."""
    if settings.rules is None or (settings.audit_log is None and not settings.audit_users):
        return None
    own = read_rules(settings.rules).audit
    if settings.audit_log is not None:
        file = str(settings.audit_log)
        own = Audit(file=file) if own is None else dataclasses.replace(own, file=file)
    if own is None:
        raise RecipeError(f"{settings.rules}: has no audit and so no log to name users in; give one (--audit-log)")
    return dataclasses.replace(own, user_ids=True) if settings.audit_users else own
