"""`peftrec rules check`: what hard rules hide of a run's items."""

from __future__ import annotations

import argparse
import dataclasses
import json
from typing import Any

from peftrec.cli.verb import add_verb

_DESCRIPTION = """\
Hold a file of hard rules against the items of a run: how many items each rule hides, with examples. No model of the run
is loaded; a classifier that a rule names is. Exit code 2: the file is wrong; 1: it does not fit the items.

examples:
  peftrec rules check rules.yaml runs/ml100k/minilm_lora
  peftrec rules check rules.yaml runs/ml100k/minilm_lora --json
"""


def add_parser(verbs: Any) -> None:
    """Add the verb."""
    parser = add_verb(verbs, "rules", _run, summary="see what hard rules hide", description=_DESCRIPTION)
    parser.add_argument("what", choices=("check",), help="what to do")
    parser.add_argument("file", metavar="RULES", help="YAML file of rules")
    parser.add_argument("run_folder", metavar="RUN", help="run folder")
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")


def _run(arguments: argparse.Namespace) -> None:
    from peftrec.recommender.rule_check import check_rules

    num_items, found = check_rules(arguments.file, arguments.run_folder)
    if arguments.json:
        rows = [dataclasses.asdict(one) for one in found]
        print(json.dumps({"items": num_items, "rules": rows}, indent=2, ensure_ascii=False))
        return
    print(f"{num_items:,} items")
    for one in found:
        if one.hides is None:
            print(f"{one.rule} ({one.kind}): limits each list")
            continue
        whom = "" if one.minimum_age is None else f" from who is not known to be {one.minimum_age:g} or older"
        print(f"{one.rule} ({one.kind}): hides {one.hides:,} ({one.hides / max(1, num_items):.1%}){whom}")
        for item_id, title, reason in one.examples:
            print(f"    {item_id}  {title[:60]}: {reason}")
