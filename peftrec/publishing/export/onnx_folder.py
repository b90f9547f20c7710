"""A run as ONNX graphs, with all that recommending needs beside them: no torch, no peftrec.

Shapes: Q texts, B users, L places of a history, N items of the catalogue, H width of text vectors, D width of item
vectors.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from peftrec.config import InputError
from peftrec.data import Dataset
from peftrec.models import RecommenderModel
from peftrec.publishing.ensemble_folder import EnsembleRun
from peftrec.publishing.export.gap import Gap
from peftrec.publishing.export.int8_loss import measure_loss, read_data
from peftrec.publishing.export.onnx_graph import HeadGraph, TextGraph, UserGraph, draw_graph
from peftrec.publishing.export.onnx_session import (
    HEAD_GRAPH,
    TEXT_GRAPH,
    USER_GRAPH,
    GraphScores,
    Session,
    encode_texts,
)
from peftrec.publishing.export.sample_history import SampleHistories
from peftrec.publishing.export.target import ExportTarget
from peftrec.publishing.export.text_model import TextModel, drift_lines, load_text_model
from peftrec.publishing.run_folder import Run

ITEM_VECTORS, ITEM_BIAS, ITEM_IDS = "item_vectors.npy", "item_bias.npy", "ids.json"
_TOLERANCE = 1e-4
_NUM_HISTORIES = 64


@dataclasses.dataclass(frozen=True, kw_only=True)
class OnnxTarget(ExportTarget):
    """ONNX graphs from tokens to text vectors, on to item vectors, and from a history's item vectors to a user vector.

    Beside them lie the tokenizer, item vectors, ids, and in `export.json` all that is needed to use them. Any method
    can be held. Batch and length are free.

    Args:
        int8: store the matrices of the language model and of the user encoder in 8 bits, and measure what it costs.
        data_root: folder of the data that this is measured on; None takes that of the run's recipe.
    """

    kind: ClassVar[str] = "onnx"
    modules: ClassVar[tuple[str, ...]] = ("onnx", "onnxscript", "onnxruntime")
    packages: ClassVar[tuple[str, ...]] = (*ExportTarget.packages, "onnx", "onnxscript", "onnxruntime")

    int8: bool = False
    data_root: str | None = None

    def options(self) -> dict[str, Any]:
        # Where the data lie is nobody else's business.
        return {"int8": self.int8}

    def check(self, run: Run) -> None:
        if isinstance(run, EnsembleRun):
            raise InputError(f"{run.folder}: is an ensemble; export its members, which lie in {run.folder / 'members'}")
        if run.recipe.baseline is not None:
            raise InputError(f"{run.folder}: is a run of {run.recipe.baseline.kind}, which has no encoder to export")
        assert run.model is not None
        if run.model.profiles is not None:
            raise InputError(
                f"{run.folder}: reads the texts of users (section profile), which --to onnx cannot hold; export the "
                f"items with --to sentence-transformers --projected"
            )
        if run.model.second_stage is not None:
            raise InputError(
                f"{run.folder}: scores the best items again (scorer.kind: {run.recipe.scorer.kind}), which --to onnx "
                f"cannot hold; train with scorer.kind: cosine"
            )

    def write(self, run: Run, folder: Path) -> dict[str, Any]:
        model = run.model
        assert model is not None
        assert run.vectors_ND is not None
        assert run.bias_N is not None
        dataset = read_data(run, self.data_root) if self.int8 else None
        model.cpu()
        vectors_ND, bias_N = run.vectors_ND.cpu(), run.bias_N.cpu()
        text = None if model.text_encoder is None else load_text_model(run)
        gaps = {} if text is None else _write_text(folder, model, text)
        gaps["user_vectors"] = _write_user(folder, model, vectors_ND)
        for name, gap in gaps.items():
            if not gap.absolute <= _TOLERANCE:
                raise InputError(
                    f"{run.folder}: the graphs that were written do not give the run's {name.replace('_', ' ')} (a "
                    f"number is off by {gap.absolute:.3g}, at most {_TOLERANCE:g} is rounding); nothing was kept"
                )
        check: dict[str, Any] = {} if text is None else text.figures()
        check |= {name: dataclasses.asdict(gap) for name, gap in gaps.items()}
        if dataset is not None:
            vectors_ND, check["int8"] = _round(run, dataset, folder, text, vectors_ND, bias_N)
        _write_items(folder, run, vectors_ND, bias_N)
        return {
            **({"method": "none", "quantization": "none"} if text is None else text.facts),
            "graphs": {path.name: Session(path).signature() for path in sorted(folder.glob("*.onnx"))},
            "score": "scale * (user . item) + bias",
            "scale": float(model.scale().detach()),
            "has_bias": bool(bias_N.any()),
            "max_history": model.max_history,
            "num_items": len(vectors_ND),
            "dim": vectors_ND.shape[1],
            "left_out": _left_out(model),
            "check": check,
        }

    def describe(self, report: Mapping[str, Any]) -> list[str]:
        check = report["check"]
        lines = [f"graphs: {', '.join(report['graphs'])}; vectors of {report['num_items']:,} items"]
        told = [f"{name} {check[name]['absolute']:.2e}" for name in _VECTORS if name in check]
        lines.append(f"onnxruntime gives the run's vectors up to: {', '.join(t.replace('_', ' ') for t in told)}")
        if "int8" in check:
            loss = check["int8"]["loss"]
            low, high = loss["interval"]
            lines.append(
                f"int8: {loss['metric']} {loss['float32']:.4f} becomes {loss['int8']:.4f} over {loss['num_users']:,} "
                f"users ({loss['split']}); difference {loss['difference']:+.4f} (95 %: {low:+.4f} to {high:+.4f}); "
                f"{check['int8']['bytes_before'] / 1e6:.1f} MB become {check['int8']['bytes_after'] / 1e6:.1f} MB"
            )
        lines += [f"left out: {what}" for what in report["left_out"]]
        return lines + (drift_lines(report) if "drift" in check else [])


_VECTORS = ("text_vectors", "item_vectors", "user_vectors")


def _write_text(folder: Path, model: RecommenderModel, text: TextModel) -> dict[str, Gap]:
    """Write tokenizer, text graph and head, and compare them alone, together, and with more padding than needed."""
    from torch.export import Dim

    encoder = text.encoder
    _write_tokenizer(folder, text)
    ids_CT = torch.full((2, 3), int(encoder.tokenize(text.texts).tokens_T[0]))
    axes = {0: Dim("batch", min=1), 1: Dim("tokens", min=1, max=encoder.config.max_tokens)}
    examples = {"input_ids": ids_CT, "attention_mask": torch.ones_like(ids_CT)}
    names = dict.fromkeys(examples, axes)
    draw_graph(TextGraph(encoder.cpu()), examples, names, "text_vector", folder / TEXT_GRAPH)
    head, text_2H = HeadGraph(model), torch.zeros(2, encoder.dim)
    draw_graph(head, {"text_vector": text_2H}, {"text_vector": {0: axes[0]}}, "item_vector", folder / HEAD_GRAPH)
    session, to_items = Session(folder / TEXT_GRAPH), Session(folder / HEAD_GRAPH)
    expected_QH = text.vectors_QH
    with torch.no_grad():
        expected_QD = model.item_vectors(expected_QH, None)
    found, found_items = [], []
    for rows in (*([row] for row in range(len(text.texts))), range(len(text.texts))):
        told = _tokens(folder, text, list(rows))
        found_CH = session(**told)
        found.append(Gap.between(torch.from_numpy(found_CH), expected_QH[list(rows)]))
        found_items.append(Gap.between(torch.from_numpy(to_items(text_vector=found_CH)), expected_QD[list(rows)]))
    return {"text_vectors": _widest(found), "item_vectors": _widest(found_items)}


def _write_tokenizer(folder: Path, text: TextModel) -> None:
    """Write the tokenizer so that whoever reads it alone cuts and pads as the run does."""
    from tokenizers import Tokenizer

    own = text.encoder.backbone.tokenizer
    tokenizer = Tokenizer.from_str(own.backend_tokenizer.to_str())
    tokenizer.enable_truncation(text.encoder.config.max_tokens)
    tokenizer.enable_padding(pad_id=own.pad_token_id, pad_token=own.pad_token)
    tokenizer.save(str(folder / "tokenizer.json"))


def _tokens(folder: Path, text: TextModel, rows: list[int]) -> dict[str, Any]:
    """Return inputs as anyone makes them from the folder; a batch is padded to the longest text that there may be."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    encoded = tokenizer.encode_batch([text.encoder.prefix + text.texts[row] for row in rows])
    ids, mask = (np.array([getattr(one, name) for one in encoded]) for name in ("ids", "attention_mask"))
    return {"input_ids": ids.astype(np.int64), "attention_mask": mask.astype(np.int64)}


