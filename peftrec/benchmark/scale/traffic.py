"""How many bytes processes send each other, as `Ranks` and `shared_vectors` do it.

Shapes: C candidates of a step, N items, H width of text vectors, R processes.
"""

from __future__ import annotations

import dataclasses
import math

from peftrec.benchmark.scale.size import FLOAT


def gathered_bytes(payload: float, processes: int) -> float:
    """Return what each process sends where all get the parts of all, in a ring: (R - 1) / R of the whole.

    Args:
        payload: bytes of the whole.
        processes: R.
    """
    return (processes - 1) / processes * payload


def summed_bytes(payload: float, processes: int) -> float:
    """Return what each process sends where all get the sum over all, in a ring: 2 (R - 1) / R of it.

    Args:
        payload: bytes of what is summed.
        processes: R.
    """
    return 2 * gathered_bytes(payload, processes)


def padded_rows(rows: int, processes: int) -> int:
    """Return the rows that are sent where each process's share is padded to the largest: R ceil(rows / R)."""
    return processes * math.ceil(rows / processes)


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepTraffic:
    """What is sent in one optimiser step that moves the language model.

    The numbers of totals and losses, 8 bytes each, are left out.

    Args:
        processes: R.
        candidates: C, of all processes together, each encoded by one; 0 where no text is encoded in steps.
        width: H.
        parameters: that train: of the method, the head, the user encoder and the ids.
        tensors: that they are.
    """

    processes: int
    candidates: int
    width: int
    parameters: int
    tensors: int

    @property
    def vectors(self) -> int:
        """Bytes of text vectors that are gathered, padding among them."""
        return FLOAT * padded_rows(self.candidates, self.processes) * self.width

    @property
    def vector_gradients(self) -> int:
        """Bytes of the vectors' gradients that are added up."""
        return FLOAT * self.candidates * self.width

    @property
    def gradients(self) -> int:
        """Bytes of the parameters' gradients that are added up, with a flag for each tensor."""
        return FLOAT * self.parameters + 2 * FLOAT * self.tensors

    @property
    def sent(self) -> float:
        """Bytes that each process sends."""
        if self.processes == 1:
            return 0.0
        summed = summed_bytes(self.vector_gradients + self.gradients, self.processes)
        return gathered_bytes(self.vectors, self.processes) + summed


def shard_bytes(layer_bytes: float, chunks: int, processes: int, *, passes: int) -> float:
    """Return what a step would send if the frozen layers were sharded (FSDP2) and let go behind each pass of a chunk.

    Args:
        layer_bytes: of all layers.
        chunks: that a process encodes in a step.
        processes: R.
        passes: through a chunk: 2 where its graph is kept, 3 where it is encoded twice.
    """
    return gathered_bytes(layer_bytes, processes) * chunks * passes
