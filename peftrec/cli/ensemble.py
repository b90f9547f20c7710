"""`peftrec ensemble`: several runs made into one."""

from __future__ import annotations

import argparse
import json
import re
import sys
from typing import Any, Literal

from peftrec.cli.verb import add_verb

_DESCRIPTION = """\
Make one run of several that were trained on the same data and split, and measure it beside its members. By score: the
mean of the members' scores, each user's brought to mean 0 and variance 1 over the catalogue. By rank: reciprocal rank
fusion, the mean of 1 / (60 + rank). Nothing is trained. Members are copied into the folder, which then is evaluated,
compared and recommends like any run.

examples:
  peftrec ensemble runs/text runs/ids --output runs/both
  peftrec ensemble runs/seed0 runs/seed1 runs/seed2 --output runs/seeds --by rank
  peftrec ensemble runs/text runs/ids --output runs/both --weights 0.7,0.3
  peftrec ensemble runs/text runs/ids --output runs/both --weights auto      # chosen on the validation cases

data.* and evaluation.* can be overridden, as in 'peftrec evaluate'.
"""
_OVERRIDE = re.compile(r"\w+(\.\w+)+=")


def add_parser(verbs: Any) -> None:
    """Add the verb."""
    parser = add_verb(verbs, "ensemble", _run, summary="make one run of several", description=_DESCRIPTION)
    parser.add_argument("words", nargs="+", metavar="RUN", help="run folders, two or more; then overrides, a.b=c")
    parser.add_argument("--output", required=True, metavar="DIR", help="run folder of the ensemble")
    parser.add_argument("--by", choices=("score", "rank"), default="score", help="what is averaged (default: score)")
    parser.add_argument(
        "--weights", type=_weights, metavar="W,W,...", help="one a run, or 'auto' (default: all runs weigh the same)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a run that DIR already holds")
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")
    parser.set_defaults(overrides=[])  # words behind the options land there


def _run(arguments: argparse.Namespace) -> None:
    from peftrec.cli.table import print_results
    from peftrec.ensembling import ensemble

    words = [*arguments.words, *arguments.overrides]
    metrics = ensemble(
        [word for word in words if not _OVERRIDE.match(word)],
        arguments.output,
        by=arguments.by,
        weights=arguments.weights,
        overrides=[word for word in words if _OVERRIDE.match(word)],
        overwrite=arguments.overwrite,
        report=lambda line: print(line, file=sys.stderr),
    )
    if arguments.json:
        print(json.dumps(metrics, indent=2, ensure_ascii=False, allow_nan=False))
    else:
        print_results(metrics["test"], metrics)


def _weights(text: str) -> Literal["auto"] | tuple[float, ...]:
    if text == "auto":
        return "auto"
    try:
        return tuple(float(word) for word in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is neither 'auto' nor numbers with commas between them") from None
