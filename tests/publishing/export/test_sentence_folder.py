"""sentence-transformers gives our vectors, by modules of its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from peftrec.config import InputError
from peftrec.encoders import EncoderConfig, ItemEncoder
from peftrec.publishing import load_run
from peftrec.publishing.export.sentence_folder import _head

pytest.importorskip("sentence_transformers")
Export = Callable[..., dict[str, Any]]
TEXTS = ["small red wine", "one that was not there", "  spaces\n", "large blue cheese " * 30]


def encode(folder: Path, texts: list[str]) -> torch.Tensor:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    return torch.from_numpy(model.encode(texts, show_progress_bar=False))


def text_vectors(run: Path, texts: list[str]) -> torch.Tensor:
    model = load_run(run).model
    assert model is not None
    assert model.text_encoder is not None
    return model.text_encoder.encode(model.text_encoder.tokenize(texts))


def item_vectors(run: Path, texts: list[str]) -> torch.Tensor:
    model = load_run(run).model
    assert model is not None
    return model.encode_new_items(texts)


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_it_gives_our_text_vectors(
    family: str, runs: Callable[..., Path], prefixed: Callable[..., Any], export: Export, tmp_path: Path
) -> None:
    run = runs(*prefixed(family))
    report = export(run, tmp_path / "out", "sentence-transformers")
    expected = text_vectors(run, TEXTS)
    torch.testing.assert_close(encode(tmp_path / "out", TEXTS), expected, rtol=0, atol=1e-5)
    assert report["vectors"] == "text"
    assert report["check"]["written"]["absolute"] < 1e-5
    assert report == json.loads((tmp_path / "out" / "export.json").read_text())
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(
    "overrides",
    [
        ("encoder.inputs=text+ids", "encoder.embedding_dim=16", "encoder.item_bias=true"),
        ("encoder.head=projection", "encoder.embedding_dim=16", "scorer.kind=dot"),
        ("encoder.whitening=false", "encoder.pooling=cls", "method={kind: bitfit}", "encoder.inputs=text"),
        ("encoder.whitening_power=0.5", "method={kind: frozen}", "encoder.inputs=text", "training.num_epochs=2"),
    ],
)
def test_projected_it_gives_the_vectors_of_new_items(
    overrides: tuple[str, ...], runs: Callable[..., Path], export: Export, tmp_path: Path
) -> None:
    run = runs(*overrides)
    export(run, tmp_path / "out", "sentence-transformers", projected=True)
    expected = item_vectors(run, TEXTS)
    torch.testing.assert_close(encode(tmp_path / "out", TEXTS), expected, rtol=0, atol=1e-5)
    modules = json.loads((tmp_path / "out" / "modules.json").read_text())
    assert all(module["type"].startswith("sentence_transformers.") for module in modules)
    assert not list((tmp_path / "out").rglob("*.py"))


@pytest.mark.parametrize(
    "settings",
    [
        {"embedding_dim": 6},
        {"whitening": False},
        {"head": "projection", "embedding_dim": 6},
        {"head": "projection", "whitening": False, "embedding_dim": 12},
    ],
)
def test_every_part_of_the_head_is_in_it(settings: dict[str, Any]) -> None:
    torch.manual_seed(0)
    head = ItemEncoder(EncoderConfig(residual_dim=5, **settings), 8, None).eval()
    head.fit_whitening(torch.randn(50, 8))
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter)
    vectors = torch.randn(7, 8)
    features = {"sentence_embedding": vectors}
    for module in _head(head):
        features = module(features)
    torch.testing.assert_close(features["sentence_embedding"], head(vectors, None), rtol=0, atol=1e-5)


@pytest.mark.slow
def test_full_fine_tuning_is_written_as_it_is(runs: Callable[..., Path], export: Export, tmp_path: Path) -> None:
    run = runs("method={kind: full, layers: 1}")
    for kind in ("sentence-transformers", "merged"):
        report = export(run, tmp_path / kind, kind)
        assert report["method"] == "full"
        assert report["check"]["drift"]["absolute"] < 1e-6
    torch.testing.assert_close(
        encode(tmp_path / "sentence-transformers", TEXTS), text_vectors(run, TEXTS), rtol=0, atol=1e-5
    )


def test_what_it_cannot_hold_is_refused(runs: Callable[..., Path], export: Export, tmp_path: Path) -> None:
    refused = {
        (
            "method={kind: adapter, reduction_factor: 4}",
        ): "cannot be merged .* --to sentence-transformers cannot hold it; --to onnx holds it",
        ("encoder.pooling=attention",): "pooling attention, whose weights --to sentence-transformers cannot hold",
        ("encoder.inputs=ids", "encoder.embedding_dim=16"): "knows items by their ids only",
        ("baseline={kind: popularity}",): "is a run of popularity, which has no language model",
    }
    for overrides, message in refused.items():
        with pytest.raises(InputError, match=message):
            export(runs(*overrides), tmp_path / "out", "sentence-transformers")
    assert not list(tmp_path.iterdir())


def test_a_head_that_is_written_wrongly_is_not_kept(
    runs: Callable[..., Path], prefixed: Callable[..., Any], export: Export, tmp_path: Path, monkeypatch: Any
) -> None:
    from sentence_transformers.sentence_transformer.modules import Dense

    save = Dense.save

    def save_less(self: Any, *arguments: Any, **named: Any) -> None:
        with torch.no_grad():
            self.linear.bias += 0.01
        save(self, *arguments, **named)

    monkeypatch.setattr(Dense, "save", save_less)
    with pytest.raises(InputError, match="read back does not give the run's vectors"):
        export(runs(*prefixed("bert")), tmp_path / "out", "sentence-transformers", projected=True)
    assert not list(tmp_path.iterdir())


def test_a_missing_package_names_the_extra(
    runs: Callable[..., Path], prefixed: Callable[..., Any], export: Export, tmp_path: Path, monkeypatch: Any
) -> None:
    import sys

    for kind, module in (
        ("sentence-transformers", "sentence_transformers"),
        ("onnx", "onnxruntime"),
        ("faiss", "faiss"),
    ):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, module, None)
            with pytest.raises(InputError, match=rf"--to {kind} needs {module}: pip install 'peftrec\[export\]'"):
                export(runs(*prefixed("bert")), tmp_path / "out", kind)
    assert not list(tmp_path.iterdir())
