"""The whole card: metadata and sections in the order in which they are read."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from peftrec.publishing.card.about import About
from peftrec.publishing.card.bias import exposure_section, slice_section
from peftrec.publishing.card.data import data_section
from peftrec.publishing.card.fact import Facts, read_facts
from peftrec.publishing.card.limit import limit_section
from peftrec.publishing.card.markdown import code, plain
from peftrec.publishing.card.metadata import metadata
from peftrec.publishing.card.model import size_section, summary, trained_section, training_section
from peftrec.publishing.card.reference import source_section
from peftrec.publishing.card.result import result_section
from peftrec.publishing.card.use import reproduce_section, use_section
from peftrec.publishing.environment import describe_environment
from peftrec.recipe import Recipe

CARD = "README.md"


def write_card(
    folder: Path,
    recipe: Recipe,
    metrics: Mapping[str, Any],
    num_items: int,
    *,
    about: About | None = None,
    repo_id: str | None = None,
    others: Mapping[str, Mapping[str, Any]] | None = None,
    text: Mapping[str, Any] | None = None,
) -> None:
    """Write the card of a run folder; all arguments as of `make_card`."""
    card = make_card(folder, recipe, metrics, num_items, about=about, repo_id=repo_id, others=others, text=text)
    (folder / CARD).write_text(card, encoding="utf-8")


def make_card(
    folder: Path,
    recipe: Recipe,
    metrics: Mapping[str, Any],
    num_items: int,
    *,
    about: About | None = None,
    repo_id: str | None = None,
    others: Mapping[str, Mapping[str, Any]] | None = None,
    text: Mapping[str, Any] | None = None,
) -> str:
    """Return the card of a run; its figures are those of `metrics.json`, and no path or id of a user stands in it.

    Args:
        folder: the run folder, of which the adapter's configuration, `peftrec.json` and `environment.json` are read
            where they are there already; without the last one, this machine is told of.
        recipe: resolved.
        metrics: what `metrics.json` holds.
        num_items: size of the catalogue.
        about: what the publisher says; None says nothing.
        repo_id: where it is published; None for a folder of this machine.
        others: `metrics.json` of runs to stand beside in the results, such as full fine-tuning, by name.
        text: how texts become vectors (`pooling`, `prefix`), as `peftrec.json` has it; None reads it there.
    Raises:
        InputError: if another run was measured on other data or by other rules, or `repo_id` is none.
    """
    facts = Facts(
        recipe=recipe,
        metrics=metrics,
        num_items=num_items,
        about=about or About(),
        repo_id=repo_id,
        others=others or {},
        text=text,
    )
    facts = read_facts(folder, facts)
    if facts.environment is None:
        facts = dataclasses.replace(facts, environment=describe_environment())
    return card_text(facts)


def card_text(facts: Facts) -> str:
    """Return the card that these facts make."""
    sections = (
        f"# {plain(facts.title)}",
        summary(facts),
        _license(facts),
        use_section(facts),
        result_section(facts),
        slice_section(facts) if facts.keys else "",
        exposure_section(facts) if facts.keys else "",
        limit_section(facts),
        trained_section(facts),
        data_section(facts),
        size_section(facts),
        training_section(facts),
        reproduce_section(facts),
        source_section(facts),
    )
    body = "\n\n".join(section for section in sections if section)
    return f"---\n{metadata(facts).rstrip()}\n---\n\n{body}\n"


def _license(facts: Facts) -> str:
    about = facts.about
    if about.license is None:
        return "**Licence:** none is stated; whoever publishes this run has to give one."
    name = code(about.license) if about.license_name is None else plain(about.license_name)
    link = "" if about.license_link is None else f" ({plain(about.license_link)})"
    terms = facts.recipe.data.terms
    told = f" The data's terms: {plain(terms)}." if terms else ""
    base = " The backbone has a licence of its own." if facts.reads_backbone and facts.kind != "ensemble" else ""
    return f"**Licence:** {name}{link}, for what was trained.{base}{told}"
