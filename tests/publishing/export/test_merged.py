"""Merged models: plain transformers gives our vectors, and drift is measured and told."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from peftrec.config import InputError, RecipeError
from peftrec.encoders import load_backbone
from peftrec.publishing import load_run
from peftrec.publishing.export import EXPORTS
from peftrec.publishing.export.merged import MergedTarget

Export = Callable[..., dict[str, Any]]


def plain_vectors(folder: Path, texts: list[str]) -> torch.Tensor:
    """Vectors of texts as anyone would compute them with transformers, one at a time, from what `export.json` says."""
    from transformers import AutoModel, AutoTokenizer

    report = json.loads((folder / "export.json").read_text())
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder)
    vectors = []
    for text in texts:
        tokens = tokenizer(
            report["prefix"] + text, truncation=True, max_length=report["max_tokens"], return_tensors="pt"
        )
        with torch.no_grad():
            states = model(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]).last_hidden_state[0]
        vectors.append(states.mean(0) if report["pooling"] == "mean" else states[-1])
    return torch.stack(vectors)


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_plain_transformers_gives_our_vectors(
    family: str, runs: Callable[..., Path], prefixed: Callable[..., Any], export: Export, tmp_path: Path
) -> None:
    folder = runs(*prefixed(family))
    report = export(folder, tmp_path / "new" / "merged", "merged")
    assert (report["target"], report["options"]) == ("merged", {})
    assert (report["method"], report["quantization"], report["prefix"]) == ("lora", "none", "tea: ")
    check = report["check"]
    assert check["num_texts"] == len(load_file(folder / "probes.safetensors")["items"]) + 2
    assert check["merging"]["absolute"] < 1e-5
    assert check["merging"]["relative"] < 1e-5
    assert check["drift"] == check["merging"]
    assert check["written"]["absolute"] < 1e-6
    assert report["run_sha256"] == hashlib.sha256((folder / "peftrec.json").read_bytes()).hexdigest()
    assert report["versions"]["transformers"]
    run = load_run(folder)
    assert run.model is not None
    assert run.model.text_encoder is not None
    texts = [*run.catalogue.texts[:12], "one that was not there"]
    ours = run.model.text_encoder.encode(run.model.text_encoder.tokenize(texts))
    found = plain_vectors(tmp_path / "new" / "merged", texts)
    torch.testing.assert_close(found, ours, rtol=0, atol=1e-5)
    with run.model.text_encoder.method.disabled():
        base = run.model.text_encoder.encode(run.model.text_encoder.tokenize(texts))
    assert float((found - base).abs().max()) > 1e-2
    assert json.loads((tmp_path / "new" / "merged" / "export.json").read_text()) == report
    assert files(tmp_path / "new" / "merged") == {
        "config.json", "export.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"
    }  # fmt: skip
    assert files(tmp_path / "new") == {"merged"}
    assert {tensor.dtype for tensor in load_file(tmp_path / "new" / "merged" / "model.safetensors").values()} == {
        torch.float32
    }
    assert load_backbone(str(tmp_path / "new" / "merged")).fingerprint != report["backbone"]["fingerprint"]


@pytest.mark.parametrize("kind", ["nf4", "fp4", "int8"])
def test_drift_from_quantised_weights_is_measured(
    kind: str, runs: Callable[..., Path], export: Export, tmp_path: Path
) -> None:
    pytest.importorskip("bitsandbytes")
    folder = runs(f"encoder.quantization={kind}")
    report = export(folder, tmp_path / "merged", "merged")
    assert report["quantization"] == kind
    assert report["check"]["merging"]["absolute"] < 1e-5
    run = load_run(folder)
    assert run.model is not None
    assert run.model.text_encoder is not None
    items = load_file(folder / "probes.safetensors")["items"]
    trained = run.model.text_encoder.encode(run.model.text_encoder.tokenize([run.catalogue.texts[i] for i in items]))
    found = plain_vectors(tmp_path / "merged", [run.catalogue.texts[i] for i in items])
    gap = float((found - trained).abs().max())
    assert gap > 1e-3
    assert report["check"]["drift"]["absolute"] >= gap - 1e-4
    relative = ((found - trained).norm(dim=1) / trained.norm(dim=1)).max()
    assert report["check"]["drift"]["relative"] >= float(relative) - 1e-4
    # The base is the published one, not the rounded one put into full precision.
    assert report["backbone"]["fingerprint"] == load_backbone(run.recipe.encoder.backbone).fingerprint


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("method.kind=frozen",), "'frozen', which leaves nothing to merge"),
        (("method={kind: adapter, reduction_factor: 4}",), "'adapter', which cannot be merged .* --to onnx holds it"),
        (("encoder.pooling=attention",), "pooling attention, whose weights --to merged cannot hold"),
        (("encoder.inputs=ids", "encoder.embedding_dim=16"), "knows items by their ids only"),
        (("baseline={kind: popularity}",), "is a run of popularity, which has no language model"),
    ],
)
def test_what_cannot_be_merged_is_refused(
    overrides: tuple[str, ...], message: str, runs: Callable[..., Path], export: Export, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        export(runs(*overrides), tmp_path / "merged", "merged")
    assert files(tmp_path) == set()


def test_folders_that_are_taken_are_left_alone(
    runs: Callable[..., Path], prefixed: Callable[..., Any], export: Export, tmp_path: Path
) -> None:
    folder = runs(*prefixed("bert"))
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "notes.txt").write_text("mine")
    with pytest.raises(RecipeError, match="is there already; name a folder that does not exist or is empty"):
        export(folder, taken, "merged")
    with pytest.raises(RecipeError, match="is there already"):
        export(folder, taken / "notes.txt", "merged")
    (tmp_path / "half.partial").mkdir()
    with pytest.raises(RecipeError, match="remove what a stopped export has left"):
        export(folder, tmp_path / "half", "merged")
    (tmp_path / "empty").mkdir()
    export(folder, tmp_path / "empty", "merged")
    assert (tmp_path / "empty" / "model.safetensors").is_file()
    assert files(taken) == {"notes.txt"}


def test_what_was_written_wrongly_is_not_kept(
    runs: Callable[..., Path],
    prefixed: Callable[..., Any],
    backbones: dict[str, Path],
    export: Export,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = runs(*prefixed("bert"))
    from transformers import BertModel

    def save_base(_: Any, target: Path) -> None:
        for name in ("config.json", "model.safetensors"):
            shutil.copy(backbones["bert"] / name, target)

    monkeypatch.setattr(BertModel, "save_pretrained", save_base)
    with pytest.raises(InputError, match="does not give the merged vectors"):
        export(folder, tmp_path / "merged", "merged")
    assert files(tmp_path) == set()


def test_a_merge_that_changes_vectors_is_not_written(
    runs: Callable[..., Path],
    prefixed: Callable[..., Any],
    backbones: dict[str, Path],
    export: Export,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from peftrec.methods.peft_method import AppliedPeft

    whole = AppliedPeft.merge

    def merge_zeros(self: AppliedPeft) -> None:
        for name, parameter in self.named_parameters().items():
            if "lora_B" in name:
                parameter.data.zero_()
        whole(self)

    monkeypatch.setattr(AppliedPeft, "merge", merge_zeros)
    folder = runs(*prefixed("bert"))
    with pytest.raises(InputError, match="merged and unmerged model differ by"):
        export(folder, tmp_path / "merged", "merged")
    assert files(tmp_path) == set()


def test_sixteen_bits_are_named_and_their_drift_is_told(
    runs: Callable[..., Path], export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = runs("encoder.dtype=bfloat16", "method={kind: lora, rank: 4}")
    report = export(run, tmp_path / "out", "merged")
    assert report["dtype"] == "bfloat16"
    assert 1e-4 < report["check"]["drift"]["relative"] < 0.1
    lines = "\n".join(EXPORTS.load("merged")().describe(report))
    assert "merged and trained (bfloat16)" in lines
    assert "trained on vectors of the bfloat16 model; measure before" in lines
    monkeypatch.setattr("peftrec.publishing.export.text_model._TOLERANCE_16_BIT", 1e-6)
    with pytest.raises(InputError, match=r"differs from the trained one \(bfloat16\) by .* nothing was written"):
        export(run, tmp_path / "off", "merged")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_report_names_no_folder_of_this_machine(runs: Callable[..., Path], export: Export, tmp_path: Path) -> None:
    run = runs("method={kind: lora, rank: 4}")
    report = export(run, tmp_path / "out", "merged")
    backbone = json.loads((run / "peftrec.json").read_text())["backbone"]
    assert Path(backbone["name"]).is_absolute()
    assert report["backbone"] == {
        "name": Path(backbone["name"]).name, "local": True, "revision": None, "fingerprint": backbone["fingerprint"],
    }  # fmt: skip


def test_a_place_that_cannot_be_written_is_named_before_anything_is_loaded(export: Export, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RecipeError, match=f"{tmp_path}/file: is a file, so that nothing can be written below it"):
        export(tmp_path / "no run", tmp_path / "file" / "deep" / "out", "merged")
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_disk_that_is_full_is_told_and_nothing_is_left(
    runs: Callable[..., Path], export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(MergedTarget, "write", full)
    with pytest.raises(InputError, match="out: cannot be written: No space left on device; nothing was kept"):
        export(runs("method={kind: lora, rank: 4}"), tmp_path / "out", "merged")
    assert list(tmp_path.iterdir()) == []
