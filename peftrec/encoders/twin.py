"""A second model on the same weights, for a second method."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterable

from peftrec.encoders.backbone import Backbone
from peftrec.encoders.quantization import quantized_states
from peftrec.methods import MethodConfig


def twin_backbone(backbone: Backbone, methods: Iterable[MethodConfig]) -> Backbone:
    """Return a backbone with modules of its own, into which another method can be put.

    Its weights are the same tensors, so that they are held once, unless one of the methods changes weights in place.

    Args:
        backbone: without a method in it.
        methods: that will be applied to the one and to the other.
    """
    memo: dict[int, object] = {}
    if all(method.declared().base_frozen for method in methods):
        shared = (*backbone.model.parameters(), *quantized_states(backbone.model, backbone.quantization))
        memo = {id(entry): entry for entry in shared}
    return dataclasses.replace(backbone, model=copy.deepcopy(backbone.model, memo))
