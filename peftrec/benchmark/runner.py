"""`run_suite`: the missing runs of a suite, each in a process of its own, recorded as they end."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence

import polars as pl

from peftrec.benchmark.child import Ended, peftrec_command, run_child
from peftrec.benchmark.claim import claim_fault, is_failure_of
from peftrec.benchmark.code_watch import CodeWatch
from peftrec.benchmark.plan import Plan, PlannedRun
from peftrec.benchmark.record import Origin, failed_result, result_of_folder, stored_recipe, trained_seconds
from peftrec.benchmark.result_folder import Result, ResultFolder, reached
from peftrec.benchmark.settings import Settings
from peftrec.config import InputError, RecipeError
from peftrec.publishing import MANIFEST, write_case_ranks
from peftrec.training import CHECKPOINTS

Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a suite stands.

    Args:
        done: names of runs with a result that ended well.
        failed: of those that did not, each with its reason.
        missing: of runs that have none and can be named.
        refused: of those that were not made, each with why: another process makes it, its folder or its result is that
            of another run, or files cannot be read or written; and of files among the results that are none.
        waiting: how many repeats wait for trials that have not ended, or can never be made as none ended well.
        strangers: names of results in the folder that are of no run of the suite; a report shows them all the same.
    """

    done: tuple[str, ...]
    failed: Mapping[str, str]
    missing: tuple[str, ...]
    refused: Mapping[str, str]
    waiting: int
    strangers: tuple[str, ...]


