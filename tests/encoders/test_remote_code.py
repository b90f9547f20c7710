"""Code that comes with a backbone never runs; the commit that was loaded from the Hub's cache is known."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from peftrec.config import InputError
from peftrec.encoders import load_backbone

SHA = "0123456789abcdef0123456789abcdef01234567"


def with_code(folder: Path, tiny_bert: Path, trace: Path) -> Path:
    """Copy a backbone, and let its configuration ask for code that leaves a trace when it runs."""
    shutil.copytree(tiny_bert, folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "code.OwnConfig", "AutoModel": "code.OwnModel"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "code.py").write_text(
        f"open({str(trace)!r}, 'w').close()\nfrom transformers import BertConfig as OwnConfig, BertModel as OwnModel\n"
    )
    return folder


def test_code_of_a_backbone_never_runs(tiny_bert: Path, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    folder = with_code(tmp_path / "model", tiny_bert, trace)
    with pytest.raises(InputError, match=r"encoder\.backbone: .*cannot be loaded"):
        load_backbone(str(folder))
    assert not trace.exists()


def test_the_commit_in_the_cache_of_the_hub_is_written_down(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub.constants
    import transformers.utils.hub

    entry = tmp_path / "models--someone--tiny"
    shutil.copytree(tiny_bert, entry / "snapshots" / SHA)
    (entry / "refs").mkdir()
    (entry / "refs" / "main").write_text(SHA)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(transformers.utils.hub.constants, "HF_HUB_CACHE", str(tmp_path))
    assert load_backbone("someone/tiny").base.revision == SHA
    assert load_backbone("someone/tiny", SHA).base.revision == SHA
    with pytest.raises(InputError, match=r"'someone/tiny' cannot be loaded"):
        load_backbone("someone/tiny", "f" * 40)
