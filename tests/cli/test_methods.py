"""`peftrec methods`, and the table of the documents that it generates."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from peftrec.cli import main
from peftrec.methods import METHODS

METHODS_PAGE = Path(__file__).parent.parent.parent / "docs" / "methods.md"


def test_every_method_is_listed_with_its_promises(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods", "--json"]) == 0
    rows: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    assert [row["kind"] for row in rows] == list(METHODS.kinds())
    for row in rows:
        assert row["changes"]
        assert row["formula"]
        assert row["parameters"] is None
        assert row["merge"] == METHODS.load(row["kind"]).capabilities.can_merge
        assert bool(re.search(r"\(\d{4}\)", row["source"])) or row["kind"] in ("full", "frozen", "peft")


def test_parameters_are_counted_and_refusals_named(tiny_llama: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods", "--json", "--backbone", str(tiny_llama)]) == 0
    rows = {row["kind"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["lora"]["parameters"] > 0 == rows["frozen"]["parameters"]
    assert "bitfit cannot act on LlamaModel, which has no biases" in rows["bitfit"]["refusal"]
    assert rows["bitfit"]["parameters"] is None
    assert rows["peft"]["parameters"] is None is rows["peft"]["refusal"]


def test_the_table_for_people(tiny_bert: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods", "--backbone", str(tiny_bert)]) == 0
    counted = capsys.readouterr().out
    assert re.search(r"layernorm +\d[\d,]* +yes +yes +both +top k +yes", counted)
    assert main(["methods"]) == 0
    plain = capsys.readouterr().out
    assert "Parameters: the sum over target modules of rank * (in + out)" in " ".join(plain.split())


def test_a_backbone_that_is_not_there_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods", "--backbone", "./nowhere"]) == 1
    assert "'./nowhere' is neither a Hub id" in capsys.readouterr().err


def test_the_documents_have_the_table_as_generated(minilm: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods", "--markdown", "--backbone", minilm]) == 0
    page = METHODS_PAGE.read_text(encoding="utf-8")
    match = re.search(r"<!-- methods -->\n(.*?)<!-- /methods -->", page, flags=re.DOTALL)
    assert match is not None
    assert match[1].strip() == capsys.readouterr().out.strip()
