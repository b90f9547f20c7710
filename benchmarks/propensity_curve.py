"""What weighing targets by inverse propensity does: one recipe trained at several powers, several seeds each.

    python benchmarks/propensity_curve.py RECIPE --powers 0,0.25,0.5,1 --seeds 0,1,2 --output runs/propensity

The powers are those of `debias.propensity`; 0 weighs all targets alike, and differences are from the first power given.
Each run lies in its own folder below OUTPUT and is not trained again if it is there. Written to RESULTS are `NAME.json`
(a row a run, and means over seeds with intervals) and `NAME.md` (the same as tables). Lists have ten items, the user's
history is left out. Intervals are of 95 %, by a bootstrap over users of each user's mean over seeds: they say how far
users differ, not how far seeds do, whose lowest and highest stand in the rows.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peftrec.benchmark.run_lists import evaluated_lists
from peftrec.data import Dataset, load_dataset
from peftrec.evaluation.propensity import case_weights, snips, snips_intervals
from peftrec.losses import PropensityConfig, effective_number, item_propensities
from peftrec.metrics.list_exposure import mean_popularity
from peftrec.recipe import load_recipe
from peftrec.run import train

ROOT = Path(__file__).parents[1]
K = 10
METRIC = f"ndcg@{K}"
THIRDS = ("head", "torso", "tail")
# Powers of the estimates by propensity; they do not change with the power of training.
ESTIMATES = (0.5, 1.0)
PLAIN, POPULARITY = METRIC, "popularity"

Measures = dict[str, tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]]
"""What is measured, by name: values, propensities and users of the cases it is of; the same ones for every run."""


def main(argv: Sequence[str] | None = None) -> None:
    """Train what is missing, measure, and write rows and tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", help="YAML file")
    parser.add_argument("overrides", nargs="*", metavar="a.b=c", help="as in 'peftrec train'")
    parser.add_argument("--powers", required=True, type=_numbers, help="such as 0,0.25,0.5,1")
    parser.add_argument("--seeds", type=_numbers, default=[0], help="training.seed of the runs (default: 0)")
    parser.add_argument("--name", default="propensity", help="of the files and run folders (default: propensity)")
    parser.add_argument("--output", required=True, type=Path, help="folder of the run folders")
    parser.add_argument(
        "--results", type=Path, default=ROOT / "benchmarks" / "results" / "propensity", help="folder of the files"
    )
    arguments = parser.parse_intermixed_args(argv)
    dataset = load_dataset(load_recipe(arguments.recipe, arguments.overrides).data)
    found: dict[float, list[Measures]] = {}
    # First seeds first, so that a stopped script has something of every power.
    for seed in map(int, arguments.seeds):
        for power in arguments.powers:
            folder = arguments.output / f"{arguments.name}_{power:g}_seed_{seed}"
            own = [f"debias.propensity.power={power}", f"training.seed={seed}", f"output_dir={folder}"]
            recipe = load_recipe(arguments.recipe, [*arguments.overrides, *own])
            if not folder.is_dir():
                print(f"training {folder}", file=sys.stderr)
                train(recipe, dataset=dataset, overwrite=True)
            found.setdefault(power, []).append(measures(folder, dataset))
    arguments.results.mkdir(parents=True, exist_ok=True)
    results = {
        "recipe": arguments.recipe,
        "overrides": [override for override in arguments.overrides if not override.startswith("data.root=")],
        "k": K,
        "seeds": [int(seed) for seed in arguments.seeds],
        "cases": describe_cases(next(iter(found.values()))[0]),
        "powers": summarise(found),
    }
    path = arguments.results / f"{arguments.name}.json"
    path.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text(table(results) + "\n", encoding="utf-8")


