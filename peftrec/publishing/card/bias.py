"""What a card says of whom a run serves how well, and of which items it shows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from peftrec.evaluation.section import number, value_cell
from peftrec.metrics import LIST_METRICS, OVERALL_LIST_METRICS
from peftrec.publishing.card.fact import Facts
from peftrec.publishing.card.markdown import code, plain, table

# Results of fewer users than this would tell of single people.
FEWEST_USERS = 10


def slice_section(facts: Facts) -> str:
    """Return the section on slices: cold items, new users, groups."""
    slices = facts.test.get("slices")
    if slices is None:
        return (
            f"## By kind of item and user\n\nNot measured: how the run does on items that nobody had in training, on "
            f"new users and on groups. {code('peftrec evaluate')} measures it."
        )
    told = [entry for entry in slices if entry["num_users"] >= FEWEST_USERS]
    if not told:
        return f"## By kind of item and user\n\nNo slice of the test cases has {FEWEST_USERS} users."
    models = list(facts.models)
    key = next(key for key in told[0]["rows"]["model"]["metrics"] if key.startswith("ndcg@"))
    names = ["", "slice", "cases", "users", *("**this run**" if name == "model" else code(name) for name in models)]
    cells = [
        [plain(entry["kind"]), plain(entry["name"]), f"{entry['num_cases']:,}", f"{entry['num_users']:,}",
         *(value_cell(entry["rows"][name], key) for name in models)]
        for entry in told
    ]  # fmt: skip
    notes = [f"{code(key)} of parts of the test cases. Slices of few cases have wide intervals."]
    if any(entry["kind"] == "target" for entry in told):
        notes.append(
            "Targets that are cold have no training event; head, torso and tail hold a third of the training events "
            "each, from the most popular items on."
        )
    if not any(entry["kind"] == "target" and entry["name"] == "cold" for entry in told):
        notes.append("No slice of cold items could be told: this says nothing of items without training events.")
    if len(told) < len(slices):
        notes.append(f"Left out are slices of fewer than {FEWEST_USERS} users: {len(slices) - len(told)}.")
    parts = ["## By kind of item and user", " ".join(notes), table(names, cells, numbers=range(2, len(names)))]
    return "\n\n".join([*parts, *_gaps(facts)])


def _gaps(facts: Facts) -> Iterator[str]:
    """Tell of gaps between groups, in the metric of the slices."""
    gaps = [row for row in facts.test.get("gaps", []) if row["model"] == "model" and row["metric"].startswith("ndcg@")]
    if not gaps:
        return
    yield "Between the group with the best and the one with the worst mean:"
    cells = [
        [plain(row["kind"]), code(row["metric"]),
         f"{number(row['difference'])} [{number(row['interval'][0])}, {number(row['interval'][1])}]",
         f"{plain(row['best'])} ({number(row['best_mean'])})", f"{plain(row['worst'])} ({number(row['worst_mean'])})"]
        for row in gaps
    ]  # fmt: skip
    yield table(("groups", "metric", "difference", "best", "worst"), cells, numbers=(2,))


def exposure_section(facts: Facts) -> str:
    """Return the section on popularity bias and exposure."""
    head = "## Popularity bias and exposure"
    if "exposure" not in facts.test:
        return (
            f"{head}\n\nNot measured: popularity lift, coverage, inequality of exposure and novelty. "
            f"{code('peftrec evaluate')} measures them. Recommenders that learn from clicks and purchases tend to show "
            f"popular items more than their share."
        )
    models = facts.models
    keys = [key for key in models["model"]["metrics"] if key.partition("@")[0] in LIST_METRICS]
    overall = models["model"].get("overall", {})
    names = ["metric", "what it is", *("**this run**" if name == "model" else code(name) for name in models)]
    told = {**LIST_METRICS, **OVERALL_LIST_METRICS}
    cells = [
        [code(key), plain(told[key.partition("@")[0]].told), *(value_cell(row, key) for row in models.values())]
        for key in keys
    ]
    cells += [
        [code(key), plain(told[key.partition("@")[0]].told),
         *(number(row.get("overall", {}).get(key)) for row in models.values())]
        for key in overall
    ]  # fmt: skip
    parts = [head, " ".join(_lift(facts)), table(names, cells, numbers=range(2, len(names))), *_shares(facts)]
    return "\n\n".join(part for part in parts if part)


def _lift(facts: Facts) -> Iterator[str]:
    """Say in words which way lists lean."""
    metrics = facts.models["model"]["metrics"]
    key = next((key for key in metrics if key.startswith("popularity_lift@")), None)
    value = None if key is None else metrics[key]
    if key is not None and value is not None:
        way = "more" if value > 0 else "less"
        yield f"Lists are {abs(value):.1%} {way} popular than the histories that they are made for ({code(key)})."
    overall = facts.models["model"].get("overall", {})
    key = next((key for key in overall if key.startswith("coverage@")), None)
    if key is not None and overall[key] is not None:
        yield f"{overall[key]:.1%} of the catalogue stands in somebody's list ({code(key)})."


def _shares(facts: Facts) -> Iterator[str]:
    rows: list[Mapping[str, Any]] = facts.test["exposure"]
    if not rows:
        return
    models = list(facts.models)
    yield "Shares of all places in lists by group of items; in parentheses over the group's share of training events:"
    cells = [
        [plain(row["kind"]), plain(row["name"]), f"{row['part']:.1%}",
         *(f"{row['shares'][name]:.1%} ({_ratio(row['ratios'][name])})" for name in models)]
        for row in rows
    ]  # fmt: skip
    names = ["", "items", "of training events", *("**this run**" if name == "model" else code(name) for name in models)]
    yield table(names, cells, numbers=range(2, len(names)))


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}x"
