"""`python -m peftrec.benchmark.cost RECIPE`: what a recipe costs, as JSON."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from peftrec.benchmark.cost.measure import measure_cost
from peftrec.config import InputError, RecipeError
from peftrec.publishing import replace_text
from peftrec.recipe import load_recipe


def main(argv: Sequence[str] | None = None) -> int:
    """Measure one recipe and write or print its cost; the exit code is that of `peftrec`."""
    parser = argparse.ArgumentParser(prog="python -m peftrec.benchmark.cost", description=__doc__)
    parser.add_argument("recipe", metavar="RECIPE", help="YAML file")
    parser.add_argument("overrides", nargs="*", metavar="a.b=c", help="set a value of the recipe")
    parser.add_argument("--steps", type=int, default=30, metavar="N", help="steps that are timed (default: 30)")
    parser.add_argument("--wait", type=int, default=0, metavar="SECONDS", help="for the machine to fall idle")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write there, and not to the standard output")
    arguments = parser.parse_intermixed_args(argv)
    try:
        cost = measure_cost(
            load_recipe(arguments.recipe, arguments.overrides),
            num_steps=arguments.steps,
            wait_seconds=arguments.wait,
            say=_say,
        )
    except (RecipeError, InputError) as error:
        _say(f"peftrec: {error}")
        return 2 if isinstance(error, RecipeError) else 1
    text = json.dumps(cost, indent=1, allow_nan=False) + "\n"
    if arguments.output is None:
        sys.stdout.write(text)
    else:
        replace_text(arguments.output, text)
    return 0


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
