"""Graphs that were written, run by onnxruntime.

Shapes: N texts, C texts of a chunk, H width of text vectors, B users, L places of a history, D width of item vectors.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from peftrec.encoders import TextEncoder

TEXT_GRAPH, HEAD_GRAPH, USER_GRAPH = "text_encoder.onnx", "item_head.onnx", "user_encoder.onnx"


class Session:
    """One graph with one output.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        import onnxruntime

        onnxruntime.set_default_logger_severity(3)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        self._session: Any = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def __call__(self, **inputs: NDArray[Any]) -> NDArray[np.float32]:
        """Return the output for inputs by name."""
        (found,) = self._session.run(None, inputs)
        result: NDArray[np.float32] = found
        return result

    def signature(self) -> dict[str, Any]:
        """Return names, axes and types of inputs and output."""

        def told(nodes: Any) -> dict[str, Any]:
            types = {"tensor(int64)": "int64", "tensor(float)": "float32"}
            return {node.name: {"shape": node.shape, "dtype": types[node.type]} for node in nodes}

        return {"inputs": told(self._session.get_inputs()), "outputs": told(self._session.get_outputs())}


def encode_texts(session: Session, encoder: TextEncoder, texts: tuple[str, ...], token_budget: int) -> torch.Tensor:
    """Return the vectors of texts by the text graph, shape (N, H), in length-sorted chunks.

    Args:
        session: of the text graph.
        encoder: whose tokens are read.
        texts: N texts.
        token_budget: padded tokens of a chunk.
    """
    tokens = encoder.tokenize(texts)
    vectors_NH = torch.empty(len(texts), encoder.dim)
    for chunk_C in tokens.chunks(torch.arange(len(texts)), token_budget):
        loaded = encoder.load(tokens, chunk_C)
        found_CH = session(input_ids=loaded["tokens_CP"].numpy(), attention_mask=loaded["valid_CP"].long().numpy())
        vectors_NH[chunk_C] = torch.from_numpy(found_CH)
    return vectors_NH


class GraphScores:
    """Scores of the catalogue by the user graph: bias plus scale * user . item; see `ProductScores`.

    Args:
        session: of the user graph.
        vectors_ND: item vectors.
        bias_N: logit added to each item's score.
        scale: of the product.
        max_history: events that are read.
        reads_times: whether the graph reads when they happened.
    """

    def __init__(
        self,
        session: Session,
        vectors_ND: torch.Tensor,
        bias_N: torch.Tensor,
        *,
        scale: float,
        max_history: int,
        reads_times: bool,
    ) -> None:
        self.session, self.scale, self.reads_times = session, scale, reads_times
        self.vectors_ND, self.bias_N, self.max_history = vectors_ND, bias_N, max_history

    def user_vectors(
        self,
        histories_BL: NDArray[np.int64],
        users_B: NDArray[np.int64] | None = None,
        events_BL: NDArray[np.int64] | None = None,
        times_BL: NDArray[np.int64] | None = None,
    ) -> torch.Tensor:
        """Return user vectors times the scale, shape (B, D); nothing but histories and times is read."""
        del users_B, events_BL
        histories_BL = histories_BL[:, -self.max_history :]
        # Padding moves from the left to the right; a stable sort keeps the order of events.
        order_BL = np.argsort(histories_BL < 0, axis=1, kind="stable")
        items_BL = np.take_along_axis(histories_BL, order_BL, axis=1)
        inputs: dict[str, NDArray[Any]] = {
            "item_vectors": self.vectors_ND.numpy()[items_BL.clip(min=0)] * (items_BL >= 0)[..., None],
            "mask": (items_BL >= 0).astype(np.int64),
        }
        inputs["item_vectors"] = inputs["item_vectors"].astype(np.float32)
        if self.reads_times:
            assert times_BL is not None, "the graph reads times"
            inputs["times"] = np.take_along_axis(times_BL[:, -self.max_history :], order_BL, axis=1)
        return self.scale * torch.from_numpy(self.session(**inputs))
