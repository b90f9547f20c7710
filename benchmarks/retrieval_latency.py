"""How long one list takes, and one change of an item, in a process that does nothing else.

    python benchmarks/retrieval_latency.py                                   # all settings, one process each
    python benchmarks/retrieval_latency.py --setting exact_20k --queries 200

Items are drawn with seed 0: clusters of 50 around centres that are drawn from a wider cluster of 40, since neighbours
of real items are near, and a graph over directions drawn evenly finds less than over those (`hnsw_1m_even` measures
that).
A vector file of a run (`--vectors FILE.npy`) takes their place, repeated with a little noise where more are asked for.
Users are histories of 1 to 50 items, newest from one cluster, read by a transformer with random weights; their vectors
are then those of a user encoder, near the items of the history. No list is asked for twice. One line of JSON a setting;
milliseconds are of `Recommender.recommend` and the like, called one after another, first calls left out.
"""

from __future__ import annotations

import argparse
import functools
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

SEED, K = 0, 10
SETTINGS: dict[str, dict[str, Any]] = {
    "exact_20k": {"items": 20_000, "dim": 384, "index": {"kind": "exact"}},
    "exact_1m": {"items": 1_000_000, "dim": 64, "index": {"kind": "exact"}},
    "hnsw_1m": {"items": 1_000_000, "dim": 64, "index": {"kind": "hnsw"}},
    "hnsw_1m_even": {"items": 1_000_000, "dim": 64, "index": {"kind": "hnsw"}, "even": True},
}
FILTERS: dict[str, dict[str, Any]] = {
    "half": {"fields": {"price": {"le": 50}}},
    "tenth": {"fields": {"category": "c3"}},
    "hundredth": {"fields": {"category": "c3", "price": {"le": 10}}},
}


def main() -> None:
    """Measure every setting in a process of its own, or one in this."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--setting", choices=SETTINGS, help="measure this one, in this process")
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--items", type=int, help="in place of the setting's own number")
    parser.add_argument("--vectors", help="a .npy file with one item vector a row")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    if arguments.setting is not None:
        print(json.dumps(measure(arguments)), flush=True)
        return
    for setting in SETTINGS:
        subprocess.run([sys.executable, __file__, *sys.argv[1:], "--setting", setting], check=True)


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Time one setting."""
    import numpy as np
    import torch

    torch.set_num_threads(arguments.threads)
    setting = SETTINGS[arguments.setting]
    num_items = arguments.items or setting["items"]
    vectors = item_vectors(num_items, setting["dim"], even=setting.get("even", False), file=arguments.vectors)
    began = time.perf_counter()
    recommender = make_recommender(vectors, setting["index"])
    built = time.perf_counter() - began
    random = np.random.default_rng(SEED)
    histories = [draw_history(random, num_items) for _ in range(arguments.queries)]

    def recommend(history: list[str], wanted: dict[str, Any] | None = None) -> object:
        return recommender.recommend(history, K, filter=wanted)

    times = {"recommend": timed(recommend, histories)}
    for name, wanted in FILTERS.items():
        times[f"filter_{name}"] = timed(functools.partial(recommend, wanted=wanted), histories)
    times["similar"] = timed(lambda history: recommender.similar(history[-1], K), histories[: arguments.queries // 4])
    prices = random.integers(0, 100, 200).tolist()
    times["update_price"] = timed(lambda price: recommender.update_items(["7"], fields=[{"price": price}]), prices)
    gone = [str(item) for item in random.choice(num_items, 100, replace=False).tolist() if item != 7]
    times["remove"] = timed(lambda item: recommender.remove_items([item]), gone)
    times["recommend_after_removals"] = timed(recommend, histories)
    return {
        "setting": arguments.setting,
        "items": num_items,
        "dim": vectors.shape[1],
        "threads": arguments.threads,
        "build_seconds": round(built, 2),
        "index": recommender.describe_index(K, histories[:200]),
        "milliseconds": times,
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def timed(call: Callable[[Any], object], given: list[Any]) -> dict[str, float]:
    """Return quantiles of the milliseconds that calls take; a tenth of them come first and are not counted."""
    import numpy as np

    for one in given[: max(1, len(given) // 10)]:
        call(one)
    taken = []
    for one in given[max(1, len(given) // 10) :]:
        began = time.perf_counter()
        call(one)
        taken.append(1000 * (time.perf_counter() - began))
    return {name: round(float(np.quantile(taken, share)), 3) for name, share in (("p50", 0.5), ("p99", 0.99))}


def item_vectors(num_items: int, dim: int, *, even: bool, file: str | None) -> Any:
    """Draw item vectors of unit length, or repeat those of a file."""
    import numpy as np
    import torch

    generator = torch.Generator().manual_seed(SEED)
    if file is not None:
        own = torch.from_numpy(np.load(file)).float()
        rows = torch.arange(num_items) % len(own)
        noise = torch.randn(num_items, own.shape[1], generator=generator) * own.std() * 0.05
        return torch.nn.functional.normalize(own[rows] + noise * (torch.arange(num_items) >= len(own))[:, None], dim=1)
    if even:
        return torch.nn.functional.normalize(torch.randn(num_items, dim, generator=generator), dim=1)

    def around(centres: torch.Tensor, each: int, spread: float) -> torch.Tensor:
        points = centres.repeat_interleave(each, dim=0)
        return points + spread * torch.randn(points.shape, generator=generator) / dim**0.5

    wide = torch.nn.functional.normalize(torch.randn(-(-num_items // 2000), dim, generator=generator), dim=1)
    points = around(around(wide, 40, 0.7), 50, 0.5)[:num_items]
    return torch.nn.functional.normalize(points, dim=1)


def draw_history(random: Any, num_items: int) -> list[str]:
    """Draw a history: anything at first, the newest five of one cluster."""
    length = int(random.integers(1, 51))
    centre = int(random.integers(0, num_items))
    newest = (centre // 50 * 50 + random.integers(0, 50, min(5, length))) % num_items
    items = [*random.integers(0, num_items, length - len(newest)).tolist(), *newest.tolist()]
    return [str(item) for item in items]


def make_recommender(vectors: Any, index: dict[str, Any]) -> Any:
    """Make a recommender over these vectors, as if they had been trained."""
    from pathlib import Path

    import torch

    from peftrec.build import build_model
    from peftrec.config import parse_section
    from peftrec.data import Catalogue
    from peftrec.publishing import Run
    from peftrec.recipe import Recipe
    from peftrec.recommender import Recommender

    num_items, dim = vectors.shape
    recipe = parse_section(
        Recipe,
        {
            "data": {"kind": "tables", "interactions": "none.csv", "items": "none.csv"},
            "encoder": {"inputs": "ids", "embedding_dim": dim},
            "user": {"kind": "transformer", "max_history": 50},
            "retrieval": {"index": index},
        },
    )
    torch.manual_seed(SEED)
    # The user encoder reads vectors alone: it needs no table of a million ids.
    model = build_model(recipe, ["item"] * 8, torch.ones(8, dtype=torch.bool)).eval()
    ids = tuple(map(str, range(num_items)))
    fields: dict[str, Any] = {
        "category": tuple(f"c{item // 50 % 10}" for item in range(num_items)),
        "price": tuple(float(item * 7919 % 100) for item in range(num_items)),
    }
    catalogue = Catalogue(ids, ids, ids, fields)
    counts, bias = torch.ones(num_items), torch.zeros(num_items)
    run = Run(Path(), recipe, catalogue, counts, model, None, vectors, bias)
    return Recommender(run)


if __name__ == "__main__":
    main()
