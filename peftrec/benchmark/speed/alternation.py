"""Several things timed in turns, A B C A B C, so that what the machine does meanwhile touches all of them alike."""

from __future__ import annotations

import dataclasses
import gc
import statistics
from collections.abc import Callable, Mapping
from typing import Any

from peftrec.benchmark.speed.machine import BUSY, GemmPeak, OtherWork

# The number of a round to the seconds of what was timed in it.
Runner = Callable[[int], float]


@dataclasses.dataclass(frozen=True)
class Spread:
    """Figures of several rounds.

    Args:
        values: one a round.
    """

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle one, or the mean of the middle two."""
        return statistics.median(self.values)

    def plain(self) -> dict[str, Any]:
        """Return min, median, max and all values, for JSON."""
        return {"min": min(self.values), "median": self.median, "max": max(self.values), "values": list(self.values)}

    def per(self, others: Spread) -> Spread:
        """Return the ratios value / other value, round by round: both were measured side by side."""
        return Spread(tuple(a / b for a, b in zip(self.values, others.values, strict=True)))


@dataclasses.dataclass(frozen=True)
class Alternation:
    """What taking turns came to.

    Args:
        seconds: by runner.
        gemm_flops: peak of a matrix product in FLOP/s, measured once a round.
        other_work: the largest share of the machine that others took in a round, where that can be known.
        num_repeated: rounds that were run again, as others took too much.
    """

    seconds: dict[str, Spread]
    gemm_flops: Spread
    other_work: float | None
    num_repeated: int = 0

    def speedup(self, ours: str, other: str) -> Spread:
        """Return how many times the other's seconds are ours, round by round."""
        return self.seconds[other].per(self.seconds[ours])

    def plain(self) -> dict[str, Any]:
        """Return what belongs to the machine, for JSON."""
        return {
            "gemm_gflops": Spread(tuple(v / 1e9 for v in self.gemm_flops.values)).plain(),
            "other_work": self.other_work,
            "repeated_rounds": self.num_repeated,
        }


def alternate(
    runners: Mapping[str, Runner],
    rounds: int,
    *,
    warm_up: Mapping[str, Runner] | None = None,
    gemm_size: int = 2048,
    say: Callable[[str], None] | None = None,
) -> Alternation:
    """Run everything once to warm up, then all in turns.

    A round in which other processes took more than `BUSY` of the machine is run again, at most `rounds` times in all.
    Garbage is collected before each and not during it. In odd rounds the order is turned round.

    Args:
        runners: each returns the seconds that it has measured itself.
        rounds: at least 1.
        warm_up: run instead of the runner of the same name in the round that is not counted; less work will do.
        gemm_size: side of the matrices of the peak.
        say: is handed a line for every round.
    """
    peak = GemmPeak(gemm_size)
    for name, runner in runners.items():
        (runner if warm_up is None else warm_up.get(name, runner))(0)
    seconds: dict[str, list[float]] = {name: [] for name in runners}
    flops: list[float] = []
    shares: list[float] = []
    repeated = 0
    while len(flops) < rounds:
        number, measured = len(flops), dict[str, float]()
        names = list(runners) if number % 2 == 0 else list(runners)[::-1]
        with OtherWork() as others:
            for name in names:
                gc.collect()
                gc.disable()
                try:
                    measured[name] = runners[name](number)
                finally:
                    gc.enable()
            reached = peak.measure()
        again = others.share is not None and others.share > BUSY and repeated < rounds
        if say is not None:
            told = ", ".join(f"{name} {measured[name]:.4g}" for name in runners)
            say(f"  {told} s{'; others computed too: once more' if again else ''}")
        if again:
            repeated += 1
            continue
        for name in runners:
            seconds[name].append(measured[name])
        flops.append(reached)
        shares += [] if others.share is None else [others.share]
    return Alternation(
        {name: Spread(tuple(found)) for name, found in seconds.items()},
        Spread(tuple(flops)),
        max(shares, default=None),
        repeated,
    )
