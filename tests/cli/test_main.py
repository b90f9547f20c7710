from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import peftrec
from peftrec.cli import build_parser, main, validate
from peftrec.config import InputError

VERBS = ("train", "tune", "evaluate", "ensemble", "recommend", "encode", "export", "validate", "data")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main(["--version"])
    assert done.value.code == 0
    assert capsys.readouterr().out == f"peftrec {peftrec.__version__}\n"


def test_help_names_every_verb_and_shows_a_first_run(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main(["--help"])
    assert done.value.code == 0
    shown = capsys.readouterr().out
    assert all(f"\n    {verb}" in shown for verb in VERBS)
    assert "peftrec data get ml-100k" in shown


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb_has_an_example_that_parses(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main([verb, "--help"])
    assert done.value.code == 0
    examples = [line.strip() for line in capsys.readouterr().out.splitlines() if line.startswith("  peftrec ")]
    assert examples
    import shlex

    for example in examples:
        words = shlex.split(example, comments=True)[1:]
        build_parser().parse_known_args(words)


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["bogus"],
        ["train"],
        ["validate", "recipe.yaml", "--bogus"],
        ["train", "recipe.yaml", "--over"],
        ["evaluate", "run", "--split", "train"],
        ["recommend", "run"],
        ["recommend", "run", "extra", "--history", "1"],
        ["recommend", "run", "--history", "1", "--k", "0"],
        ["recommend", "run", "--history", "1", "--k", "many"],
        ["data"],
        ["data", "get"],
    ],
)
def test_usage_errors_exit_2_with_the_usage(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main(words)
    assert done.value.code == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("usage: peftrec")
    assert "error: " in shown.err


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make `peftrec validate` raise something."""

    def set_error(error: BaseException) -> None:
        def run(_: Any) -> None:
            raise error

        monkeypatch.setattr(validate, "_run", run)

    return set_error


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (InputError("items.csv: is empty"), 1, "peftrec: items.csv: is empty\n"),
        (peftrec.RecipeError("method.rank: is 0"), 2, "peftrec: method.rank: is 0\n"),
        (PermissionError(13, "Permission denied", "runs"), 1, "peftrec: [Errno 13] Permission denied: 'runs'\n"),
        (KeyboardInterrupt(), 130, "peftrec: interrupted\n"),
    ],
)
def test_errors_are_one_line_without_traceback(
    failing: Any, error: BaseException, code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    failing(error)
    assert main(["validate", "recipe.yaml"]) == code
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", message)
    assert main(["validate", "recipe.yaml", "--debug"]) == code
    shown = capsys.readouterr()
    assert shown.err.startswith("Traceback")
    assert shown.err.endswith(message)


def test_a_fault_of_the_library_says_so(failing: Any, capsys: pytest.CaptureFixture[str]) -> None:
    failing(AssertionError("must not happen"))
    assert main(["validate", "recipe.yaml"]) == 1
    shown = capsys.readouterr().err
    assert shown.startswith("peftrec: AssertionError: must not happen (")
    assert "--debug" in shown
    assert "Traceback" not in shown


def test_module_entry_and_a_closed_pipe(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "peftrec", "data", "list"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout.startswith("ml-100k ")
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    assert process.wait() == 0
