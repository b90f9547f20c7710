"""`peftrec push`: a run published on the Hub."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from peftrec.cli.verb import add_verb
from peftrec.config import RecipeError

if TYPE_CHECKING:
    from peftrec.publishing.hub import PushReport

_DESCRIPTION = """\
Publish a run on the Hugging Face Hub: adapter, head, items, metrics and card, in one commit. What is private to the run
(private/, checkpoints, reports, anything that is not on the list) stays here, and so does the run folder as it is. What
would be sent is copied aside, searched for user ids, secrets and folders of this machine, and loaded there, before
anything is sent. The same command can be run again after a broken connection.

You need a token that may write: `hf auth login`, or HF_TOKEN.

examples:
  peftrec push runs/first ann/beauty-minilm --license apache-2.0 --language en --dry-run
  peftrec push runs/first ann/beauty-minilm --license apache-2.0 --private
  peftrec push runs/first ann/beauty-minilm --license mit --base-model-id sentence-transformers/all-MiniLM-L6-v2
"""


def add_parser(verbs: Any) -> None:
    """Add the verb."""
    parser = add_verb(verbs, "push", _run, summary="publish a run on the Hub", description=_DESCRIPTION)
    parser.add_argument("run_folder", metavar="RUN", help="run folder, such as runs/first")
    parser.add_argument("repo_id", metavar="USER/NAME", help="repository; made where it is not there")
    parser.add_argument("--license", metavar="ID", help="license of what is published, such as apache-2.0 (needed)")
    parser.add_argument(
        "--language", metavar="CODE", action="append", default=[], help="language of the items, such as en; repeatable"
    )
    parser.add_argument(
        "--dataset",
        metavar="ID",
        action="append",
        default=[],
        help="data set of the Hub that it was trained on; repeatable; none takes what the recipe tells",
    )
    parser.add_argument(
        "--beside",
        metavar="NAME=RUN",
        action="append",
        default=[],
        help="show the test results of another run in the card, such as 'full fine-tuning=runs/full'; repeatable",
    )
    parser.add_argument("--license-name", metavar="NAME", help="of a license that is `other`")
    parser.add_argument("--license-link", metavar="URL", help="where a license that is `other` can be read")
    parser.add_argument("--private", action="store_true", help="make a private repository")
    parser.add_argument(
        "--with-vectors", action="store_true", help="publish the items' vectors too; else they are made anew on loading"
    )
    parser.add_argument("--revision", metavar="BRANCH", help="branch to commit to, made where it is not there")
    parser.add_argument(
        "--base-model-id", metavar="ID", help="the model of the Hub that the run's local backbone is; it is compared"
    )
    parser.add_argument("--message", metavar="TEXT", help="of the commit")
    parser.add_argument("--dry-run", action="store_true", help="list every file and its bytes; nobody is talked to")
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")


def _run(arguments: argparse.Namespace) -> None:
    from peftrec.publishing.hub import push_run

    found = push_run(
        arguments.run_folder,
        arguments.repo_id,
        license=arguments.license,
        license_name=arguments.license_name,
        license_link=arguments.license_link,
        language=tuple(arguments.language),
        datasets=tuple(arguments.dataset),
        beside=_beside(arguments.beside),
        private=arguments.private,
        with_vectors=arguments.with_vectors,
        revision=arguments.revision,
        base_model_id=arguments.base_model_id,
        message=arguments.message,
        dry_run=arguments.dry_run,
        report=lambda line: print(line, file=sys.stderr),
    )
    if arguments.json:
        print(json.dumps(found.to_json(), indent=2, ensure_ascii=False))
        return
    _print(found)


def _beside(given: list[str]) -> dict[str, str]:
    """Return run folders by the name to show."""
    found: dict[str, str] = {}
    for text in given:
        name, equals, folder = text.partition("=")
        if not (name.strip() and equals and folder.strip()) or name.strip() in found:
            raise RecipeError(f"--beside: '{text}' is no NAME=RUN with a name of its own, such as full=runs/full")
        found[name.strip()] = folder.strip()
    return found


def _print(found: PushReport) -> None:
    for name, size in found.files.items():
        print(f"{size:>13,}  {name}")
    print(f"{sum(found.files.values()):>13,}  bytes in {len(found.files)} files")
    for old, new in found.replaced.items():
        print(f"in the recipe, {old} became {new}")
    if found.num_users is None:
        print("no data of users lie beside the run: texts were searched for columns of users, not for their ids")
    else:
        print(f"searched for {found.num_users:,} ids of users: none is named")
    for name in found.deleted:
        print(f"removed there: {name}")
    if found.commit is None:
        print(f"{found.repository}: nothing was sent (--dry-run)")
    else:
        state = "commit" if found.changed else "unchanged, at commit"
        print(f"{found.url}: {state} {found.commit}")
