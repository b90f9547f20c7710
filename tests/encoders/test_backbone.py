"""Loading backbones: where they come from, and what is said when they cannot be had."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from peftrec.config import InputError
from peftrec.encoders import PACKAGED_BACKBONES, load_backbone


def test_what_is_loaded(tiny_bert: Path, tiny_llama: Path) -> None:
    bert, llama = load_backbone(str(tiny_bert)), load_backbone(str(tiny_llama))
    assert (bert.dim, bert.causal, llama.dim, llama.causal) == (32, False, 32, True)
    assert bert.model.pooler is None
    assert llama.model.config.use_cache is False
    # This decoder's tokenizer has no padding token of its own.
    assert llama.tokenizer.pad_token_id == llama.tokenizer.eos_token_id == 0
    for backbone in (bert, llama):
        assert backbone.tokenizer.padding_side == "right"
        assert not backbone.model.training
        assert not any(parameter.requires_grad for parameter in backbone.model.parameters())
        assert backbone.default_prefix == ""


def test_fingerprint_tells_weights_apart(tiny_bert: Path, other_tiny_bert: Path) -> None:
    assert load_backbone(str(tiny_bert)).fingerprint == load_backbone(str(tiny_bert)).fingerprint
    assert load_backbone(str(tiny_bert)).fingerprint != load_backbone(str(other_tiny_bert)).fingerprint


def test_a_packaged_model_goes_by_its_hub_id(minilm: str) -> None:
    backbone = load_backbone(minilm)
    assert (backbone.base.name, backbone.dim, backbone.causal) == (minilm, 384, False)
    assert minilm in PACKAGED_BACKBONES


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("nobody/no-such-model", r"'nobody/no-such-model' cannot be loaded from the Hub: "),
        ("./gone", r"'./gone' is neither a Hub id \(owner/name\) nor a folder that exists"),
        ("/gone/model", "is neither a Hub id"),
        ("~/model", "is neither a Hub id"),
        ("a/b/c", "is neither a Hub id"),
        ("no spaces allowed", "is neither a Hub id nor a folder: Repo id must use"),
    ],
)
def test_what_cannot_be_loaded_is_one_clear_message_soon(name: str, expected: str) -> None:
    began = time.perf_counter()
    with pytest.raises(InputError, match=rf"^encoder\.backbone: .*{expected.removeprefix('^')}") as caught:
        load_backbone(name)
    assert time.perf_counter() - began < 5
    assert "\n" not in str(caught.value)


def test_folders_that_hold_no_backbone(tiny_bert: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be loaded from the folder"):
        load_backbone(str(tmp_path))
    for name in ("model.safetensors", "config.json"):
        folder = tmp_path / f"without_{name}"
        shutil.copytree(tiny_bert, folder)
        (folder / name).unlink()
        with pytest.raises(InputError, match="cannot be loaded from the folder"):
            load_backbone(str(folder))
    folder = tmp_path / "truncated"
    shutil.copytree(tiny_bert, folder)
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(InputError, match="cannot be loaded from the folder"):
        load_backbone(str(folder))


def test_a_backbone_without_tokenizer_is_refused(tiny_bert: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_bert, folder)
    for path in folder.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(InputError, match=r"has no tokenizer \(its vocabulary is empty\)"):
        load_backbone(str(folder))


def test_weights_that_are_not_all_there_are_refused(tiny_bert: Path, tmp_path: Path) -> None:
    """Missing weights would be filled with random numbers, silently."""
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "model"
    shutil.copytree(tiny_bert, folder)
    tensors = load_file(folder / "model.safetensors")
    tensors = {name: tensor for name, tensor in tensors.items() if "layer.1.attention" not in name}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"lacks \d+ of its weights, such as 'encoder\.layer\.1\.attention"):
        load_backbone(str(folder))


def test_half_precision_weights_are_raised(tiny_bert: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "half"
    shutil.copytree(tiny_bert, folder)
    tensors = {name: tensor.half() for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    assert {parameter.dtype for parameter in load_backbone(str(folder)).model.parameters()} == {torch.float32}


def test_prefixes_by_name(
    save_backbone: Callable[[Path, int], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_backbone(tmp_path / "intfloat" / "e5-tiny", 0)
    assert load_backbone("intfloat/e5-tiny").default_prefix == "query: "
