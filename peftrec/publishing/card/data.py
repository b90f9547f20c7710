"""What a card says of the data of a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from peftrec.config import section_to_dict
from peftrec.data import DataConfig
from peftrec.publishing.card.documentation import sentence
from peftrec.publishing.card.fact import Facts
from peftrec.publishing.card.markdown import code, plain, settings, table
from peftrec.publishing.card.place import shown_name

# Rows of the report whose notes count and say nothing of single values.
_COUNTED = ("kept", "sample of", "split ")


def set_name(data: DataConfig) -> str:
    """Return what the data are called: the set that peftrec knows, and what tells it from others of its kind."""
    path = PurePath(data.set_path)
    # Tables are mostly called after what they hold; the folder that the recipe has them in names the set.
    own = shown_name(str(path.parent if data.kind == "tables" else path)) if data.set_path else None
    own = own if own is None or own.startswith(".") else own.partition(".")[0]
    if data.known_as:
        return f"{data.known_as} ({own})" if own else data.known_as
    return own or "unnamed tables"


def data_section(facts: Facts) -> str:
    """Return the section on data: source, terms, counts, cleaning and split."""
    data = facts.recipe.data
    lines = [f"- Source: {_source(facts)}."]
    counts = _counts(facts.metrics)
    if counts:
        lines.append(f"- After cleaning: {counts}.")
    else:
        lines.append(f"- {facts.num_items:,} items.")
    rest = {key: value for key, value in section_to_dict(data.split).items() if key != "kind"}
    of_split = f"{code(data.split.kind)} ({settings(rest)})" if rest else code(data.split.kind)
    update = facts.metrics.get("update")
    before = " of the data before the updates" if update else ""
    lines.append(f"- Split{before} {of_split}: {plain(sentence(data.split))}.")
    if update:
        lines.append(_updated(update))
    if facts.kind != "baseline" or facts.reads_backbone:
        lines.append(f"- An item's text is made as {code(data.template)}.")
    texts = facts.metrics.get("texts")
    if isinstance(texts, Mapping) and texts.get("num_texts"):
        lines.append(
            f"- Of {texts['num_texts']:,} texts {texts['num_cut']:,} were cut to {facts.recipe.encoder.max_tokens} "
            f"tokens."
        )
    parts = ["## Data", "\n".join(lines)]
    cleaning = _cleaning(facts.metrics)
    return "\n\n".join([*parts, *([cleaning] if cleaning else [])])


def _updated(update: Mapping[str, Any]) -> str:
    """Say what a run was updated with; its results are of the last period."""
    times = "once" if update["number"] == 1 else f"{update['number']:,} times"
    replay = f"; {update['replay']:.0%} of the earlier training events were replayed" if update["replay"] else ""
    return (
        f"- Updated {times} with later events, last with {update['num_events']:,} from {plain(update['from_time'])} to "
        f"{plain(update['until_time'])}: the last {update['test_fraction']:.0%} of these are the test cases of the "
        f"results here, those before them ({update['valid_fraction']:.0%}) chose the weights{replay}."
    )


def _source(facts: Facts) -> str:
    data, about = facts.recipe.data, facts.about
    ids = about.datasets or data.hub_ids
    if ids:
        links = [f"[{plain(name)}](https://huggingface.co/datasets/{name})" if "/" in name else plain(name)
                 for name in ids]  # fmt: skip
        told = ", ".join(links) + (f" (terms of use: {plain(data.terms)})" if data.terms else "")
        return told + ("" if data.terms else "; its terms of use stand there" * ("/" in ids[0]))
    name = plain(set_name(data))
    if data.terms:
        return f"{name}. Terms of use: {plain(data.terms)}"
    return f"{name}, read as {code(data.kind)}; peftrec does not know its terms of use"


def _counts(metrics: Mapping[str, Any]) -> str:
    rows = metrics.get("cleaning", {}).get("rows", [])
    found = [(row["subject"], row) for row in rows if row["step"] == "kept"]
    told = [
        f"{row['remaining']:,} {plain(subject)}" + (f" ({plain(row['note'])})" if row["note"] else "")
        for subject, row in found
    ]
    trained = [row for row in rows if row["step"].startswith("split ")]
    told += [f"{row['remaining']:,} {plain(row['subject'])} to train on" for row in trained]
    return ", ".join(told)


def _cleaning(metrics: Mapping[str, Any]) -> str:
    """Return the steps that took something away, with what they left."""
    rows = metrics.get("cleaning", {}).get("rows", [])
    shown = [row for row in rows if row["removed"] or row["step"].startswith("split ")]
    cells = [
        (plain(row["step"]), plain(row["subject"]), f"{row['removed']:,}", f"{row['remaining']:,}",
         plain(row["note"]) if row["step"].startswith(_COUNTED) else "")
        for row in shown
    ]  # fmt: skip
    return table(("step", "of", "removed", "left", ""), cells, numbers=(2, 3)) if cells else ""
