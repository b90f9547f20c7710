"""Whole training steps of our paths and of their counterparts, in turns on the same batches."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from peftrec.benchmark.speed.alternation import Alternation, Spread, alternate
from peftrec.benchmark.speed.floor import language_model_work
from peftrec.benchmark.speed.machine import memory_bandwidth
from peftrec.benchmark.speed.padded import Kind, PaddedTraining, best_users
from peftrec.benchmark.speed.setting import PATHS, Setting, Workload, make_workload
from peftrec.benchmark.speed.step_trainer import StepTrainer
from peftrec.data import Dataset, UserBatch
from peftrec.encoders import load_backbone

# Path -> what trains in the counterparts that it is compared with.
AGAINST: dict[str, tuple[Kind, ...]] = {
    "lora_all": ("lora",),
    "lora_top2": ("lora", "full"),
    "side": ("full", "lora"),
    "full": ("full",),
    "frozen": ("full",),
}
# What trains in a counterpart -> the path whose method that is.
TRAINED: dict[Kind, str] = {"lora": "lora_all", "full": "full"}
# Quick steps are repeated for so long.
_SECONDS = 0.3
_WARM_USERS = 64


def counterparts(kind: Kind) -> dict[str, bool]:
    """Return the names of the two counterparts that train so, and whether the language model's own dropout is on."""
    return {f"padded_{kind}": False, f"padded_{kind}_dropout": True}


class OwnSteps:
    """Steps of one path, on the batch of each round; keeps the seconds of its parts.

    Args:
        trainer: runs them.
        batches: of the rounds, over and over.
    """

    def __init__(self, trainer: StepTrainer, batches: Sequence[UserBatch]) -> None:
        self.trainer, self.batches = trainer, batches
        self.repeats = 1
        self.parts: list[dict[str, float]] = []

    def warm_up(self, _: int) -> float:
        """Run two steps on some users, and find how often quick steps are repeated; return the seconds of one."""
        small = self.batches[0].rows(0, _WARM_USERS)
        self.trainer.step(small)
        seconds = self.trainer.timed_step(small)
        self.repeats = max(1, min(100, math.ceil(_SECONDS / seconds * len(small) / len(self.batches[0]))))
        return seconds

    def __call__(self, number: int) -> float:
        """Return the mean seconds of a whole step on the batch of a round."""
        batch = self.batches[number % len(self.batches)]
        seconds, parts = [], []
        for _ in range(self.repeats):
            seconds.append(self.trainer.timed_step(batch))
            parts.append(self.trainer.parts)
        self.parts.append({name: statistics.mean(part[name] for part in parts) for name in parts[0]})
        return statistics.mean(seconds)


