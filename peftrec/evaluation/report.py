"""What a full evaluation tells people: sections of notes, tables and plots, from its JSON alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from peftrec.evaluation.gap import FEWEST_USERS
from peftrec.evaluation.plot import Interval, intervals_by_bin, intervals_by_row, legend, share_curves
from peftrec.evaluation.section import Plot, Section, Table, metric_table, number, value_cell
from peftrec.metrics import LIST_METRICS, OVERALL_LIST_METRICS, higher_is_better, rank_keys


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
    keys = rank_keys(model["metrics"])
    return Section("Ranks", (*notes, *_partly(models, keys)), (metric_table(models, keys),))


def _partly(models: Mapping[str, Any], keys: Iterable[str]) -> Iterator[str]:
    """Tell of metrics that are not defined for all users, such as AUC where nothing else was left to rank."""
    for key in keys:
        defined = {name: row["num_defined"][key] for name, row in models.items() if key in row.get("num_defined", {})}
        if defined:
            told = ", ".join(f"{count:,} for {name}" for name, count in defined.items())
            yield f"{key} is not defined for all users: {told} of {models['model']['num_users']:,}."


def _snips(models: Mapping[str, Any]) -> Iterator[Section]:
    """Tell of estimates by propensities."""
    if "snips" not in models["model"]:
        return
    found = {name: row["snips"] for name, row in models.items()}
    first = found["model"]
    notes = [
        f"Metrics estimated as if all items were as likely to be seen: cases weighed by 1 / propensity "
        f"({first['source']}), self-normalised; in brackets bootstrap intervals over users. They are as good as the "
        f"propensities. Below each the plain mean.",
        f"The weights leave {first['effective_cases']:,.0f} effective cases of {models['model']['num_cases']:,}.",
    ]
    notes += ["So few that some targets decide: raise evaluation.propensity.clip."] if first["few"] else []
    rows = tuple(
        (key, of, *(value_cell(row, key) for row in kind.values()))
        for key in first["metrics"]
        for of, kind in (("estimate", found), ("plain mean", models))
    )
    yield Section("Estimates by propensity", tuple(notes), (Table(("", "", *models), rows, (0, 1)),))


def _sampled(results: Mapping[str, Any]) -> Iterator[Section]:
    """Tell of ranks among sampled candidates, apart from all others."""
    if "sampled" not in results:
        return
    rows = results["sampled"]
    note = (
        f"The target among {rows['model']['protocol']['catalogue']}, for comparison with papers that did the same. "
        f"These are no estimates of the figures above, and may order models otherwise."
    )
    table = metric_table(rows, list(rows["model"]["metrics"]))
    yield Section("SAMPLED candidates, not the catalogue", (note,), (table,))


def _lists(models: Mapping[str, Any]) -> Section:
    model = models["model"]
    ranks = rank_keys(model["metrics"])
    keys = [key for key in model["metrics"] if key not in ranks]
    history = "without the history" if model["protocol"]["history"] == "excluded" else "the history among them"
    metrics = {**LIST_METRICS, **OVERALL_LIST_METRICS}
    names = dict.fromkeys(key.partition("@")[0] for key in (*keys, *model.get("overall", {})))
    told = "; ".join(f"{name}: {metrics[name].told}" for name in names)
    note = f"Each user's best items, {history}. Of these {told}."
    table = metric_table(models, keys)
    together = tuple(
        (key, *(number(row["overall"][key]) for row in models.values())) for key in model.get("overall", {})
    )
    return Section("Lists", (note, *_partly(models, keys)), (Table(table.names, table.rows + together),))


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
        (name, f"{entry['num_cases']:,}", *(number(entry["rows"][model]["value"]) for model in models))
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
         *(value_cell(entry["rows"][model], metric) for model in models))
        for entry in slices
    )  # fmt: skip
    notes = ["Slices of few cases have wide intervals, and many slices some that differ by chance."]
    if any(entry["kind"] == "target" for entry in slices):
        notes.insert(
            0,
            "Target: cold has no training event; head, torso and tail hold a third of the training events each, from "
            "the most popular items on.",
        )
    yield Section("Slices", tuple(notes), (plot, Table(("", "slice", "cases", "users", *models), rows, (0, 1))))


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
    falling = dict.fromkeys(
        entry["metric"].partition("@")[0] for entry in gaps if higher_is_better(entry["metric"]) is False
    )
    but_for = f" but for {', '.join(falling)}" if falling else ""
    notes = (
        f"Between the group with the best and the one with the worst mean, best being the highest{but_for}; groups of "
        f"fewer than {FEWEST_USERS} users left out. Intervals are of the difference between these two; that they were "
        f"picked as the ends of all is not in them, so that of many groups some difference is always found.",
    )
    yield Section("Gaps between groups", notes, (Table(names, rows, (0, 1, 2, 4, 5)),))


def _impressions(results: Mapping[str, Any]) -> Iterator[Section]:
    found = results.get("impressions")
    if found is None:
        return
    kinds = {"gauc": "GAUC", "gauc_by_clicks": "weighted by clicks"}
    rows = tuple(
        (name, *(value_cell({"metrics": row, "intervals": row["intervals"]}, kind) for kind in kinds))
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
