"""What re-ranking costs in accuracy and what it gives: each step at several strengths, on one trained run.

    python benchmarks/reranking_curve.py measure RUN --name ml100k --field category data.group_separator=" "
    python benchmarks/reranking_curve.py draw

`measure` makes lists of ten from the 100 best items of each user, the history left out, at every strength of every
step, on the validation and the test cases, and writes `NAME.json` to RESULTS. Diversity is by the backbone's own text
vectors, whatever a step compares; the group whose exposure is held up are the items of the long tail (the least popular
items that together have a third of the training events, and those that have none). Intervals are of 95 %, by a
bootstrap over users of the paired differences. `draw` writes plots, and the tables between the marks of
docs/reranking.md, from the files in RESULTS; nothing is measured anew. The strength that it proposes is chosen on
validation alone, the same for all data sets: of those that cost at most 2 % of NDCG@10 on each, the largest but one (or
the weakest there is), since what is seen on other users differs by a percent or so. That rule was made when the tables
of these users had been seen, the test cases among them; so `measure --skip N` measures users who were not among the
first N drawn, and files that it writes choose nothing: they tell what the strengths cost users whom nobody had looked
at.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from peftrec.baselines import fit_references
from peftrec.benchmark.report.drawing import figure
from peftrec.build import tell_users
from peftrec.config import parse_section
from peftrec.data import Cases, Dataset, load_dataset
from peftrec.data.group_table import Groups, read_groups
from peftrec.evaluation import bootstrap_interval
from peftrec.evaluation.slice import popularity_group
from peftrec.frozen import frozen_vectors
from peftrec.metrics import CategoryShares, calibration, category_diversity, intra_list_diversity, ndcg
from peftrec.metrics.rank import MISS
from peftrec.publishing import PRIVATE, Run, load_run, replace_text
from peftrec.recipe import recipe_for_evaluation
from peftrec.retrieval import Asked, best_lists
from peftrec.retrieval.reranking import Candidates, Reranking, TableFacts, make_lists

ROOT = Path(__file__).parents[1]
RESULTS, PLOTS, DOCUMENT = (ROOT / "benchmarks/results/reranking", ROOT / "docs/plots", ROOT / "docs/reranking.md")
BEGIN, END = "<!-- curves:begin -->", "<!-- curves:end -->"
K, CANDIDATES, USERS_AT_ONCE, MOST_LOSS = 10, 100, 256, 0.02
STRENGTHS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7)
TOLD = {
    "diversity": "text diversity", "category_diversity": "category diversity", "calibration": "divergence from history",
    "tail_exposure": "exposure of the tail", "newness": "mean year",
}  # fmt: skip
AIMS = {
    "mmr": "diversity", "mmr by field": "category_diversity", "calibration": "calibration", "cap": "category_diversity",
    "exposure": "tail_exposure", "freshness": "newness",
}  # fmt: skip


def steps_of(field: str, date: str | None) -> dict[str, list[tuple[float, dict[str, Any]]]]:
    """Return each step at every strength, the weakest first."""
    found = {
        "mmr": [(s, {"kind": "mmr", "diversity": s}) for s in STRENGTHS],
        "mmr by field": [(s, {"kind": "mmr", "diversity": s, "field": field}) for s in STRENGTHS],
        "calibration": [(s, {"kind": "calibration", "field": field, "strength": s}) for s in STRENGTHS],
        "cap": [(most, {"kind": "cap", "field": field, "most": most}) for most in (8, 6, 5, 4, 3, 2, 1)],
        "exposure": [
            (s, {"kind": "exposure", "field": "popularity", "values": ["cold", "tail"], "share": s})
            for s in (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7)
        ],
    }
    if date is not None:
        fresh = {"kind": "freshness", "half_life_days": 365.0, "field": date}
        found["freshness"] = [(s, {**fresh, "strength": s}) for s in STRENGTHS]
    return found


class Measuring:
    """One run on some cases of a split.

    Args:
        run: loaded, users told.
        dataset: of it.
        split: `valid` or `test`.
        facts: of the items.
        text_ND: vectors that diversity is told by.
        field: whose values are categories.
        num_users: cases drawn at most, the same ones each time.
        skip: so many of those that would be drawn first are left to others.
    """

    def __init__(
        self,
        run: Run,
        dataset: Dataset,
        split: str,
        facts: TableFacts,
        text_ND: NDArray[np.float32],
        field: str,
        num_users: int,
        skip: int = 0,
    ) -> None:
        cases: Cases = getattr(dataset.split, split)
        if len(cases) > num_users or skip:
            drawn = np.sort(np.random.default_rng(0).permutation(len(cases))[skip : skip + num_users])
            cases = Cases(cases.users[drawn], cases.history_lengths[drawn], cases.targets[drawn])
        self._facts, self._text_ND, self._targets = facts, text_ND, cases.targets
        groups = facts.fields[field]
        self._shares = CategoryShares.even(groups.places, groups.offsets, len(groups.names))
        self._tail_N = facts.fields["popularity"].members([0, 1])
        offsets, items = dataset.sequences.gather_flat(dataset.sequences.offsets[cases.users], cases.history_lengths)
        self._history = (items, offsets)
        self._parts = list(self._candidates(run, dataset, cases))

    def _candidates(self, run: Run, dataset: Dataset, cases: Cases) -> Iterator[Candidates]:
        num_items = len(dataset.catalogue)
        items, offsets = self._history
        for start in range(0, len(cases), USERS_AT_ONCE):
            stop = min(start + USERS_AT_ONCE, len(cases))
            part = (dataset.sequences, start, stop)
            nobody_B = np.zeros(stop - start, dtype=bool)
            asked = Asked(
                cases.histories(*part),
                cases.users[start:stop],
                cases.event_histories(*part),
                cases.time_histories(*part),
                nobody_B,
            )
            found = best_lists(run.scorer, asked, CANDIDATES, torch.zeros(num_items), exclude_history=True)
            items_BC, scores_BC = (one.numpy() for one in found)
            own = items[offsets[start] : offsets[stop]]
            yield Candidates(items_BC, scores_BC, own, offsets[start : stop + 1] - offsets[start])

    def lists(self, step: Mapping[str, Any] | None) -> NDArray[np.int64]:
        """Return the lists that a step makes, (U, K); None makes none anew."""
        steps = parse_section(Reranking, {"steps": [] if step is None else [step]}).steps
        rows = []
        for part in self._parts:
            places_BK = make_lists(steps, part, self._facts, K)
            found_BK = np.take_along_axis(part.items_BC, np.maximum(places_BK, 0), axis=1)
            rows.append(np.where(places_BK >= 0, found_BK, -1))
        return np.concatenate(rows)

    def measures(self, lists_UK: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
        """Return what is told of lists, one value a user, NaN where there is none."""
        hit_UK = lists_UK == self._targets[:, None]
        ranks = np.where(hit_UK.any(axis=1), hit_UK.argmax(axis=1) + 1, MISS)
        discounts = 1.0 / np.log2(np.arange(K) + 2.0)
        found = {
            "ndcg": ndcg(ranks, K),
            "diversity": intra_list_diversity(lists_UK, self._text_ND),
            "category_diversity": category_diversity(lists_UK, self._shares),
            "calibration": calibration(lists_UK, *self._history, self._shares),
            "tail_exposure": (self._tail_N[lists_UK] * discounts).sum(axis=1) / discounts.sum(),
        }
        for days_old_N in self._facts.days_old_N.values():
            found["newness"] = 1998.0 - np.nanmean(days_old_N[lists_UK], axis=1) / 365.25
        return found


def measure(arguments: argparse.Namespace) -> None:
    """Measure one run and write its file."""
    run = load_run(arguments.run)
    recipe = recipe_for_evaluation(run.recipe, arguments.overrides)
    dataset = load_dataset(recipe.data)
    for model in run.models:
        tell_users(model, dataset)
    references = fit_references(
        dataset, lambda: frozen_vectors(recipe, dataset.catalogue.texts), Path(arguments.run) / PRIVATE / "references"
    )
    facts = _facts(run, recipe.data, dataset, arguments.field, arguments.date)
    text_ND = references["content_knn"].tensors()["item_vectors"].numpy()
    steps = steps_of(arguments.field, arguments.date)
    result: dict[str, Any] = {
        "name": arguments.name, "what": arguments.what, "field": arguments.field, "k": K, "candidates": CANDIDATES,
        "items": len(dataset.catalogue), "check": arguments.skip > 0, "splits": {},
    }  # fmt: skip
    for split in ("valid", "test"):
        at = Measuring(run, dataset, split, facts, text_ND, arguments.field, arguments.users, arguments.skip)
        plain = at.measures(at.lists(None))
        rows: list[dict[str, Any]] = [{"step": "none", "strength": 0, **_row(plain, plain)}]
        for name, grid in steps.items():
            for strength, step in grid:
                rows.append({"step": name, "strength": strength, **_row(at.measures(at.lists(step)), plain)})
                print(split, json.dumps(rows[-1]), file=sys.stderr)
        result["splits"][split] = {"users": len(plain["ndcg"]), "rows": rows}
    arguments.results.mkdir(parents=True, exist_ok=True)
    text = json.dumps(result, indent=1, ensure_ascii=False)
    (arguments.results / f"{arguments.name}.json").write_text(text + "\n", encoding="utf-8")


def _facts(run: Run, data: Any, dataset: Dataset, field: str, date: str | None) -> TableFacts:
    columns = (field, *(() if date is None else (date,)))
    items, _ = read_groups(data, dataset, more_columns=columns, more_key="--field or --date")
    place = popularity_group(dataset.item_counts())
    names = ("cold", "tail", "torso", "head")
    fields = {field: items[field], "popularity": Groups("popularity", names, place, np.arange(len(place) + 1))}
    days: dict[str | None, NDArray[np.float64]] = {}
    if date is not None:
        # One film's year is "V": the whole title is.
        years = np.array([float(name) if name.isdecimal() else np.nan for name in items[date].names])
        known_N = items[date].known
        days[date] = np.full(len(known_N), np.nan)
        days[date][known_N] = (1998.0 - years[items[date].places]) * 365.25
    vectors_ND = None if run.vectors_ND is None else run.vectors_ND.numpy()
    return TableFacts(vectors_ND, fields, days)


def _row(found: Mapping[str, NDArray[np.float64]], plain: Mapping[str, NDArray[np.float64]]) -> dict[str, Any]:
    """Return means, and NDCG's paired difference with its interval, as shares of what it is without the step."""
    base = float(plain["ndcg"].mean())
    low, high = bootstrap_interval(found["ndcg"] - plain["ndcg"])
    change = float((found["ndcg"] - plain["ndcg"]).mean())
    means = {name: round(float(np.nanmean(values)), 5) for name, values in found.items()}
    own = bootstrap_interval(found["ndcg"])
    return {
        **means,
        "ndcg_interval": [round(end, 5) for end in own],
        "loss": round(-change / base, 5),
        "loss_interval": [round(-high / base, 5), round(-low / base, 5)],
    }


