"""Run folders: what is in them, and that nothing damaged, edited or foreign is loaded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from peftrec.config import InputError, read_yaml
from peftrec.publishing import load_run
from peftrec.publishing.item_table import read_items, write_items
from peftrec.publishing.manifest import file_table, read_manifest, sealed
from peftrec.recipe import load_recipe

FILES = {
    "README.md", "adapter_config.json", "adapter_model.safetensors", "environment.json", "head.safetensors",
    "ids.safetensors", "item_vectors.safetensors", "items.jsonl", "items.safetensors", "metrics.json",
    "metrics.jsonl", "probes.safetensors", "recipe.yaml",
}  # fmt: skip


def manifest(folder: Path) -> Any:
    return json.loads((folder / "peftrec.json").read_text())


def rewrite(folder: Path, content: Any) -> None:
    (folder / "peftrec.json").write_text(json.dumps(sealed(content) if isinstance(content, dict) else content))


def sign(folder: Path) -> None:
    """Bring the checksums in line with the files, as someone who edits on purpose would."""
    rewrite(folder, {**manifest(folder), "files": file_table(folder), "recipe": read_yaml(folder / "recipe.yaml")})


def test_what_a_run_holds(trained: Path, tiny_bert: Path) -> None:
    content = manifest(trained)
    assert set(content["files"]) == FILES
    assert {path.name for path in trained.iterdir()} == FILES | {"peftrec.json", "private"}
    assert not [name for name in content["files"] if name.startswith("private")]
    assert (trained / "private" / "test_model.parquet").is_file()
    assert content["backbone"]["name"] == str(tiny_bert)
    assert content["backbone"]["local"] is True
    assert content["text"] == {"template": "{title}. {category}", "pooling": "mean", "prefix": "", "max_tokens": 16}
    # Adapter, head and ids are apart, each with its own keys only.
    adapter = load_file(trained / "adapter_model.safetensors")
    assert all(".lora_" in name for name in adapter)
    assert set(load_file(trained / "ids.safetensors")) == {
        f"item_encoder.{n}" for n in ("id_vectors", "bias", "has_id")
    }
    assert not [name for name in load_file(trained / "head.safetensors") if "text_encoder" in name or "id_" in name]
    metrics = json.loads((trained / "metrics.json").read_text())
    lm = next(row for row in metrics["parameters"] if row["part"] == "lm")
    assert lm["stored"] == sum(tensor.numel() for tensor in adapter.values())
    # No user id leaves with the folder.
    for name in FILES:
        assert b'"u1"' not in (trained / name).read_bytes()


def test_the_stored_recipe_is_resolved(trained: Path) -> None:
    recipe = load_run(trained).recipe
    assert recipe == load_recipe(trained / "recipe.yaml")
    assert recipe.optimizer.learning_rate == 0.002


def test_a_loaded_run_gives_the_stored_vectors_and_scores(trained: Path) -> None:
    run = load_run(trained)
    assert run.model is not None
    vectors, bias = run.model.encode_catalogue()
    torch.testing.assert_close(vectors, run.vectors_ND, rtol=0, atol=1e-6)
    torch.testing.assert_close(bias, run.bias_N, rtol=0, atol=1e-6)
    assert run.scores(np.array([[-1, 3]])).shape == (1, len(run.catalogue))
    assert not run.model.training


@pytest.mark.parametrize("name", sorted(FILES | {"peftrec.json"}))
def test_every_file_is_missed_and_every_change_is_seen(name: str, copy: Path) -> None:
    path = copy / name
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", whole + b" "):
        if name == "peftrec.json" and damaged == whole + b" ":
            continue
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=name.replace(".", r"\.")):
            load_run(copy)
    if name != "peftrec.json":
        for place in (0, len(whole) // 2, len(whole) - 1):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            with pytest.raises(InputError, match=name.replace(".", r"\.")):
                load_run(copy)
    path.unlink()
    with pytest.raises(InputError, match=name.replace(".", r"\.")):
        load_run(copy)
    path.mkdir()
    with pytest.raises(InputError, match=name.replace(".", r"\.")):
        load_run(copy)


def test_a_damaged_manifest_never_ends_in_a_traceback(copy: Path) -> None:
    whole = (copy / "peftrec.json").read_bytes()
    refused = 0
    for place in range(0, len(whole), 37):
        (copy / "peftrec.json").write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        try:
            read_manifest(copy)
        except InputError:
            refused += 1
    assert refused > 20


@pytest.mark.parametrize(
    "change",
    [
        lambda m: [],
        lambda m: {**m, "format_version": 99},
        lambda m: {**m, "files": []},
        lambda m: {**m, "files": {**m["files"], "head.safetensors": "abc"}},
        lambda m: {**m, "files": {**m["files"], "head.safetensors": {}}},
        lambda m: {**m, "backbone": "bert"},
        lambda m: {**m, "backbone": None},
        lambda m: {**m, "backbone": {**m["backbone"], "fingerprint": "0" * 64}},
        lambda m: {**m, "extra": 1},
        lambda m: {key: value for key, value in m.items() if key != "files"},
        lambda m: {**m, "files": {}},
    ],
)
def test_an_edited_manifest_is_refused(change: Callable[[Any], Any], copy: Path) -> None:
    rewrite(copy, change(manifest(copy)))
    with pytest.raises(InputError):
        load_run(copy)


# Those that nothing reads when a run is loaded are left out, and vectors, without which it loads.
UNREAD = {"README.md", "environment.json", "metrics.json", "metrics.jsonl", "item_vectors.safetensors"}


@pytest.mark.parametrize("name", sorted(FILES - UNREAD))
def test_a_file_taken_off_the_list_is_not_trusted(name: str, copy: Path) -> None:
    content = manifest(copy)
    del content["files"][name]
    rewrite(copy, content)
    with pytest.raises(InputError, match=name.replace(".", r"\.")):
        load_run(copy)
    (copy / name).unlink()
    with pytest.raises(InputError, match=name.replace(".", r"\.")):
        load_run(copy)


@pytest.mark.parametrize(
    "name",
    ["../outside.json", "/etc/host.json", "private/../../outside.json", "a\\b.json", "C:a.json", "a//b.json", ""],
)
def test_a_manifest_cannot_point_out_of_its_folder(name: str, copy: Path) -> None:
    (copy.parent / "outside.txt").write_text("x")
    content = manifest(copy)
    content["files"][name] = {"sha256": "0" * 64, "bytes": 1}
    rewrite(copy, content)
    with pytest.raises(InputError, match="lies outside the folder"):
        load_run(copy)


def test_a_folder_of_links_is_loaded_as_the_hub_cache_lays_them_out(copy: Path) -> None:
    entry = copy.parent / "models--someone--run"
    snapshot, blobs = entry / "snapshots" / "0123abc", entry / "blobs"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for path in [path for path in copy.iterdir() if path.is_file()]:
        (blobs / path.name).write_bytes(path.read_bytes())
        (snapshot / path.name).symlink_to(Path("..") / ".." / "blobs" / path.name)
    assert load_run(snapshot).model is not None
    (blobs / "head.safetensors").write_bytes(b"x" * (blobs / "head.safetensors").stat().st_size)
    with pytest.raises(InputError, match="was edited or damaged"):
        load_run(snapshot)


def test_other_links_are_refused(copy: Path) -> None:
    for name in ("head.safetensors", "peftrec.json"):
        outside = copy.parent / name
        (copy / name).rename(outside)
        (copy / name).symlink_to(outside)
        with pytest.raises(InputError, match=rf"{name}: is a link that leaves the run folder"):
            load_run(copy)
        (copy / name).unlink()
        outside.rename(copy / name)


@pytest.mark.parametrize("name", ["weights.bin", "code.py", "model.pt", "x.pkl", "noending"])
def test_files_of_other_kinds_are_refused(name: str, copy: Path) -> None:
    (copy / name).write_text("x")
    sign(copy)
    with pytest.raises(InputError, match="no kind of file that a run folder holds"):
        load_run(copy)


def test_what_is_not_listed_is_never_read(copy: Path) -> None:
    (copy / "code.py").write_text("raise SystemExit")
    (copy / "user_adapter").mkdir()
    (copy / "user_adapter" / "adapter_model.safetensors").write_bytes(b"x")
    load_run(copy)


def test_without_item_vectors_the_catalogue_is_encoded(copy: Path, caplog: pytest.LogCaptureFixture) -> None:
    stored = load_run(copy)
    (copy / "item_vectors.safetensors").unlink()
    sign(copy)
    with caplog.at_level("INFO"):
        encoded = load_run(copy)
    assert "holds no item vectors; the catalogue is encoded" in caplog.text
    assert stored.vectors_ND is not None
    assert encoded.vectors_ND is not None
    torch.testing.assert_close(encoded.vectors_ND, stored.vectors_ND, rtol=0, atol=1e-5)
    histories = np.array([[-1, 3], [7, 8]])
    torch.testing.assert_close(encoded.scores(histories), stored.scores(histories), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("item_vectors.safetensors", lambda t: {"vectors": t["vectors"].half()}, "'vectors' is torch.float16"),
        ("item_vectors.safetensors", lambda t: {"vectors": t["vectors"][:, :-1].contiguous()}, "columns"),
        ("item_vectors.safetensors", lambda t: {"vectors": t["vectors"] * torch.nan}, "NaN or infinite"),
        (
            "item_vectors.safetensors",
            lambda t: {**t, "more": t["vectors"].clone()},
            "'more' is torch.float32, and belongs",
        ),
        ("items.safetensors", lambda t: {"bias": t["bias"]}, "'train_counts' is missing"),
        ("items.safetensors", lambda t: {**t, "train_counts": t["train_counts"].float()}, "'train_counts' is"),
        ("head.safetensors", lambda t: {name: one.double() for name, one in t.items()}, "is torch.float64, expected"),
        ("head.safetensors", lambda t: {name: one * torch.inf for name, one in t.items()}, "NaN or infinite"),
        ("adapter_model.safetensors", lambda t: {name: one * torch.nan for name, one in t.items()}, "NaN or infinite"),
        ("adapter_model.safetensors", lambda t: {name: one.half() for name, one in t.items()}, "is torch.float16"),
    ],
)
def test_tensors_of_another_kind_are_refused(name: str, change: Any, told: str, copy: Path) -> None:
    save_file(change(load_file(copy / name)), copy / name)
    sign(copy)
    with pytest.raises(InputError, match=told.replace(".", r"\.")):
        load_run(copy)


def test_the_recipe_stands_in_the_manifest_too(copy: Path) -> None:
    content = manifest(copy)
    assert content["recipe"] == load_run(copy).recipe.to_dict()
    assert content["num_items"] == 40
    content["recipe"]["method"]["rank"] = 5
    rewrite(copy, content)
    with pytest.raises(
        InputError, match=r"recipe\.yaml: is not the recipe that peftrec\.json holds .*differ in method"
    ):
        load_run(copy)


def test_deep_and_large_files_are_refused(copy: Path) -> None:
    whole = (copy / "peftrec.json").read_text()
    (copy / "peftrec.json").write_text("[" * 100_000)
    with pytest.raises(InputError, match=r"peftrec\.json: is damaged"):
        load_run(copy)
    (copy / "peftrec.json").write_text(whole)
    for name, text in (("items.jsonl", '{"item_id": ' + "[" * 100_000), ("recipe.yaml", "a: " + "[" * 5_000)):
        before = (copy / name).read_text()
        (copy / name).write_text(text)
        content = manifest(copy)
        rewrite(copy, {**content, "files": file_table(copy)})
        with pytest.raises(InputError, match=name.replace(".", r"\.")):
            load_run(copy)
        (copy / name).write_text(before)
    (copy / "recipe.yaml").write_text((copy / "recipe.yaml").read_text() + "#" * 2**20)
    sign(copy)
    with pytest.raises(InputError, match="no recipe has more"):
        load_run(copy)


def test_folders_that_are_no_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such run folder"):
        load_run(tmp_path / "gone")
    with pytest.raises(InputError, match=r"is not a run folder \(peftrec\.json is missing\)"):
        load_run(tmp_path)


def test_another_backbone_is_refused(copy: Path, other_tiny_bert: Path, tiny_bert: Path, tmp_path: Path) -> None:
    recipe = (copy / "recipe.yaml").read_text()
    (copy / "recipe.yaml").write_text(recipe.replace(str(tiny_bert), str(other_tiny_bert)))
    sign(copy)
    with pytest.raises(
        InputError, match=r"was trained on .* \(fingerprint [0-9a-f]{12}\), but the backbone found here"
    ):
        load_run(copy)
    # Even with the fingerprint of the other one written in, the stored vectors tell.
    from peftrec.encoders import load_backbone

    content = manifest(copy)
    content["backbone"]["fingerprint"] = load_backbone(str(other_tiny_bert)).fingerprint
    rewrite(copy, content)
    with pytest.raises(InputError, match=r"does not give the (item|text) vectors that were stored"):
        load_run(copy)


def test_a_backbone_that_is_gone_is_named(copy: Path, tiny_bert: Path) -> None:
    recipe = (copy / "recipe.yaml").read_text()
    (copy / "recipe.yaml").write_text(recipe.replace(str(tiny_bert), "/gone/model"))
    sign(copy)
    with pytest.raises(InputError, match="'/gone/model' is neither a Hub id"):
        load_run(copy)


def test_foreign_adapters_and_heads_are_refused(copy: Path) -> None:
    for name in ("adapter_model.safetensors", "head.safetensors", "ids.safetensors"):
        whole = (copy / name).read_bytes()
        tensors = load_file(copy / name)
        first = sorted(tensors)[0]
        changes: list[dict[str, torch.Tensor]] = [
            {f"foreign.{key}": tensor for key, tensor in tensors.items()},
            {key: tensor for key, tensor in tensors.items() if key != first},
            {**tensors, first: torch.zeros(1, 2, 3)},
        ]
        for change in changes:
            save_file(change, copy / name)
            sign(copy)
            with pytest.raises(InputError, match="does not fit this backbone and recipe"):
                load_run(copy)
        (copy / name).write_bytes(b"not safetensors at all")
        sign(copy)
        with pytest.raises(InputError, match=name.replace(".", r"\.")):
            load_run(copy)
        (copy / name).write_bytes(whole)
    sign(copy)
    load_run(copy)


def test_an_adapter_of_other_values_is_seen_by_its_vectors(copy: Path) -> None:
    tensors = load_file(copy / "adapter_model.safetensors")
    save_file({key: torch.zeros_like(tensor) for key, tensor in tensors.items()}, copy / "adapter_model.safetensors")
    sign(copy)
    with pytest.raises(InputError, match=r"does not give the (item|text) vectors"):
        load_run(copy)
    assert load_run(copy, verify=False).model is not None


def test_stored_item_vectors_must_fit_the_catalogue(copy: Path) -> None:
    tensors = load_file(copy / "item_vectors.safetensors")
    save_file({**tensors, "vectors": tensors["vectors"][:-1].contiguous()}, copy / "item_vectors.safetensors")
    sign(copy)
    with pytest.raises(InputError, match=r"item_vectors\.safetensors"):
        load_run(copy)


def test_a_recipe_edited_to_nonsense_is_refused(copy: Path) -> None:
    for old, new in (("kind: lora", "kind: lorra"), ("rank: 4", "rank: four"), ("method:", "metod:")):
        recipe = (copy / "recipe.yaml").read_text()
        assert old in recipe
        (copy / "recipe.yaml").write_text(recipe.replace(old, new, 1))
        sign(copy)
        with pytest.raises(InputError, match=r"recipe\.yaml: .*cannot be read by this peftrec"):
            load_run(copy)
        (copy / "recipe.yaml").write_text(recipe)


def test_a_recipe_of_another_method_does_not_fit_the_adapter(copy: Path) -> None:
    recipe = (copy / "recipe.yaml").read_text()
    for old, new in (("rank: 4", "rank: 3"), ("layers: 2", "layers: 1")):
        assert old in recipe
        (copy / "recipe.yaml").write_text(recipe.replace(old, new, 1))
        sign(copy)
        with pytest.raises(InputError, match="the adapter does not fit"):
            load_run(copy)


def test_item_tables_keep_odd_texts(tmp_path: Path) -> None:
    from peftrec.data import Catalogue

    odd = ("a\u2028b", "c\x85d", 'quote " and \\', "new\nline", "\u00e9\U0001f600", "\x1c")
    catalogue = Catalogue(ids=tuple("012345"), texts=odd, titles=odd[::-1])
    write_items(tmp_path, catalogue)
    assert read_items(tmp_path) == catalogue
    (tmp_path / "items.jsonl").write_text('{"item_id": "a", "title": "b", "text": "c"}\n{"item_id": "a"}\n')
    with pytest.raises(InputError, match=r"items\.jsonl, line 2: is not an item"):
        read_items(tmp_path)
    (tmp_path / "items.jsonl").write_text('{"item_id": 3, "title": "b", "text": "c"}\n')
    with pytest.raises(InputError, match=r"items\.jsonl, line 1"):
        read_items(tmp_path)


def test_a_run_moves_with_its_folder(trained: Path, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(trained, tmp_path / "elsewhere", ignore=shutil.ignore_patterns("private")))
    assert load_run(moved).catalogue == load_run(trained).catalogue
