"""The cache folder: what is kept is found again, and what is torn, damaged or of something else is never used."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import multiprocessing
import multiprocessing.process
import os
import shutil
import sys
import tempfile
import time
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from peftrec.config import InputError
from peftrec.encoders import (
    BrokenEntryError,
    CacheConfig,
    CatalogueText,
    EncoderConfig,
    StateStore,
    TextCache,
    TextEncoder,
    array_file,
    build_watch,
    load_backbone,
    state_entry,
)
from peftrec.encoders.array_file import ArrayWriter, check_array, map_array
from peftrec.encoders.cache_key import backbone_identity, token_identity, weights_hash
from peftrec.encoders.frozen_state import Rounding
from peftrec.methods import METHODS

TEXTS = ["small red wine", "large blue cheese. aged, hard, goat", "tea", "iced mint tea", "soft goat cheese, small"] * 3
KIND = "trunk-0123456789abcdef0123"


@pytest.fixture
def open_catalogue(tiny_bert: Path, tmp_path: Path) -> Callable[..., tuple[CatalogueText, list[str]]]:
    """Make a catalogue on the cache folder, with what is said; states and vectors are there."""

    def make(
        kind: str = "lora",
        backbone: Path = tiny_bert,
        texts: list[str] = TEXTS,
        dtype: Any = "float32",
        loading: dict[str, Any] = {},  # noqa: B006
        of_method: dict[str, Any] = {},  # noqa: B006
        **config: Any,
    ) -> tuple[CatalogueText, list[str]]:
        said: list[str] = []
        loaded = load_backbone(str(backbone), **loading)
        cache = TextCache(CacheConfig(folder=str(tmp_path / "cache"), dtype=dtype), loaded, said.append)
        method = METHODS.load(kind)(**(({"layers": 1} if kind == "lora" else {}) | of_method))
        encoder = TextEncoder(loaded, EncoderConfig(**{"max_tokens": 16, "token_budget": 64} | config), method)
        catalogue = CatalogueText(encoder, texts, cache)
        catalogue.store_trunk()
        catalogue.base_vectors()
        return catalogue, said

    return make


def names(folder: Path) -> list[str]:
    """Return what lies among the entries."""
    return sorted(path.name for path in (folder / "states").iterdir())


def written(said: list[str]) -> list[str]:
    """Return the kinds of the entries that had to be written."""
    return [line.rpartition("/")[2].partition("-")[0] for line in said if "written to" in line]


def test_a_second_run_reads_all(open_catalogue: Callable[..., Any], tmp_path: Path) -> None:
    first, said = open_catalogue()
    assert written(said) == ["tokens", "trunk", "vectors"]
    label = "cache: states entering layer 3 of 3"
    assert [line.partition(" MiB in ")[0] for line in said if line.startswith(label)][:2] == [
        f"{label}: 15 texts, 93 tokens, 0.0",
        next(line for line in said if line.startswith(f"{label}: computed in ")),
    ]
    again, said = open_catalogue()
    assert written(said) == []
    assert len([line for line in said if "read from" in line]) == 3
    plain = again.encoder.tokenize(TEXTS)
    for name in ("tokens_T", "offsets", "num_cut"):
        found, expected = getattr(again.tokenized, name), getattr(plain, name)
        assert found == expected if isinstance(expected, int) else torch.equal(found, expected)
    assert torch.equal(again.tokenized.trunk_TH, again.encoder.store_trunk(plain).trunk_TH)
    assert torch.equal(again.vectors(), again.encoder.encode(plain))
    assert torch.equal(again.base_vectors(), first.base_vectors())
    assert not [name for name in names(tmp_path / "cache") if name.endswith((".lock", ".partial"))]


def test_pooled_states_of_a_side_network(open_catalogue: Callable[..., Any]) -> None:
    _, said = open_catalogue("side")
    assert written(said) == ["tokens", "pooled", "vectors"]
    again, said = open_catalogue("side")
    assert written(said) == []
    plain = again.encoder.tokenize(TEXTS)
    assert torch.equal(again.tokenized.pooled_NKH, again.encoder.store_trunk(plain).pooled_NKH)
    torch.testing.assert_close(again.base_vectors(), again.encoder.encode(plain))


def test_what_changes_the_states_changes_the_key(
    open_catalogue: Callable[..., Any], other_tiny_bert: Path, tmp_path: Path
) -> None:
    open_catalogue()
    every = ["tokens", "trunk", "vectors"]
    assert written(open_catalogue(backbone=other_tiny_bert)[1]) == every[1:]
    assert written(open_catalogue(texts=[*TEXTS[:-1], "rye"])[1]) == every
    assert written(open_catalogue(prefix="tea: ")[1]) == every
    assert written(open_catalogue(max_tokens=5)[1]) == every
    assert written(open_catalogue(pooling="cls")[1]) == ["vectors"]
    assert written(open_catalogue(dtype="float16")[1]) == ["trunk"]
    assert written(open_catalogue(loading={"attention": "eager"})[1]) == every[1:]
    assert written(open_catalogue(of_method={"layers": 2})[1]) == ["trunk"]
    assert written(open_catalogue("side")[1]) == ["pooled"]
    assert written(open_catalogue("side", of_method={"every": 2})[1]) == ["pooled"]
    assert written(open_catalogue("side", pooling="cls")[1]) == ["pooled"]
    assert written(open_catalogue(token_budget=32)[1]) == []
    assert written(open_catalogue("frozen")[1]) == []


def test_half_precision_has_its_own_entries_for_chunks_of_another_size(open_catalogue: Callable[..., Any]) -> None:
    settings = {"loading": {"dtype": "bfloat16"}}
    assert written(open_catalogue(**settings)[1]) == ["tokens", "trunk", "vectors"]
    assert written(open_catalogue(**settings)[1]) == []
    assert written(open_catalogue(**settings, token_budget=32)[1]) == ["trunk", "vectors"]


def test_what_identifies_backbones_and_tokens(tiny_bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = load_backbone(str(tiny_bert))

    def tokens() -> dict[str, Any]:
        return token_identity(backbone.tokenizer, TEXTS, max_tokens=8, prefix="")

    first = tokens()
    backbone.tokenizer.truncation_side = "left"
    assert tokens() != first
    backbone.tokenizer.truncation_side = "right"
    assert tokens() == first
    backbone.tokenizer.add_tokens(["gouda"])
    assert tokens() != first
    whole = backbone_identity(backbone)
    assert backbone_identity(dataclasses.replace(backbone, quantization="nf4")) != whole
    for module in ("torch", "transformers"):
        with monkeypatch.context() as patch:
            patch.setattr(sys.modules[module], "__version__", "1.2.3")
            assert backbone_identity(backbone) != whole, module
    other: Any = type("OtherModel", (type(backbone.model),), {})
    backbone.model.__class__ = other
    assert backbone_identity(backbone) != whole


def test_one_changed_element_is_other_weights(tiny_bert: Path) -> None:
    backbone = load_backbone(str(tiny_bert))
    before, fingerprint = weights_hash(backbone.model), backbone.fingerprint
    assert weights_hash(load_backbone(str(tiny_bert)).model) == before
    weight = backbone.model.encoder.layer[0].output.dense.weight
    weight.data[3, 7] += 1e-6
    assert weights_hash(backbone.model) != before
    assert backbone.fingerprint == fingerprint  # a sample
    identity = backbone_identity(backbone)
    backbone.model.config.layer_norm_eps = 1e-3
    assert backbone_identity(backbone) != identity


def test_calls_of_the_tokenizer_leave_its_identity(tiny_bert: Path) -> None:
    tokenizer = load_backbone(str(tiny_bert)).tokenizer
    first = token_identity(tokenizer, TEXTS, max_tokens=8, prefix="")
    tokenizer(TEXTS, truncation=True, max_length=5, padding=True)
    assert token_identity(tokenizer, TEXTS, max_tokens=8, prefix="") == first
    joined = token_identity(tokenizer, ["ab", "c"], max_tokens=8, prefix="")
    assert joined != token_identity(tokenizer, ["a", "bc"], max_tokens=8, prefix="")


def flip_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


DAMAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "flipped byte": (lambda folder: flip_byte(folder / "states.bin"), "states.bin is damaged near byte"),
    "truncated": (lambda folder: os.truncate(folder / "states.bin", 100), "states.bin has 100 bytes and not"),
    "no array": (lambda folder: (folder / "states.bin").unlink(), "states.bin cannot be read"),
    "no manifest": (lambda folder: (folder / "manifest.json").unlink(), "manifest.json is missing"),
    "torn manifest": (lambda folder: os.truncate(folder / "manifest.json", 90), "manifest.json is damaged"),
    "flipped manifest": (lambda folder: flip_byte(folder / "manifest.json"), "manifest.json is damaged"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_entry_is_made_again(damage: str, open_catalogue: Callable[..., Any], tmp_path: Path) -> None:
    states = open_catalogue()[0].tokenized.trunk_TH.clone()
    (folder,) = (tmp_path / "cache" / "states").glob("trunk-*")
    act, why = DAMAGES[damage]
    act(folder)
    again, said = open_catalogue()
    assert written(said) == ["trunk"]
    assert any("is not used, and made again" in line and why in line for line in said)
    assert torch.equal(again.tokenized.trunk_TH, states)
    assert written(open_catalogue()[1]) == []


def test_an_entry_of_something_else_is_not_used(
    open_catalogue: Callable[..., Any], other_tiny_bert: Path, tmp_path: Path
) -> None:
    """A copied folder, and one whose hash happens to be the same."""
    open_catalogue()
    root = tmp_path / "cache" / "states"
    (mine,) = root.glob("trunk-*")
    expected = open_catalogue(backbone=other_tiny_bert)[0].tokenized.trunk_TH.clone()
    (other,) = set(root.glob("trunk-*")) - {mine}
    shutil.rmtree(other)
    shutil.copytree(mine, other)
    catalogue, said = open_catalogue(backbone=other_tiny_bert)
    assert any(f"it is a copy of {mine.name}" in line for line in said)
    assert torch.equal(catalogue.tokenized.trunk_TH, expected)
    with pytest.raises(BrokenEntryError, match="made of something else"):
        StateStore(tmp_path / "cache").open(mine.name, {"weights": "others"})


def test_half_precision_is_measured(open_catalogue: Callable[..., Any], tmp_path: Path) -> None:
    exact = open_catalogue()[0]
    halved, said = open_catalogue(dtype="float16")
    assert halved.tokenized.trunk_TH.dtype == torch.float16
    assert halved.tokenized.stored_bytes * 2 == exact.tokenized.stored_bytes
    difference = (halved.tokenized.trunk_TH.float() - exact.tokenized.trunk_TH).norm(dim=1)
    error = float((difference / exact.tokenized.trunk_TH.norm(dim=1)).max())
    assert 0 < error < 1e-3
    (line,) = (line for line in said if "largest relative error" in line)
    assert line.endswith(f"{error:.1e}")
    manifests = [json.loads(path.read_text()) for path in (tmp_path / "cache" / "states").glob("trunk-*/manifest.json")]
    (found,) = (manifest["facts"] for manifest in manifests if manifest["facts"]["dtype"] == "float16")
    assert found["largest_relative_error"] == pytest.approx(error, rel=1e-3)
    # Vectors of the backbone as it is are exact all the same, and so is what is saved in the end.
    assert torch.equal(halved.base_vectors(), exact.base_vectors())
    halved.weights_changed()
    near = halved.vectors()
    assert not torch.equal(near, exact.vectors())
    torch.testing.assert_close(near, exact.vectors(), rtol=0, atol=5e-3)
    halved.drop_rounded_states()
    assert torch.equal(halved.vectors(), exact.vectors())


def test_what_half_precision_cannot_hold_is_refused(
    open_catalogue: Callable[..., Any], tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = TextEncoder.frozen_rows
    monkeypatch.setattr(TextEncoder, "frozen_rows", lambda *given: (rows(*given)[0], rows(*given)[1] * 1e6))
    with pytest.raises(InputError, match=r"encoder\.cache\.dtype: float16 holds values up to 65,504, but states enter"):
        open_catalogue(dtype="float16")
    assert not list((tmp_path / "cache" / "states").glob("trunk-*"))


@contextlib.contextmanager
def without_rights() -> Iterator[Path]:
    """Yield a folder that this process may read and not write, whoever runs it."""
    folder = Path(tempfile.mkdtemp())
    is_root = os.geteuid() == 0
    folder.chmod(0o555)
    if is_root:
        os.seteuid(65534)
    try:
        yield folder
    finally:
        if is_root:
            os.seteuid(0)
        folder.chmod(0o755)
        shutil.rmtree(folder)


def get(folder: Path, write: Callable[[Any], None], num_bytes: int = 8, said: list[str] | None = None) -> torch.Tensor:
    say = [].append if said is None else said.append
    return StateStore(folder).get(KIND, {"of": 1}, write, num_bytes=num_bytes, say=say)[0].tensors["rows"]


def write_rows(writer: Any, value: float = 1.0) -> None:
    with writer.array("rows", torch.float32, (2,), 3) as array:
        array.write(torch.arange(3), torch.full((3, 2), value))


def refuse(_: Any) -> None:
    pytest.fail("worked before it looked")


def test_a_folder_that_cannot_be_written_is_named_first() -> None:
    expected = r"^encoder\.cache\.folder: '.*' cannot be written \(Permission denied\); choose another folder, or null"
    with without_rights() as folder, pytest.raises(InputError, match=expected):
        get(folder, refuse)


def test_an_entry_in_a_read_only_folder_is_used(tmp_path: Path) -> None:
    with without_rights() as folder:
        euid = os.geteuid()
        if euid == 65534:
            os.seteuid(0)
        folder.chmod(0o755)
        get(folder, write_rows)
        for path in (folder / "states", folder / "states" / KIND, folder):
            path.chmod(0o555)
        os.seteuid(euid)
        assert get(folder, refuse).tolist() == [[1.0, 1.0]] * 3
        for path in (folder / "states", folder / "states" / KIND):
            os.seteuid(0) if euid == 65534 else None
            path.chmod(0o755)


def test_a_file_in_the_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"^encoder\.cache\.folder: '.*file' cannot be written"):
        get(tmp_path / "file", refuse)


def test_too_little_space_is_said_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10_000, 9_000, 1_000))
    with pytest.raises(InputError, match=rf"'{tmp_path}' has 1,000 bytes free, but 1,001 are needed; choose another"):
        get(tmp_path, refuse, num_bytes=1_001)
    assert get(tmp_path, write_rows, num_bytes=1_000).shape == (3, 2)


def test_a_disk_that_fills_up_leaves_nothing(tmp_path: Path) -> None:
    def write(writer: Any) -> None:
        write_rows(writer)
        raise OSError(28, "No space left on device")

    with pytest.raises(InputError, match=r"cannot be written \(No space left on device\)"):
        get(tmp_path, write)
    assert list((tmp_path / "states").iterdir()) == []


@contextlib.contextmanager
def writer_process(folder: Path, seconds: float, key: str = KIND) -> Iterator[multiprocessing.process.BaseProcess]:
    """Yield another process that is writing the entry, and takes some seconds for it."""
    context = multiprocessing.get_context("fork")
    writing = context.Event()

    def write(writer: Any) -> None:
        write_rows(writer)
        writing.set()
        time.sleep(seconds)

    def run() -> None:
        StateStore(folder).get(key, {"of": 1}, write, num_bytes=8, say=lambda _: None)

    process = context.Process(target=run)
    process.start()
    try:
        assert writing.wait(30)
        yield process
    finally:
        process.kill()
        process.join()


def test_a_killed_writer_leaves_nothing_that_is_taken_for_an_entry(tmp_path: Path) -> None:
    store = StateStore(tmp_path)
    with writer_process(tmp_path, 60):
        assert store.remove(f"{KIND}.partial") is False  # it lives
    assert store.keys() == [f"{KIND}.partial"]
    assert store.open(KIND) is None
    assert get(tmp_path, write_rows).shape == (3, 2)
    assert names(tmp_path) == [KIND]


def test_what_a_killed_writer_left_is_removed_by_the_next_one(tmp_path: Path) -> None:
    with writer_process(tmp_path, 60, other := "pooled-0123456789abcdef0123"):
        get(tmp_path, write_rows)
        assert StateStore(tmp_path).keys() == [f"{other}.partial", KIND]  # it lives
    StateStore(tmp_path).remove(KIND)
    get(tmp_path, write_rows)
    assert names(tmp_path) == [KIND]


def test_two_processes_at_once(tmp_path: Path) -> None:
    with writer_process(tmp_path, 1.0) as process:
        said: list[str] = []
        assert get(tmp_path, refuse, said=said).tolist() == [[1.0, 1.0]] * 3
        assert said == [f"cache: waiting for another process that writes {KIND}"]
        process.join()
        assert process.exitcode == 0
    assert names(tmp_path) == [KIND]


def test_only_entries_are_listed_and_removed(tmp_path: Path) -> None:
    get(tmp_path, write_rows)
    store = StateStore(tmp_path)
    foreign = tmp_path / "states" / "photos"
    foreign.mkdir()
    (foreign / "a.bin").write_text("mine")
    (tmp_path / "backbones").mkdir()
    (tmp_path / "states" / KIND / "mine.txt").write_text("mine")
    assert store.keys() == [KIND]
    with pytest.raises(InputError, match="holds no entry 'photos'"):
        store.remove("photos")
    with pytest.raises(InputError, match="holds files that no entry of the cache has"):
        store.remove(KIND)
    (tmp_path / "states" / KIND / "mine.txt").unlink()
    assert store.remove(KIND)
    assert store.keys() == []
    assert (foreign / "a.bin").read_text() == "mine"


def test_a_removed_entry_stays_readable_where_it_is_mapped(tmp_path: Path) -> None:
    rows = get(tmp_path, write_rows)
    StateStore(tmp_path).remove(KIND)
    assert rows.tolist() == [[1.0, 1.0]] * 3


def test_an_entry_that_is_removed_before_it_is_read_can_be_read(tmp_path: Path) -> None:
    entry, _ = StateStore(tmp_path).get(KIND, {"of": 1}, write_rows, num_bytes=8, say=[].append)
    StateStore(tmp_path).remove(KIND)
    assert entry.tensors["rows"].tolist() == [[1.0, 1.0]] * 3
    assert entry.num_bytes == 24


def test_an_entry_that_vanishes_while_it_is_opened_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    get(tmp_path, write_rows)
    plain = state_entry.map_array

    def vanishing(folder: Path, described: dict[str, Any]) -> torch.Tensor:
        monkeypatch.setattr(state_entry, "map_array", plain)
        StateStore(tmp_path).remove(KIND)
        return plain(folder, described)

    monkeypatch.setattr(state_entry, "map_array", vanishing)
    said: list[str] = []
    assert get(tmp_path, write_rows, said=said).tolist() == [[1.0, 1.0]] * 3
    assert "made again: it was removed meanwhile" in said[0]


def test_rows_in_any_order(tmp_path: Path) -> None:
    expected = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    places = torch.cat([torch.arange(20, 50), torch.randperm(20, generator=torch.Generator().manual_seed(1))])
    with ArrayWriter(tmp_path / "a.bin", torch.float32, (3,), 50) as writer:
        for part in places.split(7):
            writer.write(part, expected[part])
        described = writer.finish()
    assert torch.equal(map_array(tmp_path, described), expected)
    assert check_array(tmp_path, described, contents=True) is None


def test_of_a_large_file_blocks_are_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(array_file, "BLOCK_BYTES", 64)
    with ArrayWriter(tmp_path / "a.bin", torch.float32, (16,), 100) as writer:
        writer.write(torch.arange(100), torch.ones(100, 16))
        described = writer.finish()
    read: list[int] = []
    real = array_file.checksums
    monkeypatch.setattr(array_file, "checksums", lambda path, blocks: (read.append(len(blocks)), real(path, blocks))[1])
    assert check_array(tmp_path, described, contents=True, limit=640) is None
    assert 10 <= read[-1] <= 12
    flip = bytearray((tmp_path / "a.bin").read_bytes())
    flip[-1] ^= 1
    (tmp_path / "a.bin").write_bytes(flip)
    # The last block is always among them; so is any other, sooner or later.
    assert check_array(tmp_path, described, contents=True, limit=640) == "a.bin is damaged near byte 6,336"


def test_mapping_reads_nothing_whole(tmp_path: Path) -> None:
    """A file far larger than memory opens at once, and a row of it is read."""
    described = {"file": "a.bin", "dtype": "float32", "shape": [2**33, 16], "crc32": []}
    with (tmp_path / "a.bin").open("wb") as file:
        file.truncate(4 * 2**37)
    began = time.perf_counter()
    assert map_array(tmp_path, described)[torch.tensor([2**33 - 1, 5])].tolist() == [[0.0] * 16] * 2
    assert time.perf_counter() - began < 5


def test_without_a_folder_states_are_in_memory(tiny_bert: Path) -> None:
    said: list[str] = []
    backbone = load_backbone(str(tiny_bert))
    cache = TextCache(CacheConfig(folder=None, dtype="float16"), backbone, said.append)
    config = EncoderConfig(max_tokens=16, token_budget=64)
    catalogue = CatalogueText(TextEncoder(backbone, config, METHODS.load("lora")(layers=1)), TEXTS, cache)
    catalogue.store_trunk()
    assert catalogue.tokenized.trunk_TH is not None
    assert catalogue.tokenized.trunk_TH.dtype == torch.float16
    assert any("MiB in memory" in line for line in said)
    whole = dataclasses.replace(catalogue.tokenized, trunk_TH=None)
    assert torch.equal(catalogue.base_vectors(), catalogue.encoder.encode(whole))


class TestBuildWatch:
    """What is said of a build, by a clock that the test moves."""

    @pytest.fixture
    def clock(self, monkeypatch: pytest.MonkeyPatch) -> list[float]:
        now = [0.0]
        monkeypatch.setattr(build_watch.time, "perf_counter", lambda: now[0])
        return now

    def said(self, clock: list[float], seconds: list[float]) -> list[tuple[float, str]]:
        lines: list[tuple[float, str]] = []
        watch = build_watch.BuildWatch(lambda line: lines.append((clock[0], line)), None, "states", "1 MiB", 100)
        for second in seconds:
            clock[0] += second
            watch.advance(100 // len(seconds))
        watch.finish()
        return lines

    def test_the_size_comes_before_the_first_chunk(self, clock: list[float]) -> None:
        assert self.said(clock, [90.0])[0] == (0.0, "states: 1 MiB")

    def test_slow_chunks_are_not_waited_for(self, clock: list[float]) -> None:
        lines = self.said(clock, [90.0] * 10)
        assert lines[1] == (90.0, "states: about 810 s to compute")
        assert lines[2] == (180.0, "states: 20%, about 720 s left")

    def test_quick_ones_are_timed_without_the_first(self, clock: list[float]) -> None:
        lines = self.said(clock, [2.0, *[0.2] * 9])
        assert lines[1] == (pytest.approx(2.6), "states: about 1 s to compute")
        assert lines[-1][1] == "states: computed in 3.8 s"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_states_that_are_no_numbers_are_refused(dtype: torch.dtype, value: float) -> None:
    rows = torch.ones(3, 2)
    rows[1, 1] = value
    with pytest.raises(InputError, match=r"states: the backbone gives values that are NaN or infinite; .*float32"):
        Rounding(dtype, "states")(rows)
