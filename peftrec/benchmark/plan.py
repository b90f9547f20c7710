"""The runs of a suite: its rows, their trials, and what the best trial is repeated with."""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

from peftrec.benchmark.judge import require_one_judge
from peftrec.benchmark.suite import BackboneEntry, GroupEntry, MethodEntry, Suite, read_suite
from peftrec.config import RecipeError
from peftrec.recipe import Recipe, load_recipe
from peftrec.tuning import read_space
from peftrec.tuning.trial import overrides_of

# What may be given on the command line of a suite: where things lie, which is another place on each machine.
PLACES: Final = ("data.root", "encoder.cache.folder")
# What a run sets itself, so that setting it for a row would do nothing.
_OWN: Final = {"training.seed": "groups set with seeds", "output_dir": "follows from the name of a run"}


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Row:
    """A line of a table: a method on a data set with a backbone.

    Args:
        suite: name of the suite.
        dataset: key of the data set.
        backbone_key: key of the backbone; None where the group names none.
        method: key of the method.
        label: what tables call the method.
        dataset_label: what tables call the data set.
        recipe_path: as the suite writes it.
        overrides: of that recipe, but for tuned values and seeds.
        recipe: with them.
        points: what tuning tries; a single empty one where nothing is tuned, none where another row's values are taken.
        seeds: the first one tunes.
        tuned_on: key of the data set whose best values are taken; None tunes.
        launch: configuration file of `accelerate launch`, or None.
        size: what the suite tells of its backbone; None without one.
    """

    suite: str
    dataset: str
    backbone_key: str | None
    method: str
    label: str
    dataset_label: str
    recipe_path: str
    overrides: tuple[str, ...]
    recipe: Recipe
    points: tuple[Mapping[str, Any], ...]
    seeds: tuple[int, ...]
    tuned_on: str | None
    launch: str | None = None
    size: BackboneEntry | None = None

    @property
    def name(self) -> str:
        """Return data set, backbone and method as the beginning of its runs' names."""
        return ".".join(part for part in (self.dataset, self.backbone_key, self.method) if part is not None)

    @property
    def backbone(self) -> str | None:
        """Return the language model that it reads texts with; None if it reads none."""
        baseline = self.recipe.baseline
        reads = self.recipe.encoder.uses_text if baseline is None else baseline.needs_item_vectors
        return self.recipe.encoder.backbone if reads else None

    @property
    def is_baseline(self) -> bool:
        """Tell a baseline from a trained model."""
        return self.recipe.baseline is not None

    def trials(self) -> list[PlannedRun]:
        """Return a run for each point, on the first seed."""
        tuned = len(self.points) > 1
        return [self._run(point, self.seeds[0], "trial" if tuned else "seed") for point in self.points]

    def repeats(self, values: Mapping[str, Any]) -> list[PlannedRun]:
        """Return the runs of the best values on the seeds that have none."""
        seeds = self.seeds if self.tuned_on is not None else self.seeds[1:]
        return [self._run(values, seed, "seed") for seed in seeds]

    def _run(self, values: Mapping[str, Any], seed: int, stage: Literal["trial", "seed"]) -> PlannedRun:
        return PlannedRun(row=self, values=values, seed=seed, stage=stage)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class PlannedRun:
    """One run of a row."""

    row: Row
    values: Mapping[str, Any]
    seed: int
    stage: Literal["trial", "seed"]

    @property
    def name(self) -> str:
        """Return the name of its result and of its run folder."""
        tuned = [f"{key.rpartition('.')[2]}-{_short(value)}" for key, value in self.values.items()]
        return ".".join([self.row.name, *tuned, f"seed-{self.seed}"])

    @property
    def open_name(self) -> str:
        """Return a name for it while its values wait for trials."""
        return f"{self.row.name}.best.seed-{self.seed}"

    @property
    def overrides(self) -> list[str]:
        """Return everything that is set beside the recipe, but for places."""
        return [*self.row.overrides, *overrides_of(self.values), f"training.seed={self.seed}"]

    @property
    def output_dir(self) -> str:
        """Return where its command writes."""
        return f"runs/benchmark/{self.row.suite}/{self.name}"

    def words(self, *, output_dir: str | Path, places: Sequence[str] = ()) -> list[str]:
        """Return its command as words behind `peftrec`."""
        return ["train", self.row.recipe_path, *self.overrides, *places, f"output_dir={output_dir}"]

    def command(self, threads: int) -> str:
        """Return the line that reproduces it from the root of the repository."""
        words = self.words(output_dir=f"runs/again/{self.row.suite}/{self.name}")  # its own folder may be kept
        launcher = ["peftrec"]
        if self.row.launch is not None:
            launcher = ["accelerate", "launch", "--config_file", self.row.launch, "-m", "peftrec"]
        return f"OMP_NUM_THREADS={threads} {shlex.join([*launcher, *words])}"

    def recipe(self) -> Recipe:
        """Return what it trains, resolved."""
        return load_recipe(self.row.recipe_path, [*self.overrides, f"output_dir={self.output_dir}"])


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """All rows of a suite, in the order of its groups."""

    suite: str
    rows: tuple[Row, ...]
    files: tuple[str, ...] = ()
    """The suite itself, its recipes and configurations of launches."""

    def settled(self, reached: Mapping[str, float | None]) -> Iterator[tuple[Row, Mapping[str, Any] | None]]:
        """Yield each row whose trials have all ended, with its best values; None where no trial ended well.

        Args:
            reached: the validation metric of every run that has ended, by name; None where it did not end well.
        """
        best = {row.name: best_values(row, reached) for row in self.rows if row.tuned_on is None}
        for row in self.rows:
            source = row.name if row.tuned_on is None else _source(row)
            if source in best and _ended(self._row(source), reached):
                yield row, best[source]

    def runs(self, reached: Mapping[str, float | None]) -> list[PlannedRun]:
        """Return every run that can be named by now: all trials, and repeats of rows that are settled."""
        trials = [run for row in self.rows for run in row.trials()]
        repeats = [run for row, values in self.settled(reached) if values is not None for run in row.repeats(values)]
        return [*trials, *repeats]

    def waiting(self, reached: Mapping[str, float | None]) -> list[PlannedRun]:
        """Return repeats that wait for trials, or that no trial ended well for: their values are not known."""
        known = {row.name for row, values in self.settled(reached) if values is not None}
        return [run for row in self.rows if row.name not in known for run in row.repeats({})]

    def possible(self) -> Iterator[PlannedRun]:
        """Yield every run that there may come to be: all trials, and repeats with each of the values that are tried."""
        for row in self.rows:
            yield from row.trials()
            source = row if row.tuned_on is None else self._row(_source(row))
            yield from (run for values in source.points for run in row.repeats(values))

    def _row(self, name: str) -> Row:
        return next(row for row in self.rows if row.name == name)


