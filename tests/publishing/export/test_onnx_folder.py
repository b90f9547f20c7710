"""Graphs give the run's vectors to onnxruntime, and people who have nothing else can recommend."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from peftrec.config import InputError
from peftrec.publishing import load_run
from peftrec.publishing.export import onnx_graph
from peftrec.publishing.export.onnx_session import Session
from peftrec.recommender import Recommender

for package in ("onnx", "onnxscript", "onnxruntime", "tokenizers"):
    pytest.importorskip(package)
REPOSITORY = Path(__file__).parents[3]
Export = Callable[..., dict[str, Any]]
IDS = ("encoder.inputs=ids", "encoder.embedding_dim=16")
HISTORIES = [
    ["wine0"],
    ["wine0", "tea3", "wine2"],
    [f"bread{number}" for number in range(9)] + ["tea1", "tea2", "wine8"],
]
TEXTS = ["small red wine", "one that was not there", "large blue cheese " * 30]


@pytest.fixture(scope="module")
def text_run(runs: Callable[..., Path], prefixed: Callable[..., Any]) -> Path:
    return runs(*prefixed("bert"), "encoder.inputs=text+ids", "encoder.item_bias=true", "method.layers=1")


@pytest.fixture(scope="module")
def exported(text_run: Path, export: Export, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with text, ids and a learned logit as graphs."""
    folder = tmp_path_factory.mktemp("onnx") / "out"
    export(text_run, folder, "onnx")
    return folder


def test_the_report_says_all_that_is_needed(exported: Path, text_run: Path) -> None:
    report = json.loads((exported / "export.json").read_text())
    assert report["graphs"]["text_encoder.onnx"] == {
        "inputs": {
            "input_ids": {"shape": ["batch", "tokens"], "dtype": "int64"},
            "attention_mask": {"shape": ["batch", "tokens"], "dtype": "int64"},
        },
        "outputs": {"text_vector": {"shape": ["batch", 32], "dtype": "float32"}},
    }
    assert (report["prefix"], report["pooling"], report["max_tokens"]) == ("tea: ", "mean", 16)
    model = load_run(text_run).model
    assert model is not None
    assert report["scale"] == pytest.approx(float(model.scale()))
    assert report["has_bias"]
    assert report["options"] == {"int8": False}
    for name in ("text_vectors", "item_vectors", "user_vectors"):
        assert 0 < report["check"][name]["absolute"] < 1e-4
    assert {path.name for path in exported.iterdir()} == {
        "export.json", "ids.json", "item_bias.npy", "item_head.onnx", "item_vectors.npy", "text_encoder.onnx",
        "tokenizer.json", "user_encoder.onnx",
    }  # fmt: skip
    assert [path.name for path in exported.parent.iterdir()] == ["out"]


def run_example(folder: Path, asked: str) -> Any:
    """Run the code of docs/export.md where neither torch nor peftrec nor transformers can be imported."""
    document = (REPOSITORY / "docs" / "export.md").read_text(encoding="utf-8")
    (code,) = [
        block for block in re.findall(r"```python\n(.*?)```", document, flags=re.DOTALL) if "onnxruntime" in block
    ]
    code = code.replace('"exports/onnx"', repr(str(folder)))
    banned = "import sys\nfor name in ('torch', 'transformers', 'peftrec'): sys.modules[name] = None\n"
    words = [sys.executable, "-c", f"{banned}{code}print(json.dumps({asked}))\n"]
    return json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout)


def test_the_example_recommends_without_torch(exported: Path, text_run: Path) -> None:
    unknown = ["no such item", *HISTORIES[1], "nor this"]
    lists, vectors, of_known, of_none = run_example(
        exported,
        f"[[recommend(h) for h in {HISTORIES!r}], item_vectors({TEXTS!r}).tolist(), recommend({unknown!r}), "
        f"[recommend([]), recommend(['no such item'])]]",
    )
    recommender = Recommender(load_run(text_run))
    expected = recommender.recommend_batch(HISTORIES, k=10)
    assert lists == [[entry.item_id for entry in found] for found in expected]
    assert of_known == lists[1]
    bias, ids = np.load(exported / "item_bias.npy"), json.loads((exported / "ids.json").read_text())
    assert of_none == [[ids[row] for row in np.argsort(-bias, kind="stable")[:10]]] * 2
    model = load_run(text_run).model
    assert model is not None
    torch.testing.assert_close(torch.tensor(vectors), model.encode_new_items(TEXTS), rtol=0, atol=1e-4)


