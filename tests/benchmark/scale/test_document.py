"""The document holds what the formulas give, and is refused where it cannot."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from peftrec.benchmark.scale.__main__ import main
from peftrec.benchmark.scale.document import DOCUMENT, rewritten
from peftrec.benchmark.scale.number import duration, markdown, with_prefix
from peftrec.benchmark.scale.table import TABLES
from peftrec.config import InputError

REPOSITORY = Path(__file__).parents[3]


def test_tables_are_those_of_the_formulas() -> None:
    """`python -m peftrec.benchmark.scale --write docs/scale.md` renews them."""
    text = (REPOSITORY / DOCUMENT).read_text(encoding="utf-8")
    assert rewritten(text, str(DOCUMENT)) == text
    for table in TABLES.values():
        assert table() in text


def test_a_table_that_was_changed_is_renewed(tmp_path: Path) -> None:
    whole = (REPOSITORY / DOCUMENT).read_text(encoding="utf-8")
    path = tmp_path / "scale.md"
    changed = whole.replace("6,607,343,616", "7")
    assert changed != whole
    path.write_text(changed, encoding="utf-8")
    assert main(["--write", str(path)]) == 0
    assert path.read_text(encoding="utf-8") == whole


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("<!-- scale:begin weights -->", "<!-- scale:begin wheights -->"),
        ("<!-- scale:begin weights -->", ""),
        ("<!-- scale:begin weights -->", "<!-- scale:begin steps -->"),
    ],
)
def test_documents_without_their_marks_stay(
    old: str, new: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (REPOSITORY / DOCUMENT).read_text(encoding="utf-8").replace(old, new)
    path = tmp_path / "scale.md"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match="weights"):
        rewritten(text, "scale.md")
    assert main(["--write", str(path)]) == 1
    assert str(path) in capsys.readouterr().err
    assert path.read_text(encoding="utf-8") == text


def test_a_document_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--write", str(tmp_path / "none.md")]) == 1
    assert "cannot be read" in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_prints_all_tables() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "peftrec.benchmark.scale"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    for table in TABLES.values():
        assert table() in done.stdout


def test_numbers() -> None:
    assert [with_prefix(value, "B") for value in (0, 12, 999.7, 15_360_000_000, 4.15e18)] == [
        "0", "12.0 B", "1.00 kB", "15.4 GB", "4.15 EB",
    ]  # fmt: skip
    assert [duration(value) for value in (0, 2.5e-5, 0.0148, 12.6, 90, 7200, 200_000)] == [
        "0", "25.0 µs", "14.8 ms", "12.6 s", "1.50 min", "2.00 h", "2.31 d",
    ]  # fmt: skip
    assert markdown(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"
