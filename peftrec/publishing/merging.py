"""A run's language model as one plain folder of `transformers`: its adapter folded into full-precision weights."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

import peftrec
from peftrec.config import InputError, RecipeError
from peftrec.encoders import TextEncoder, load_backbone, quiet_transformers
from peftrec.methods import METHODS, read_adapter_tensors
from peftrec.publishing.ensemble_folder import EnsembleRun
from peftrec.publishing.folder_reader import load_run
from peftrec.publishing.probe import PROBES
from peftrec.publishing.run_folder import Run
from peftrec.recipe import Recipe

MERGE_REPORT = "merge.json"
# In single precision merging moves vectors by 1e-6 of their length; a method that merges wrongly, by far more.
_TOLERANCE = 1e-3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gap:
    """How far two sets of vectors lie apart.

    Args:
        absolute: largest difference of a number.
        relative: largest length of a difference over the length of the vector that was expected.
    """

    absolute: float
    relative: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class MergeReport:
    """What was merged, and what it did to the vectors of the run's probe texts.

    Args:
        method: kind of the method.
        backbone: name, revision and fingerprint of the full-precision backbone.
        quantization: of the backbone that the run was trained on.
        pooling: how token states become the vector of a text.
        prefix: stands before every text.
        max_tokens: texts are cut to this many.
        num_texts: probe texts.
        merging: between the merged model and the unmerged one, both in full precision; rounding alone.
        drift: between the merged model and the trained one; what taking the rounding of weights back has changed, and
            the same as `merging` where no weight was rounded.
    """

    method: str
    backbone: dict[str, Any]
    quantization: str
    pooling: str
    prefix: str
    max_tokens: int
    num_texts: int
    merging: Gap
    drift: Gap

    def to_json(self) -> dict[str, Any]:
        """Return what `merge.json` holds."""
        return {"peftrec_version": peftrec.__version__, **dataclasses.asdict(self)}


def merge_run(run_folder: str | Path, output_folder: str | Path) -> MergeReport:
    """Write a run's language model with the item adapter folded in, as `AutoModel.from_pretrained` reads it.

    The folder holds weights in float32, the tokenizer, and `merge.json`; not the head, which is no language model. It
    is written beside its place, loaded again and compared, and only then renamed.

    Args:
        run_folder: a trained run; quantised backbones are loaded in full precision for the merge.
        output_folder: must not exist, or be empty.
    Raises:
        RecipeError: if the output folder is taken.
        InputError: if the run has nothing to merge, its method cannot be merged, or what was written does not give the
            vectors that it must.
    """
    output = Path(output_folder).absolute()
    aside = _check_free(output)
    run = load_run(run_folder)
    trained, items = _mergeable(run)
    texts = [run.catalogue.texts[item] for item in items]
    encoder = _full_precision(run)
    unmerged_QH = _vectors(encoder, texts)
    encoder.method.merge()
    encoder.model = encoder.method.model
    merged_QH = _vectors(encoder, texts)
    base = encoder.backbone
    report = MergeReport(
        method=run.recipe.method.kind,
        backbone={**dataclasses.asdict(base.base), "fingerprint": base.fingerprint},
        quantization=trained.backbone.quantization,
        pooling=encoder.pooling,
        prefix=encoder.prefix,
        max_tokens=run.recipe.encoder.max_tokens,
        num_texts=len(texts),
        merging=_gap(merged_QH, unmerged_QH),
        drift=_gap(merged_QH, _vectors(trained, texts)),
    )
    if not report.merging.relative <= _TOLERANCE:
        raise InputError(
            f"{run.folder}: merged and unmerged model differ by {report.merging.relative:.3g} of a vector's length; "
            f"nothing was written"
        )
    aside.mkdir(parents=True)
    try:
        _write(aside, encoder, report)
        _prove(aside, run.recipe, encoder, texts, merged_QH)
        if output.exists():
            output.rmdir()
        aside.rename(output)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return report


def _check_free(output: Path) -> Path:
    """Return the folder beside that is used on the way, after seeing that both are free."""
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise RecipeError(f"{output}: is there already; name a folder that does not exist or is empty")
    aside = output.with_name(output.name + ".partial")
    if aside.exists():
        raise RecipeError(f"{aside}: is needed on the way but is there already; remove what a stopped merge has left")
    return aside


def _mergeable(run: Run) -> tuple[TextEncoder, list[int]]:
    """Return the trained encoder and the probe items."""
    if isinstance(run, EnsembleRun):
        raise InputError(f"{run.folder}: is an ensemble; merge its members, which lie in {run.folder / 'members'}")
    if run.recipe.baseline is not None:
        raise InputError(f"{run.folder}: is a run of {run.recipe.baseline.kind}, which has no language model to merge")
    if run.model is None or run.model.text_encoder is None:
        raise InputError(f"{run.folder}: knows items by their ids only, so there is no adapter of theirs to merge")
    kind = run.recipe.method.kind
    if not run.model.text_encoder.method.state_dict():
        raise InputError(f"{run.folder}: was trained with '{kind}', which leaves nothing to merge into the backbone")
    if run.model.text_encoder.token_attention is not None:
        raise InputError(
            f"{run.folder}: was trained with encoder.pooling attention, whose weights no language model can hold"
        )
    if not run.recipe.method.declared().can_merge:
        raise InputError(f"{run.folder}: was trained with '{kind}', which cannot be merged into the backbone's weights")
    return run.model.text_encoder, load_file(run.folder / PROBES)["items"].tolist()


def _full_precision(run: Run) -> TextEncoder:
    encoder = run.recipe.encoder
    built = TextEncoder(load_backbone(encoder.backbone, encoder.revision), encoder, run.recipe.method)
    built.method.load_state_dict(read_adapter_tensors(run.folder))
    return built.eval()


def _vectors(encoder: TextEncoder, texts: list[str]) -> torch.Tensor:
    return encoder.encode(encoder.tokenize(texts)).cpu()


def _gap(found_QH: torch.Tensor, expected_QH: torch.Tensor) -> Gap:
    difference_QH = found_QH.double() - expected_QH.double()
    relative_Q = difference_QH.norm(dim=1) / expected_QH.double().norm(dim=1).clamp(min=1e-12)
    return Gap(absolute=float(difference_QH.abs().max()), relative=float(relative_Q.max()))


def _write(folder: Path, encoder: TextEncoder, report: MergeReport) -> None:
    model: Any = encoder.model
    with quiet_transformers():
        model.save_pretrained(folder)
        encoder.backbone.tokenizer.save_pretrained(folder)
    text = json.dumps(report.to_json(), indent=2, ensure_ascii=False, allow_nan=False)
    (folder / MERGE_REPORT).write_text(text + "\n", encoding="utf-8")


def _prove(folder: Path, recipe: Recipe, merged: TextEncoder, texts: list[str], merged_QH: torch.Tensor) -> None:
    """Load the folder as a backbone without any method, and compare."""
    settings = dataclasses.replace(recipe.encoder, pooling=merged.pooling, prefix=merged.prefix)
    written = TextEncoder(load_backbone(str(folder)), settings, METHODS.load("frozen")()).eval()
    gap = _gap(_vectors(written, texts), merged_QH)
    if not gap.relative <= _TOLERANCE:
        raise InputError(
            f"{folder}: the model written there does not give the merged vectors (it is off by {gap.relative:.3g} of "
            f"their length); nothing was kept"
        )
