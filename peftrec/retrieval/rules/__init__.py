"""Hard rules: what lists never show, whatever the model thinks of it; one file a kind."""

from peftrec.retrieval.rules.audit import Audit, AuditLog, AuditUnavailable
from peftrec.retrieval.rules.rule import ItemRule, ListRule, Rule
from peftrec.retrieval.rules.rule_book import RuleBook, Verdicts
from peftrec.retrieval.rules.section import RULES, RuleFile, read_rules

__all__ = [
    "RULES",
    "Audit",
    "AuditLog",
    "AuditUnavailable",
    "ItemRule",
    "ListRule",
    "Rule",
    "RuleBook",
    "RuleFile",
    "Verdicts",
    "read_rules",
]
