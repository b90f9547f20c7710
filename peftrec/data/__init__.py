"""Tables in; catalogue, sequences, splits and training batches out.

Names resolve on first use, so that a recipe is checked without loading the table library.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from peftrec.data.attribute import ATTRIBUTES as ATTRIBUTES
    from peftrec.data.attribute import AttributeConfig as AttributeConfig
    from peftrec.data.attribute_fit import AttributeFeatures as AttributeFeatures
    from peftrec.data.attribute_fit import FittedAttributes as FittedAttributes
    from peftrec.data.attribute_fit import fit_attributes as fit_attributes
    from peftrec.data.attribute_table import AttributeTable as AttributeTable
    from peftrec.data.batch import TrainingWindows as TrainingWindows
    from peftrec.data.batch import UserBatch as UserBatch
    from peftrec.data.case import Cases as Cases
    from peftrec.data.catalogue import Catalogue as Catalogue
    from peftrec.data.cleaning_config import CleaningConfig as CleaningConfig
    from peftrec.data.cleaning_config import SampleConfig as SampleConfig
    from peftrec.data.cleaning_config import SessionConfig as SessionConfig
    from peftrec.data.dataset import Dataset as Dataset
    from peftrec.data.dataset import load_dataset as load_dataset
    from peftrec.data.download import DOWNLOADS as DOWNLOADS
    from peftrec.data.download import get_dataset as get_dataset
    from peftrec.data.download import is_complete as is_complete
    from peftrec.data.inspection import Inspection as Inspection
    from peftrec.data.inspection import inspect_dataset as inspect_dataset
    from peftrec.data.later_events import LaterPeriod as LaterPeriod
    from peftrec.data.later_events import check_extendable as check_extendable
    from peftrec.data.later_events import events_since as events_since
    from peftrec.data.later_events import extend as extend
    from peftrec.data.later_tables import LaterTables as LaterTables
    from peftrec.data.later_tables import read_later_tables as read_later_tables
    from peftrec.data.page import inspection_page as inspection_page
    from peftrec.data.report import CleaningReport as CleaningReport
    from peftrec.data.report import CleaningRow as CleaningRow
    from peftrec.data.sequence import Sequences as Sequences
    from peftrec.data.source import SOURCES as SOURCES
    from peftrec.data.source import Columns as Columns
    from peftrec.data.source import DataConfig as DataConfig
    from peftrec.data.split import SPLITS as SPLITS
    from peftrec.data.split import Split as Split
    from peftrec.data.split import SplitConfig as SplitConfig
    from peftrec.data.template import Template as Template
    from peftrec.data.timeline import Timeline as Timeline
    from peftrec.data.timeline import begin_timeline as begin_timeline

_MODULES = {
    "attribute": ("ATTRIBUTES", "AttributeConfig"),
    "attribute_fit": ("AttributeFeatures", "FittedAttributes", "fit_attributes"),
    "attribute_table": ("AttributeTable",),
    "batch": ("TrainingWindows", "UserBatch"),
    "case": ("Cases",),
    "catalogue": ("Catalogue",),
    "cleaning_config": ("CleaningConfig", "SampleConfig", "SessionConfig"),
    "dataset": ("Dataset", "load_dataset"),
    "download": ("DOWNLOADS", "get_dataset", "is_complete"),
    "inspection": ("Inspection", "inspect_dataset"),
    "later_events": ("LaterPeriod", "check_extendable", "events_since", "extend"),
    "later_tables": ("LaterTables", "read_later_tables"),
    "page": ("inspection_page",),
    "report": ("CleaningReport", "CleaningRow"),
    "sequence": ("Sequences",),
    "source": ("SOURCES", "Columns", "DataConfig"),
    "split": ("SPLITS", "Split", "SplitConfig"),
    "template": ("Template",),
    "timeline": ("Timeline", "begin_timeline"),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return list(__all__)
