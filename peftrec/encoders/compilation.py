"""torch.compile for the layers of a backbone, as a switch."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch

from peftrec.config import InputError
from peftrec.encoders.text_encoder import TextEncoder
from peftrec.methods import find_layers

BACKEND = "inductor"
# Layers of one kind share their code. It is compiled anew with and without gradients, with and without a mask, for
# chunks of one text; and methods with hooks inside a layer cut it into several pieces.
_RECOMPILE_LIMIT = 64


def check_compilation(encoders: Sequence[TextEncoder], device: torch.device) -> None:
    """See that layers are there to be compiled and that the compiler works, before training begins.

    Args:
        encoders: the text encoders of a model.
        device: where they train.
    Raises:
        InputError: if no layer trains, the backbone is quantised, or nothing can be compiled here.
    """
    if all(encoder.method.first_layer >= encoder.num_layers for encoder in encoders):
        kinds = " and ".join(sorted({encoder.method_config.kind for encoder in encoders})) or "encoder.inputs: ids"
        raise InputError(f"training.compile is true, but no layer of a language model trains with {kinds}; use false")
    for encoder in encoders:
        if encoder.backbone.quantization != "none":
            raise InputError(
                f"training.compile is true, but layers of bitsandbytes are not compiled (encoder.quantization is "
                f"{encoder.backbone.quantization}); use training.compile=false or encoder.quantization=none"
            )
    try:
        twice = torch.compile(lambda numbers: numbers.sin() * 2, backend=BACKEND)
        works = bool(twice(torch.ones(64, device=device)).isfinite().all())
        reason = "it gives what is not finite"
    except Exception as error:
        cause = getattr(error, "inner_exception", error)
        works, reason = False, next((line for line in str(cause).splitlines() if line.strip()), type(cause).__name__)
    if not works:
        raise InputError(
            f"training.compile is true, but torch.compile does not work on the device '{device.type}' here: {reason} "
            f"(a CPU needs a C++ compiler, a GPU Triton); use false"
        )


@contextlib.contextmanager
def compiled_layers(encoders: Sequence[TextEncoder]) -> Iterator[None]:
    """Run the layers of the backbones compiled inside this context; they are the same objects with the same names.

    Each is compiled where it is called, so that a layer list that is swapped for stored states leads to the same code.
    Chunks have all shapes, so that shapes are left open.
    """
    layers = [layer for encoder in encoders for layer in find_layers(encoder.model).layers]
    for layer in layers:
        layer.compile(backend=BACKEND, dynamic=True)
    try:
        with torch._dynamo.config.patch(recompile_limit=_RECOMPILE_LIMIT):
            yield
    finally:
        for layer in layers:
            layer._compiled_call_impl = None
        # What is compiled holds on to the modules that it was compiled for.
        torch._dynamo.reset()
