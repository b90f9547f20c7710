"""Graphs with matrices of weights in 8 bits."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

_SUFFIX = ".float32"


@dataclasses.dataclass(frozen=True, kw_only=True)
class RoundedGraph:
    """What became of a graph.

    Args:
        num_matrices: products whose weights are now of 8 bits.
        bytes_before: of its files.
        bytes_after: likewise.
    """

    num_matrices: int
    bytes_before: int
    bytes_after: int


def round_graph(path: Path) -> RoundedGraph:
    """Put a graph in its own place whose products with weights are of 8 bits, activations rounded as they come.

    Each column of a weight matrix has a scale of its own; embeddings are rounded too.

    Args:
        path: of the graph in float32.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    whole = path.with_name(path.name + _SUFFIX)
    beside = path.with_name(path.name + ".data")
    before = sum(file.stat().st_size for file in (path, beside) if file.exists())
    path.rename(whole)
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # it advises to run its own optimiser first, through the root logger
    try:
        quantize_dynamic(
            whole, path, per_channel=True, weight_type=QuantType.QInt8, use_external_data_format=beside.exists()
        )
    finally:
        root.setLevel(level)
    whole.unlink()
    graph = onnx.load(path, load_external_data=False).graph
    num_matrices = sum(node.op_type in ("MatMulInteger", "DynamicQuantizeMatMul") for node in graph.node)
    after = sum(file.stat().st_size for file in (path, beside) if file.exists())
    return RoundedGraph(num_matrices=num_matrices, bytes_before=before, bytes_after=after)
