"""What methods there are, what each promises, and how many parameters it has on a backbone."""

from __future__ import annotations

import dataclasses
import inspect
import re
from typing import Any

from peftrec.config import InputError
from peftrec.encoders.backbone import load_backbone
from peftrec.encoders.config import EncoderConfig
from peftrec.encoders.text_encoder import TextEncoder
from peftrec.encoders.twin import twin_backbone
from peftrec.methods import METHODS, MethodConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class MethodRow:
    """One method with its default settings.

    Args:
        kind: as in a recipe.
        changes: what it changes, the first sentence of its documentation.
        formula: its number of parameters.
        parameters: on the backbone; None where none was given, or where the method has no defaults.
        refusal: why the method cannot act on the backbone; None where it can.
        merge: whether it can be folded into the backbone's weights.
        checkpointing: whether gradient checkpointing works.
        works_on: `encoder`, `decoder`.
        layers: whether it can be limited to the top k layers.
        quantized: whether the backbone may be quantised.
        source: the paper.
    """

    kind: str
    changes: str
    formula: str
    parameters: int | None
    refusal: str | None
    merge: bool
    checkpointing: bool
    works_on: tuple[str, ...]
    layers: bool
    quantized: bool
    source: str


def method_table(backbone: str | None = None) -> list[MethodRow]:
    """Return every method in the order of the registry.

    Args:
        backbone: Hub id or folder; None counts nothing.
    Raises:
        InputError: if the backbone cannot be loaded.
    """
    loaded = None if backbone is None else load_backbone(backbone)
    rows = []
    for kind in METHODS.kinds():
        method: type[MethodConfig] = METHODS.load(kind)
        parameters, refusal = None, None
        if loaded is not None and not _required(method):
            settings = method()
            twin = twin_backbone(loaded, (settings,))
            try:
                applied = TextEncoder(twin, EncoderConfig(), settings).method
                parameters = sum(parameter.numel() for parameter in applied.named_parameters().values())
            except InputError as error:
                refusal = str(error)
        rows.append(_row(kind, method, parameters, refusal))
    return rows


def _row(kind: str, method: type[MethodConfig], parameters: int | None, refusal: str | None) -> MethodRow:
    text = inspect.cleandoc(method.__doc__ or "")
    able = method.capabilities
    return MethodRow(
        kind=kind,
        changes=re.split(r"(?<=[.])\s", text, maxsplit=1)[0].rstrip("."),
        formula=_paragraph(text, "Parameters:"),
        parameters=parameters,
        refusal=refusal,
        merge=able.can_merge,
        checkpointing=able.supports_checkpointing,
        works_on=tuple(name for name in ("encoder", "decoder") if getattr(able, name)),
        layers=able.can_limit_layers,
        quantized=able.quantized_base,
        source=_paragraph(text, "Source:"),
    )


def _required(method: type[Any]) -> bool:
    """Whether a method has settings without default."""
    missing = dataclasses.MISSING
    return any(field.default is missing and field.default_factory is missing for field in dataclasses.fields(method))


def _paragraph(text: str, start: str) -> str:
    """Return the paragraph of a docstring that begins so, on one line, without its label."""
    match = re.search(rf"^{start}\s*(.*?)(?=\n\n|\n[A-Z][a-z]+:\n|\Z)", text, flags=re.DOTALL | re.MULTILINE)
    return "" if match is None else " ".join(match[1].split()).rstrip(".")
