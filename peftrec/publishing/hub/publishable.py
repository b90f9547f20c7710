"""Which files of a run folder may be published: those on a list, and nothing else."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from peftrec.publishing.attribute_file import ATTRIBUTES, ITEM_ATTRIBUTES
from peftrec.publishing.card import CARD
from peftrec.publishing.item_table import ITEMS
from peftrec.publishing.listed_file import SUFFIXES
from peftrec.publishing.manifest import MANIFEST, PRIVATE
from peftrec.publishing.probe import PROBES
from peftrec.publishing.run_folder import (
    ADAPTER,
    ADAPTER_CONFIG,
    BASELINE,
    ENSEMBLE,
    ENVIRONMENT,
    HEAD,
    IDS,
    ITEM_SCORES,
    METRICS,
    RECIPE,
    VECTORS,
)

_ADAPTERS = (ADAPTER, ADAPTER_CONFIG)
_OF_A_RUN = frozenset(
    {
        *_ADAPTERS, *(f"user_adapter/{name}" for name in _ADAPTERS), HEAD, IDS, BASELINE, VECTORS, ITEMS,
        ITEM_SCORES, ATTRIBUTES, ITEM_ATTRIBUTES, PROBES, RECIPE, METRICS, ENVIRONMENT, MANIFEST, CARD,
    }
)  # fmt: skip
_MEMBER = re.compile(r"members/[A-Za-z0-9._-]+/")


def may_be_published(name: str) -> bool:
    """Whether a file of a run folder is on the list, as a file of the run or of a member of an ensemble."""
    of_member = _MEMBER.match(name)
    inner = name if of_member is None else name[of_member.end() :]
    return inner in _OF_A_RUN or inner == ENSEMBLE or (of_member is not None and _is_nested(inner))


def _is_nested(inner: str) -> bool:
    """An ensemble may be a member of another."""
    return _MEMBER.match(inner) is not None and may_be_published(inner)


def may_be_fetched(name: str) -> bool:
    """Whether a file that a manifest lists is of a kind that runs consist of, and stays in the folder."""
    path = PurePosixPath(name)
    inside = not path.is_absolute() and ".." not in path.parts and "\\" not in name
    return inside and path.parts[:1] != (PRIVATE,) and path.suffix in SUFFIXES
