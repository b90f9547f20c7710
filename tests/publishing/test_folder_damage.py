"""Folders damaged by chance, and folders made wrong on purpose: an error of input, by name, and never silence."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from peftrec.config import InputError, read_yaml
from peftrec.publishing import load_run
from peftrec.publishing.manifest import file_table, sealed

READ = (
    "adapter_model.safetensors",
    "head.safetensors",
    "ids.safetensors",
    "item_vectors.safetensors",
    "items.jsonl",
    "items.safetensors",
    "probes.safetensors",
    "recipe.yaml",
)
Tensors = dict[str, torch.Tensor]


def manifest(folder: Path) -> Any:
    return json.loads((folder / "peftrec.json").read_text())


def rewrite(folder: Path, content: Any) -> None:
    (folder / "peftrec.json").write_text(json.dumps(sealed(content) if isinstance(content, dict) else content))


def sign(folder: Path) -> None:
    """Bring the checksums in line with the files, as someone who edits on purpose would."""
    rewrite(folder, {**manifest(folder), "files": file_table(folder)})


def flipped(whole: bytes, place: int, bit: int) -> bytes:
    return whole[:place] + bytes([whole[place] ^ (1 << bit)]) + whole[place + 1 :]


def refusal(folder: Path) -> str | None:
    """What a folder is refused with; None where it loads. Errors of other kinds are let through."""
    try:
        load_run(folder)
    except InputError as error:
        return str(error)
    return None


def names(folder: Path) -> list[str]:
    paths = (path for path in folder.rglob("*") if path.is_file() and "private" not in path.parts)
    return sorted(path.relative_to(folder).as_posix() for path in paths)


def test_a_changed_byte_of_any_file_is_seen(copy: Path) -> None:
    seeded = random.Random(0)
    for name in names(copy):
        if name == "peftrec.json":
            continue
        whole = (copy / name).read_bytes()
        for _ in range(4):
            (copy / name).write_bytes(flipped(whole, seeded.randrange(len(whole)), seeded.randrange(8)))
            with pytest.raises(InputError, match=rf"{name}: was edited or damaged"):
                load_run(copy)
        (copy / name).write_bytes(whole)
    load_run(copy)


def test_a_changed_byte_of_the_manifest_is_seen(copy: Path) -> None:
    seeded = random.Random(1)
    whole = (copy / "peftrec.json").read_bytes()
    before, refused = manifest(copy), 0
    for _ in range(60):
        (copy / "peftrec.json").write_bytes(flipped(whole, seeded.randrange(len(whole)), seeded.randrange(8)))
        if (told := refusal(copy)) is None:
            assert manifest(copy) == before  # white space
        else:
            refused += 1
            assert str(copy) in told
    assert refused > 50


def test_a_truncated_file_is_named(copy: Path) -> None:
    seeded = random.Random(2)
    for name in names(copy):
        whole = (copy / name).read_bytes()
        # A manifest without its last line end still is whole.
        for length in {0, 1, len(whole) - 2, *(seeded.randrange(len(whole) - 1) for _ in range(2))}:
            (copy / name).write_bytes(whole[:length])
            with pytest.raises(InputError, match=rf"{name}: (is damaged|has {length} bytes)"):
                load_run(copy)
        (copy / name).write_bytes(whole)


@pytest.mark.parametrize("name", READ)
def test_damage_under_right_checksums_is_an_error_of_input_or_does_no_harm(name: str, copy: Path) -> None:
    seeded = random.Random(name)
    whole = (copy / name).read_bytes()
    refused = 0
    for trial in range(8):
        # Headers are at the beginning, and there is most that can go wrong.
        place = seeded.randrange(len(whole) if trial % 3 else min(len(whole), 400))
        (copy / name).write_bytes(whole[:place] if trial % 4 == 3 else flipped(whole, place, seeded.randrange(8)))
        sign(copy)
        if (told := refusal(copy)) is not None:
            refused += 1
            assert str(copy) in told
    assert refused >= 2


def first(change: Callable[[torch.Tensor], torch.Tensor], key: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {**tensors, key: change(tensors[key]).contiguous()}


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("items.safetensors", first(lambda t: t[0], "bias"), r"'bias' has shape \(\)"),
        # It would be broadcast, and every item would have every score.
        ("items.safetensors", first(lambda t: t[:, None], "bias"), r"'bias' has shape \(40, 1\)"),
        ("items.safetensors", first(lambda t: t[:-1], "train_counts"), r"'train_counts' has shape \(39,\)"),
        ("items.safetensors", first(lambda t: t - 10**6, "train_counts"), "'train_counts' holds numbers below 0"),
        ("item_vectors.safetensors", first(lambda t: t[:, 0], "vectors"), r"'vectors' has shape \(40,\)"),
        ("item_vectors.safetensors", first(lambda t: t.flip(0), "vectors"), "others than this model gives"),
        ("item_vectors.safetensors", first(lambda t: t.to(torch.float8_e4m3fn), "vectors"), "float8.*no run stores"),
        ("item_vectors.safetensors", first(lambda t: t.to(torch.complex64), "vectors"), "complex64.*no run stores"),
        # With an infinite number among them, any difference would be within their tolerance.
        ("probes.safetensors", first(lambda t: t + torch.inf, "scores"), "'scores' holds numbers that are NaN or inf"),
        ("probes.safetensors", first(lambda t: t.double(), "scores"), "scores is torch.float64, not torch.float32"),
        ("head.safetensors", lambda tensors: {**tensors, "more": torch.zeros(2)}, "the head does not fit .*'more'"),
        ("adapter_model.safetensors", lambda tensors: {}, "the adapter does not fit .* missing"),
    ],
)
def test_tensors_that_are_not_the_models(
    name: str, change: Callable[[Tensors], Tensors], told: str, copy: Path
) -> None:
    save_file(change(load_file(copy / name)), copy / name)
    sign(copy)
    with pytest.raises(InputError, match=rf"{name}: .*{told}"):
        load_run(copy)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda c: c["text"].update(pooling="cls"), "tells 'cls' of text.pooling, where the model has 'mean'"),
        (lambda c: c["text"].pop("template"), "tells 'nothing' of text.template"),
        (lambda c: c["text"].update(more=1), "tells 1 of text.more, where the model has 'nothing'"),
        (lambda c: c["backbone"].update(name="a/b"), "tells 'a/b' of backbone.name"),
        (lambda c: c["backbone"].update(quantization="nf4"), "tells 'nf4' of backbone.quantization"),
        (lambda c: c.update(text=[]), "files, text or backbone are no mapping"),
        (lambda c: c.update(peftrec_version=1), "peftrec_version is no text"),
        (lambda c: c["files"]["metrics.json"].update(before=5), "'metrics.json' has no size and sha256"),
        (lambda c: c["files"]["metrics.json"].update(before={"bytes": 1}), "'metrics.json' has no size and sha256"),
        (lambda c: c["files"]["metrics.json"].update(bytes=True), "'metrics.json' has no size and sha256"),
        (lambda c: c["files"].update({"\ud800.json": c["files"]["metrics.json"]}), "is no plain name of a file"),
        (lambda c: c["files"].update({"a\nb.json": c["files"]["metrics.json"]}), "is no plain name of a file"),
        (lambda c: c["files"].update({"a/" * 2000 + "b.json": c["files"]["metrics.json"]}), "is no plain name of a"),
        (lambda c: c.update(num_items=41), "has 40 items, where peftrec.json has 41"),
    ],
)
def test_a_manifest_that_tells_of_something_else(change: Callable[[Any], object], told: str, copy: Path) -> None:
    content = manifest(copy)
    change(content)
    rewrite(copy, content)
    with pytest.raises(InputError, match=told):
        load_run(copy)


def test_links_that_lead_nowhere_or_look_like_the_cache(copy: Path, tmp_path: Path) -> None:
    whole = (copy / "metrics.json").read_bytes()
    (copy / "metrics.json").unlink()
    (copy / "metrics.json").symlink_to("metrics.json")
    with pytest.raises(InputError, match=r"metrics\.json: cannot be followed"):
        load_run(copy)
    (copy / "metrics.json").unlink()
    # Only of a repository in the Hub's cache is the folder `blobs` its own.
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / "x").write_bytes(whole)
    moved = Path(shutil.copytree(copy, tmp_path / "snapshots" / "run"))
    (moved / "metrics.json").symlink_to(tmp_path / "blobs" / "x")
    with pytest.raises(InputError, match=r"metrics\.json: is a link that leaves the run folder"):
        load_run(moved)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"\xff\xfe", "cannot be read"),
        (b'{"item_id": "a", "title": "\\ud800", "text": ""}\n', "line 1: is not an item"),
        (b'{"item_id": "a", "title": 1, "text": ""}\n', "line 1: is not an item"),
        (b"", "line 1: is not an item"),
    ],
)
def test_an_item_table_that_is_none(content: bytes, told: str, copy: Path) -> None:
    (copy / "items.jsonl").write_bytes(content)
    sign(copy)
    with pytest.raises(InputError, match=rf"items\.jsonl.*{told}"):
        load_run(copy)


def test_a_recipe_that_stands_for_more_than_memory_holds(copy: Path) -> None:
    levels = "&a0 [1, 1, 1, 1, 1, 1, 1, 1]"
    for level in range(1, 12):
        levels = f"&a{level} [{levels}, {', '.join([f'*a{level - 1}'] * 8)}]"
    text = (copy / "recipe.yaml").read_text()
    seed = next(line for line in text.split("\n") if line.startswith("  template:"))
    (copy / "recipe.yaml").write_text(text.replace(seed, f"  template: {levels}"))
    sign(copy)
    with pytest.raises(InputError, match=r"recipe\.yaml: holds 100,000 values or more"):
        load_run(copy)


def test_a_baseline_of_other_items(make_recipe: Callable[..., Any], tmp_path: Path) -> None:
    from peftrec.run import train

    folder = tmp_path / "popular"
    train(make_recipe("baseline.kind=popularity", output_dir=folder))
    tensors = load_file(folder / "baseline.safetensors")
    for change, told in (
        ({name: one[:-1].contiguous() for name, one in tensors.items()}, r"has shape \(39,\), where there are 40"),
        ({name: one.double() for name, one in tensors.items()}, "item_counts"),
        ({}, "item_counts"),
    ):
        save_file(change, folder / "baseline.safetensors")
        rewrite(folder, {**manifest(folder), "files": file_table(folder), "recipe": read_yaml(folder / "recipe.yaml")})
        with pytest.raises(InputError, match=rf"baseline\.safetensors: .*{told}"):
            load_run(folder)
