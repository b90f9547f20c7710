"""Whether what explanations name is what carries a score: named evidence against random evidence of the same size.

    python benchmarks/explanation_fidelity.py RUN --name ml100k --users 500 --seed 0

RUN is a folder of a model without ids that reads histories. Asked about is the first item of each user's list: users
are drawn from the test cases whose history has at least 4 events that are read, and, for words, at least 5 words of
letters or digits in the item's text. Written to RESULTS are NAME.json, and with --document a table between two marks
of a Markdown file.

- Drop: the item's score less its score without the evidence. Events go from the history, all at once; words are cut
  out of the text, or their tokens are replaced by padding.
- Comprehensiveness and sufficiency (DeYoung et al., 2020, ERASER): the drop without the top 5, 10, 20 and 50 % of the
  evidence, and the drop with these alone; means over the four shares. In scores, where ERASER has probabilities.
- Orders: by leave-one-out, by the attention of the newest event, from the newest event on; by integrated gradients,
  from the first word on; random ones as the mean over several draws of each user.

Intervals are of 95 %, by a bootstrap over users; differences are paired by user.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from peftrec.config import InputError
from peftrec.data import load_dataset
from peftrec.encoders.item_text import ItemTexts
from peftrec.evaluation.bootstrap import bootstrap_interval
from peftrec.explaining import Subject, attention_of, attribute_words, leave_one_out
from peftrec.explaining.word import token_spans, words_of
from peftrec.models import RecommenderModel, scores_with
from peftrec.publishing import load_run
from peftrec.retrieval import Asked, top_items

ROOT = Path(__file__).parents[1]
SHARES = (0.05, 0.1, 0.2, 0.5)
DRAWS = {"history": 10, "words": 5}
LEAST_EVENTS, LEAST_WORDS = 4, 5
Order = NDArray[np.int64]
Rows = dict[str, dict[str, list[float]]]


def main(argv: Sequence[str] | None = None) -> None:
    """Measure a run, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="run folder")
    parser.add_argument("--name", required=True, help="of the result")
    parser.add_argument("--trained", default="", help="how the run was trained, for the result")
    parser.add_argument("--users", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0, help="of the users and of random evidence")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results" / "explanations")
    parser.add_argument(
        "--document", type=Path, help="Markdown file with the marks <!-- fidelity --> around its tables"
    )
    arguments = parser.parse_args(argv)
    result = {"trained": arguments.trained, "seed": arguments.seed, **measure(arguments)}
    arguments.results.mkdir(parents=True, exist_ok=True)
    path = arguments.results / f"{arguments.name}.json"
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    if arguments.document is not None:
        write_tables(arguments.document, arguments.results)


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return means with intervals of everything that is measured of one run."""
    run = load_run(arguments.run)
    model, vectors_ND, bias_N = run.model, run.vectors_ND, run.bias_N
    if model is None or vectors_ND is None or bias_N is None or model.item_encoder.config.uses_ids:
        raise InputError(f"{arguments.run}: this is measured of one model that reads texts and no ids")
    dataset = load_dataset(run.recipe.data)
    scores, cases = scores_with(model, vectors_ND, bias_N), dataset.split.test
    rng = np.random.default_rng(arguments.seed)
    order = rng.permutation(np.flatnonzero(cases.history_lengths >= LEAST_EVENTS))
    history_rows, word_rows, seconds = Rows(), Rows(), []
    for number, case in enumerate(order[: arguments.users].tolist()):
        history = cases.histories(dataset.sequences, case, case + 1)
        asked = Asked(history, None, None, cases.time_histories(dataset.sequences, case, case + 1), np.array([False]))
        item = int(top_items(scores(*asked.given(np.zeros(1, int))), 1, exclude_BL=torch.from_numpy(history))[0][0, 0])
        _add(history_rows, of_history(scores, asked, item, rng))
        text = run.catalogue.texts[item]
        user_1D = model.newest_user_vectors(torch.from_numpy(history), vectors_ND)
        if len(_pieces(model, text)) >= LEAST_WORDS:
            start = time.perf_counter()
            attribution = attribute_words(model, Subject(text, item), user_1D)
            seconds.append(time.perf_counter() - start)
            found = {(word.start, word.end): word.attribution for word in attribution.words}
            rows = of_words(model, text, user_1D, found, rng)
            rows["attribution"] = {
                "residual": abs(attribution.residual),
                "score less baseline": attribution.score - attribution.baseline_score,
                "complete": float(attribution.complete),
                "steps": float(attribution.num_steps),
            }
            _add(word_rows, rows)
        if (number + 1) % 50 == 0:
            print(f"{number + 1} of {min(arguments.users, len(order))} users", flush=True)
    return {
        "users": min(arguments.users, len(order)),
        "eligible": len(order),
        "history": _summary(history_rows),
        "words": _summary(word_rows),
        "seconds_per_text": float(np.median(seconds)) if seconds else None,
        "threads": torch.get_num_threads(),
    }


def of_history(scores: Any, asked: Asked, item: int, rng: np.random.Generator) -> dict[str, dict[str, float]]:
    """Measure the events of one user, for one item."""
    history = asked.histories_BL[0][asked.histories_BL[0] >= 0][-scores.max_history :]
    read = Asked(history[None], None, None, asked.times_BL, asked.unknown_B)
    changes = leave_one_out(scores, read, np.array([item]), len(scores.vectors_ND)).changes_LK[:, 0]
    orders = {"leave-one-out": np.argsort(-changes, kind="stable"), "newest": np.arange(len(history))[::-1]}
    attention = attention_of(scores, read)
    rows: dict[str, dict[str, float]] = {}
    if attention is not None:
        orders["attention"] = np.argsort(-attention, kind="stable")
        rows["attention against leave-one-out"] = {
            "rank correlation": _rank_correlation(attention, changes),
            "same first event": float(attention.argmax() == changes.argmax()),
        }

    def drops(kept: list[NDArray[np.int64]]) -> NDArray[np.float64]:
        """Return the drop of the score where only some events are kept, in their order."""
        rows_RL = np.full((len(kept) + 1, len(history)), -1, dtype=np.int64)
        for row, events in zip(rows_RL, [np.arange(len(history)), *kept], strict=True):
            if len(events):
                row[len(history) - len(events) :] = history[np.sort(events)]
        found = scores.user_vectors(rows_RL).double() @ scores.vectors_ND[item].double() + scores.bias_N[item]
        return (found[0] - found[1:]).cpu().numpy()

    return rows | _measured(orders, len(history), "history", drops, rng)


def of_words(
    model: RecommenderModel, text: str, user_1D: torch.Tensor, found: dict[tuple[int, int], float],
    rng: np.random.Generator,
) -> dict[str, dict[str, float]]:  # fmt: skip
    """Measure the words of one text, for one user."""
    pieces = _pieces(model, text)
    attributions = np.array([found[span] for span, _ in pieces])
    orders = {
        "integrated gradients": np.argsort(-attributions, kind="stable"),
        "first": np.arange(len(pieces)),
    }

    def masked(kept: list[NDArray[np.int64]]) -> NDArray[np.float64]:
        """Return the drop of the score where the tokens of all other words are padding."""
        encoder = model.text_encoder
        assert encoder is not None
        tokens = encoder.tokenize([text]).tokens_T
        rows = tokens.repeat(len(kept) + 1, 1)
        for row, words in zip(rows[1:], kept, strict=True):
            gone = [place for word in set(range(len(pieces))) - set(words.tolist()) for place in pieces[word][1]]
            row[gone] = encoder.backbone.tokenizer.pad_token_id
        return _drops(model, ItemTexts(rows.flatten(), torch.arange(len(rows) + 1) * len(tokens), 0), user_1D)

    def cut(kept: list[NDArray[np.int64]]) -> NDArray[np.float64]:
        """Return the drop of the score of the text without all other words."""
        assert model.text_encoder is not None
        texts = [text]
        for words in kept:
            rest, gone = text, set(range(len(pieces))) - set(words.tolist())
            for start, end in sorted((pieces[word][0] for word in gone), reverse=True):
                rest = rest[:start] + rest[end:]
            texts.append(" ".join(rest.split()) or ".")
        return _drops(model, model.text_encoder.tokenize(texts), user_1D)

    of_mask = _measured(orders, len(pieces), "words", masked, rng)
    of_cut = _measured(orders, len(pieces), "words", cut, rng, shares=False)
    return {f"masked: {name}": row for name, row in of_mask.items()} | {
        f"cut out: {name}": row for name, row in of_cut.items()
    }


def _measured(
    orders: dict[str, Order],
    size: int,
    kind: str,
    drops: Callable[[list[NDArray[np.int64]]], NDArray[np.float64]],
    rng: np.random.Generator,
    *,
    shares: bool = True,
) -> dict[str, dict[str, float]]:
    """Return the drops for each order, and for random ones, which are the mean over draws."""
    draws = list(orders.items())
    draws += [("random", rng.permutation(size)) for _ in range(DRAWS[kind])]
    wanted, kept = [], []
    for name, order in draws:
        for label, part in _parts(order, shares):
            wanted.append((name, label))
            kept.append(part)
    found: dict[str, dict[str, list[float]]] = {}
    for (name, label), drop in zip(wanted, drops(kept).tolist(), strict=True):
        found.setdefault(name, {}).setdefault(label, []).append(drop)
    return {name: {label: float(np.mean(values)) for label, values in row.items()} for name, row in found.items()}


def _parts(order: Order, shares: bool) -> Iterator[tuple[str, NDArray[np.int64]]]:
    """Yield what is kept, by what its drop is called; those of one name are averaged."""
    yield "top 1", order[1:]
    yield "top 3", order[3:]
    if not shares:
        return
    for share in SHARES:
        count = max(1, math.ceil(share * len(order)))
        yield "comprehensiveness", order[count:]
        yield "sufficiency", order[:count]


@torch.no_grad()
def _drops(model: RecommenderModel, texts: ItemTexts, user_1D: torch.Tensor) -> NDArray[np.float64]:
    """Return the score of the first text less those of the others."""
    assert model.text_encoder is not None
    items_CD = model.item_vectors(model.text_encoder.encode(texts), None)
    scores_C = model.scale() * (items_CD @ user_1D[0])
    drops: NDArray[np.float64] = (scores_C[0] - scores_C[1:]).double().cpu().numpy()
    return drops


def _pieces(model: RecommenderModel, text: str) -> list[tuple[tuple[int, int], list[int]]]:
    """Return the words of letters or digits of a text, with the places of their tokens."""
    encoder = model.text_encoder
    assert encoder is not None
    spans = token_spans(
        encoder.backbone.tokenizer, text, max_tokens=encoder.config.max_tokens, prefix=encoder.prefix
    )  # fmt: skip
    words = words_of(text, spans)
    return [(span, places) for span, places in words if any(letter.isalnum() for letter in text[slice(*span)])]


def _rank_correlation(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Return Spearman's, of values without ties but for chance."""
    ranks = [values.argsort(kind="stable").argsort(kind="stable") for values in (first, second)]
    return float(np.corrcoef(*ranks)[0, 1])


