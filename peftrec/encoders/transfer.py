"""The way of chunks from memory to the device: the next one is under way while this one is computed.

Texts, and the states that are stored of them, lie in memory or in mapped files, of any size. A chunk of them is
gathered there. On a CPU that is all. To a GPU it goes through pinned memory on a stream of its own, so that neither the
host nor the kernels wait for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch

Tensors = Mapping[str, torch.Tensor]


class Courier(Protocol):
    """Brings tensors to a device in two steps, so that other work lies between."""

    def send(self, tensors: Tensors) -> Any:
        """Begin, and return what `receive` takes."""

    def receive(self, sent: Any) -> Tensors:
        """Return the tensors on the device; what is computed from now on sees them whole."""


class CudaCourier:
    """Copies from pinned memory on a stream beside that of the kernels.

    Args:
        device: a CUDA device.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def send(self, tensors: Tensors) -> tuple[Tensors, torch.cuda.Event]:
        # The allocator of pinned memory hands a block out again only when the copies from it are done.
        pinned = {name: tensor if tensor.is_cuda else tensor.pin_memory() for name, tensor in tensors.items()}
        with torch.cuda.stream(self._stream):
            copies = {name: tensor.to(self.device, non_blocking=True) for name, tensor in pinned.items()}
            return copies, self._stream.record_event()

    def receive(self, sent: tuple[Tensors, torch.cuda.Event]) -> Tensors:
        copies, done = sent
        stream = torch.cuda.current_stream(self.device)
        stream.wait_event(done)
        for tensor in copies.values():
            # They were allocated on the other stream, which must not reuse them before this one is done with them.
            tensor.record_stream(stream)
        return copies


class Transfer:
    """Chunks by their number, on the device; those that follow are sent ahead.

    Asking for them in order, once or several times, is what it is made for; any other order gives the same tensors.

    Args:
        load: the number of a chunk to its tensors, gathered in memory.
        num_chunks: how many there are.
        device: where they are needed.
        ahead: chunks that are on their way while one is computed; each takes memory on the device.
        courier: None takes that of the device; a CPU has none, and is handed what `load` returns, when it asks.
    """

    def __init__(
        self,
        load: Callable[[int], Tensors],
        num_chunks: int,
        device: torch.device,
        *,
        ahead: int = 1,
        courier: Courier | None = None,
    ) -> None:
        self._load, self._num_chunks, self._ahead = load, num_chunks, ahead
        self._courier = CudaCourier(device) if courier is None and device.type == "cuda" else courier
        self._under_way: dict[int, Any] = {}

    def __getitem__(self, number: int) -> Tensors:
        """Return the tensors of a chunk."""
        if self._courier is None:
            return self._load(number)
        wanted = range(number, min(number + 1 + self._ahead, self._num_chunks))
        self._under_way = {chunk: sent for chunk, sent in self._under_way.items() if chunk in wanted}
        for chunk in wanted:
            if chunk not in self._under_way:
                self._under_way[chunk] = self._courier.send(self._load(chunk))
        return self._courier.receive(self._under_way.pop(number))


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return a tensor on a device; on the way to a GPU the host does not wait for the copy."""
    if device.type == "cuda" and not tensor.is_cuda:
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
