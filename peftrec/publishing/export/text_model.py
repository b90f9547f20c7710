"""The language model of a run as others can hold it: in full precision, the adapter folded in where that can be.

Shapes: Q texts, H width of text vectors.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from peftrec.config import InputError
from peftrec.encoders import Backbone, TextEncoder, load_backbone
from peftrec.methods import read_adapter_tensors
from peftrec.publishing.ensemble_folder import EnsembleRun
from peftrec.publishing.export.gap import Gap
from peftrec.publishing.probe import PROBES
from peftrec.publishing.run_folder import Run

# In single precision folding moves vectors by 1e-6 of their length; a method that folds wrongly, by far more.
_TOLERANCE = 1e-3
# Rounding weights and states to 16 bits moves vectors by hundredths of their length, layer upon layer.
_TOLERANCE_16_BIT = 0.1


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextModel:
    """What was loaded for an export.

    Args:
        encoder: in full precision, on the CPU.
        texts: that exports are compared on: those of the run's probes, one that is cut, and one with odd spaces.
        vectors_QH: of these, by `encoder`.
        facts: method, backbone, and how a text becomes a vector, for `export.json`.
        merging: between the folded and the unfolded adapter, both in full precision; rounding alone.
        drift: between `encoder` and the trained one; what taking the rounding of weights back has changed, and the
            same as `merging` where no weight was rounded.
    """

    encoder: TextEncoder
    texts: tuple[str, ...]
    vectors_QH: torch.Tensor
    facts: dict[str, Any]
    merging: Gap
    drift: Gap

    def figures(self) -> dict[str, Any]:
        """Return the part of a report that all text targets share."""
        return {
            "num_texts": len(self.texts),
            "merging": dataclasses.asdict(self.merging),
            "drift": dataclasses.asdict(self.drift),
        }


def trained_encoder(run: Run) -> TextEncoder:
    """Return the encoder of a run's item texts.

    Raises:
        InputError: if it has none.
    """
    if isinstance(run, EnsembleRun):
        raise InputError(f"{run.folder}: is an ensemble; export its members, which lie in {run.folder / 'members'}")
    if run.recipe.baseline is not None:
        raise InputError(f"{run.folder}: is a run of {run.recipe.baseline.kind}, which has no language model to export")
    if run.model is None or run.model.text_encoder is None:
        raise InputError(f"{run.folder}: knows items by their ids only, so that it has no language model to export")
    return run.model.text_encoder


def check_plain(run: Run, kind: str) -> None:
    """See that plain weights of the backbone can hold a run's text encoder.

    Args:
        run: to be exported.
        kind: of the target, for the message.
    Raises:
        InputError: saying what they cannot hold.
    """
    encoder = trained_encoder(run)
    instead = "; --to onnx holds it"
    if encoder.token_attention is not None:
        raise InputError(
            f"{run.folder}: was trained with encoder.pooling attention, whose weights --to {kind} cannot hold{instead}"
        )
    if not (encoder.method.in_weights or _folds(encoder)):
        raise InputError(
            f"{run.folder}: was trained with '{encoder.method_config.kind}', which cannot be merged into the "
            f"backbone's weights, so that --to {kind} cannot hold it{instead}"
        )


def load_text_model(run: Run) -> TextModel:
    """Load the backbone in full precision, put the run's adapter in, and fold it in where its method can be folded.

    Raises:
        InputError: if folding changes vectors.
    """
    trained = trained_encoder(run)
    config = run.recipe.encoder
    encoder = TextEncoder(_backbone(run, trained), config, run.recipe.method)
    if trained.method.state_dict():
        encoder.method.load_state_dict(read_adapter_tensors(run.folder))
    encoder.token_attention = trained.token_attention
    encoder.eval()
    texts = check_texts(run)
    vectors_QH = unfolded_QH = text_vectors(encoder, texts)
    if _folds(encoder) and encoder.method.state_dict():
        encoder.method.merge()
        encoder.model = encoder.method.model
        vectors_QH = text_vectors(encoder, texts)
    merging = Gap.between(vectors_QH, unfolded_QH)
    if not merging.relative <= _TOLERANCE:
        raise InputError(
            f"{run.folder}: merged and unmerged model differ by {merging.relative:.3g} of a vector's length; nothing "
            f"was written"
        )
    drift = Gap.between(vectors_QH, text_vectors(trained, texts))
    # What quantisation costs has no bound, and is told.
    most = _TOLERANCE if config.dtype == "float32" else _TOLERANCE_16_BIT
    if config.quantization == "none" and not drift.relative <= most:
        raise InputError(
            f"{run.folder}: the model in full precision differs from the trained one ({config.dtype}) by "
            f"{drift.relative:.3g} of a vector's length, where at most {most:g} is rounding; nothing was written"
        )
    return TextModel(
        encoder=encoder, texts=texts, vectors_QH=vectors_QH, facts=_facts(run, encoder), merging=merging, drift=drift
    )


def check_texts(run: Run) -> tuple[str, ...]:
    """Return texts that what was written is compared on."""
    items = load_file(run.folder / PROBES)["items"].tolist()
    texts = [run.catalogue.texts[item] for item in items]
    return (*texts, " ".join(texts * 8), f"  {texts[0]}\n")


def text_vectors(encoder: TextEncoder, texts: tuple[str, ...]) -> torch.Tensor:
    """Return the vectors of texts on the CPU, shape (Q, H)."""
    return encoder.encode(encoder.tokenize(texts)).cpu()


def drift_lines(report: dict[str, Any] | Any) -> list[str]:
    """Return lines for people on what folding and full precision have changed."""
    check, quantization, dtype = report["check"], report["quantization"], report["dtype"]
    weights = quantization if quantization != "none" else "full-precision" if dtype == "float32" else dtype
    rows = (
        ("merged and unmerged, both in full precision", check["merging"]),
        (f"merged and trained ({weights})", check["drift"]),
    )
    lines = [f"largest difference over {check['num_texts']} texts, absolute and relative to the length of a vector:"]
    lines += [f"  {label:<45}{gap['absolute']:>10.2e}{gap['relative']:>10.2e}" for label, gap in rows]
    if weights != "full-precision":
        lines.append(f"The head was trained on vectors of the {weights} model; measure before you use it with these.")
    return lines


def _folds(encoder: TextEncoder) -> bool:
    return encoder.method_config.declared().can_merge


def _backbone(run: Run, trained: TextEncoder) -> Backbone:
    """Load the backbone in full precision, from the commit that the run stands on."""
    config = run.recipe.encoder
    backbone = load_backbone(config.backbone, config.revision)
    commit = trained.backbone.base.revision
    return backbone if backbone.base.revision == commit else load_backbone(config.backbone, commit)


def _facts(run: Run, encoder: TextEncoder) -> dict[str, Any]:
    base = encoder.backbone
    name = base.base.name
    # Where a folder lies is of this machine alone.
    told = {"name": Path(name).name, "local": True} if Path(name).is_dir() else {"name": name}
    return {
        "method": run.recipe.method.kind,
        "backbone": {**told, "revision": base.base.revision, "fingerprint": base.fingerprint},
        "quantization": run.recipe.encoder.quantization,
        "dtype": run.recipe.encoder.dtype,
        "pooling": encoder.pooling,
        "prefix": encoder.prefix,
        "max_tokens": run.recipe.encoder.max_tokens,
    }
