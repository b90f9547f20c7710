"""`peftrec export`: a run in the form of another library."""

from __future__ import annotations

import argparse
import dataclasses
import json
from typing import Any

from peftrec.cli.verb import add_verb
from peftrec.config import RecipeError

_DESCRIPTION = """\
Write a run in a form that needs no peftrec:

  merged                  the language model, adapter folded into full-precision weights, as plain transformers reads it
                          (AutoModel, AutoTokenizer); without the head
  sentence-transformers   SentenceTransformer(folder).encode(texts) gives the run's text vectors; with --projected its
                          item vectors
  onnx                    tokens to text vectors, text vectors to item vectors, histories to user vectors, and all that
                          recommending with onnxruntime alone needs beside them; any method
  faiss                   an index of the item vectors, and ids

Each is written beside its place, loaded again by the library that it is for, compared with the run, and only then put
there; export.json in it tells what was compared and how far it lies. docs/export.md shows how each is used.

examples:
  peftrec export runs/first --to merged exports/merged
  peftrec export runs/first --to sentence-transformers exports/item_vectors --projected
  peftrec export runs/first --to onnx exports/int8 --int8
  peftrec export runs/first --to faiss exports/index --index hnsw --json
"""
# Options of single targets: the word on the command line by the name of the field.
_WORDS = {"projected": "--projected", "int8": "--int8", "data_root": "--data", "index": "--index"}


def add_parser(verbs: Any) -> None:
    """Add the verb."""
    summary = "write a run for transformers, sentence-transformers, ONNX or FAISS"
    parser = add_verb(verbs, "export", _run, summary=summary, description=_DESCRIPTION)
    parser.add_argument("run_folder", metavar="RUN", help="run folder, such as runs/first")
    parser.add_argument("folder", metavar="OUTPUT", help="where to write; must not exist, or be empty")
    parser.add_argument("--to", required=True, metavar="TARGET", help="merged, sentence-transformers, onnx or faiss")
    parser.add_argument(
        "--projected", action="store_const", const=True, help="sentence-transformers: item vectors, the head behind"
    )
    parser.add_argument(
        "--int8", action="store_const", const=True, help="onnx: matrices in 8 bits; what it costs in NDCG is measured"
    )
    parser.add_argument(
        "--data", dest="data_root", metavar="FOLDER", help="onnx --int8: where the run's data lie (default: as trained)"
    )
    parser.add_argument("--index", metavar="KIND", help="faiss: flat (exact) or hnsw (default: flat)")
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")


def _run(arguments: argparse.Namespace) -> None:
    from peftrec.config import parse_section
    from peftrec.publishing.export import EXPORTS, export_run

    given = {name: getattr(arguments, name) for name in _WORDS if getattr(arguments, name) is not None}
    fields = {field.name for field in dataclasses.fields(EXPORTS.load(arguments.to))}
    for name in given:
        if name not in fields:
            raise RecipeError(f"{_WORDS[name]}: is no option of --to {arguments.to}; see 'peftrec export --help'")
    if "data_root" in given and "int8" not in given:
        raise RecipeError("--data: is read by --int8 alone")
    target = parse_section(EXPORTS.load(arguments.to), given, path="export")
    report = export_run(arguments.run_folder, arguments.folder, target)
    if arguments.json:
        print(json.dumps({"folder": arguments.folder, **report}, indent=2, ensure_ascii=False, allow_nan=False))
        return
    print("\n".join([f"{arguments.folder}: {arguments.to}, read back and compared", *target.describe(report)]))
