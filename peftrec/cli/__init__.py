"""The command line: one file per verb; each parses, calls one function of the library, and prints."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Sequence

import peftrec
from peftrec.cli import (
    benchmark,
    cache,
    compare,
    data,
    encode,
    ensemble,
    evaluate,
    export,
    methods,
    pull,
    push,
    recommend,
    report,
    rules,
    runs,
    serve,
    train,
    tune,
    update,
    validate,
)
from peftrec.config import InputError, RecipeError

# Nothing heavy may be imported before a verb runs: `peftrec --help` answers at once.
_VERBS = (
    train,
    update,
    tune,
    runs,
    evaluate,
    compare,
    ensemble,
    recommend,
    serve,
    encode,
    export,
    push,
    pull,
    methods,
    rules,
    validate,
    data,
    cache,
    benchmark,
    report,
)
_EXAMPLES = """\
a first run:
  peftrec data get ml-100k
  peftrec validate recipes/ml100k/minilm_lora.yaml
  peftrec train recipes/ml100k/minilm_lora.yaml output_dir=runs/first
  peftrec evaluate runs/first
  peftrec recommend runs/first --history 50,181,172

'peftrec VERB --help' explains a verb. Exit codes: 0 done, 1 the work failed (data, backbone, run folder), 2 the recipe
or the command is wrong, 130 interrupted.
"""
_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        argv: words after `peftrec`; None takes those of the process.
    Raises:
        SystemExit: from argparse, after `--help`, `--version` and usage errors.
    """
    arguments = _parse(argv)
    try:
        arguments.run(arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        _complain("interrupted", debug=arguments.debug)
        return _INTERRUPTED
    except BrokenPipeError:
        # The reader (`| head`) has gone; without this Python complains once more when it closes the stream.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except RecipeError as error:
        _complain(str(error), debug=arguments.debug)
        return 2
    except (InputError, OSError) as error:
        _complain(str(error), debug=arguments.debug)
        return 1
    except Exception as error:
        hint = "" if arguments.debug else " (a fault of peftrec or of what it uses; --debug shows where)"
        _complain(f"{type(error).__name__}: {error}{hint}", debug=arguments.debug)
        return 1
    return 0


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all verbs."""
    parser = argparse.ArgumentParser(
        prog="peftrec",
        description="Turn a pretrained language model into a recommender by training a few percent of its weights.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"peftrec {peftrec.__version__}")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    for verb in _VERBS:
        verb.add_parser(verbs)
    return parser


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse; overrides may also stand after options, which argparse alone does not allow."""
    parser = build_parser()
    arguments, rest = parser.parse_known_args(argv)
    unknown = [word for word in rest if word.startswith("-") or not hasattr(arguments, "overrides")]
    if unknown:
        arguments.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    if rest:
        arguments.overrides = [*arguments.overrides, *rest]
    return arguments


def _complain(message: str, *, debug: bool) -> None:
    if debug:
        traceback.print_exc()
    print(f"peftrec: {message}", file=sys.stderr)
