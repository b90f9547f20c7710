"""Floating point operations of matrix products, as torch dispatches them."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count


def flop_counter() -> FlopCounterMode:
    """Return a context that counts matrix products, forward and backward, attention on CPUs included.

    A product of (m, k) and (k, n) counts 2 m k n, also where it is added in place, as LoRA's updates are, which torch's
    own counter leaves out. Element-wise work counts nothing; matrices that a library multiplies behind torch's back
    (4-bit kernels of its own) are not seen.
    """
    aten = torch.ops.aten
    return FlopCounterMode(
        display=False,
        custom_mapping={
            aten.addmm_: _added,
            aten._scaled_dot_product_flash_attention_for_cpu: _attention,
            aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
        },
    )


def _added(_: Any, left: Any, right: Any, *__: Any, **___: Any) -> int:
    """Count a product that is added to what is there; arguments are shapes."""
    return int(left[0] * left[1] * right[1] * 2)


def _attention(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    """Count attention on the CPU; arguments are shapes."""
    return int(sdpa_flop_count(query, key, value))  # type: ignore[no-untyped-call]


def _attention_backward(gradient: Any, query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return int(sdpa_backward_flop_count(gradient, query, key, value))  # type: ignore[no-untyped-call]
