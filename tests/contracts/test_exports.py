"""Every method to every target: it is exported and agrees, or is refused for the reason that the documents give."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from peftrec.config import InputError
from peftrec.methods import METHODS
from peftrec.models import USER_ENCODERS
from peftrec.publishing.export import EXPORTS, export_run
from peftrec.run import train

for package in ("sentence_transformers", "onnx", "onnxscript", "onnxruntime", "faiss"):
    pytest.importorskip(package)
pytestmark = pytest.mark.slow
KINDS = METHODS.kinds()
# Small enough for the tiny backbones.
SETTINGS: dict[str, dict[str, Any]] = {
    "lora": {"rank": 4},
    "adalora": {"initial_rank": 4, "target_rank": 2},
    "adapter": {"reduction_factor": 4},
    "side": {"width": 8},
    "prompt": {"num_tokens": 3},
    "p_tuning": {"num_tokens": 3, "hidden_dim": 8},
    "vera": {"rank": 8},
    "oft": {"block_size": 8},
    "peft": {"peft_type": "LOHA", "settings": {"r": 2}},
}
NO_BIASES = {("bitfit", "llama")}
CASES = [(kind, family) for kind in KINDS for family in ("bert", "llama") if (kind, family) not in NO_BIASES]
# What no weight of the backbone can hold.
BESIDE = ("adapter", "prefix", "side", "prompt", "p_tuning")


@pytest.fixture(scope="module")
def trained(
    make_recipe: Callable[..., Any], backbones: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, str], Path]:
    made: dict[tuple[str, str], Path] = {}

    def run(kind: str, family: str) -> Path:
        if (kind, family) not in made:
            made[kind, family] = tmp_path_factory.mktemp(kind) / "run"
            method = f"method={json.dumps({'kind': kind, **SETTINGS.get(kind, {})})}"
            backbone = f"encoder.backbone={backbones[family]}"
            train(make_recipe(method, backbone, "training.num_epochs=2", output_dir=made[kind, family]))
        return made[kind, family]

    return run


def refusal(kind: str, target: str) -> str | None:
    if target not in ("merged", "sentence-transformers"):
        return None
    if kind in BESIDE:
        return f"'{kind}', which cannot be merged .* --to {target} cannot hold it; --to onnx holds it"
    return "'frozen', which leaves nothing to merge" if (kind, target) == ("frozen", "merged") else None


@pytest.mark.parametrize("target", EXPORTS.kinds())
@pytest.mark.parametrize(("kind", "family"), CASES)
def test_it_agrees_or_is_refused(
    kind: str, family: str, target: str, trained: Callable[[str, str], Path], tmp_path: Path
) -> None:
    chosen, reason = EXPORTS.load(target)(), refusal(kind, target)
    if reason is not None:
        with pytest.raises(InputError, match=reason):
            export_run(trained(kind, family), tmp_path / "out", chosen)
        assert not list(tmp_path.iterdir())
        return
    check = export_run(trained(kind, family), tmp_path / "out", chosen)["check"]
    if target == "faiss":
        assert check["recall"] == 1.0
    elif target == "onnx":
        assert max(check[name]["absolute"] for name in ("text_vectors", "item_vectors", "user_vectors")) < 1e-4
        assert check["drift"]["absolute"] < 1e-4
    else:
        assert check["written"]["absolute"] < 1e-5
        assert check["drift"]["absolute"] < 1e-4


@pytest.mark.parametrize("more", [{}, {"time_intervals": True}, {"positions": "learned"}, {"positions": "none"}])
@pytest.mark.parametrize("kind", USER_ENCODERS.kinds())
def test_every_user_encoder_is_a_graph(
    kind: str, more: dict[str, Any], make_recipe: Callable[..., Any], tmp_path: Path
) -> None:
    fields = USER_ENCODERS.load(kind).__dataclass_fields__
    if not more.keys() <= fields.keys():
        pytest.skip("it has no such setting")
    heads = {"num_heads": 2} if kind in ("transformer", "hstu") else {}
    user = f"user={json.dumps({'kind': kind, 'max_history': 10, **heads, **more})}"
    recipe = make_recipe(user, "encoder.inputs=ids", "encoder.embedding_dim=16", output_dir=tmp_path / "run")
    train(recipe)
    check = export_run(tmp_path / "run", tmp_path / "out", EXPORTS.load("onnx")())["check"]
    assert check["user_vectors"]["absolute"] < 1e-4


def test_the_real_minilm(make_recipe: Callable[..., Any], minilm: str, tmp_path: Path) -> None:
    overrides = (f"encoder.backbone={minilm}", "method.rank=8", "method.layers=2", "encoder.embedding_dim=128")
    train(make_recipe(*overrides, output_dir=tmp_path / "run"))
    for target, options in (
        ("merged", {}),
        ("sentence-transformers", {}),
        ("sentence-transformers", {"projected": True}),
        ("faiss", {}),
        ("onnx", {"int8": True}),
    ):
        chosen = EXPORTS.load(target)(**options)
        report = export_run(tmp_path / "run", tmp_path / f"{target}{len(options)}", chosen)
    loss = report["check"]["int8"]
    assert loss["bytes_after"] < 0.35 * loss["bytes_before"]
    assert abs(loss["loss"]["difference"]) < 0.1
