"""`compare(first, *others)`: runs tested against each other on the same users."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from peftrec.config import InputError
from peftrec.evaluation import PairedTest, arm_test, holm
from peftrec.measuring import SPLITS
from peftrec.metrics import higher_is_better
from peftrec.publishing import Arm, read_arm, read_per_user

Given = str | Path | Sequence[str | Path]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ComparedTest:
    """One line of a comparison.

    Attributes:
        other: name of the arm that the first is compared with.
        test: what was found; differences are first minus other.
        adjusted_p_value: the p-value after Holm's correction over all tests of the comparison.
    """

    other: str
    test: PairedTest
    adjusted_p_value: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """What `compare` found.

    Attributes:
        split: `valid` or `test`.
        catalogue: `full`, or which candidates the targets were ranked among.
        arms: what was compared, the first with each of the others.
        tests: metric by metric for each of the others.
    """

    split: str
    catalogue: str
    arms: tuple[Arm, ...]
    tests: tuple[ComparedTest, ...]

    def to_json(self) -> dict[str, Any]:
        """Give everything as plain JSON values, a test a flat mapping."""
        return {
            "split": self.split,
            "catalogue": self.catalogue,
            "level": self.tests[0].test.level,
            "correction": "holm",
            "num_tests": len(self.tests),
            "first": self.arms[0].name,
            "others": [arm.name for arm in self.arms[1:]],
            "arms": [
                {
                    "name": arm.name,
                    "folders": [str(folder) for folder in arm.folders],
                    "seeds": list(arm.seeds),
                    "data_sha256": arm.data_sha256,
                }
                for arm in self.arms
            ],
            "tests": [
                {
                    "first_arm": self.arms[0].name,
                    "second_arm": row.other,
                    **dataclasses.asdict(row.test),
                    "higher_is_better": higher_is_better(row.test.metric),
                    "adjusted_p_value": row.adjusted_p_value,
                }
                for row in self.tests
            ],
        }


def compare(
    first: Given, *others: Given, split: str = "test", metrics: Sequence[str] = (), level: float = 0.95
) -> Comparison:
    """Test whether runs differ on the same users, the first against each of the others.

    Args:
        first: a run folder; several runs of one recipe with other seeds, which count as one: a sequence, a text with
            commas, or a pattern such as `runs/lora_seed_*`.
        others: one or more of the same kind. Where two have the same seeds, their runs are paired by seed.
        split: `valid` or `test`.
        metrics: keys such as `ndcg@10` or `novelty@10`, of what single users have; none takes the metrics of ranks that
            all recipes ask for (`evaluation.metrics` at `evaluation.ks`), whatever else was measured since, so that the
            correction is for the same tests always. Metrics among sampled candidates (`sampled100_hr@10`) are compared
            only if they are named here, and only with each other.
        level: level of the intervals, between 0 and 1.
    Returns:
        A test for each metric and each of the others; p-values are corrected over all of them.
    Raises:
        InputError: if runs lack results of single users, share no metric, or differ in users, targets or protocol; if
            runs that count as one have no seed or differ in more than it; or if a run is named twice.
    """
    if not others:
        raise InputError("a comparison needs two runs or more")
    if split not in SPLITS:
        raise InputError(f"split: '{split}' is not one of {', '.join(SPLITS)}")
    if not 0.0 < level < 1.0:
        raise InputError(f"level: must lie between 0 and 1, such as 0.95, got {level}")
    arms = [read_arm(given) for given in (first, *others)]
    _check_distinct(arms)
    folders = [str(folder) for arm in arms for folder in arm.folders]
    found = read_per_user(folders, split, sampled=_sampled(metrics))
    chosen = list(dict.fromkeys(metrics)) or _shared(arms)
    sizes = [len(arm.folders) for arm in arms]
    ends = list(itertools.accumulate(sizes))
    rows = []
    for arm, end in zip(arms[1:], ends[1:], strict=True):
        of_other = slice(end - len(arm.folders), end)
        for metric in chosen:
            test = arm_test(
                found[: ends[0]],
                found[of_other],
                metric,
                paired_seeds=len(arm.seeds) > 1 and arm.seeds == arms[0].seeds,
                names=[*folders[: ends[0]], *folders[of_other]],
                level=level,
            )
            rows.append((arm.name, test))
    adjusted = holm([test.p_value for _, test in rows])
    tests = tuple(
        ComparedTest(other=name, test=test, adjusted_p_value=float(p))
        for (name, test), p in zip(rows, adjusted, strict=True)
    )
    return Comparison(split=split, catalogue=found[0].catalogue, arms=tuple(arms), tests=tests)


def _sampled(metrics: Sequence[str]) -> bool:
    """Return whether metrics are of sampled candidates; a table of both kinds would invite comparing them."""
    kinds = [re.match(r"sampled\d+_", metric) is not None for metric in metrics]
    if any(kinds) and not all(kinds):
        raise InputError(
            f"metrics: {', '.join(metrics)} are some over the whole catalogue, some among sampled candidates; compare "
            f"them one kind at a time"
        )
    return any(kinds)


def _shared(arms: Sequence[Arm]) -> list[str]:
    """Return the metrics of ranks that all recipes ask for, in the order of the first."""
    shared = [metric for metric in arms[0].metrics if all(metric in arm.metrics for arm in arms)]
    if not shared:
        have = "; ".join(f"{arm.name} has {', '.join(arm.metrics)}" for arm in arms)
        raise InputError(f"{have}: no metric is in all of them; train or evaluate them with the same evaluation.ks")
    return shared


def _check_distinct(arms: Sequence[Arm]) -> None:
    """Refuse a run that is compared with itself, and one comparison made twice."""
    places = [{folder.resolve() for folder in arm.folders} for arm in arms]
    for number, (arm, own) in enumerate(zip(arms[1:], places[1:], strict=True), start=1):
        common = sorted(str(place) for place in own & places[0])
        if common:
            raise InputError(
                f"{common[0]}: is on both sides, in {arms[0].name!r} and {arm.name!r}; a run is compared with others"
            )
        if own in places[1:number]:
            raise InputError(f"{arm.name}: is named twice; name each run that {arms[0].name} is compared with once")
