"""Compute on the same random lists what RecTools and peftrec define alike, and print the largest difference of each.

    python benchmarks/rectools_agreement.py [--seed 0] [--users 300] [--json FILE]

RecTools is installed into an environment of its own in a temporary folder, which is removed afterwards: it wants other
versions of what peftrec stands on. The exit code is 0 where all differences are below 1e-12, 1 where one is not, and 3
where RecTools cannot be installed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import venv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

REQUIREMENT = "rectools==0.19.0"
TOLERANCE = 1e-12
KS = (1, 5, 10)
NUM_ITEMS, NUM_TRAINED, NUM_PLACES, NUM_FEATURES = 120, 200, 10, 8
CANNOT_INSTALL = 3

Values = dict[str, NDArray[np.float64]]


def main(argv: Sequence[str] | None = None) -> int:
    """Compare, print a row a metric, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0, help="of lists, events and vectors (default: 0)")
    parser.add_argument("--users", type=int, default=300, help="how many lists (default: 300)")
    parser.add_argument("--json", type=Path, help="file for the differences")
    parser.add_argument("--theirs", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.theirs:
        _store_theirs(arguments.theirs)
        return 0
    with tempfile.TemporaryDirectory(prefix="rectools-") as name:
        folder = Path(name)
        data = make_data(arguments.seed, arguments.users)
        np.savez(folder / "data.npz", **data)
        python = _install(folder / "environment")
        if python is None:
            return CANNOT_INSTALL
        subprocess.run([python, __file__, "--theirs", folder], check=True)
        with np.load(folder / "theirs.npz") as stored:
            theirs = {key: stored[key] for key in stored.files}
    rows = compare(ours(data), theirs)
    print(f"{REQUIREMENT}, {arguments.users} lists, seed {arguments.seed}\n")
    print("| metric | RecTools | peftrec | largest difference of a user |\n|---|---|---|---|")
    for row in rows:
        print(f"| {row['metric']} | {row['theirs']:.6f} | {row['ours']:.6f} | {row['difference']:.1e} |")
    if arguments.json:
        arguments.json.write_text(json.dumps({"requirement": REQUIREMENT, "rows": rows}, indent=2) + "\n")
    return int(any(row["difference"] > TOLERANCE for row in rows))


def make_data(seed: int, num_users: int) -> dict[str, NDArray[np.int64] | NDArray[np.float64]]:
    """Draw lists, what their users took, events of training and vectors.

    Every tenth list is short. Some items were never trained on, and some events are there twice.
    """
    generator = np.random.default_rng(seed)
    lists = np.stack([generator.permutation(NUM_ITEMS)[:NUM_PLACES] for _ in range(num_users)])
    lists[::10, 6:] = -1
    targets = np.full((num_users, 7), -1)
    for user in range(num_users):
        number = generator.integers(1, 8)
        # Half of what is taken is drawn from the list, so that there are hits at every cutoff.
        taken = [*generator.permutation(lists[user, :6])[: number // 2], *generator.permutation(NUM_ITEMS)]
        targets[user, :number] = list(dict.fromkeys(int(item) for item in taken))[:number]
    popularity = np.where(np.arange(NUM_ITEMS) % 12 == 0, 0.0, 1.0 / np.arange(1, NUM_ITEMS + 1))
    events = generator.choice(NUM_ITEMS, size=2000, p=popularity / popularity.sum())
    return {
        "lists": lists,
        "targets": targets,
        "event_users": generator.integers(0, NUM_TRAINED, len(events)),
        "event_items": events,
        "vectors": generator.standard_normal((NUM_ITEMS, NUM_FEATURES)),
    }


def ours(data: dict[str, NDArray[np.int64] | NDArray[np.float64]]) -> Values:
    """Compute the metrics of peftrec."""
    from peftrec.metrics import MISS, RANK_METRICS, ListFacts, list_metrics, mean_popularity

    lists, targets = data["lists"], data["targets"]
    matches = lists[:, None, :] == targets[:, :, None]
    ranks = np.where(matches.any(axis=2), matches.argmax(axis=2) + 1, MISS)
    ranks = np.where(targets < 0, 0, ranks)
    pairs = np.unique(np.stack([data["event_users"], data["event_items"]]), axis=1)
    of_users = np.bincount(pairs[1], minlength=NUM_ITEMS)
    of_events = np.bincount(data["event_items"], minlength=NUM_ITEMS)
    facts = ListFacts(num_items=NUM_ITEMS, counts=of_events, vectors=data["vectors"], targets=targets)
    per_user, overall = list_metrics(lists, facts, KS, names=("serendipity", "diversity", "coverage"))
    # The novelty of RecTools counts users, its serendipity counts events.
    counted = len(np.unique(pairs[0]))
    by_users = ListFacts(num_items=NUM_ITEMS, counts=of_users, counted=counted)
    per_user |= list_metrics(lists, by_users, KS, names=("novelty",))[0]
    found = {f"{name}@{k}": metric(ranks, k) for name, metric in RANK_METRICS.items() for k in KS}
    found |= {f"popularity@{k}": mean_popularity(lists[:, :k], of_events) for k in KS}
    found |= per_user | {key: np.array([value]) for key, value in overall.items()}
    return found


def _store_theirs(folder: Path) -> None:
    """Compute the metrics of RecTools; runs in its environment."""
    import pandas as pd
    from rectools import Columns
    from rectools import metrics as rectools_metrics
    from rectools.metrics.distances import PairwiseDistanceCalculator

    with np.load(folder / "data.npz") as stored:
        data = {key: stored[key] for key in stored.files}
    vectors = data["vectors"] / np.linalg.norm(data["vectors"], axis=1, keepdims=True)

    class Cosine(PairwiseDistanceCalculator):
        """1 - cosine."""

        def _get_distances_for_item_pairs(
            self, items_0: NDArray[np.int64], items_1: NDArray[np.int64]
        ) -> NDArray[np.float64]:
            products = vectors[np.asarray(items_0)] * vectors[np.asarray(items_1)]
            distances: NDArray[np.float64] = 1.0 - products.sum(axis=1)
            return distances

    users, places = np.nonzero(data["lists"] >= 0)
    lists = pd.DataFrame({Columns.User: users, Columns.Item: data["lists"][users, places], Columns.Rank: places + 1})
    owners, columns = np.nonzero(data["targets"] >= 0)
    taken = pd.DataFrame({Columns.User: owners, Columns.Item: data["targets"][owners, columns]})
    # Users of training are others than those of the lists; RecTools reads no more of them than how many had an item.
    before = pd.DataFrame({Columns.User: data["event_users"], Columns.Item: data["event_items"]})
    catalogue = np.arange(NUM_ITEMS)
    found: Values = {}
    for k in KS:
        per_user = {
            "hr": rectools_metrics.HitRate(k).calc_per_user(lists, taken),
            "recall": rectools_metrics.Recall(k).calc_per_user(lists, taken),
            "precision": rectools_metrics.Precision(k).calc_per_user(lists, taken),
            "mrr": rectools_metrics.MRR(k).calc_per_user(lists, taken),
            "map": rectools_metrics.MAP(k).calc_per_user(lists, taken),
            "ndcg": rectools_metrics.NDCG(k, divide_by_achievable=True).calc_per_user(lists, taken),
            "novelty": rectools_metrics.MeanInvUserFreq(k).calc_per_user(lists, before),
            "popularity": rectools_metrics.AvgRecPopularity(k).calc_per_user(lists, before),
            "serendipity": rectools_metrics.Serendipity(k).calc_per_user(lists, taken, before, catalogue),
            "diversity": rectools_metrics.IntraListDiversity(k, Cosine()).calc_per_user(lists),
        }
        found |= {f"{name}@{k}": values.sort_index().to_numpy(dtype=np.float64) for name, values in per_user.items()}
        coverage = rectools_metrics.CatalogCoverage(k, normalize=True).calc(lists, catalogue)
        found[f"coverage@{k}"] = np.array([float(coverage)])
    np.savez(folder / "theirs.npz", **found)


def compare(ours: Values, theirs: Values) -> list[dict[str, float | str]]:
    """Return means and the largest difference of each metric.

    Both must have the same metrics of the same users. Where ours is not defined (diversity of one item), theirs must
    be 0.
    """
    if set(ours) != set(theirs):
        raise ValueError(f"only one of both has {', '.join(sorted(set(ours) ^ set(theirs)))}")
    rows: list[dict[str, float | str]] = []
    for key, values in ours.items():
        difference = np.abs(np.nan_to_num(values, nan=0.0) - theirs[key]).max()
        means = {"theirs": float(theirs[key].mean()), "ours": float(np.nan_to_num(values, nan=0.0).mean())}
        rows.append({"metric": key, **means, "difference": float(difference)})
    return rows


def _install(folder: Path) -> Path | None:
    """Make an environment with RecTools and return its Python; None where it cannot be installed."""
    venv.create(folder, with_pip=True)
    python = folder / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", REQUIREMENT]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"{REQUIREMENT} cannot be installed: {done.stderr.strip()[-300:]}", file=sys.stderr)
        return None
    return python


if __name__ == "__main__":
    sys.exit(main())