def measures(folder: Path, dataset: Dataset) -> Measures:
    """Measure a run: accuracy plain, by propensity, and on each third of the targets; how popular its lists are.

    Args:
        folder: of the run.
        dataset: with its split.
    """
    counts = dataset.item_counts()
    evaluation, items = evaluated_lists(folder, dataset, K)
    values_C, users_C, alike_C = evaluation.per_user[METRIC], evaluation.users, np.ones(evaluation.num_cases)
    result: Measures = {PLAIN: (values_C, alike_C, users_C)}
    for power in ESTIMATES:
        propensities_N = item_propensities(PropensityConfig(power=power), counts).values_N
        result[f"snips, power {power:g}"] = (values_C, propensities_N[evaluation.targets], users_C)
    third_C = thirds(counts)[evaluation.targets]
    for number, name in enumerate(THIRDS):
        if (third_C == number).any():
            part = third_C == number
            result[name] = (values_C[part], alike_C[part], users_C[part])
    result[POPULARITY] = (mean_popularity(items, counts), alike_C, users_C)
    return result


def thirds(item_counts_N: NDArray[np.int64]) -> NDArray[np.int64]:
    """Cut the catalogue, most popular items first, where a third and two thirds of the training events are reached.

    Args:
        item_counts_N: training events of every item, not all 0.
    Returns:
        0 for the head, 1 for the torso, 2 for the tail and for items without events, shape (N,).
    """
    order = np.argsort(-item_counts_N, kind="stable")
    before = np.cumsum(item_counts_N[order]) - item_counts_N[order]
    result = np.empty(len(order), dtype=np.int64)
    result[order] = np.minimum(len(THIRDS) * before // item_counts_N.sum(), len(THIRDS) - 1)
    return result


def summarise(found: Mapping[float, Sequence[Measures]]) -> list[dict[str, Any]]:
    """Return, for each power, every measure by seed, its mean with an interval, and its difference from the first."""
    first = _mean_over_seeds(next(iter(found.values())))
    rows = []
    for power, runs in found.items():
        mean, row = _mean_over_seeds(runs), {}
        for name, (values, propensities, users) in mean.items():
            row[name] = {
                "seeds": [snips(*run[name]) for run in runs],
                **_estimate(values, propensities, users),
                "difference": _estimate(values - first[name][0], propensities, users),
            }
        rows.append({"power": power, "measures": row})
    return rows


def describe_cases(run: Measures) -> dict[str, dict[str, float]]:
    """Return of how many cases each measure is, and of how many effective ones."""
    return {
        name: {"cases": len(users), "effective": effective_number(case_weights(propensities, users))}
        for name, (_, propensities, users) in run.items()
    }


def table(results: Mapping[str, Any]) -> str:
    """Return the means and the differences as two tables."""
    names, rows = list(results["cases"]), results["powers"]
    head = [f"| power | {' | '.join(names)} |", "|---|" + "---|" * len(names)]
    means, differences = [*head], [*head]
    for row in rows:
        found = [row["measures"][name] for name in names]
        cells = [
            f"{_show(one['mean'], name)} ({_show(min(one['seeds']), name)} to {_show(max(one['seeds']), name)})"
            for name, one in zip(names, found, strict=True)
        ]
        means.append(f"| {row['power']:g} | {' | '.join(cells)} |")
        if row is not rows[0]:
            cells = [
                "{} [{}, {}]".format(*(_show(one["difference"][end], name, "+") for end in ("mean", "low", "high")))
                for name, one in zip(names, found, strict=True)
            ]
            differences.append(f"| {row['power']:g} | {' | '.join(cells)} |")
    return "\n".join([*means, "", *differences])


def _show(value: float, name: str, sign: str = "") -> str:
    return f"{value:{sign}.{0 if name == POPULARITY else 4}f}"


def _mean_over_seeds(runs: Sequence[Measures]) -> Measures:
    """Return the mean of the values of each case over runs, which all rank the same cases."""
    return {
        name: (np.mean([run[name][0] for run in runs], axis=0), propensities, users)
        for name, (_, propensities, users) in runs[0].items()
    }


def _estimate(
    values_C: NDArray[np.float64], propensities_C: NDArray[np.float64], users_C: NDArray[np.int64]
) -> dict[str, float]:
    low, high = snips_intervals({"": values_C}, propensities_C, users_C)[""]
    return {"mean": snips(values_C, propensities_C, users_C), "low": low, "high": high}


def _numbers(text: str) -> list[float]:
    try:
        return [float(word) for word in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not a list of numbers with commas between them") from None


if __name__ == "__main__":
    main()
