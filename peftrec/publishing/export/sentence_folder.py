"""A run's text encoder as a folder of sentence-transformers, on its own or with the head behind it.

Shapes: H width of text vectors, D width of item vectors, R inner width of the residual head.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from peftrec.config import InputError
from peftrec.encoders import ItemEncoder, quiet_transformers
from peftrec.publishing.export.gap import Gap
from peftrec.publishing.export.target import ExportTarget
from peftrec.publishing.export.text_model import TextModel, check_plain, drift_lines, load_text_model
from peftrec.publishing.run_folder import Run

_POOLING = {"mean": "mean", "cls": "cls", "last": "lasttoken"}
_TOLERANCE = 1e-5
_PROMPT = "item"


@dataclasses.dataclass(frozen=True, kw_only=True)
class SentenceTransformersTarget(ExportTarget):
    """A folder of which `SentenceTransformer(path).encode(texts)` gives our text vectors, or item vectors.

    It holds modules that come with sentence-transformers and runs no code of ours. Cutting and prefix are in it.

    Args:
        projected: put the head (whitening, residual or projection, unit length for cosine) behind pooling, so that
            vectors are those that the run gives to an item of which it knows the text alone.
    """

    kind: ClassVar[str] = "sentence-transformers"
    modules: ClassVar[tuple[str, ...]] = ("sentence_transformers",)
    packages: ClassVar[tuple[str, ...]] = (*ExportTarget.packages, "sentence-transformers")

    projected: bool = False

    def check(self, run: Run) -> None:
        check_plain(run, self.kind)

    def write(self, run: Run, folder: Path) -> dict[str, Any]:
        from sentence_transformers import SentenceTransformer

        assert run.model is not None
        text = load_text_model(run)
        with quiet_transformers():
            _sentence_transformer(run, text, self.projected).save(str(folder), create_model_card=False)
            written = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
            found_QX = torch.from_numpy(written.encode(list(text.texts), show_progress_bar=False))
        expected_QX = text.vectors_QH
        if self.projected:
            model = run.model.cpu()
            with torch.no_grad():
                expected_QX = model.item_vectors(text.vectors_QH, None)
        gap = Gap.between(found_QX, expected_QX)
        if not gap.within(_TOLERANCE, expected_QX):
            raise InputError(
                f"{run.folder}: what sentence-transformers read back does not give the run's vectors (a number is off "
                f"by {gap.absolute:.3g}, at most {_TOLERANCE:g} is rounding); nothing was kept"
            )
        check = {**text.figures(), "written": dataclasses.asdict(gap)}
        return {**text.facts, "vectors": "item" if self.projected else "text", "dim": found_QX.shape[1], "check": check}

    def describe(self, report: Mapping[str, Any]) -> list[str]:
        written = report["check"]["written"]
        return [
            f"SentenceTransformer(path).encode(texts) gives {report['vectors']} vectors of {report['dim']} numbers, up "
            f"to {written['absolute']:.2e}",
            *drift_lines(report),
        ]


def _sentence_transformer(run: Run, text: TextModel, projected: bool) -> Any:
    """Put the modules together."""
    import tempfile

    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

    assert run.model is not None
    encoder = text.encoder
    model: Any = encoder.model
    with tempfile.TemporaryDirectory() as place:
        model.save_pretrained(place)
        encoder.backbone.tokenizer.save_pretrained(place)
        transformer = Transformer(
            place, max_seq_length=run.recipe.encoder.max_tokens, model_kwargs={"dtype": "float32"}
        )
    modules: list[nn.Module] = [transformer, Pooling(encoder.dim, _POOLING[encoder.pooling])]
    if projected:
        modules += _head(run.model.item_encoder)
        # A scorer that takes directions alone prepares what it is given to unit length.
        probe = torch.full((1, run.model.item_encoder.dim), 2.0)
        if not torch.equal(run.model.scorer.prepare(probe), probe):
            modules.append(Normalize())
    prompts = {"prompts": {_PROMPT: encoder.prefix}, "default_prompt_name": _PROMPT} if encoder.prefix else {}
    return SentenceTransformer(modules=modules, device="cpu", **prompts)


@torch.no_grad()
def _head(head: ItemEncoder) -> list[nn.Module]:
    """Return the head as layers that sentence-transformers has: linear maps with an activation, and unit length."""
    from sentence_transformers.sentence_transformer.modules import Normalize

    state = {name: tensor.detach().cpu() for name, tensor in head.state_dict().items()}
    modules: list[nn.Module] = []
    if head.config.whitening:
        matrix_HH = state["whitening_matrix"]
        modules.append(_dense(matrix_HH.T, -state["whitening_mean"] @ matrix_HH))
    if head.config.head == "projection":
        return [*modules, _dense(state["projection.weight"], state["projection.bias"])]
    weight_RH, bias_R = state["residual.1.weight"], state["residual.1.bias"]
    weight_DR, bias_D = state["residual.3.weight"], state["residual.3.bias"]
    # Layers stand one behind the other, with no way around: what the residual adds to goes through them. GELU lets it
    # pass, since GELU(x) - GELU(-x) = x.
    kept_DH = torch.eye(head.dim, weight_RH.shape[1])
    eye_DD = torch.eye(head.dim)
    first = _dense(torch.cat([weight_RH, kept_DH, -kept_DH]), torch.cat([bias_R, torch.zeros(2 * head.dim)]), nn.GELU())
    return [*modules, Normalize(), first, _dense(torch.cat([weight_DR, eye_DD, -eye_DD], dim=1), bias_D)]


def _dense(weight_OI: torch.Tensor, bias_O: torch.Tensor, activation: nn.Module | None = None) -> nn.Module:
    from sentence_transformers.sentence_transformer.modules import Dense

    layer: nn.Module = Dense(
        weight_OI.shape[1],
        weight_OI.shape[0],
        activation_function=nn.Identity() if activation is None else activation,
        init_weight=weight_OI.contiguous(),
        init_bias=bias_O.contiguous(),
    )
    return layer