def _write_user(folder: Path, model: RecommenderModel, vectors_ND: torch.Tensor) -> Gap:
    """Write the user graph and compare it over histories of all lengths, one of them empty."""
    from torch.export import Dim

    length = min(2, model.max_history)
    free = {0: Dim("batch", min=1)}
    if model.max_history > 1:
        free[1] = Dim("events", min=1, max=model.max_history)
    mask_BL = torch.ones(2, length, dtype=torch.int64)
    examples = {"item_vectors": vectors_ND[:1].expand(2, length, -1).contiguous(), "mask": mask_BL}
    if model.needs_times:
        examples["times"] = mask_BL.cumsum(1) * 1000
    draw_graph(UserGraph(model), examples, dict.fromkeys(examples, free), "user_vector", folder / USER_GRAPH)
    sample = SampleHistories.draw(_NUM_HISTORIES, len(vectors_ND), model.max_history)
    scores = _graph_scores(folder, model, vectors_ND, torch.zeros(len(vectors_ND)))
    scale, found = float(model.scale().detach()), []
    for rows in (slice(0, 1), slice(1, 2), slice(0, 7), slice(None)):
        histories_BL = sample.items_BL[rows].copy()
        histories_BL[3:4] = -1
        expected_BD = model.newest_user_vectors(
            torch.from_numpy(histories_BL), vectors_ND, times_BL=sample.times_BL[rows]
        )
        for width in {1, max(1, model.max_history // 2), model.max_history}:
            if (histories_BL[:, :-width] < 0).all():
                told = scores.user_vectors(histories_BL[:, -width:], times_BL=sample.times_BL[rows][:, -width:])
                found.append(Gap.between(told / scale, expected_BD))
    return _widest(found)


def _graph_scores(folder: Path, model: RecommenderModel, vectors_ND: torch.Tensor, bias_N: torch.Tensor) -> GraphScores:
    return GraphScores(
        Session(folder / USER_GRAPH),
        vectors_ND,
        bias_N,
        scale=float(model.scale().detach()),
        max_history=model.max_history,
        reads_times=model.needs_times,
    )


def _widest(gaps: list[Gap]) -> Gap:
    return Gap(absolute=max(gap.absolute for gap in gaps), relative=max(gap.relative for gap in gaps))


def _round(
    run: Run, dataset: Dataset, folder: Path, text: TextModel | None, vectors_ND: torch.Tensor, bias_N: torch.Tensor
) -> tuple[torch.Tensor, dict[str, Any]]:
    """Put graphs in 8 bits in place of those in float32; return item vectors by them, and what changed."""
    from peftrec.publishing.export.onnx_int8 import round_graph

    model = run.model
    assert model is not None
    full = _graph_scores(folder, model, vectors_ND, bias_N)
    rounded = [round_graph(folder / name) for name in (TEXT_GRAPH, USER_GRAPH) if (folder / name).exists()]
    if not any(one.num_matrices for one in rounded):
        raise InputError(f"{run.folder}: --int8 finds no matrix of weights in its graphs; leave it out")
    found: dict[str, Any] = {
        "num_matrices": sum(one.num_matrices for one in rounded),
        "bytes_before": sum(one.bytes_before for one in rounded),
        "bytes_after": sum(one.bytes_after for one in rounded),
    }
    if text is not None:
        session = Session(folder / TEXT_GRAPH)
        texts_NH = encode_texts(session, text.encoder, run.catalogue.texts, run.recipe.encoder.token_budget)
        with torch.no_grad():
            vectors_ND = model.item_vectors(texts_NH, torch.arange(len(texts_NH)))
        probes_QH = encode_texts(session, text.encoder, text.texts, run.recipe.encoder.token_budget)
        found["text_vectors"] = dataclasses.asdict(Gap.between(probes_QH, text.vectors_QH))
    scores = _graph_scores(folder, model, vectors_ND, bias_N)
    return vectors_ND, found | {"loss": measure_loss(run, dataset, full, scores)}


def _write_items(folder: Path, run: Run, vectors_ND: torch.Tensor, bias_N: torch.Tensor) -> None:
    np.save(folder / ITEM_VECTORS, vectors_ND.numpy().astype(np.float32), allow_pickle=False)
    if bias_N.any():
        np.save(folder / ITEM_BIAS, bias_N.numpy().astype(np.float32), allow_pickle=False)
    text = json.dumps(list(run.catalogue.ids), ensure_ascii=False, indent=0)
    (folder / ITEM_IDS).write_text(text + "\n", encoding="utf-8")


def _left_out(model: RecommenderModel) -> list[str]:
    """Say what the graphs do not read."""
    left = []
    if model.item_encoder.attributes is not None:
        left.append("attributes of new items (those of the catalogue are in item_vectors.npy)")
    if model.user_attributes is not None:
        left.append("attributes of users")
    return left
