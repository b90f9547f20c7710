"""Why an item is recommended: the events of the history, the words of its text, a plain sentence."""

from peftrec.explaining.explain import Explained, attention_of, explain, user_vector
from peftrec.explaining.explanation import (
    Explanation,
    HistoryEvidence,
    WordAttribution,
    WordEvidence,
    describe_explanations,
)
from peftrec.explaining.integrated_gradients import Subject, attribute_words
from peftrec.explaining.leave_one_out import LeaveOneOut, leave_one_out
from peftrec.explaining.sentence import SentenceTemplates

__all__ = [
    "Explained",
    "Explanation",
    "HistoryEvidence",
    "LeaveOneOut",
    "SentenceTemplates",
    "Subject",
    "WordAttribution",
    "WordEvidence",
    "attention_of",
    "attribute_words",
    "describe_explanations",
    "explain",
    "leave_one_out",
    "user_vector",
]
