"""`peftrec pull`: a published run fetched into a folder."""

from __future__ import annotations

import argparse
from typing import Any

from peftrec.cli.verb import add_verb

_DESCRIPTION = """\
Fetch a run from the Hugging Face Hub into a folder, which every other verb then reads. It is compared with the
checksums of its manifest, and the folder is there whole or not at all. What was fetched once is kept in the Hub's
cache. Nothing of a repository is ever run as code.

examples:
  peftrec pull ann/beauty-minilm pulled/beauty
  peftrec pull ann/beauty-minilm@v2 pulled/beauty
"""


def add_parser(verbs: Any) -> None:
    """Add the verb."""
    parser = add_verb(verbs, "pull", _run, summary="fetch a run from the Hub", description=_DESCRIPTION)
    parser.add_argument("repo", metavar="USER/NAME[@REV]", help="repository, and a branch, tag or commit of it")
    parser.add_argument("folder", metavar="DIR", help="where to write; must not exist, or be empty")


def _run(arguments: argparse.Namespace) -> None:
    from peftrec.publishing.hub import pull_run

    folder = pull_run(arguments.repo, arguments.folder)
    files = [path for path in folder.rglob("*") if path.is_file()]
    print(f"{folder}: {len(files)} files, {sum(path.stat().st_size for path in files):,} bytes, as the manifest says")
