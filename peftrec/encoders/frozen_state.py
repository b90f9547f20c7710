"""Which states of an encoder stay the same in training, and computing them once, chunk by chunk.

Shapes: N texts, T tokens of all texts, R rows at hand, H width of a state, K states of one text.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import torch

from peftrec.config import InputError
from peftrec.encoders.build_watch import BuildWatch
from peftrec.encoders.item_text import ItemTexts

if TYPE_CHECKING:
    from peftrec.encoders.text_encoder import TextEncoder

# Kinds of backbones, as `transformers` calls them, for which states that enter a layer are known to be exact when they
# are fed in: tests/contracts/test_trunk_cache.py compares each with the whole model.
TRUNK_KINDS = (
    "bert", "roberta", "xlm-roberta", "distilbert", "mpnet", "modernbert", "llama", "qwen2", "qwen3", "gemma3_text",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class FrozenPart:
    """States that stay the same in training.

    Args:
        kind: `trunk` for those of every token that enter the lowest changed layer, or leave the last one; `pooled`
            for those of every text that a method beside the backbone reads.
        label: what they are, for people.
        identity: plain values that tell which they are.
        row_shape: of one row: (H,) for each of T tokens, (K, H) for each of N texts.
    """

    kind: Literal["trunk", "pooled"]
    label: str
    identity: dict[str, Any]
    row_shape: tuple[int, ...]

    def num_rows(self, texts: ItemTexts) -> int:
        """Return how many rows there are: T or N."""
        return len(texts.tokens_T) if self.kind == "trunk" else len(texts)

    def num_bytes(self, texts: ItemTexts, dtype: torch.dtype) -> int:
        """Return how many bytes all rows take."""
        return self.num_rows(texts) * int(torch.tensor(self.row_shape).prod()) * dtype.itemsize

    def put(self, texts: ItemTexts, states: torch.Tensor) -> ItemTexts:
        """Return texts that hold the states."""
        if self.kind == "trunk":
            return dataclasses.replace(texts, trunk_TH=states)
        return dataclasses.replace(texts, pooled_NKH=states)


def frozen_part(encoder: TextEncoder) -> FrozenPart | None:
    """Return what of an encoder can be computed once, or None.

    Nothing can where the method reaches down to the embeddings, where no layer changes and pooling does not learn (its
    vectors are all that is needed), and for the trunk of kinds outside of `TRUNK_KINDS`.
    """
    method, num_layers = encoder.method, encoder.num_layers
    if method.pooled_states:
        states = list(method.pooled_states)
        label = f"pooled states {', '.join(map(str, states))}"
        return FrozenPart("pooled", label, {"states": states, "pooling": encoder.pooling}, (len(states), encoder.dim))
    first = method.first_layer
    if not 0 < first < num_layers + (encoder.token_attention is not None) or refused_kind(encoder) is not None:
        return None
    label = f"states entering layer {first + 1} of {num_layers}" if first < num_layers else "states of the last layer"
    return FrozenPart("trunk", label, {"layer": first if first < num_layers else "last"}, (encoder.dim,))


def refused_kind(encoder: TextEncoder) -> str | None:
    """Return the kind of a backbone whose trunk would be stored if its kind were in `TRUNK_KINDS`; None otherwise."""
    config: Any = encoder.backbone.model.config
    if encoder.method.pooled_states or not 0 < encoder.method.first_layer < encoder.num_layers:
        return None
    return None if config.model_type in TRUNK_KINDS else str(config.model_type)


def why_refused(encoder: TextEncoder) -> str:
    """Say why the trunk of a backbone is not stored."""
    return (
        f"states of the frozen layers are not stored for backbones of the kind '{refused_kind(encoder)}', as only "
        f"these kinds are known to give the same with them: {', '.join(TRUNK_KINDS)}"
    )


class Rounding:
    """Brings rows to the type that they are stored in, and measures what that costs.

    Args:
        dtype: float32 or float16.
        label: what the rows are.
    """

    def __init__(self, dtype: torch.dtype, label: str) -> None:
        self.dtype, self._label = dtype, label
        self.largest_error = 0.0

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the rows in that type.

        The error of a row is the norm of the difference over the norm of the row; the largest one is kept.

        Raises:
            InputError: if a value is NaN or infinite, or too large for float16.
        """
        rows = rows.float()
        largest = float(rows.abs().max()) if rows.numel() else 0.0
        if not math.isfinite(largest):
            raise InputError(
                f"{self._label}: the backbone gives values that are NaN or infinite; see that its weights are whole, "
                f"and use encoder.dtype=float32 where it is float16 or bfloat16"
            )
        if self.dtype == torch.float32:
            return rows
        limit = torch.finfo(self.dtype).max
        if largest > limit:
            raise InputError(
                f"encoder.cache.dtype: float16 holds values up to {limit:,.0f}, but {self._label} reach "
                f"{largest:,.0f}; use float32"
            )
        rounded = rows.to(self.dtype)
        norms = rows.norm(dim=-1).clamp(min=torch.finfo(torch.float32).tiny)
        errors = (rounded.float() - rows).norm(dim=-1) / norms
        self.largest_error = max(self.largest_error, float(errors.max()) if rows.numel() else 0.0)
        return rounded


def put_rows(states: torch.Tensor, places_R: torch.Tensor, rows: torch.Tensor) -> None:
    """Write rows to their places in a tensor in memory."""
    states[places_R.to(states.device)] = rows.to(states.device)


def compute_states(
    encoder: TextEncoder,
    texts: ItemTexts,
    write: Callable[[torch.Tensor, torch.Tensor], Any],
    rounding: Rounding,
    watch: BuildWatch | None = None,
) -> None:
    """Compute the frozen states of texts, longest texts first.

    Args:
        encoder: one that `frozen_part` has something of.
        texts: N texts.
        write: is handed places (R,) among all rows, and the rows.
        rounding: brings rows to the type that they are stored in.
        watch: is told how far it is.
    """
    for chunk in texts.chunks(torch.arange(len(texts)), encoder.config.token_budget):
        places_R, rows = encoder.frozen_rows(texts, chunk)
        write(places_R, rounding(rows))
        if watch is not None:
            watch.advance(int(texts.lengths[chunk].sum()))