class PathComparison:
    """Compares paths with their counterparts.

    Args:
        setting: of the run.
        dataset: whole.
        sizes: users of a micro-batch that are tried.
        sample_users: of a larger batch, a counterpart's step runs the micro-batches of so many users alone, which have
            the same shapes as all others, and their time is counted for all; None runs all.
        gemm_size: see `alternate`.
        say: is handed lines for people.
    """

    def __init__(
        self,
        setting: Setting,
        dataset: Dataset,
        *,
        sizes: Sequence[int] = (1, 2, 4, 8, 16, 32, 64),
        sample_users: int | None = 64,
        gemm_size: int = 2048,
        say: Callable[[str], None],
    ) -> None:
        self.setting, self.dataset, self.sizes, self.say = setting, dataset, sizes, say
        self.sample_users, self.gemm_size = sample_users, gemm_size
        # By the name of a counterpart: rows of the best micro-batch, which do not depend on how many follow, and
        # seconds a row; found once a run.
        self.best: dict[str, tuple[int, Mapping[int, float]]] = {}

    def measure(self, paths: Sequence[str], users: int) -> dict[str, Any]:
        """Take all paths and their counterparts in turns; return a block of results for each path.

        Args:
            paths: of `PATHS`.
            users: of a batch.
        """
        setting, rounds = self.setting, self.setting.rounds
        work = make_workload(self.dataset, setting.load(), users=users, number=rounds, seed=setting.seed)
        self.say(f"{users} users, {rounds} batches: making {', '.join(paths)}")
        ours = {path: OwnSteps(StepTrainer(setting.load(*PATHS[path]), work.dataset), work.batches) for path in paths}
        kinds = list(dict.fromkeys(kind for path in paths for kind in AGAINST[path]))
        head = next(iter(ours.values())).trainer.model
        theirs = {
            name: PaddedTraining(kind, setting.load(*PATHS[TRAINED[kind]]), work.dataset, head, dropout=dropout)
            for kind in kinds
            for name, dropout in counterparts(kind).items()
        }
        for name, training in theirs.items():
            self.find_best(name, training, work.batches[0])
        runners: dict[str, Callable[[int], float]] = dict(ours)
        warm: dict[str, Callable[[int], float]] = {path: own.warm_up for path, own in ours.items()}
        for name, training in theirs.items():
            runners[name] = self._padded(name, training, work, self.sample_users)
            warm[name] = self._padded(name, training, work, self.micro_users(name, training.width))
        self.say(f"{users} users: {rounds} rounds of {', '.join(runners)}")
        turns = alternate(runners, rounds, warm_up=warm, gemm_size=self.gemm_size, say=self.say)
        bandwidth = memory_bandwidth()
        return {path: self._block(path, own, turns, bandwidth, users) for path, own in ours.items()}

    def find_best(self, name: str, training: PaddedTraining, batch: UserBatch) -> None:
        """Find the best micro-batch of a counterpart, unless that has been done."""
        if name not in self.best:
            self.say(f"best micro-batch of {name}:")
            users, tried = best_users(training, batch, self.sizes, self.say)
            self.best[name] = (users * training.width, tried)

    def micro_users(self, name: str, width: int) -> int:
        """Return the users of a micro-batch with as many rows as are best.

        Args:
            name: of a counterpart that `find_best` has seen.
            width: rows of a user.
        """
        return max(1, self.best[name][0] // width)

    def _padded(
        self, name: str, training: PaddedTraining, work: Workload, sample: int | None
    ) -> Callable[[int], float]:
        size = self.micro_users(name, training.width)
        at_most = None if sample is None else max(1, sample // size)
        return lambda number: training.timed_step(work.batches[number % len(work.batches)], size, at_most=at_most)

    def _block(self, path: str, own: OwnSteps, turns: Alternation, bandwidth: float, users: int) -> dict[str, Any]:
        recipe, seconds = self.setting.load(*PATHS[path]), turns.seconds[path]
        rows = users * (self.setting.history + 1)
        plain = load_backbone(recipe.encoder.backbone, recipe.encoder.revision).model
        lengths = [own.trainer.tokens(own.batches[number % len(own.batches)]) for number in range(self.setting.rounds)]
        work = [language_model_work(plain, recipe.method, row) for row in lengths]
        tokens = Spread(tuple(float(sum(row)) for row in lengths))
        flops = Spread(tuple(float(one.flops) for one in work))
        head_flops, peak = own.trainer.head_flops(own.batches[0]), turns.gemm_flops.median
        floors = [one.seconds(peak, bandwidth, other_flops=head_flops) for one in work]
        positions = [int((batch.targets >= 0).sum()) for batch in own.batches]
        return {
            "users": users,
            "rows": rows,
            "positions": statistics.mean(positions),
            "items": statistics.mean(len(row) for row in lengths),
            "tokens": tokens.median,
            "padded_tokens": rows * recipe.encoder.max_tokens,
            "seconds": seconds.plain(),
            "parts": {name: statistics.median(part[name] for part in own.parts) for name in own.parts[0]},
            "tokens_per_second": tokens.per(seconds).plain(),
            "positions_per_second": statistics.mean(positions) / seconds.median,
            "gemm_share": flops.per(seconds).median / peak,
            "floor": {
                "seconds": statistics.median(floors),
                "share_of_step": statistics.median(floors) / seconds.median,
                "forward_gflop": statistics.median(one.forward_flops for one in work) / 1e9,
                "backward_gflop": statistics.median(one.backward_flops for one in work) / 1e9,
                "head_gflop": head_flops / 1e9,
                "mib": statistics.median(one.num_bytes for one in work) / 2**20,
                "bandwidth_gib_per_second": bandwidth / 2**30,
            },
            "against": {
                name: {
                    "micro_batch_rows": self.best[name][0],
                    "seconds_a_row": self.best[name][1],
                    "seconds": turns.seconds[name].plain(),
                    "users_run": users if self.sample_users is None else min(users, self.sample_users),
                    "ratio": turns.speedup(path, name).plain(),
                }
                for kind in AGAINST[path]
                for name in counterparts(kind)
            },
            "machine": turns.plain(),
        }
