"""`peftrec merge`: the language model of a run as one plain folder."""

from __future__ import annotations

import argparse
import json
from typing import Any

from peftrec.cli.verb import add_verb

_DESCRIPTION = """\
Fold a run's adapter into the full-precision weights of its backbone and write a folder that plain transformers reads
(AutoModel, AutoTokenizer), without the head. Vectors of the run's probe texts are compared before and after; where the
backbone was quantised in training, the merged model is not quite the trained one, and how far it drifts is shown. Both
figures stand in merge.json of the folder, with the pooling and prefix that make a vector of a text.

examples:
  peftrec merge runs/first merged/first
  peftrec merge runs/qlora merged/qlora --json
"""


def add_parser(verbs: Any) -> None:
    """Add the verb."""
    summary = "write a run's language model, adapter folded in, as a plain folder"
    parser = add_verb(verbs, "merge", _run, summary=summary, description=_DESCRIPTION)
    parser.add_argument("run_folder", metavar="RUN", help="run folder, such as runs/first")
    parser.add_argument("folder", metavar="FOLDER", help="where to write; must not exist, or be empty")
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")


def _run(arguments: argparse.Namespace) -> None:
    from peftrec.publishing import merge_run

    report = merge_run(arguments.run_folder, arguments.folder)
    if arguments.json:
        print(json.dumps({"folder": arguments.folder, **report.to_json()}, indent=2, ensure_ascii=False))
        return
    print(f"{arguments.folder}: {report.backbone['name']} in float32, {report.method} folded in")
    print(f"largest difference over {report.num_texts} texts, absolute and relative to the length of a vector:")
    weights = "full-precision" if report.quantization == "none" else report.quantization
    rows = (
        ("merged and unmerged, both in full precision", report.merging),
        (f"merged and trained ({weights})", report.drift),
    )
    for label, gap in rows:
        print(f"  {label:<45}{gap.absolute:>10.2e}{gap.relative:>10.2e}")
    if report.quantization != "none":
        print("The head was trained on vectors of the quantised model; measure before you use it with the merged one.")