class SuiteRunner:
    """Runs what is missing of a suite.

    Args:
        plan: of the suite.
        settings: how it is run.
        say: is handed one line at a time.
    Raises:
        RecipeError: if no run of the suite is asked for.
    """

    def __init__(self, plan: Plan, settings: Settings, say: Say) -> None:
        self._plan, self._settings, self._say = plan, settings, say
        self._folder = ResultFolder(settings.results)
        self._stop = threading.Event()
        self._code = CodeWatch(settings.output / "logs", allow_mixed=settings.allow_mixed, files=plan.files)
        self._possible = {run.name: run for run in plan.possible()}
        self._faults: dict[str, str | None] = {}
        self._refused: dict[str, str] = {}
        self._retried: set[str] = set()
        self._check_wanted()

    def run(self) -> Progress:
        """Run until nothing more can be; an interruption stops the runs, whose checkpoints stay.

        Raises:
            InputError: if code, the suite or a recipe differs from its commit, or results are of other code.
        """
        trouble = self.trouble()
        if trouble is not None:
            raise InputError(trouble)
        pool = concurrent.futures.ThreadPoolExecutor(self._settings.jobs)
        running: dict[concurrent.futures.Future[None], str] = {}
        try:
            while True:
                for run in self._ready(set(running.values())):
                    if len(running) < self._settings.jobs:
                        running[pool.submit(self._make, run)] = run.name
                if not running:
                    break
                ended, _ = concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED)
                for future in ended:
                    del running[future]
                    future.result()
        finally:
            self._stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
        self._tidy()
        return self.progress()

    def progress(self) -> Progress:
        """Return where the suite stands."""
        contents = self.contents()
        metrics = {name: reached(content) for name, content in contents.items()}
        named = [run.name for run in self._plan.runs(metrics) if self._settings.wants(run.name)]
        mine = {name: contents[name] for name in named if name in contents}
        return Progress(
            done=tuple(name for name, content in mine.items() if content["status"]["state"] == "ok"),
            failed={
                name: f"{content['status']['state'].replace('_', ' ')}: {content['status'].get('reason') or ''}"
                for name, content in mine.items()
                if content["status"]["state"] != "ok"
            },
            missing=tuple(name for name in named if name not in contents and name not in self._refused),
            refused=dict(sorted({**self._refused, **self._folder.faults}.items())),
            waiting=sum(self._settings.wants(run.open_name) for run in self._plan.waiting(metrics)),
            strangers=tuple(name for name in self._folder.read() if name not in self._possible),
        )

    def contents(self) -> dict[str, Result]:
        """Return the results that count as runs of the suite which have ended."""
        found = self._folder.read()
        self._refused |= {name: told for name, told in self._folder.faults.items() if name in self._possible}
        return {name: found[name] for name, run in self._possible.items() if name in found and self._counts(run, found)}

    def _counts(self, run: PlannedRun, found: Mapping[str, Result]) -> bool:
        """Tell whether a result is that of a run; one that ended well and is not is refused."""
        content = found[run.name]
        if content["status"]["state"] != "ok":
            again = self._settings.retry_failed and run.name not in self._retried
            return not again and is_failure_of(run, content)
        if run.name not in self._faults:
            self._faults[run.name] = claim_fault(run, content, self._settings.results)
        fault = self._faults[run.name]
        if fault is not None:
            self._refused[run.name] = fault
        return fault is None

    def _check_wanted(self) -> None:
        names = [*self._possible, *(run.open_name for run in self._plan.waiting({}))]
        if not any(map(self._settings.wants, names)):
            raise RecipeError(
                f"only: {self._settings.only!r} matches no run of the suite; they are called {names[0]}, and so on: "
                f"--dry-run lists them"
            )

    def _ready(self, running: set[str]) -> list[PlannedRun]:
        """Return the runs that can begin, in the order of the plan."""
        contents = self.contents()
        runs = self._plan.runs({name: reached(content) for name, content in contents.items()})
        taken = contents.keys() | running | self._refused.keys()
        return [run for run in runs if self._settings.wants(run.name) and run.name not in taken]

    def _make(self, run: PlannedRun) -> None:
        """Make one run, unless another process does, and record it."""
        try:
            with self._folder.locked(run.name) as lock:
                if lock is None:
                    raise InputError("another process makes it")
                if run.name in self.contents():
                    return  # another process has made it meanwhile
                self._retried.add(run.name)
                self._code.check_unchanged()
                self._record(run, self._train(run, lock), lock)
        except (
            InputError,
            OSError,
            pl.exceptions.PolarsError,
        ) as error:  # a full disk, where ranks are written, is the last
            self._refused[run.name] = str(error)
            self._say(f"{run.name}: {error}")

    def _train(self, run: PlannedRun, lock: int) -> Ended:
        """Train a run, or go on with it, or take the folder that is there."""
        folder = self._settings.output / run.name
        if (folder / MANIFEST).is_file():
            stored_recipe(run, folder)
            seconds = trained_seconds(folder)
            self._say(f"{run.name}: its run folder is there")
            return Ended(state="ok", reason=None, exit_code=0, seconds=seconds)
        partial = folder.with_name(f"{folder.name}.partial")
        stopped = (partial / CHECKPOINTS).is_dir()
        self._code.begin(run.name, stopped=partial if stopped else None)
        words = [*run.words(output_dir=folder, places=self._settings.places), *(["--resume"] if stopped else [])]
        self._say(f"{run.name}: {'goes on' if stopped else 'begins'}")
        return self._child(run, peftrec_command(words, run.row.launch), lock)

    def _child(self, run: PlannedRun, command: Sequence[str], lock: int) -> Ended:
        logs = self._settings.output / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        return run_child(
            command, log=logs / f"{run.name}.log", threads=self._settings.threads, stop=self._stop, held=(lock,)
        )

    def _record(self, run: PlannedRun, trained: Ended, lock: int) -> None:
        folder = self._settings.output / run.name
        ended = trained
        if trained.state == "ok":
            data = [override for override in self._settings.places if override.startswith("data.")]
            evaluated = self._child(run, peftrec_command(["evaluate", str(folder), *data]), lock)
            if evaluated.state != "ok":
                ended = dataclasses.replace(evaluated, seconds=trained.seconds + evaluated.seconds)
        if ended.state == "interrupted":
            self._say(f"{run.name}: stopped; its checkpoint stays")
            return
        if ended.state != "ok":
            origin = Origin(threads=self._settings.threads, code=self._code.now.code, dirty=self._code.now.dirty)
            self._folder.write(failed_result(run, ended, origin, self._settings.hidden()))
            self._say(f"{run.name}: {ended.state.replace('_', ' ')}: {ended.reason}")
            return
        content = result_of_folder(run, folder, ended, self._code.origin(run.name, folder))
        cases = write_case_ranks(folder, self._folder.cases_path(run.name))
        self._folder.write(content | {"cases": cases})
        metric = content["recipe"]["training"]["metric"]
        # Test cases decide nothing, and are not looked at while somebody may still choose: the report has them.
        self._say(
            f"{run.name}: {metric} {content['valid']['metrics'][metric]:.4f} on validation, {ended.seconds:.0f} s"
        )

    def trouble(self) -> str | None:
        """Return why results that this code would add may not stand beside those that are there, if so."""
        if self._settings.allow_mixed or not self._ready(set()):
            return None
        difference = self._code.difference()
        if difference is not None:
            return (
                f"{difference} differs from its commit, which results are to name; commit it, or pass --allow-mixed, "
                f"which they then tell"
            )
        counted = self.contents()
        for name, content in self._folder.read().items():
            environment = content.get("environment")
            if name not in counted and content["status"]["state"] != "ok":
                continue  # it is made again, or has no figures that could be mixed
            if environment is not None and environment.get("code") != self._code.at_start.code:
                return (
                    f"{self._settings.results / name}.json: was made by other code (commit {environment['commit']}); "
                    f"check that commit out, move the results away, or pass --allow-mixed, which the report tells"
                )
        return None

    def _tidy(self) -> None:
        """Remove run folders that need not stay."""
        if self._settings.keep == "all":
            return
        contents = self.contents()
        metrics = {name: reached(content) for name, content in contents.items()}
        best = {
            run.name
            for row, values in self._plan.settled(metrics)
            if values is not None
            for run in (*row.trials(), *row.repeats(values))
            if run.values == values
        }
        for run, waiting in self._with_waiting(metrics):
            kept = waiting or (self._settings.keep == "best" and run.name in best)
            if not kept and metrics.get(run.name) is not None:
                shutil.rmtree(self._settings.output / run.name, ignore_errors=True)

    def _with_waiting(self, metrics: Mapping[str, float | None]) -> Iterator[tuple[PlannedRun, bool]]:
        """Yield each run that can be named, and whether its row is not settled, so that it may be the best yet."""
        settled = {row.name for row, _ in self._plan.settled(metrics)}
        for run in self._plan.runs(metrics):
            yield run, run.row.name not in settled


def run_suite(plan: Plan, settings: Settings, say: Say) -> Progress:
    """Run what is missing of a suite; arguments and errors as of `SuiteRunner`."""
    if settings.output.resolve().is_relative_to(settings.results.resolve()):
        raise RecipeError(f"output: {settings.output} lies in the folder of results, {settings.results}; name another")
    return SuiteRunner(plan, settings, say).run()
