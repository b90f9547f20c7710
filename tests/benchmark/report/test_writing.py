"""The files of a report: whole, reproducible, without anything from outside; the README's block; the command."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from peftrec.benchmark.report.cell import ONE_SEED
from peftrec.benchmark.report.readme import BEGIN, END
from peftrec.benchmark.report.writing import write_report
from peftrec.cli import main
from peftrec.config import InputError

from .conftest import cost, target_slices, training

Make = Callable[..., Path]
LABEL = "LoRA <b>|x|</b>"


@pytest.fixture
def suite(make_result: Make, results: Path) -> Path:
    pytest.importorskip("matplotlib")
    for method, label, ranks in (("full", "full", [1, 1, 3, 3]), ("lora", LABEL, [1, 3, 3, 0])):
        make_result(
            method,
            ranks,
            name=method,
            label=label,
            cost=cost(),
            training=training([0.1, 0.2]),
            slices=target_slices(0.01, 0.02, 0.03, 0.04),
        )
    return results


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_same_results_give_the_same_bytes(suite: Path, tmp_path: Path) -> None:
    """Wherever they lie: neither paths nor dates are in a report."""
    shutil.copytree(suite, tmp_path / "elsewhere")
    written = write_report(suite, output=tmp_path / "one")
    write_report(tmp_path / "elsewhere", output=tmp_path / "two")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert {path.relative_to(tmp_path / "one").as_posix() for path in written.files} == set(contents(tmp_path / "one"))
    assert {"REPORT.md", "report.html", "plots/beauty_all_minilm_l6_v2_size.png"} <= set(contents(tmp_path / "one"))


def test_plots_of_an_earlier_report_do_not_stay(suite: Path, make_result: Make, tmp_path: Path) -> None:
    write_report(suite, output=tmp_path)
    (tmp_path / "plots" / "mine_seconds.svg").write_text("<svg/>", encoding="utf-8")
    make_result("side", [1, 1, 1, 1], cost=cost(machine="another"))  # so that seconds are drawn no more
    written = write_report(suite, output=tmp_path)
    assert {path.name for path in (tmp_path / "plots").iterdir()} == {
        "mine_seconds.svg", *(path.name for path in written.files if path.parent.name == "plots"),
    }  # fmt: skip
    assert "beauty_all_minilm_l6_v2_seconds.svg" not in {path.name for path in written.files}


def test_the_page_needs_nothing_beside_it(suite: Path, tmp_path: Path) -> None:
    write_report(suite, output=tmp_path)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert re.findall(r"""(?:src|href)=["']?(?!["']?#)[^\s>]*""", page) == []
    assert re.findall(r"url\((?!#)|@import|<script|<link", page) == []
    identifiers = re.findall(r'\bid="([^"]*)"', page)
    assert len(identifiers) == len(set(identifiers)) > 0
    assert set(re.findall(r'href="#([^"]*)"', page)) <= set(identifiers)
    # A label is text.
    assert "<b>|x|" not in page
    assert "LoRA &lt;b&gt;|x|&lt;/b&gt;" in page


def test_markdown_tells_of_everything(suite: Path, make_result: Make, tmp_path: Path) -> None:
    (suite / "other.json").write_text("{}", encoding="utf-8")
    written = write_report(suite, output=tmp_path)
    text = (tmp_path / "REPORT.md").read_text(encoding="utf-8")
    assert "TPME = 0.45 T + 0.1 P + 0.45 M (weights of Fu et al. 2024, IISAN)" in text
    assert r"| LoRA &lt;b&gt;\|x\|&lt;/b&gt; † | 0.5000 \[" in text
    assert r"| other.json | refused | is no result of a benchmark (it has no schema\_version) |" in text
    assert "peftrec train recipes/toy.yaml method.kind=lora training.seed=0" in text
    for name in re.findall(r"\]\((plots/[^)]*)\)", text):
        assert (tmp_path / name).exists()
    assert [entry.name for entry in written.refused] == ["other.json"]
    assert written.num_runs == 2


def test_the_block_of_the_readme(suite: Path, tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n\n{BEGIN}\nold\n{END}\n\nafter\n", encoding="utf-8")
    write_report(suite, output=tmp_path / "out", readme=readme)
    text = readme.read_text(encoding="utf-8")
    assert text.startswith(f"before\n\n{BEGIN}\n")
    assert text.endswith(f"\n{END}\n\nafter\n")
    assert "old" not in text
    assert "| method | NDCG@10 | % of full |" in text
    assert "](out/plots/beauty_all_minilm_l6_v2_parameters.svg)" in text
    assert f"{ONE_SEED}: one run" in text
    assert "[out/REPORT.md](out/REPORT.md)" in text
    write_report(suite, output=tmp_path / "out", readme=readme)
    assert readme.read_text(encoding="utf-8") == text


@pytest.mark.parametrize("text", ["nothing", f"{END}\n{BEGIN}\n", f"{BEGIN}\n{END}\n{BEGIN}\n", f"{BEGIN}\n"])
def test_a_readme_without_its_marks_is_left_alone(suite: Path, tmp_path: Path, text: str) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"README.md: must have one line <!-- benchmark:begin --> and below it"):
        write_report(suite, output=tmp_path / "out", readme=readme)
    assert readme.read_text(encoding="utf-8") == text
    assert not (tmp_path / "out").exists()


def test_the_command(suite: Path, make_result: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = make_result("side", [1, 1, 1, 1], name="side", status={"state": "failed", "seconds": 2.0, "reason": "no"})
    words = ["report", str(suite), "--output", str(tmp_path / "out")]
    assert main(words) == 0
    shown = capsys.readouterr()
    assert "left out: side.json: failed after 2 s: no" in shown.err
    assert shown.out.startswith("2 runs reported, 1 left out\n")
    path.write_text("{", encoding="utf-8")
    assert main(words) == 1
    shown = capsys.readouterr()
    assert shown.out.startswith("2 runs reported, 1 left out\n")
    assert f"1 of the files in {suite} were refused" in shown.err
    assert "side.json" in (tmp_path / "out" / "REPORT.md").read_text(encoding="utf-8")


def test_nothing_that_can_be_used(results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(results)]) == 1
    assert "holds no results (*.json)" in capsys.readouterr().err
    (results / "other.json").write_text("{}", encoding="utf-8")
    assert main(["report", str(results), "--output", str(tmp_path / "out")]) == 1
    assert "no result can be used; other.json: is no result of a benchmark" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_help_says_what_it_reads_and_writes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["report", "--help"])
    shown = capsys.readouterr().out
    for word in ("REPORT.md", "report.html", "exit code is 1", "--readme FILE", "examples:"):
        assert word in shown


def console(page: Path) -> tuple[str, str]:
    """Open a page in Chromium without a network, and return its document and what the console said."""
    command = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if command is None:
        pytest.skip("no chromium here")
    words = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom"]
    ran = subprocess.run(
        [command, *words, "--host-resolver-rules=MAP * ~NOTFOUND", page.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return ran.stdout, "\n".join(line for line in ran.stderr.splitlines() if "CONSOLE" in line)


@pytest.mark.slow
def test_the_page_opens_in_a_browser(suite: Path, tmp_path: Path) -> None:
    write_report(suite, output=tmp_path)
    document, said = console(tmp_path / "report.html")
    assert said == ""
    assert document.count("<svg") == 6
    assert "what this shows, and what it does not</h2>" in document
    # What would be said of a page that reaches outside, or fails.
    broken = tmp_path / "broken.html"
    broken.write_text("<script>nothing.here()</script><img src='http://example.org/x.png'>", encoding="utf-8")
    assert "nothing is not defined" in console(broken)[1]
