"""Backbones in packages: found without importing them, converted once, and never taken for what the Hub has."""

from __future__ import annotations

import dataclasses
import logging
import multiprocessing
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from peftrec.config import InputError
from peftrec.encoders import PACKAGED_BACKBONES, backbone, load_backbone, packaged
from peftrec.encoders.packaged import PackagedBackbone, packaged_folder

ID = "someone/some-model"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., PackagedBackbone]:
    """Install a package that cannot be imported and carries a backbone, and list it."""

    def package(source: Path, **settings: Any) -> PackagedBackbone:
        folder = tmp_path / "site" / "carrier_of_models"
        shutil.copytree(source, folder)
        (folder / "__init__.py").write_text("raise AssertionError('imported')")
        information = tmp_path / "site" / "carrier_of_models-1.2.dist-info"
        information.mkdir()
        (information / "METADATA").write_text("Metadata-Version: 2.1\nName: carrier-of-models\nVersion: 1.2\n")
        monkeypatch.syspath_prepend(tmp_path / "site")
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        made = PackagedBackbone("carrier-of-models", "carrier_of_models", **settings)
        monkeypatch.setitem(PACKAGED_BACKBONES, ID, made)
        backbone._warn_of_stand_in.cache_clear()
        return made

    return package


@pytest.fixture
def converted(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Stand for the conversion of a GGUF file by copying the backbone beside it; lists the folders written to."""
    written: list[Path] = []

    def convert(source: Path, gguf: str, folder: Path) -> None:
        assert (source / gguf).is_file()
        written.append(folder)
        shutil.copytree(source, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.py", gguf))

    monkeypatch.setattr(packaged, "_convert", convert)
    return written


def with_gguf(source: Path, folder: Path) -> Path:
    shutil.copytree(source, folder)
    (folder / "model.gguf").write_bytes(b"GGUF")
    return folder


def test_a_package_is_found_and_not_imported(tiny_bert: Path, package: Callable[..., PackagedBackbone]) -> None:
    made = package(tiny_bert)
    loaded = load_backbone(ID)
    assert loaded.base.name == ID
    assert loaded.base.revision is None
    assert loaded.fingerprint == load_backbone(str(tiny_bert)).fingerprint
    assert "carrier_of_models" not in sys.modules
    assert made.source is not None
    assert dataclasses.replace(made, module="no_such_module").source is None
    # A folder of that name on the path passes for a package, but holds nothing.
    assert dataclasses.replace(made, folder="elsewhere").source is None


def test_a_package_is_no_revision(tiny_bert: Path, package: Callable[..., PackagedBackbone]) -> None:
    package(tiny_bert)
    with pytest.raises(InputError, match="cannot be loaded from the Hub: "):
        load_backbone(ID, "v1")


def test_dequantised_weights_stand_in_where_the_hub_cannot_be_reached(
    tiny_bert: Path, package: Callable[..., PackagedBackbone], converted: list[Path], tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    package(with_gguf(tiny_bert, tmp_path / "source"), gguf="model.gguf")
    with caplog.at_level(logging.INFO):
        loaded = load_backbone(ID)
        load_backbone(ID)
    assert loaded.base.revision == "carrier-of-models-1.2-dequantized"
    assert len(converted) == 1
    folder = tmp_path / "home" / ".cache" / "peftrec" / "backbones" / "carrier-of-models-1.2-dequantized"
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    said = [record.getMessage() for record in caplog.records if "not the same" in record.getMessage()]
    assert len(said) == 3
    assert all("dequantised from model.gguf" in line for line in said)
    warned = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warned) == 2  # one for the conversion, one for the stand-in, however often it is loaded


def test_the_hub_goes_first_where_it_can_be_reached(
    tiny_bert: Path, package: Callable[..., PackagedBackbone], converted: list[Path], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    package(with_gguf(tiny_bert, tmp_path / "source"), gguf="model.gguf")
    monkeypatch.setattr(backbone, "_hub_has", lambda _: True)
    with pytest.raises(InputError, match="cannot be loaded from the Hub: "):
        load_backbone(ID)
    assert not converted


def test_a_conversion_that_fails_leaves_nothing(
    tiny_bert: Path, package: Callable[..., PackagedBackbone], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package(with_gguf(tiny_bert, tmp_path / "source"), gguf="model.gguf")

    def fails(_source: Path, _gguf: str, folder: Path) -> None:
        (folder / "half").write_text("")
        raise ImportError("Please install gguf>=0.10.0\nor not")

    monkeypatch.setattr(packaged, "_convert", fails)
    with pytest.raises(InputError, match=r"holds a GGUF file, .* \(Please install gguf>=0\.10\.0\); pip install gguf$"):
        load_backbone(ID)
    assert list((tmp_path / "home" / ".cache" / "peftrec" / "backbones").iterdir()) == []


def _convert_at_once(arguments: tuple[str, str]) -> str:
    """In a process of its own: convert as soon as all others do."""
    import time

    site, home = arguments
    sys.path.insert(0, site)
    Path.home = lambda: Path(home)  # type: ignore[method-assign, assignment]

    def convert(source: Path, gguf: str, folder: Path) -> None:
        time.sleep(0.5)
        (folder / "config.json").write_text("{}")

    packaged._convert = convert
    return str(packaged_folder(PackagedBackbone("carrier-of-models", "carrier_of_models", gguf="model.gguf")))


def test_several_processes_may_convert_at_once(
    tiny_bert: Path, package: Callable[..., PackagedBackbone], tmp_path: Path
) -> None:
    package(with_gguf(tiny_bert, tmp_path / "source"), gguf="model.gguf")
    arguments = [(str(tmp_path / "site"), str(tmp_path / "home"))] * 3
    with multiprocessing.get_context("fork").Pool(3) as pool:
        found = set(pool.map(_convert_at_once, arguments, chunksize=1))
    folder = tmp_path / "home" / ".cache" / "peftrec" / "backbones" / "carrier-of-models-1.2-dequantized"
    assert found == {str(folder)}
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    assert (folder / "config.json").read_text() == "{}"