def test_the_example_passes_times_where_the_model_reads_them(
    runs: Callable[..., Path], export: Export, tmp_path: Path
) -> None:
    run = runs(*IDS, "user.kind=transformer", "user.time_intervals=true")
    export(run, tmp_path / "out", "onnx")
    times = [1_600_000_000_000, 1_600_000_500_000, 1_600_900_000_000]
    found, of_none = run_example(tmp_path / "out", f"[recommend({HISTORIES[1]!r}, times_ms={times!r}), recommend([])]")
    (expected,) = Recommender(load_run(run)).recommend_batch([HISTORIES[1]], k=10, times=[times])
    assert found == [entry.item_id for entry in expected]
    assert len(of_none) == 10


def test_batches_lengths_and_padding_change_nothing(exported: Path, text_run: Path) -> None:
    model = load_run(text_run).model
    assert model is not None
    encoder = model.text_encoder
    assert encoder is not None
    session = Session(exported / "text_encoder.onnx")
    for batch in (1, 2, 5):
        for length in (3, 7, 16):
            texts = ["red " * place for place in range(1, batch + 1)]
            expected = encoder.encode(encoder.tokenize(texts))
            told = encoder.load(encoder.tokenize(texts), torch.arange(batch))
            room = max(0, length - told["tokens_CP"].shape[1])
            ids, mask = (torch.nn.functional.pad(told[name].long(), (0, room)) for name in ("tokens_CP", "valid_CP"))
            found = session(input_ids=ids.numpy(), attention_mask=mask.numpy())
            np.testing.assert_allclose(found, expected.numpy(), rtol=0, atol=1e-4)


@pytest.mark.slow
def test_int8_is_measured_and_told(runs: Callable[..., Path], export: Export, tmp_path: Path, toy_data: Path) -> None:
    run = runs(*IDS)
    report = export(run, tmp_path / "out", "onnx", int8=True)
    loss = report["check"]["int8"]["loss"]
    assert loss["metric"] == "ndcg@10"
    stored = json.loads((run / "metrics.json").read_text())["test"]
    assert loss["num_users"] == stored["model"]["num_users"]
    assert loss["float32"] == pytest.approx(stored["model"]["metrics"]["ndcg@10"], abs=1e-6)
    assert loss["int8"] == pytest.approx(loss["float32"] + loss["difference"])
    assert loss["int8"] != loss["float32"]
    assert loss["interval"][0] <= loss["difference"] <= loss["interval"][1]
    assert report["check"]["int8"]["num_matrices"] > 0
    assert report["check"]["int8"]["bytes_after"] < report["check"]["int8"]["bytes_before"]
    assert report["options"] == {"int8": True}
    assert str(toy_data) not in json.dumps(report)
    with pytest.raises(InputError, match=r"which cannot be read: .*; name their folder with --data"):
        export(run, tmp_path / "lost", "onnx", int8=True, data_root=str(tmp_path / "gone"))
    other = Path(shutil.copytree(toy_data, tmp_path / "other"))
    items = (other / "items.csv").read_text().replace("wine0,", "port0,")
    (other / "items.csv").write_text(items)
    (other / "interactions.csv").write_text((other / "interactions.csv").read_text().replace("wine0,", "port0,"))
    with pytest.raises(InputError, match=r"on the data of the run, but those in .* have other"):
        export(run, tmp_path / "lost", "onnx", int8=True, data_root=str(other))
    assert {path.name for path in tmp_path.iterdir()} == {"out", "other"}


@pytest.mark.slow
def test_what_it_cannot_hold_is_refused(runs: Callable[..., Path], export: Export, tmp_path: Path) -> None:
    for overrides, message in (
        ((*IDS, "scorer={kind: mlp, num_candidates: 20}"), r"scores the best items again \(scorer.kind: mlp\)"),
        (
            ("profile={method: null, max_tokens: 56, item_tokens: 8, attribute_tokens: 8}",),
            r"reads the texts of users \(section profile\)",
        ),
        (("baseline={kind: popularity}",), "is a run of popularity, which has no encoder"),
    ):
        with pytest.raises(InputError, match=message):
            export(runs(*overrides), tmp_path / "out", "onnx")
    assert not list(tmp_path.iterdir())


def test_a_graph_that_computes_otherwise_is_not_kept(
    runs: Callable[..., Path], export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_graph, "_at", lambda states_BLX, place_B: states_BLX.mean(1))
    with pytest.raises(InputError, match="do not give the run's user vectors"):
        export(runs(*IDS), tmp_path / "out", "onnx")
    assert not list(tmp_path.iterdir())
