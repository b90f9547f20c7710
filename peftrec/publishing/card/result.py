"""What a card says of how good a run is: results, their protocol, and what stands beside them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from peftrec.evaluation.section import number, value_cell
from peftrec.publishing.card.fact import Facts
from peftrec.publishing.card.markdown import code, plain, table

# What each name of a reference stands for; members of an ensemble and other runs have names of their own.
_REFERENCES = {
    "popularity": "every user gets the items with most training events",
    "content_knn": "items most similar in text to the last events, by the untrained backbone",
}


def result_section(facts: Facts) -> str:
    """Return the section of results: protocol, table, and what the references leave of them."""
    if not facts.keys:
        return "## Results\n\nNothing was measured on test cases."
    rows = shown(facts)
    names = ["metric", *("**this run**" if name == "model" else code(name) for name in rows)]
    cells = [[code(key), *(value_cell(row, key) for row in rows.values())] for key in facts.keys]
    level = facts.models["model"]["interval_level"]
    parts = [
        "## Results",
        f"Test cases; in brackets {level:.0%} intervals (bootstrap over users). {_told(rows)}",
        table(names, cells, numbers=range(1, len(names))),
        _verdict(facts, rows),
        _protocol(facts),
        *_sampled(facts),
        *_snips(facts),
    ]
    return "\n\n".join(part for part in parts if part)


def shown(facts: Facts) -> dict[str, Mapping[str, Any]]:
    """Return the rows of results by name: the run, what `metrics.json` holds beside it, other runs."""
    others = {name: other["test"]["model"] for name, other in facts.others.items()}
    return {**facts.models, **others}


def _told(rows: Mapping[str, Any]) -> str:
    """Say what the columns are."""
    told = [f"{code(name)}: {meaning}" for name, meaning in _REFERENCES.items() if name in rows]
    return ("; ".join(told) + ".") if told else ""


def _verdict(facts: Facts, rows: Mapping[str, Any]) -> str:
    """Compare the run with the best of what stands beside it, by the metric that its weights were chosen by."""
    key = facts.recipe.training.metric
    found = {name: row for name, row in rows.items() if name != "model" and row["metrics"].get(key) is not None}
    own = rows["model"]["metrics"].get(key)
    if not found or own is None:
        return ""
    best = max(found, key=lambda name: float(found[name]["metrics"][key]))
    value = found[best]["metrics"][key]
    low, high = rows["model"]["intervals"][key]
    best_low, best_high = found[best]["intervals"][key]
    if best_high < low:
        told = f"lies above the best of these, {code(best)}"
    elif high < best_low:
        told = f"lies **below** the best of these, {code(best)}"
    else:
        told = f"is not told apart by these intervals from the best of the others, {code(best)}"
    return (
        f"By {code(key)} this run {told} ({number(own)} against {number(value)}); "
        f"{code('peftrec compare')} tests two runs on the same users, which is sharper than two intervals."
    )


def _protocol(facts: Facts) -> str:
    row = facts.models["model"]
    rules = row["protocol"]
    ranked = f"all {rules['num_items']:,} items of the catalogue"
    if rules["catalogue"] != "full":
        ranked = f"{plain(rules['catalogue'])} of {rules['num_items']:,} items"
    history = (
        f"Items of the user's own history are left out of the ranking, and a target among them counts as a miss "
        f"({row['repeat_target_share']:.1%} of the cases)."
        if rules["history"] == "excluded"
        else f"Items of the user's own history are ranked too; {row['repeat_target_share']:.1%} of the targets are "
        f"among them."
    )
    leaks = facts.test.get("leaks")
    return (
        f"**Protocol.** For each of {row['num_cases']:,} test cases of {row['num_users']:,} users {ranked} are ranked, "
        f"none sampled. {history} Ties count {plain(rules['ties'])}. Means are over users. "
        f"The metrics are those of {code('docs/metrics.md')} of peftrec." + (f" {plain(leaks)}" if leaks else "")
    ).replace(", none sampled", "" if rules["catalogue"] != "full" else ", none sampled")


def _sampled(facts: Facts) -> Iterator[str]:
    """Tell of ranks among sampled candidates, apart from all others."""
    found = facts.test.get("sampled")
    if not found:
        return
    keys = list(found["model"]["metrics"])
    yield (
        f"**Sampled candidates**: the target among {plain(found['model']['protocol']['catalogue'])}, to compare with "
        f"papers that did the same. These are no estimates of the figures above."
    )
    cells = [[code(key), *(value_cell(row, key) for row in found.values())] for key in keys]
    names = ["metric", *("**this run**" if name == "model" else code(name) for name in found)]
    yield table(names, cells, numbers=range(1, len(names)))


def _snips(facts: Facts) -> Iterator[str]:
    """Tell of estimates by propensities."""
    found = {name: row["snips"] for name, row in facts.models.items() if "snips" in row}
    if "model" not in found:
        return
    yield (
        f"**Estimates by propensity**, as if all items were as likely to be seen "
        f"({plain(found['model']['source'])}, self-normalised): as good as the propensities are."
    )
    keys = list(found["model"]["metrics"])
    cells = [[code(key), *(value_cell(row, key) for row in found.values())] for key in keys]
    names = ["metric", *("**this run**" if name == "model" else code(name) for name in found)]
    yield table(names, cells, numbers=range(1, len(names)))
