"""`run_suite`: the missing runs of a suite, each in a process of its own, recorded as they end."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import fnmatch
import json
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

from peftrec.benchmark.child import Ended, peftrec_command, run_child
from peftrec.benchmark.code_version import code_of_commit, code_of_files, is_dirty
from peftrec.benchmark.plan import PLACES, Plan, PlannedRun
from peftrec.benchmark.record import Origin, failed_result, hidden_places, result_of_folder, stored_recipe
from peftrec.benchmark.result_folder import Result, ResultFolder, reached
from peftrec.config import InputError, RecipeError
from peftrec.publishing import MANIFEST, METRICS, PRIVATE, write_case_ranks

Keep = Literal["all", "best", "none"]
Say = Callable[[str], None]
_ENVIRONMENT: Final = "environment.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """How a suite is run.

    Args:
        results: folder of the JSON files.
        output: folder of the run folders, and of what runs said.
        jobs: runs at a time.
        threads: that each of them computes with.
        only: a pattern of names, such as `beauty.*.lora.*`; None runs all.
        keep: run folders that stay when their result is written: `best` keeps those of the best values.
        retry_failed: run again what did not end well.
        allow_mixed: whether results of other code may stand there, and code may differ from its commit.
        places: overrides that say where things lie on this machine, such as `data.root=../data`.
    """

    results: Path
    output: Path
    jobs: int = 1
    threads: int = 1
    only: str | None = None
    keep: Keep = "best"
    retry_failed: bool = False
    allow_mixed: bool = False
    places: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for override in self.places:
            key = override.partition("=")[0].strip()
            if "=" not in override or key not in PLACES:
                raise RecipeError(
                    f"override {override!r}: of a suite only {' and '.join(PLACES)} can be overridden, which say where "
                    f"things lie; what decides results stands in its file"
                )

    def wants(self, name: str) -> bool:
        """Tell whether a run is asked for."""
        return self.only is None or fnmatch.fnmatchcase(name, self.only)

    def hidden(self) -> dict[str, str]:
        """Return the paths of this machine that no result may name."""
        pairs = [override.partition("=") for override in self.places]
        return hidden_places({key.strip(): value.strip() for key, _, value in pairs})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a suite stands.

    Args:
        done: names of runs with a result that ended well.
        failed: of those that did not, each with its reason.
        missing: of runs that have none and can be named.
        refused: of those that were not made, each with why: another process makes it, or its folder holds another run.
        waiting: how many repeats wait for trials that have not ended, or can never be made as none ended well.
    """

    done: tuple[str, ...]
    failed: Mapping[str, str]
    missing: tuple[str, ...]
    refused: Mapping[str, str]
    waiting: int


class SuiteRunner:
    """Runs what is missing of a suite.

    Args:
        plan: of the suite.
        settings: how it is run.
        say: is handed one line at a time.
    """

    def __init__(self, plan: Plan, settings: Settings, say: Say) -> None:
        self._plan, self._settings, self._say = plan, settings, say
        self._folder = ResultFolder(settings.results)
        self._stop = threading.Event()
        self._code, self._dirty = code_of_files(), is_dirty()
        self._refused: dict[str, str] = {}
        self._retried: set[str] = set()

    def run(self) -> Progress:
        """Run until nothing more can be; an interruption stops the runs, whose checkpoints stay.

        Raises:
            InputError: if a result is broken or foreign, code differs, or a run folder holds another run.
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
            refused=dict(sorted(self._refused.items())),
            waiting=sum(self._settings.wants(run.name) for run in self._plan.waiting(metrics)),
        )

    def contents(self) -> dict[str, Result]:
        """Return the results that count as runs which have ended."""
        found = self._folder.read()
        again = self._settings.retry_failed
        return {
            name: content
            for name, content in found.items()
            if content["status"]["state"] == "ok" or not again or name in self._retried
        }

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
                if self._folder.has(run.name) and not self._settings.retry_failed:
                    return  # another process has made it meanwhile
                self._retried.add(run.name)
                made = not (self._settings.output / run.name / MANIFEST).is_file()
                self._record(run, self._train(run, lock), lock, made=made)
        except InputError as error:
            self._refused[run.name] = str(error)
            self._say(f"{run.name}: {error}")

    def _train(self, run: PlannedRun, lock: int) -> Ended:
        """Train a run, or go on with it, or take the folder that is there."""
        folder = self._settings.output / run.name
        if (folder / MANIFEST).is_file():
            stored_recipe(run, folder)
            training = json.loads((folder / METRICS).read_text(encoding="utf-8"))["training"]
            seconds = training["train_seconds"] + training.get("build_seconds", 0.0)
            self._say(f"{run.name}: its run folder is there")
            return Ended(state="ok", reason=None, exit_code=0, seconds=seconds)
        partial = folder.with_name(f"{folder.name}.partial")
        stopped = (partial / PRIVATE / "checkpoints").is_dir()
        words = [*run.words(output_dir=folder, places=self._settings.places), *(["--resume"] if stopped else [])]
        self._say(f"{run.name}: {'goes on' if stopped else 'begins'}")
        return self._child(run, peftrec_command(words, run.row.launch), lock)

    def _child(self, run: PlannedRun, command: Sequence[str], lock: int) -> Ended:
        logs = self._settings.output / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        return run_child(
            command, log=logs / f"{run.name}.log", threads=self._settings.threads, stop=self._stop, held=(lock,)
        )

    def _record(self, run: PlannedRun, trained: Ended, lock: int, *, made: bool) -> None:
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
            origin = Origin(threads=self._settings.threads, code=self._code, dirty=self._dirty)
            self._folder.write(failed_result(run, ended, origin, self._settings.hidden()))
            self._say(f"{run.name}: {ended.state.replace('_', ' ')}: {ended.reason}")
            return
        content = result_of_folder(run, folder, ended, self._origin(folder, made=made))
        cases = write_case_ranks(folder, self._folder.cases_path(run.name))
        self._folder.write(content | {"cases": cases})
        metric = content["recipe"]["training"]["metric"]
        valid, test = content["valid"]["metrics"][metric], content["test"]["metrics"][metric]
        self._say(f"{run.name}: {metric} {valid:.4f} on validation, {test:.4f} on test, {ended.seconds:.0f} s")

    def _origin(self, folder: Path, *, made: bool) -> Origin:
        """Return what made a run folder; one that was there before may be of another commit."""
        environment = json.loads((folder / _ENVIRONMENT).read_text(encoding="utf-8"))
        commit, threads = environment["commit"], environment["machine"]["threads"]
        if made or commit is None:
            return Origin(threads=threads, code=self._code, dirty=self._dirty)
        changed = commit.endswith("+")
        return Origin(threads=threads, code=None if changed else code_of_commit(commit), dirty=changed)

    def trouble(self) -> str | None:
        """Return why results that this code would add may not stand beside those that are there, if so."""
        if self._settings.allow_mixed or not self._ready(set()):
            return None
        if self._dirty:
            return (
                "the code differs from its commit, which results are to name; commit it, or pass --allow-mixed, which "
                "they then tell"
            )
        for name, content in self._folder.read().items():
            environment = content.get("environment")
            if environment is not None and environment.get("code") != self._code:
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
