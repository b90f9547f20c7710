"""`peftrec benchmark`: the missing runs of a suite."""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peftrec.cli.verb import add_overrides, add_verb, positive

if TYPE_CHECKING:
    from peftrec.benchmark.forecast import Forecast
    from peftrec.benchmark.plan import Plan
    from peftrec.benchmark.runner import Progress
    from peftrec.benchmark.settings import Settings

_SHOWN_NAMES = 4
_DESCRIPTION = """\
Run what is missing of a suite, each run in a process of its own, and write one JSON file a run with the ranks of its
test cases beside it. Trials of a row come first; the best in validation is repeated with the other seeds. What has a
result is not run again, so that the same command goes on after a stop; Ctrl-C ends the running trainings, whose
checkpoints stay.

A run that fails, is killed or runs out of memory is recorded with its reason, and the rest goes on. Results of other
code than that at hand, or code that differs from its commit, are refused unless --allow-mixed is given.

Quality runs may share the machine: their seconds are not fit to be compared. --cost measures what is, with the machine
to itself: see the documentation of benchmarks.

examples:
  peftrec benchmark benchmarks/suites/smoke.yaml data.root=../data
  peftrec benchmark benchmarks/suites/cpu.yaml --dry-run
  peftrec benchmark benchmarks/suites/cpu.yaml --jobs 2 --only 'beauty_3000.minilm.lora*'
  peftrec report benchmarks/results/smoke
"""


def add_parser(verbs: Any) -> None:
    """Add the verb."""
    parser = add_verb(verbs, "benchmark", _run, summary="run what is missing of a suite", description=_DESCRIPTION)
    parser.add_argument("suite", metavar="SUITE", help="YAML file, such as benchmarks/suites/smoke.yaml")
    add_overrides(parser, "data.root=../data; only what says where things lie can be set")
    parser.add_argument("--results", metavar="FOLDER", help="of the JSON files (default: benchmarks/results/<suite>)")
    parser.add_argument("--output", metavar="FOLDER", help="of the run folders (default: runs/benchmark/<suite>)")
    parser.add_argument("--jobs", type=positive, default=1, metavar="N", help="runs at a time (default: 1)")
    parser.add_argument("--threads", type=positive, default=1, metavar="N", help="of each run (default: 1)")
    parser.add_argument("--only", metavar="PATTERN", help="runs whose names match, such as 'beauty_3000.*.lora.*'")
    parser.add_argument(
        "--keep",
        choices=("all", "best", "none"),
        default="best",
        help="run folders that stay when their results are written (default: best, those of the best values)",
    )
    parser.add_argument("--retry-failed", action="store_true", help="run again what did not end well")
    parser.add_argument("--allow-mixed", action="store_true", help="beside results of other code, or on a dirty tree")
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument("--dry-run", action="store_true", help="list the runs with estimates, and stop")
    chosen.add_argument("--cost", action="store_true", help="measure the costs of rows that have results, and stop")


def _run(arguments: argparse.Namespace) -> None:
    from peftrec.benchmark.plan import make_plan
    from peftrec.benchmark.runner import run_suite
    from peftrec.benchmark.settings import Settings

    plan = make_plan(arguments.suite)
    settings = Settings(
        results=Path(arguments.results or f"benchmarks/results/{plan.suite}"),
        output=Path(arguments.output or f"runs/benchmark/{plan.suite}"),
        jobs=arguments.jobs,
        threads=arguments.threads,
        only=arguments.only,
        keep=arguments.keep,
        retry_failed=arguments.retry_failed,
        allow_mixed=arguments.allow_mixed,
        places=tuple(arguments.overrides),
    )
    if arguments.dry_run:
        _print_plan(plan, settings)
        return
    with _stoppable():
        if arguments.cost:
            _measure(plan, settings)
        else:
            _tell(run_suite(plan, settings, _say), settings)


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """Stop at SIGTERM as at Ctrl-C, and trainings even where Ctrl-C is ignored, as behind `&` in a script.

    What is ignored here would be ignored by the trainings too; a handler is not handed on.
    """
    handlers: dict[signal.Signals, Any] = {signal.SIGTERM: signal.default_int_handler}
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        handlers[signal.SIGINT] = lambda *_: None
    before = {sign: signal.signal(sign, handler) for sign, handler in handlers.items()}
    try:
        yield
    finally:
        for sign, handler in before.items():
            signal.signal(sign, handler)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _measure(plan: Plan, settings: Settings) -> None:
    from peftrec.benchmark.suite_cost import measure_suite
    from peftrec.config import InputError

    num_measured, troubles = measure_suite(plan, settings, _say)
    print(f"the costs of {num_measured} rows were measured; results in {settings.results}")
    if troubles:
        raise InputError(f"the costs of {len(troubles)} runs were not measured, see above")


