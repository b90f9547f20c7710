"""Whether an adapter that training starts from belongs to the backbone."""

from __future__ import annotations

from pathlib import Path

from peftrec.config import InputError
from peftrec.encoders.backbone import load_backbone
from peftrec.encoders.text_encoder import TextEncoder


def check_start(encoder: TextEncoder) -> None:
    """See that the adapter of `method.start_from`, if there is one, was trained on the encoder's backbone.

    Names must be equal; of two that are not, a folder is loaded and its weights are compared.

    Raises:
        InputError: naming both.
    """
    start, own = encoder.method.start, encoder.backbone
    if start is None:
        return
    revision = start.config.get("revision")
    if start.base == own.base.name and (revision is None or own.base.revision in (None, revision)):
        return
    both = Path(start.base), Path(own.base.name)
    if start.base and both[0].is_dir():
        if both[1].is_dir() and both[0].samefile(both[1]):
            return
        # Rounded weights have a fingerprint of their own.
        whole = own if own.quantization == "none" else load_backbone(own.base.name, own.base.revision)
        if load_backbone(start.base).fingerprint == whole.fingerprint:
            return
    at = f" at {revision}" if revision else ""
    ours = f" at {own.base.revision}" if own.base.revision else ""
    raise InputError(
        f"method.start_from: {start.source} was trained on '{start.base}'{at}, not on '{own.base.name}'{ours} of the "
        f"recipe; set encoder.backbone and encoder.revision to it, or, if they are the same weights, put this name "
        f"into its adapter_config.json"
    )