def best_values(row: Row, reached: Mapping[str, float | None]) -> Mapping[str, Any] | None:
    """Return the values of the trial that was best in validation, the first of equal ones; None if there is none."""
    values = [(reached.get(run.name), run.values) for run in row.trials()]
    ended = [(value, point) for value, point in values if value is not None]
    return max(ended, key=lambda pair: pair[0])[1] if ended else None


def make_plan(path: str | Path) -> Plan:
    """Read a suite and every recipe that it names.

    Args:
        path: the YAML file of the suite; paths of recipes in it are from the working folder.
    Raises:
        RecipeError: if the suite or one of its recipes is wrong, with file, key, and what would be right.
    """
    path = Path(path)
    suite = read_suite(path)
    try:
        rows = [row for group in suite.groups for row in _rows(path.stem, suite, group)]
        _check_rows(rows)
    except RecipeError as error:
        raise RecipeError(f"{path}: {error}") from None
    named = [file for row in rows for file in (row.recipe_path, row.launch) if file is not None]
    return Plan(suite=path.stem, rows=tuple(rows), files=tuple(dict.fromkeys([str(path), *named])))


def _rows(name: str, suite: Suite, group: GroupEntry) -> Iterator[Row]:
    for dataset in group.datasets:
        for backbone in group.backbones or (None,):
            for method in group.methods:
                yield _row(name, suite, group, dataset, backbone, method)