def _tell(progress: Progress, settings: Settings) -> None:
    from peftrec.config import InputError

    print(f"{len(progress.done)} runs done, {len(progress.failed)} failed; results in {settings.results}")
    troubles = {**progress.failed, **progress.refused}
    for name, reason in troubles.items():
        print(f"  {name}: {reason}")
    if progress.waiting:
        print(f"  {progress.waiting} repeats wait for trials that have no result that ended well")
    if progress.strangers:
        print(f"  {_strangers(progress.strangers)}")
    if troubles:
        raise InputError(f"{len(troubles)} runs of the suite have no result that ended well, see above")


def _strangers(names: Sequence[str]) -> str:
    """Say what lies among the results and is of no run: rows that were renamed, values that are no longer tried."""
    shown = ", ".join(names[:_SHOWN_NAMES])
    more = ", ..." if len(names) > _SHOWN_NAMES else ""
    return f"{len(names)} results are of no run of this suite, and reported all the same: {shown}{more}"


def _print_plan(plan: Plan, settings: Settings) -> None:
    """Print a row for each run, and the sum."""
    from rich import box
    from rich.table import Table

    from peftrec.benchmark.forecast import forecast
    from peftrec.cli.table import console

    found = forecast(plan, settings)
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("run", overflow="fold")
    table.add_column("state", no_wrap=True)
    for name in ("time", "memory"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("estimated from", overflow="fold")
    for run in found.runs:
        missing = run.estimate is not None
        seconds, memory = (run.estimate.seconds, run.estimate.memory_mib) if run.estimate else (None, None)
        table.add_row(
            run.name,
            run.state,
            _duration(seconds) if missing else "",
            _gibibytes(memory) if missing else "",
            run.estimate.basis if run.estimate else "",
        )
    out = console()
    out.print(table)
    out.print(f"{len(found.runs)} runs, {found.num_missing} to be made{_needs(found) if found.num_missing else ''}")
    notes = [_strangers(found.strangers)] if found.strangers else []
    for reason in (*found.troubles, *notes):
        out.print(reason, soft_wrap=True, markup=False, highlight=False)


def _needs(found: Forecast) -> str:
    """Say what the runs that are to be made take together, as far as anything tells."""
    if found.seconds is None:
        time = ", in a time that nothing tells"
    else:
        unknown = f", and {found.num_unknown} runs whose time nothing tells" if found.num_unknown else ""
        time = f": {_duration(found.seconds)} with one run at a time{unknown}"
    memory = "" if found.memory_mib is None else f"; at most {_gibibytes(found.memory_mib)} each"
    return f"{time}{memory}"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "unknown"
    minutes = round(seconds / 60)
    return f"{seconds:.0f} s" if seconds < 100 else f"{minutes} min" if minutes < 100 else f"{seconds / 3600:.1f} h"


def _gibibytes(mib: float | None) -> str:
    return "unknown" if mib is None else f"{mib / 1024:.1f} GiB"
