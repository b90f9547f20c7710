"""What a full evaluation tells people: sections of notes, tables and plots, from its JSON alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from peftrec.evaluation.plot import Interval, intervals_by_bin, intervals_by_row, legend, share_curves
from peftrec.metrics import rank_keys


@dataclasses.dataclass(frozen=True)
class Table:
    """Cells as text, a row each; the first column names the row, the others hold numbers but for those in `texts`."""

    names: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    texts: tuple[int, ...] = (0,)


@dataclasses.dataclass(frozen=True)
class Plot:
    """An SVG and the legend above it.

    Args:
        name: of its file.
        told: what it shows, for those who do not see it.
    """

    name: str
    told: str
    legend: str
    svg: str


@dataclasses.dataclass(frozen=True)
class Section:
    """A headline, sentences below it, and what they are about."""

    title: str
    notes: tuple[str, ...]
    parts: tuple[Table | Plot, ...]


def sections(results: Mapping[str, Any]) -> list[Section]:
    """Turn results into sections.

    Args:
        results: what `peftrec.reporting.report` returns.
    """
    models = {name: row for name, row in results.items() if isinstance(row, Mapping) and "metrics" in row}
    found = [
        _ranks(results, models),
        *_snips(models),
        *_sampled(results),
        _lists(models),
        *_popularity(results, models),
        *_exposure(results, models),
    ]
    return [*found, *_slices(results, models), *_gaps(results), *_impressions(results)]


def _ranks(results: Mapping[str, Any], models: Mapping[str, Any]) -> Section:
    model = models["model"]
    protocol, level = model["protocol"], model["interval_level"]
    notes = [
        f"{model['num_cases']:,} cases of {model['num_users']:,} users; {protocol['num_items']:,} items ranked "
        f"({protocol['catalogue']} catalogue). History: {protocol['history']}; a target in it: "
        f"{protocol['target_in_history']} ({model['repeat_target_share']:.1%} of the cases). Ties: {protocol['ties']}.",
        f"In brackets {level:.0%} bootstrap intervals over users.",
    ]
    notes += [results["leaks"]] if results["leaks"] else []
    return Section("Ranks", tuple(notes), (_metric_table(models, rank_keys(model["metrics"])),))


def _snips(models: Mapping[str, Any]) -> Iterator[Section]:
    """Tell of estimates by propensities."""
    if "snips" not in models["model"]:
        return
    found = {name: row["snips"] for name, row in models.items()}
    first = found["model"]
    notes = [
        f"Metrics estimated as if all items were as likely to be seen: cases weighed by 1 / propensity "
        f"({first['source']}), self-normalised; in brackets bootstrap intervals over users. They are as good as the "
        f"propensities.",
        f"The weights leave {first['effective_cases']:,.0f} effective cases of {models['model']['num_cases']:,}.",
    ]
    notes += ["So few that some targets decide: raise evaluation.propensity.clip."] if first["few"] else []
    yield Section("Estimates by propensity", tuple(notes), (_metric_table(found, list(first["metrics"])),))


def _sampled(results: Mapping[str, Any]) -> Iterator[Section]:
    """Tell of ranks among sampled candidates, apart from all others."""
    if "sampled" not in results:
        return
    rows = results["sampled"]
    note = (
        f"The target among {rows['model']['protocol']['catalogue']}, for comparison with papers that did the same. "
        f"These are no estimates of the figures above, and may order models otherwise."
    )
    keys = list(rows["model"]["metrics"])
    yield Section("SAMPLED candidates, not the catalogue", (note,), (_metric_table(rows, keys),))


def _lists(models: Mapping[str, Any]) -> Section:
    ranks = rank_keys(models["model"]["metrics"])
    keys = [key for key in models["model"]["metrics"] if key not in ranks]
    history = (
        "without the history" if models["model"]["protocol"]["history"] == "excluded" else "the history among them"
    )
    notes = [
        f"Each user's best items, {history}. Novelty: mean self-information in bits. Popularity lift: "
        "how much more popular the list is than the history, as a share. Diversity: mean distance of pairs by text "
        "(1 - cosine) or by category. Serendipity: hits that popularity would not have made. Calibration: divergence "
        "of the list's categories from the history's, 0 is best. Coverage: share of the catalogue in somebody's list. "
        "Gini: of exposure, 0 is even.",
    ]
    for key in keys:
        partly = {name: row["num_defined"][key] for name, row in models.items() if key in row.get("num_defined", {})}
        if partly:
            told = ", ".join(f"{number:,} for {name}" for name, number in partly.items())
            notes.append(f"{key} is not defined for all users: {told} of {models['model']['num_users']:,}.")
    table = _metric_table(models, keys)
    together = tuple(
        (key, *(_overall(row["overall"][key]) for row in models.values())) for key in models["model"].get("overall", {})
    )
    return Section("Lists", tuple(notes), (Table(table.names, table.rows + together),))


def _metric_table(models: Mapping[str, Any], keys: Sequence[str]) -> Table:
    return Table(("", *models), tuple((key, *(_value(row, key) for row in models.values())) for key in keys))


def _value(row: Mapping[str, Any], key: str) -> str:
    mean = row["metrics"].get(key)
    if mean is None:
        return "-"
    low, high = row["intervals"][key]
    return f"{number(mean)} [{number(low)}, {number(high)}]"


def _overall(value: float | None) -> str:
    return "-" if value is None else number(value)


def number(value: float) -> str:
    """Return a number with four decimals, or with six where those would hide it."""
    return f"{value:.4f}" if abs(value) >= 0.001 or value == 0 else f"{value:.6f}"


def _popularity(results: Mapping[str, Any], models: Mapping[str, Any]) -> Iterator[Section]:
    bins = results["popularity_curve"]
    metric = _first(models, "ndcg")
    names = [
        f"{entry['low']}" if entry["low"] == entry["high"] else f"{entry['low']}-{entry['high']}" for entry in bins
    ]
    series = {
        model: [Interval(entry["rows"][model]["value"], *(entry["rows"][model][end] for end in ("low", "high")))
                for entry in bins]
        for model in models
    }  # fmt: skip
    plot = Plot(
        "popularity",
        f"{metric} against training events of the target",
        legend([*models]),
        intervals_by_bin(names, series, below="training events of the target", beside=metric),
    )
    rows = tuple(
        (name, f"{entry['num_cases']:,}", *(f"{entry['rows'][model]['value']:.4f}" for model in models))
        for name, entry in zip(names, bins, strict=True)
    )
    note = f"{metric} of cases whose target has so many training events; 0 are cold items."
    yield Section("By popularity of the target", (note,), (plot, Table(("training events", "cases", *models), rows)))


def _exposure(results: Mapping[str, Any], models: Mapping[str, Any]) -> Iterator[Section]:
    curves = {model: [(x, y) for x, y in results["exposure_curve"][model]] for model in models}
    plot = Plot(
        "exposure",
        "share of all places in lists that the most shown items have",
        legend([*models]),
        share_curves(curves, below="share of items, the most shown first", beside="share of places in lists"),
    )
    parts: list[Table | Plot] = [plot]
    if results["exposure"]:
        rows = tuple(
            (f"{entry['kind']}: {entry['name']}", f"{entry['part']:.1%}",
             *(f"{entry['shares'][model]:.1%} ({_ratio(entry['ratios'][model])})" for model in models))
            for entry in results["exposure"]
        )  # fmt: skip
        parts.append(Table(("items", "of training events", *models), rows))
    notes = (
        "How lists spread over items; the dashed line is where all items are shown alike.",
        "Shares of all places in lists by group of items; in parentheses over the group's share of training events.",
    )
    yield Section("Exposure", notes[: len(parts)], tuple(parts))


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}x"


def _slices(results: Mapping[str, Any], models: Mapping[str, Any]) -> Iterator[Section]:
    slices = results["slices"]
    if not slices:
        return
    metric = _first(models, "ndcg")
    series: dict[str, list[Interval | None]] = {
        model: [_interval(entry["rows"][model], metric) for entry in slices] for model in models
    }
    plot = Plot(
        "slices",
        f"{metric} by slice",
        legend([*models]),
        intervals_by_row([(entry["kind"], entry["name"]) for entry in slices], series, below=metric),
    )
    rows = tuple(
        (entry["kind"], entry["name"], f"{entry['num_cases']:,}", f"{entry['num_users']:,}",
         *(_value(entry["rows"][model], metric) for model in models))
        for entry in slices
    )  # fmt: skip
    note = (
        "Target: cold has no training event; head, torso and tail hold a third of the training events each, from the "
        "most popular items on. Slices of few cases have wide intervals, and many slices some that differ by chance."
    )
    yield Section("Slices", (note,), (plot, Table(("", "slice", "cases", "users", *models), rows, (0, 1))))


def _interval(row: Mapping[str, Any], metric: str) -> Interval | None:
    mean = row["metrics"].get(metric)
    return None if mean is None else Interval(mean, *row["intervals"][metric])


def _gaps(results: Mapping[str, Any]) -> Iterator[Section]:
    gaps = results["gaps"]
    if not gaps:
        return
    rows = tuple(
        (entry["kind"], entry["metric"], entry["model"],
         f"{entry['difference']:.4f} [{entry['interval'][0]:.4f}, {entry['interval'][1]:.4f}]",
         f"{entry['best']} ({entry['best_mean']:.4f})", f"{entry['worst']} ({entry['worst_mean']:.4f})")
        for entry in sorted(gaps, key=lambda entry: (entry["kind"], not entry["metric"].startswith(("hr", "ndcg"))))
    )  # fmt: skip
    names = ("groups", "metric", "model", "difference", "best group", "worst group")
    notes = (
        "Between the group with the best and the one with the worst mean, best being the highest but for calibration; "
        "groups of fewer than 20 users left out. Intervals are of the difference between these two; that they were "
        "picked as the ends of all is not in them, so that of many groups some difference is always found.",
    )
    yield Section("Gaps between groups", notes, (Table(names, rows, (0, 1, 2, 4, 5)),))


def _impressions(results: Mapping[str, Any]) -> Iterator[Section]:
    found = results.get("impressions")
    if found is None:
        return
    kinds = {"gauc": "GAUC", "gauc_by_clicks": "weighted by clicks"}
    rows = tuple(
        (name, *(_value({"metrics": row, "intervals": row["intervals"]}, kind) for kind in kinds))
        for name, row in found["rows"].items()
    )
    counts = next(iter(found["rows"].values()))
    left_out = ", ".join(f"{reason}: {number:,}" for reason, number in found["left_out"].items())
    notes = (
        f"AUC of the items of an impression, mean over {counts['num_users']:,} users, weighted by impressions or "
        f"clicks, with bootstrap intervals over users; ties count against the model. {counts['num_impressions']:,} "
        f"impressions.",
        f"Left out: {left_out}.",
    )
    yield Section("Impressions", notes, (Table(("", *kinds.values()), rows),))


def _first(models: Mapping[str, Any], metric: str) -> str:
    keys: list[str] = list(models["model"]["metrics"])
    return next(key for key in keys if key.startswith(f"{metric}@"))


def plots_of(found: Sequence[Section]) -> list[Plot]:
    """Return the plots of some sections."""
    return [part for section in found for part in section.parts if isinstance(part, Plot)]