def _add(rows: Rows, found: dict[str, dict[str, float]]) -> None:
    for name, row in found.items():
        for label, value in row.items():
            rows.setdefault(name, {}).setdefault(label, []).append(value)


def _summary(rows: Rows) -> dict[str, Any]:
    """Return means with intervals, and differences from random evidence, which are paired by user."""
    result: dict[str, Any] = {}
    for name, row in rows.items():
        random = rows.get("cut out: random" if name.startswith("cut") else
                          "masked: random" if name.startswith("masked") else "random", {})  # fmt: skip
        result[name] = {}
        for label, values in row.items():
            result[name][label] = _mean(np.array(values))
            if label in random and "random" not in name:
                result[name][label]["less random"] = _mean(np.array(values) - np.array(random[label]))
    return result


def _mean(values: NDArray[np.float64]) -> dict[str, Any]:
    low, high = bootstrap_interval(values)
    return {"mean": float(values.mean()), "low": low, "high": high, "users": len(values)}


def write_tables(document: Path, results: Path) -> None:
    """Write the tables of all results between the marks of a document."""
    mark = "<!-- fidelity -->"
    parts = document.read_text(encoding="utf-8").split(mark)
    if len(parts) != 3:
        raise InputError(f"{document}: must hold the mark {mark} twice")
    found = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(results.glob("*.json"))}
    tables = "\n\n".join(table(name, result) for name, result in found.items())
    document.write_text(f"{parts[0]}{mark}\n{tables}\n\n{mark}{parts[2]}", encoding="utf-8")


