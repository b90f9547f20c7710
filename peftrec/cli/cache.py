"""`peftrec cache`: what the frozen backbone gives a catalogue, kept between runs."""

from __future__ import annotations

import argparse
import datetime
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peftrec.cli.verb import add_overrides, add_verb
from peftrec.config import RecipeError

if TYPE_CHECKING:
    from peftrec.encoders import StateStore

_FOLDER = "~/.cache/peftrec"
_DESCRIPTION = """\
Build, list or clear the cache: tokens of a catalogue, states of the layers that stay as they are, and vectors of the
backbone as it is. 'peftrec train' fills it as it goes; an entry is found by a hash of weights, tokenizer, texts and
settings, and is never used for others.

examples:
  peftrec cache build recipes/ml100k/minilm_lora.yaml method.layers=2
  peftrec cache list
  peftrec cache clear --all
"""
_BUILD_DESCRIPTION = """\
Compute what a run of a recipe takes from the cache, so that training starts at once. Says first how large it is and how
long it takes.

examples:
  peftrec cache build recipes/ml100k/minilm_lora.yaml method.layers=2
  peftrec cache build recipes/ml100k/minilm_lora.yaml method.layers=2 encoder.cache.folder=/scratch/peftrec
"""
_LIST_DESCRIPTION = """\
List the entries of a cache folder. Broken ones are never used, but made again by the run that needs them; 'unfinished'
is what a process is writing now, or has left when it was killed.

examples:
  peftrec cache list
  peftrec cache list --folder /scratch/peftrec --verify
"""
_CLEAR_DESCRIPTION = """\
Remove entries of a cache folder, and nothing else that lies in it. Runs that are reading them are not disturbed; what a
process is writing stays.

examples:
  peftrec cache clear trunk-0123456789abcdef0123
  peftrec cache clear --all --folder /scratch/peftrec
"""


def add_parser(verbs: Any) -> None:
    """Add the verb with its parts."""
    parser = verbs.add_parser(
        "cache",
        help="build, list or clear what the frozen backbone gives",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parts = parser.add_subparsers(title="parts", metavar="PART", required=True)
    build = add_verb(parts, "build", _build, summary="fill it ahead of a run", description=_BUILD_DESCRIPTION)
    build.add_argument("recipe", metavar="RECIPE", help="YAML file, such as recipes/ml100k/minilm_lora.yaml")
    add_overrides(build, "method.layers=2")
    listing = add_verb(parts, "list", _list, summary="list the entries", description=_LIST_DESCRIPTION)
    listing.add_argument("--verify", action="store_true", help="compare checksums too, which reads all of it")
    clear = add_verb(parts, "clear", _clear, summary="remove entries", description=_CLEAR_DESCRIPTION)
    clear.add_argument("keys", nargs="*", metavar="KEY", help="as 'peftrec cache list' shows it")
    clear.add_argument("--all", action="store_true", help="all entries of the folder")
    for part in (listing, clear):
        part.add_argument("--folder", default=_FOLDER, help=f"the cache folder (default: {_FOLDER})")


def _build(arguments: argparse.Namespace) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    from peftrec.frozen import fill_cache
    from peftrec.recipe import load_recipe

    recipe = load_recipe(arguments.recipe, arguments.overrides)
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("")

        def show(label: str, done: int, total: int) -> None:
            bar.update(task, description=label, completed=done, total=total)

        fill_cache(recipe, _say_of(console), show if console.is_terminal else None)


def _say_of(console: Any) -> Callable[[str], None]:
    """Return what prints a line above the bar, or plainly where there is none."""
    if console.is_terminal:
        return lambda line: console.print(line, markup=False)
    return lambda line: print(line, file=sys.stderr, flush=True)


def _list(arguments: argparse.Namespace) -> None:
    store = _store(arguments.folder)
    rows = [_row(store, key, verify=arguments.verify) for key in store.keys()]  # noqa: SIM118
    if not rows:
        print(f"no entries in {store.root}")
        return
    head = ("key", "size", "texts", "dtype", "age", "backbone")
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    for row in (head, *rows):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _row(store: StateStore, key: str, *, verify: bool) -> tuple[str, ...]:
    from peftrec.encoders import BrokenEntryError

    num_bytes = sum(path.stat().st_size for path in (store.root / key).glob("*.bin"))
    size = f"{num_bytes / 2**20:,.1f} MiB"
    if key.endswith(".partial"):
        return key, size, "", "", "", "unfinished"
    try:
        entry = store.open(key, contents=verify)
    except BrokenEntryError as error:
        return key, size, "", "", "", f"broken: {error}"
    if entry is None:
        return key, size, "", "", "", "removed meanwhile"
    facts = entry.manifest["facts"]
    age = datetime.datetime.now(datetime.UTC) - datetime.datetime.fromisoformat(entry.manifest["created"])
    return key, size, f"{facts['num_texts']:,}", facts["dtype"], _words(age), facts["backbone"]


def _words(age: datetime.timedelta) -> str:
    minutes = int(age.total_seconds() // 60)
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h" if minutes < 48 * 60 else f"{minutes // (24 * 60)} days"


def _clear(arguments: argparse.Namespace) -> None:
    if bool(arguments.keys) == arguments.all:
        raise RecipeError("name the entries to remove, or pass --all; 'peftrec cache list' shows them")
    store = _store(arguments.folder)
    for key in store.keys() if arguments.all else arguments.keys:
        if arguments.all and key not in store.keys():  # noqa: SIM118 (another process has removed it)
            continue
        print(f"{'removed' if store.remove(key) else 'a process is writing it, left'}: {key}")


def _store(folder: str) -> StateStore:
    from peftrec.encoders import StateStore

    return StateStore(Path(folder).expanduser())