def _row(name: str, suite: Suite, group: GroupEntry, dataset: str, backbone: str | None, method: str) -> Row:
    data, entry = suite.datasets[dataset], suite.methods[method]
    overrides = (*data.set, *(suite.backbones[backbone].set if backbone is not None else ()), *entry.set)
    for override in overrides:
        if (key := override.partition("=")[0].strip()) in _OWN:
            raise RecipeError(f"methods.{method} on {dataset}: set has {key!r}, which {_OWN[key]}; leave it out")
    recipe_path = entry.recipes.get(dataset, data.recipe)
    try:
        recipe = load_recipe(recipe_path, overrides)
        points = () if group.tuned_on is not None else _points(entry, recipe)
    except RecipeError as error:
        raise RecipeError(f"methods.{method} on {dataset}: {error}") from None
    if recipe.baseline is None and group.tuned_on is None and len(points) != suite.trials:
        have = f"have {len(points)} points" if entry.axes else "are missing"
        raise RecipeError(f"methods.{method}.axes: {have}; trials: {suite.trials} is the budget of every method")
    return Row(
        suite=name,
        dataset=dataset,
        backbone_key=backbone,
        method=method,
        label=entry.label,
        dataset_label=data.label,
        recipe_path=recipe_path,
        overrides=overrides,
        recipe=recipe,
        points=points,
        seeds=group.seeds,
        tuned_on=group.tuned_on,
        launch=suite.launch if recipe.baseline is None else None,
        size=None if backbone is None else suite.backbones[backbone],
    )


def _points(entry: MethodEntry, recipe: Recipe) -> tuple[Mapping[str, Any], ...]:
    if not entry.axes:
        return ({},)
    both = [override for override in entry.set if override.partition("=")[0].strip() in entry.axes]
    if both:
        raise RecipeError(f"set and axes both have {both[0]!r}; leave it out of one of them")
    space = read_space(entry.axes, recipe)
    points = space.grid()
    space.check_points(recipe, points)
    return tuple(points)


def _check_rows(rows: Sequence[Row]) -> None:
    """Refuse rows that claim one name, or that take values from a row which does not tune."""
    twice = _first_twice([row.name for row in rows])
    if twice is not None:
        raise RecipeError(f"groups: {twice} stands in two groups; one of them is enough")
    require_one_judge((row.dataset, row.method, row.recipe) for row in rows)
    tuning = {row.name for row in rows if row.tuned_on is None}
    for row in rows:
        if row.tuned_on is not None and _source(row) not in tuning:
            raise RecipeError(f"groups: {row.name} takes the values of {_source(row)}, which no group tunes")
    told: dict[tuple[str, str | None, str], str] = {}
    for row in rows:
        key = (row.dataset, row.backbone, row.method)
        if key in told:
            raise RecipeError(
                f"groups: {row.name} and {told[key]} both read {row.backbone or 'no text'}, and tables tell rows of a "
                f"method apart by that; give one of them a method of its own"
            )
        told[key] = row.name
    twice = _first_twice([run.name for row in rows for run in row.trials()])
    if twice is not None:
        raise RecipeError(f"groups: two runs would be called {twice}; give axes whose keys end otherwise")


def _first_twice(names: Sequence[str]) -> str | None:
    return next((name for place, name in enumerate(names) if name in names[:place]), None)


def _source(row: Row) -> str:
    return dataclasses.replace(row, dataset=str(row.tuned_on)).name


def _ended(row: Row, reached: Mapping[str, float | None]) -> bool:
    return all(run.name in reached for run in row.trials())


def _short(value: Any) -> str:
    """Return a value as part of a file's name."""
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return re.sub(r"[^a-z0-9.-]+", "_", text.lower()).strip("_.") or "_"
