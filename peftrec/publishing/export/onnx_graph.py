"""The parts of a model as graphs that know nothing of peftrec, and how they are drawn.

Shapes: C texts, T tokens of a text, H width of text vectors, B users, L places of a history, D width of item vectors.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from peftrec.encoders import TextEncoder
from peftrec.models import RecommenderModel
from peftrec.models.whole_places import WholePlaces

# A graph holds no more than 2 GiB; beyond this, weights lie in a file beside it.
_MOST_BYTES = 1_500_000_000


class TextGraph(nn.Module):
    """Tokens to text vectors, as `TextEncoder` makes them.

    Args:
        encoder: in eval mode.
    """

    def __init__(self, encoder: TextEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Return text vectors (C, H) for tokens (C, T) and which of them are no padding (C, T)."""
        method, model = self.encoder.method, self.encoder.model
        if method.pooled_states:
            told = model(input_ids=input_ids, attention_mask=attention_mask, output_hidden_states=True)
            pooled = [self._pool(told.hidden_states[state], attention_mask) for state in method.pooled_states]
            return method.combine(torch.stack(pooled, dim=1))
        states_CTH = model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return self._pool(states_CTH[:, method.num_virtual_tokens :], attention_mask)

    def _pool(self, states_CTH: torch.Tensor, mask_CT: torch.Tensor) -> torch.Tensor:
        encoder = self.encoder
        if encoder.token_attention is not None:
            return encoder.token_attention(states_CTH, mask_CT.bool())  # type: ignore[no-any-return]
        if encoder.pooling == "cls":
            return states_CTH[:, 0]
        if encoder.pooling == "last":
            return _at(states_CTH, mask_CT.sum(1) - 1)
        weights_CT = mask_CT.to(states_CTH.dtype)
        return (states_CTH * weights_CT[..., None]).sum(1) / weights_CT.sum(1, keepdim=True)


class HeadGraph(nn.Module):
    """Text vectors to item vectors, those of items of which the text alone is known.

    Args:
        model: in eval mode, with texts.
    """

    def __init__(self, model: RecommenderModel) -> None:
        super().__init__()
        self.item_encoder, self.scorer = model.item_encoder, model.scorer

    def forward(self, text_vector: torch.Tensor) -> torch.Tensor:
        """Return item vectors (C, D) for text vectors (C, H)."""
        return self.scorer.prepare(self.item_encoder(text_vector, None))


class UserGraph(nn.Module):
    """The item vectors of histories to user vectors, without the scale.

    Args:
        model: in eval mode, with a user encoder and no users' texts.
    """

    def __init__(self, model: RecommenderModel) -> None:
        super().__init__()
        self.encoder, self.scorer = model.user_encoder, model.scorer

    def forward(
        self, item_vectors: torch.Tensor, mask: torch.Tensor, times: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return user vectors (B, D), zero for empty histories.

        Args:
            item_vectors: of the events, oldest first and padding behind, shape (B, L, D).
            mask: 1 for events, 0 for padding, shape (B, L).
            times: of the events, milliseconds, shape (B, L).
        """
        encoder: Any = self.encoder
        users, length = item_vectors.shape[:2]
        places = WholePlaces(users, length, item_vectors.device, times)
        states_BLD = places.unpack(encoder.packed(places.pack(item_vectors), places))
        num_events_B = mask.sum(1)
        newest_BD = _at(states_BLD, (num_events_B - 1).clamp(min=0))
        return self.scorer.prepare(newest_BD * (num_events_B > 0)[:, None].to(newest_BD.dtype))


def _at(states_BLX: torch.Tensor, place_B: torch.Tensor) -> torch.Tensor:
    """Return one state a row, shape (B, X)."""
    return states_BLX.gather(1, place_B[:, None, None].expand(-1, 1, states_BLX.shape[2]))[:, 0]


@torch.no_grad()
def draw_graph(
    graph: nn.Module, inputs: Mapping[str, torch.Tensor], axes: Mapping[str, Mapping[int, Any]], output: str, path: Path
) -> None:
    """Write a module as an ONNX graph.

    Args:
        graph: maps the inputs, in their order, to one tensor.
        inputs: examples, by name.
        axes: of each input, the axes whose length is free: names with their bounds, `torch.export.Dim`.
        output: name of the result.
        path: of the file; large weights go beside it.
    """
    size = sum(tensor.nbytes for tensor in graph.state_dict().values())
    with _quiet():
        torch.onnx.export(
            graph.eval(),
            tuple(inputs.values()),
            path,
            input_names=list(inputs),
            output_names=[output],
            dynamic_shapes=tuple(dict(axes[name]) for name in inputs),
            dynamo=True,
            external_data=size > _MOST_BYTES,
            verbose=False,
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter from telling of packages that are not there and of its own deprecations."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