def draw(arguments: argparse.Namespace) -> None:
    """Write plots and tables from what was measured."""
    paths = sorted(arguments.results.glob("*.json"))
    results = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    proposed = propose(results)
    for result in results:
        if not result.get("check"):
            _plot(result)
    text = DOCUMENT.read_text(encoding="utf-8")
    begin, end = text.index(BEGIN) + len(BEGIN), text.index(END)
    blocks = "\n\n".join(_block(result, proposed) for result in results)
    replace_text(DOCUMENT, f"{text[:begin]}\n{blocks}\n{text[end:]}")


def propose(results: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return the strength of each step that is proposed; none where even the weakest costs too much somewhere."""
    results = [result for result in results if not result.get("check")]
    found = {}
    for step in AIMS:
        told = [_rows(result, "valid", step)[1:] for result in results]
        told = [rows for rows in told if rows]
        fine = []
        for rows in zip(*told, strict=True):
            if any(row["loss"] > MOST_LOSS for row in rows):
                break
            fine.append(float(rows[0]["strength"]))
        if fine:
            found[step] = fine[max(0, len(fine) - 2)]
    return found


def _plot(result: Mapping[str, Any]) -> None:
    aims = [name for name in AIMS if name in _names(result)]
    name = f"reranking_{result['name']}"
    with figure(name, nrows=2, ncols=3, figsize=(12.0, 7.2)) as (drawn, panels):
        for panel, step in zip(panels.flat, aims, strict=False):
            for split, colour in (("valid", "#8a94a3"), ("test", "#1f6fb4")):
                rows = _rows(result, split, step)
                x = [row[AIMS[step]] for row in rows]
                y = [-100 * row["loss"] for row in rows]
                ends = [[max(0.0, 100 * (row["loss_interval"][1] - row["loss"])) for row in rows],
                        [max(0.0, 100 * (row["loss"] - row["loss_interval"][0])) for row in rows]]  # fmt: skip
                label = {"valid": "validation", "test": "test"}[split]
                panel.errorbar(x, y, yerr=ends, color=colour, marker="o", ms=4, lw=1.6, elinewidth=0.8, label=label)
                if split == "test":
                    _label(panel, rows, x, y)
            panel.axhline(-100 * MOST_LOSS, color="#b3402a", lw=1, ls=(0, (5, 2)))
            panel.set_title(step)
            panel.set_xlabel(TOLD[AIMS[step]])
            panel.set_ylabel("NDCG@10, change in %")
        for panel in panels.flat[len(aims) :]:
            panel.set_visible(False)
        panels.flat[0].legend(loc="lower left")
        drawn.savefig(PLOTS / f"{name}.png", dpi=110)


def _label(panel: Any, rows: Sequence[Mapping[str, Any]], x: Sequence[float], y: Sequence[float]) -> None:
    """Write strengths beside their points, but where one stands upon another."""
    wide = max(x) - min(x) or 1.0
    free: list[float] = []
    # The strongest first: weak ones lie close together.
    for row, at, up in reversed(list(zip(rows, x, y, strict=True))):
        if all(abs(at - other) > 0.07 * wide for other in free):
            free.append(at)
            panel.annotate(f"{row['strength']:g}", (at, up), xytext=(5, 5), textcoords="offset points", fontsize=8)


def _names(result: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys(row["step"] for row in result["splits"]["test"]["rows"]))


def _rows(result: Mapping[str, Any], split: str, step: str) -> list[dict[str, Any]]:
    rows = result["splits"][split]["rows"]
    return [row for row in rows if row["step"] in ("none", step)]


def _check(result: Mapping[str, Any], proposed: Mapping[str, float]) -> str:
    """Return what the strengths cost users for whom nothing was chosen."""
    test = result["splits"]["test"]
    plain = test["rows"][0]
    lines = [
        f"### {result['what']}: users whom nothing was chosen for",
        "",
        f"{test['users']:,} test cases of other users, measured once, when the strengths stood as they do here; "
        f"NDCG@10 without re-ranking {plain['ndcg']:.4f}.",
        "",
        "| step | proposed | NDCG@10 (95 % interval) | what it moves | without | with |",
        "|---|---|---|---|---|---|",
    ]
    for step in (name for name in proposed if name in _names(result)):
        row = next(row for row in test["rows"] if (row["step"], row["strength"]) == (step, proposed[step]))
        low, high = (-100 * end for end in reversed(row["loss_interval"]))
        aim = AIMS[step]
        lines.append(
            f"| {step} | {proposed[step]:g} | {_percent(-100 * row['loss'])} ({_percent(low)} to {_percent(high)}) | "
            f"{TOLD[aim]} | {_figure(plain[aim])} | {_figure(row[aim])} |"
        )
    return "\n".join(lines)


def _block(result: Mapping[str, Any], proposed: Mapping[str, float]) -> str:
    if result.get("check"):
        return _check(result, proposed)
    splits = result["splits"]
    plain = splits["test"]["rows"][0]
    lines = [
        f"### {result['what']}",
        "",
        f"{splits['test']['users']:,} users on test and {splits['valid']['users']:,} on validation, "
        f"{result['items']:,} items; without re-ranking NDCG@10 is {plain['ndcg']:.4f} (95 % interval "
        f"{plain['ndcg_interval'][0]:.4f} to {plain['ndcg_interval'][1]:.4f}) on test.",
        "",
        "| step | proposed | NDCG@10, validation | on test (95 % interval) | what it moves, test | without | with |",
        "|---|---|---|---|---|---|---|",
    ]
    for step in (name for name in proposed if name in _names(result)):
        valid, test = (
            next(row for row in splits[split]["rows"] if (row["step"], row["strength"]) == (step, proposed[step]))
            for split in ("valid", "test")
        )
        low, high = (-100 * end for end in reversed(test["loss_interval"]))
        aim = AIMS[step]
        lines.append(
            f"| {step} | {proposed[step]:g} | {_percent(-100 * valid['loss'])} | {_percent(-100 * test['loss'])} "
            f"({_percent(low)} to {_percent(high)}) | {TOLD[aim]} | {_figure(plain[aim])} | {_figure(test[aim])} |"
        )
    picture = f"![NDCG against what each step moves](plots/reranking_{result['name']}.png)"
    return "\n".join([*lines, "", picture])


def _percent(value: float) -> str:
    return f"{value:+.1f} %" if round(value, 1) else "0.0 %"


def _figure(value: float) -> str:
    return f"{value:.1f}" if value > 100 else f"{value:.3f}"


def main(argv: Sequence[str] | None = None) -> None:
    """Measure or draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the files")
    verbs = parser.add_subparsers(required=True)
    one = verbs.add_parser("measure")
    one.add_argument("run", help="run folder")
    one.add_argument("overrides", nargs="*", metavar="a.b=c", help="as in 'peftrec evaluate'")
    one.add_argument("--name", required=True, help="of the file")
    one.add_argument("--what", required=True, help="what was measured, for people")
    one.add_argument("--field", required=True, help="column of the items that holds categories")
    one.add_argument("--date", help="column of the items that holds years")
    one.add_argument("--users", type=int, default=5000, help="cases drawn at most (default: 5000)")
    one.add_argument("--skip", type=int, default=0, help="leave out those that are drawn first; chooses no strength")
    one.set_defaults(run_verb=measure)
    verbs.add_parser("draw").set_defaults(run_verb=draw)
    arguments = parser.parse_args(argv)
    arguments.run_verb(arguments)


if __name__ == "__main__":
    main()
