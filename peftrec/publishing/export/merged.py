"""A run's language model as one plain folder of `transformers`: its adapter folded into full-precision weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from peftrec.config import InputError
from peftrec.encoders import TextEncoder, load_backbone, quiet_transformers
from peftrec.methods import METHODS
from peftrec.publishing.export.gap import Gap
from peftrec.publishing.export.target import ExportTarget
from peftrec.publishing.export.text_model import (
    TextModel,
    check_plain,
    drift_lines,
    load_text_model,
    text_vectors,
    trained_encoder,
)
from peftrec.publishing.run_folder import Run

_TOLERANCE = 1e-5


@dataclasses.dataclass(frozen=True, kw_only=True)
class MergedTarget(ExportTarget):
    """A folder of weights in float32 and a tokenizer that `AutoModel` and `AutoTokenizer` read; without the head.

    Quantised backbones are loaded in full precision for it, and how far that drifts is told.
    """

    kind: ClassVar[str] = "merged"

    def check(self, run: Run) -> None:
        encoder = trained_encoder(run)
        if encoder.method_config.kind == "frozen":
            raise InputError(
                f"{run.folder}: was trained with 'frozen', which leaves nothing to merge into the backbone; use "
                f"{run.recipe.encoder.backbone} as it is"
            )
        check_plain(run, self.kind)

    def write(self, run: Run, folder: Path) -> dict[str, Any]:
        text = load_text_model(run)
        model: Any = text.encoder.model
        with quiet_transformers():
            model.save_pretrained(folder)
            text.encoder.backbone.tokenizer.save_pretrained(folder)
        gap = _read_back(folder, run, text)
        if not gap.within(_TOLERANCE, text.vectors_QH):
            raise InputError(
                f"{run.folder}: the model that was written does not give the merged vectors (a number is off by "
                f"{gap.absolute:.3g}); nothing was kept"
            )
        return {**text.facts, "check": {**text.figures(), "written": dataclasses.asdict(gap)}}

    def describe(self, report: Mapping[str, Any]) -> list[str]:
        return [f"{report['backbone']['name']} in float32, {report['method']} folded in", *drift_lines(report)]


def _read_back(folder: Path, run: Run, text: TextModel) -> Gap:
    """Load the folder as a backbone without any method, and compare."""
    merged = text.encoder
    settings = dataclasses.replace(run.recipe.encoder, pooling=merged.pooling, prefix=merged.prefix)
    written = TextEncoder(load_backbone(str(folder)), settings, METHODS.load("frozen")()).eval()
    return Gap.between(text_vectors(written, text.texts), text.vectors_QH)
