"""Importing and asking for help are light: nothing heavy loads before it is needed."""

from __future__ import annotations

import os
import subprocess
import sys

MAX_IMPORT_SECONDS = 0.3
MAX_HELP_SECONDS = 1.0
HEAVY = ("torch", "transformers", "peft", "accelerate", "polars", "numpy", "rich")


def best_seconds(*command: str, tries: int = 3) -> float:
    """Processor seconds of a command, the best of several: other work on the machine does not count."""
    found = []
    for _ in range(tries):
        before = os.times()
        subprocess.run([sys.executable, *command], check=True, capture_output=True)
        after = os.times()
        found.append(after.children_user + after.children_system - before.children_user - before.children_system)
    return min(found)


def loaded_by(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint(*(name for name in {HEAVY!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return set(done.stdout.splitlines()[-1].split())


def test_import_takes_less_than_a_third_of_a_second() -> None:
    bare = best_seconds("-c", "pass")
    assert best_seconds("-c", "import peftrec") - bare < MAX_IMPORT_SECONDS


def test_import_loads_nothing_heavy() -> None:
    assert loaded_by("import peftrec") == set()


def test_help_takes_less_than_a_second() -> None:
    assert best_seconds("-m", "peftrec", "--help") < MAX_HELP_SECONDS


def test_help_of_every_verb_loads_nothing_heavy() -> None:
    run = "import contextlib\nfrom peftrec.cli import main\n"
    verbs = (
        "train tune runs evaluate recommend serve encode export push pull rules methods validate data cache compare "
        "ensemble benchmark report"
    )
    for verb in ("", *verbs.split()):
        words = [*([verb] if verb else []), "--help"]
        assert loaded_by(f"{run}with contextlib.suppress(SystemExit):\n    main({words!r})") == set(), verb


def test_the_errors_can_be_had_without_torch() -> None:
    assert "torch" not in loaded_by("from peftrec import InputError, RecipeError")
