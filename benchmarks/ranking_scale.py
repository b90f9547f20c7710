"""How long ranking and lists over a large catalogue take, and how much memory.

    python benchmarks/ranking_scale.py                                       # 1,000,000 items x 64 x 10,000 users
    python benchmarks/ranking_scale.py --items 12101 --users 22363 --dim 384

Vectors are drawn at random; an item vector in ten is a copy of another, so that there are ties. Evaluation ranks one
target a user among all items outside a history of 20; lists are the ten best of them. Each runs in a process of its
own, so that its peak memory is its own. One line of JSON each; the share is of the peak of a matrix product measured in
the same process.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import resource
import subprocess
import sys
import time
from typing import Any

HISTORY, K, BATCH_USERS = 20, 10, 512
PARTS = ("evaluation", "lists")


def main() -> None:
    """Measure every part in a process of its own, or one in this."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--users", type=int, default=10_000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--part", choices=PARTS, help="measure this one, in this process")
    arguments = parser.parse_args()
    if arguments.part is not None:
        print(json.dumps(measure(arguments.part, arguments.items, arguments.users, arguments.dim)), flush=True)
        return
    for part in PARTS:
        subprocess.run([sys.executable, __file__, *sys.argv[1:], "--part", part], check=True)


def measure(part: str, num_items: int, num_users: int, dim: int) -> dict[str, Any]:
    """Time one part."""
    import numpy as np
    import torch

    from peftrec.data import Cases, Sequences
    from peftrec.evaluation import evaluate_cases
    from peftrec.evaluation.product import Excluded
    from peftrec.retrieval import top_products

    random = np.random.default_rng(0)
    torch.manual_seed(0)
    vectors = torch.randn(num_items, dim)
    vectors[-(num_items // 10) :] = vectors[: num_items // 10]
    events = random.integers(0, num_items, num_users * (HISTORY + 1))
    offsets = np.arange(num_users + 1, dtype=np.int64) * (HISTORY + 1)
    sequences = Sequences(user_ids=tuple(f"u{user}" for user in range(num_users)), offsets=offsets, items=events)
    cases = Cases(np.arange(num_users), np.full(num_users, HISTORY), events[HISTORY :: HISTORY + 1])
    scores = _RecentItems(vectors, torch.zeros(num_items))
    peak = _gemm_flops(torch)
    before_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    start = time.perf_counter()
    if part == "evaluation":
        evaluate_cases(scores, cases, sequences, num_items, ks=(K,), batch_users=BATCH_USERS, of_users=True)
    else:
        for first in range(0, num_users, BATCH_USERS):
            histories = cases.histories(sequences, first, first + BATCH_USERS)
            users = scores.user_vectors(histories)
            top_products(users, vectors, scores.bias_N, K, excluded=Excluded.of(histories))
    seconds = time.perf_counter() - start
    return {
        "part": part,
        "items": num_items,
        "users": num_users,
        "dim": dim,
        "seconds": round(seconds, 2),
        "gemm_gflops": round(peak / 1e9),
        "gemm_share": round(2 * num_items * num_users * dim / seconds / peak, 3),
        "peak_memory_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10),
        "before_mib": round(before_mib),
    }


@dataclasses.dataclass
class _RecentItems:
    """user = sum of the items of the history."""

    vectors_ND: Any
    bias_N: Any
    max_history: int = HISTORY

    def user_vectors(self, histories: Any, *_: Any) -> Any:
        return self.vectors_ND[histories].sum(1)


def _gemm_flops(torch: Any) -> float:
    """Floating-point operations a second of a large product of matrices, the best of five."""
    one, other = torch.randn(2048, 2048), torch.randn(2048, 2048)
    out = torch.empty(2048, 2048)
    best = float("inf")
    for _ in range(6):
        start = time.perf_counter()
        torch.mm(one, other, out=out)
        best = min(best, time.perf_counter() - start)
    return 2 * 2048**3 / best


if __name__ == "__main__":
    main()
