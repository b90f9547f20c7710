"""What a penalty on popularity, or on gaps between groups, costs in accuracy: one recipe trained at several weights.

    python benchmarks/debias_curve.py RECIPE popularity --weights 0,0.1,0.3,1 --output runs/debias
    python benchmarks/debias_curve.py RECIPE groups debias.groups.column=category --weights 0,1,3 --output runs/debias

Weight 0 trains without the penalty. Each run lies in its own folder below OUTPUT and is not trained again if it is
there. Written are `<penalty>.json` (a row a run), `<penalty>.md` (a table, means over seeds) and `<penalty>.svg` (the
curve). Lists have ten items, the user's history is left out.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from peftrec.benchmark.run_lists import evaluated_lists
from peftrec.build import item_groups
from peftrec.data import Dataset, load_dataset
from peftrec.losses.debias import group_parts
from peftrec.metrics.list_exposure import exposure_gap, group_shares, mean_popularity
from peftrec.recipe import Recipe, load_recipe
from peftrec.run import train

K = 10
AXES = {"popularity": "mean training events of the items in lists", "groups": "exposure gap of lists"}


def main(argv: Sequence[str] | None = None) -> None:
    """Train, measure, and write the curve."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", help="YAML file")
    parser.add_argument("penalty", choices=tuple(AXES))
    parser.add_argument("overrides", nargs="*", metavar="a.b=c", help="as in 'peftrec train'")
    parser.add_argument("--weights", required=True, type=_numbers, help="such as 0,0.1,0.3")
    parser.add_argument("--seeds", type=_numbers, default=[0], help="training.seed of the runs (default: 0)")
    parser.add_argument("--output", required=True, type=Path, help="folder")
    arguments = parser.parse_intermixed_args(argv)
    # The groups are the same at every weight, at 0 too.
    measured = load_recipe(arguments.recipe, [*arguments.overrides, f"debias.{arguments.penalty}.weight=1"])
    dataset = load_dataset(measured.data)
    rows = []
    for weight in arguments.weights:
        for seed in arguments.seeds:
            folder = arguments.output / f"{arguments.penalty}_{weight:g}_seed_{seed:g}"
            recipe = _recipe(arguments, weight, int(seed), folder)
            if not folder.is_dir():
                print(f"training {folder}", file=sys.stderr)
                train(recipe, dataset=dataset)
            rows.append({"weight": weight, "seed": int(seed), **measure(folder, measured, dataset)})
            print(json.dumps(rows[-1]), file=sys.stderr)
    write(arguments.output, arguments.penalty, rows)


def measure(folder: Path, recipe: Recipe, dataset: Dataset) -> dict[str, float]:
    """Return accuracy and bias of a run's lists on the test cases.

    Args:
        folder: of the run.
        recipe: has the section that says what groups there are, if any.
        dataset: with its split.
    """
    counts = dataset.item_counts()
    evaluation, items = evaluated_lists(folder, dataset, K)
    row = {**evaluation.summary(), "popularity": float(mean_popularity(items, counts).mean())}
    groups = item_groups(recipe, dataset)
    if recipe.debias is not None and recipe.debias.groups is not None and groups is not None:
        parts = group_parts(recipe.debias.groups, groups, counts)
        row["groups"] = exposure_gap(group_shares(items, groups.group_N, len(groups.names)), parts)
    return row


def write(folder: Path, penalty: str, rows: Sequence[dict[str, float]]) -> None:
    """Write rows, table and curve."""
    text = json.dumps({"penalty": penalty, "k": K, "rows": list(rows)}, indent=2)
    (folder / f"{penalty}.json").write_text(text + "\n", encoding="utf-8")
    weights = sorted({row["weight"] for row in rows})
    names = [name for name in rows[0] if name not in ("weight", "seed")]
    means = {
        weight: {name: float(np.mean([row[name] for row in rows if row["weight"] == weight])) for name in names}
        for weight in weights
    }
    lines = [f"| weight | {' | '.join(names)} |", "|---|" + "---|" * len(names)]
    lines += [f"| {weight:g} | {' | '.join(f'{row[name]:.4g}' for name in names)} |" for weight, row in means.items()]
    (folder / f"{penalty}.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    points = [(weight, row[penalty], row[f"ndcg@{K}"]) for weight, row in means.items()]
    (folder / f"{penalty}.svg").write_text(_svg(points, AXES[penalty], f"NDCG@{K}"), encoding="utf-8")


def _recipe(arguments: argparse.Namespace, weight: float, seed: int, folder: Path) -> Recipe:
    """Return the recipe with the penalty at a weight; without it, but with all else of the section, at 0."""
    own = [f"training.seed={seed}", f"output_dir={folder}", f"debias.{arguments.penalty}.weight={weight or 1}"]
    recipe = load_recipe(arguments.recipe, [*arguments.overrides, *own])
    if weight > 0:
        return recipe
    others = {"propensity", *AXES} - {arguments.penalty}
    if all(getattr(recipe.debias, name) is None for name in others):
        return dataclasses.replace(recipe, debias=None)
    assert recipe.debias is not None
    return dataclasses.replace(recipe, debias=dataclasses.replace(recipe.debias, **{arguments.penalty: None}))


def _svg(points: Sequence[tuple[float, float, float]], horizontal: str, vertical: str) -> str:
    """Draw (weight, x, y) as a line through labelled points."""
    width, height, edge = 640, 420, 70
    spans = [(min(values), max(values) - min(values) or 1.0) for values in list(zip(*points, strict=True))[1:]]

    def place(x: float, y: float) -> tuple[float, float]:
        (left, wide), (low, tall) = spans
        return (
            edge + (width - 2 * edge) * (x - left) / wide,
            height - edge - (height - 2 * edge) * (y - low) / tall,
        )

    spots = [(weight, *place(x, y)) for weight, x, y in points]
    path = " ".join(f"{x:.1f},{y:.1f}" for _, x, y in spots)
    marks = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4"/><text x="{x + 7:.1f}" y="{y - 7:.1f}">{weight:g}</text>'
        for weight, x, y in spots
    )
    (left, wide), (low, tall) = spans
    labels = [
        (edge, height - edge + 20, "middle", f"{left:.4g}"),
        (width - edge, height - edge + 20, "middle", f"{left + wide:.4g}"),
        (width / 2, height - edge + 40, "middle", f"{horizontal} (labels: weight of the penalty)"),
        (edge - 8, height - edge, "end", f"{low:.4g}"),
        (edge - 8, edge, "end", f"{low + tall:.4g}"),
        (edge - 8, edge - 20, "middle", vertical),
    ]
    texts = "".join(f'<text x="{x}" y="{y}" text-anchor="{anchor}">{text}</text>' for x, y, anchor, text in labels)
    axes = f'<path d="M{edge},{edge} V{height - edge} H{width - edge}" fill="none" stroke="black"/>'
    line = f'<polyline points="{path}" fill="none" stroke="steelblue" stroke-width="2"/>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" '
        f'font-size="12"><rect width="100%" height="100%" fill="white"/>{axes}{line}{marks}{texts}</svg>\n'
    )


def _numbers(text: str) -> list[float]:
    try:
        return [float(word) for word in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not a list of numbers with commas between them") from None


if __name__ == "__main__":
    main()
