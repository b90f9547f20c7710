"""A suite: which methods are compared, on which data sets and backbones, with which seeds and tuning budget."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

from peftrec.config import Range, RecipeError, nearest, parse_section, read_yaml

_KEY: Final = re.compile(r"[a-z0-9_]+")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DatasetEntry:
    """A data set.

    Args:
        label: what tables call it.
        recipe: the recipe that its methods are put into, a path from the root of the repository.
        set: overrides of that recipe, for every method.
    """

    label: str
    recipe: str
    set: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class BackboneEntry:
    """A pretrained language model.

    Args:
        set: overrides that choose it.
        parameters: of its layers, without word embeddings; for estimates, which open no backbone. None leaves them out.
        embeddings: parameters of its word embeddings, which are not quantised; likewise.
        layers: how many there are; likewise.
    """

    set: tuple[str, ...] = ()
    parameters: Annotated[float, Range(gt=0)] | None = None
    embeddings: Annotated[float, Range(gt=0)] | None = None
    layers: Annotated[int, Range(ge=1)] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class MethodEntry:
    """A row of the tables.

    Args:
        label: what tables call it.
        set: overrides that choose it.
        axes: what tuning tries, by dotted key: a list of values, or a range with a step. Without axes there
            is one trial.
        recipes: the recipe of a data set for this method, where it is not that of the data set.
    """

    label: str
    set: tuple[str, ...] = ()
    axes: dict[str, Any] = dataclasses.field(default_factory=dict)
    recipes: dict[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class GroupEntry:
    """Rows: every method of the list on every data set and backbone of the lists.

    Args:
        datasets: by their keys.
        backbones: by their keys; none for methods whose recipes name theirs, or that read no text.
        methods: by their keys.
        seeds: the first one tunes, and all of them run with what was best in validation.
        tuned_on: take the values that were best on this data set instead of tuning; None tunes.
    """

    datasets: tuple[str, ...]
    methods: tuple[str, ...]
    backbones: tuple[str, ...] = ()
    seeds: tuple[Annotated[int, Range(ge=0)], ...] = (0,)
    tuned_on: str | None = None

    def __post_init__(self) -> None:
        for name in ("datasets", "methods", "seeds"):
            if not getattr(self, name):
                raise ValueError(f"{name}: is empty; name at least one")
        for name in ("datasets", "methods", "backbones", "seeds"):
            values = getattr(self, name)
            twice = [value for place, value in enumerate(values) if value in values[:place]]
            if twice:
                raise ValueError(f"{name}: {twice[0]} stands twice")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Suite:
    """What the YAML file says.

    Args:
        trials: how many points the axes of every method have; baselines, which cost little, may have more.
        datasets: by key, which names files.
        methods: by key.
        groups: rows.
        backbones: by key.
        launch: configuration file of `accelerate launch`, for all but baselines; None runs one process.
    """

    trials: Annotated[int, Range(ge=1)]
    datasets: dict[str, DatasetEntry]
    methods: dict[str, MethodEntry]
    groups: tuple[GroupEntry, ...]
    backbones: dict[str, BackboneEntry] = dataclasses.field(default_factory=dict)
    launch: str | None = None

    def __post_init__(self) -> None:
        for name in ("datasets", "methods", "backbones"):
            for key in getattr(self, name):
                if not _KEY.fullmatch(str(key)):
                    raise ValueError(f"{name}: '{key}' becomes part of files' names; use a-z, 0-9 and _")
        if not self.groups:
            raise ValueError("groups: is empty; name at least one group of rows")
        for place, group in enumerate(self.groups):
            for family, keys in _named(group):
                for key in keys:
                    _check_known(key, getattr(self, family), f"groups[{place}].{family}", family)
        self._check_labels()
        self._check_used()

    def _check_labels(self) -> None:
        for family in ("datasets", "methods"):
            labels: dict[str, str] = {}
            for key, entry in getattr(self, family).items():
                if not entry.label.strip() or not entry.label.isprintable():
                    raise ValueError(f"{family}.{key}.label: {entry.label!r} is no line that a table could show")
                if entry.label in labels:
                    raise ValueError(
                        f"{family}.{key}.label: '{entry.label}' is that of {labels[entry.label]} too; tables tell rows "
                        f"apart by it"
                    )
                labels[entry.label] = key

    def _check_used(self) -> None:
        """Refuse what no group names: it would be left out in silence."""
        for family in ("datasets", "methods", "backbones"):
            used = {key for group in self.groups for named, keys in _named(group) if named == family for key in keys}
            unused = [key for key in getattr(self, family) if key not in used]
            if unused:
                raise ValueError(f"{family}.{unused[0]}: no group names it; add it to one, or leave it out")
        for key, method in self.methods.items():
            for dataset in method.recipes:
                _check_known(dataset, self.datasets, f"methods.{key}.recipes", "datasets")


def _named(group: GroupEntry) -> Iterator[tuple[str, Sequence[str]]]:
    yield "datasets", (*group.datasets, *([] if group.tuned_on is None else [group.tuned_on]))
    yield "methods", group.methods
    yield "backbones", group.backbones


def _check_known(key: str, entries: Mapping[str, Any], place: str, family: str) -> None:
    if key not in entries:
        known = ", ".join(map(str, entries)) or "none"
        raise ValueError(f"{place}: unknown {key!r}.{nearest(str(key), entries)} {family.capitalize()}: {known}")


def read_suite(path: str | Path) -> Suite:
    """Read a suite, strictly; recipes are not opened.

    Args:
        path: a YAML file.
    Raises:
        RecipeError: with the file, the key, and what would be right.
    """
    path = Path(path)
    try:
        if not re.fullmatch(r"[a-z0-9_-]+", path.stem):
            raise RecipeError("its name becomes that of the suite; use a-z, 0-9, _ and -")
        return parse_section(Suite, read_yaml(path))
    except RecipeError as error:
        told = str(error)
        raise RecipeError(told if told.startswith(str(path)) else f"{path}: {told}") from None
