"""The document of quality against seconds: tables of what was measured, and the words around them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from peftrec.benchmark.speed.quality_curve import FULL, QualityRun, rounded
from peftrec.benchmark.speed.recipe_step import CONVENTIONAL

METRIC = "ndcg@10"
USUAL = "full fine-tuning, every padded position"


def document(
    suite: str,
    labels: Mapping[str, str],
    curves: Sequence[QualityRun],
    stored: Mapping[str, Any],
    steps: Mapping[str, Any],
    summary: Mapping[str, Any],
) -> str:
    """Return the document; all its figures are those of the JSON files."""
    return "\n".join(
        [
            "# Time to quality",
            "",
            _introduction(suite, stored, steps, summary),
            "",
            f"![Validation NDCG@10 against seconds of training](plots/{suite}.svg)",
            "",
            *_targets(labels, steps, summary),
            *_own(labels, summary),
            "## All runs",
            "",
            *_all_runs(labels, curves, stored),
        ]
    )


def _introduction(suite: str, stored: Mapping[str, Any], steps: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    environments = [steps["environment"], *(run["environment"] for run in stored.values() if "environment" in run)]
    commits = sorted({str(environment["commit"])[:7] for environment in environments})
    machine = steps["environment"]["machine"]
    users = max((run["valid_users"] for run in stored.values() if "valid_users" in run), default=None)
    told = "" if users is None else f"Values are validation NDCG@10 of {users:,} users, one seed. "
    peak, others = steps["machine"]["gemm_gflops"]["median"], steps["machine"]["other_work"]
    disturbed = "" if others is None else f", others taking at most {others:.0%} of the machine"
    rows, tokens = steps["rows"], steps["padded_tokens"] // steps["rows"]
    return (
        f"Written by `python benchmarks/time_to_quality.py benchmarks/{suite}.yaml --output runs/{suite}` from "
        f"`benchmarks/results/{suite}/`. {told}The target is {summary['share']:.0%} of the best that full "
        f"fine-tuning or frozen text reached, whichever is more ({summary['target_of']}); of each path the run of its "
        f"grid counts that is there first, at the end of an epoch.\n\n"
        f"Runs were trained with one thread each on a machine that other work shared, so their own seconds say "
        f"nothing. Seconds here are steps times the median seconds of a step, from {len(steps['items'])} rounds in "
        f"turns on the same batches in one process: {machine['threads']} threads on {machine['cores']} cores of an "
        f"{machine['processor']}, {peak:.0f} GFLOP/s in a matrix product{disturbed}. Epochs with the language model "
        f"frozen take the step of frozen text. The curve of {USUAL}, is that of our exact full fine-tuning after as "
        f"many steps, in the seconds of the usual step: {rows:,} rows of {tokens} tokens ({steps['batch_users']} "
        f"users), in micro-batches of {steps['micro_batch_users']} users, the best size. Evaluation is left out of "
        f"all; what is computed once, before the first step, stands in a column of its own. "
        f"Commits {', '.join(commits)}."
    )


def _targets(labels: Mapping[str, str], steps: Mapping[str, Any], summary: Mapping[str, Any]) -> list[str]:
    lines = []
    titles = {"better": "the better of full fine-tuning and frozen text", FULL: "full fine-tuning alone"}
    for name, target in summary["targets"].items():
        lines += [f"## To {summary['share']:.0%} of {titles[name]}: {target:.4f}", ""]
        if summary["paths"][CONVENTIONAL]["reached"][name] is None:
            lines += ["Full fine-tuning has not reached it: ratios are against the end of its longest run.", ""]
        lines += ["| path | run | best | a step, s | epochs | seconds | usual / this | caching before, s | with it |"]
        lines += ["|---|---|---|---|---|---|---|---|---|"]
        for path, label in labels.items():
            found = summary["paths"].get(path)
            if found is not None:
                cells = _cells(path, found, name, steps)
                lines.append(f"| {label} | " + " | ".join(cells) + " |")
        lines.append("")
    return lines


def _own(labels: Mapping[str, str], summary: Mapping[str, Any]) -> list[str]:
    lines = ["## To the best of each path itself, and how long the usual way takes to be as good", ""]
    lines += ["| path | run | NDCG@10 | share of the best | epoch | seconds | epoch of the usual way | usual / this |"]
    lines += ["|---|---|---|---|---|---|---|---|"]
    best = max(found["best"] for found in summary["paths"].values())
    for path, label in labels.items():
        found = summary["paths"].get(path)
        if found is not None and "own" in found:
            own, usual = found["own"], found["own_usual_epoch"]
            ratio = f"{own['ratio']:.1f}" if "ratio" in own else f"> {own['ratio_at_least']:.1f}"
            lines.append(
                f"| {label} | `{own['run']}` | {found['best']:.4f} | {found['best'] / best:.1%} | {own['epoch']} | "
                f"{rounded(own['seconds'])} | {'not reached' if usual is None else usual} | {ratio} |"
            )
    return [*lines, ""]


def _cells(path: str, found: Mapping[str, Any], target: str, steps: Mapping[str, Any]) -> list[str]:
    reached, caching = found["reached"][target], found["caching_seconds"]
    step = rounded(steps["seconds"][path]["median"])
    once = "" if caching is None else rounded(caching)
    if reached is None:
        return [f"`{found['best_run']}`", f"{found['best']:.4f}", step, "not reached", "", "", once, ""]
    ratio = f"{reached['ratio']:.1f}" if "ratio" in reached else ""
    ratio = f"> {reached['ratio_at_least']:.1f}" if "ratio_at_least" in reached else ratio
    more = "> " if "ratio_at_least" in reached else ""
    with_caching = f"{more}{reached['ratio_with_caching']:.1f}" if "ratio_with_caching" in reached else ""
    return [
        f"`{reached['run']}`",
        f"{found['best']:.4f}",
        step,
        str(reached["epoch"]),
        rounded(reached["seconds"]),
        ratio,
        once,
        with_caching,
    ]


def _all_runs(labels: Mapping[str, str], curves: Sequence[QualityRun], stored: Mapping[str, Any]) -> list[str]:
    lines = ["| path | run | epochs, frozen first | NDCG@10 after each epoch | best epoch | its test NDCG@10 |"]
    lines += ["|---|---|---|---|---|---|"]
    for curve in curves:
        found = stored[curve.name]
        epochs = f"{len(curve.values)}, {curve.warmup_epochs}" + ("" if found["done"] else " (unfinished)")
        values = " ".join(f"{value:.4f}" for value in curve.values)
        test = f"{found['test'][METRIC]:.4f}" if "test" in found else ""
        best = curve.first_epoch(curve.best)
        lines.append(f"| {labels[curve.path]} | `{curve.name}` | {epochs} | {values} | {best} | {test} |")
    settings = [f"- `{name}`: `{run['recipe']}`, {', '.join(run['overrides'])}" for name, run in stored.items()]
    return [*lines, "", *settings, ""]