def table(name: str, result: dict[str, Any]) -> str:
    """Return what was found of one run as Markdown."""
    labels = ("top 1", "top 3", "comprehensiveness", "sufficiency")
    head = f"| evidence | named by | {' | '.join(labels)} | top 3 less random |"
    lines = [head, "|---|---|" + "---|" * (len(labels) + 1)]
    for kind in ("history", "words"):
        for way, row in result[kind].items():
            if "top 1" in row:
                more = row["top 3"].get("less random")
                where, by = way.split(": ") if ": " in way else (kind, way)
                of = f"words, {where}" if kind == "words" else where
                cells = " | ".join(_cell(row[label]) if label in row else "" for label in labels)
                lines.append(f"| {of} | {by} | {cells} | {_cell(more, sign=True) if more else ''} |")
    texts = result["words"].get("attribution")
    users = f"{result['users']} of {result['eligible']} users, seed {result['seed']}"
    lines = [f"**{name}** ({result['trained']}; {users}):", "", *lines]
    against = result["history"].get("attention against leave-one-out")
    notes = []
    if against is not None:
        notes.append(
            f"Attention against leave-one-out: rank correlation {_cell(against['rank correlation'])}; the first event "
            f"is the same for {_share(against['same first event'])} of users."
        )
    if texts is not None:
        notes.append(
            f"Words: {texts['residual']['users']} users; mean |residual| {texts['residual']['mean']:.3f} of a mean "
            f"{texts['score less baseline']['mean']:.2f}; complete for {_share(texts['complete'])}, "
            f"{texts['steps']['mean']:.0f} steps on average; {1000 * result['seconds_per_text']:.0f} ms a text "
            f"(median of one run, {result['threads']} thread)."
        )
    return "\n".join([*lines, "", *notes])


def _cell(value: dict[str, Any], *, sign: bool = False) -> str:
    form = "+.2f" if sign else ".2f"
    return f"{value['mean']:{form}} [{value['low']:{form}}, {value['high']:{form}}]"


def _share(value: dict[str, Any]) -> str:
    return f"{100 * value['mean']:.0f} % [{100 * value['low']:.0f}, {100 * value['high']:.0f}]"


if __name__ == "__main__":
    main()
