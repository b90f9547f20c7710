"""Vectors as leaves of a loss, whose gradient is carried into the encoder afterwards, chunk by chunk.

Shapes: N texts, C texts in a chunk, H width of a vector.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch


@dataclasses.dataclass(frozen=True)
class TrainingVectors:
    """Vectors of texts as leaves, and the way back into the encoder.

    Args:
        vectors_NH: a leaf; losses accumulate its gradient, over one step or several.
        backward: adds the gradients of the encoder's parameters that follow from `vectors_NH.grad`; once.
        kept_bytes: what the graphs hold that are kept until then.
        num_kept: chunks whose graphs are kept.
        num_chunks: chunks in all; the others are encoded again in `backward`.
    """

    vectors_NH: torch.Tensor
    backward: Callable[[], None]
    kept_bytes: int = 0
    num_kept: int = 0
    num_chunks: int = 0


def cached_vectors(
    rows: Sequence[torch.Tensor],
    encode: Callable[[int], torch.Tensor],
    shape: tuple[int, int],
    device: torch.device,
    *,
    sizes: Sequence[int],
    graph_bytes: int,
    parameters: Iterable[torch.Tensor] = (),
    unseen_bytes: int = 0,
) -> TrainingVectors:
    """Encode in chunks and return leaves whose stored gradient can be carried into the encoder.

    The graphs of as many chunks as fit into `graph_bytes` are held until `backward`; the others are encoded again
    there, one at a time, with the random states of the first pass. Both give the gradient of one large batch. What the
    graphs hold never exceeds `graph_bytes` by more than one chunk: the first chunk's graph is measured, the last chunks
    that fit by that measure keep theirs, so that nothing is held while the others are encoded, and unless all take less
    than half of it, each is measured in turn and let go where the first one said too little. On the way back the kept
    graphs go first, each freed when it is done, before any other is built.

    Args:
        rows: which rows of the result each chunk gives; every row is given once. The chunk that takes most memory
            for its size comes first.
        encode: the number of a chunk to its vectors.
        shape: of the result, (N, H).
        device: of the encoder.
        sizes: of each chunk, in proportion to the memory of its graph, such as its padded tokens.
        graph_bytes: see above; 0 keeps none.
        parameters: tensors that exist anyway, and are not counted where a graph holds them.
        unseen_bytes: what a graph holds beside the tensors that autograd saves, for each unit of size.
    Source:
        Gao et al. (2021), Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup; theirs encodes every
        chunk twice.
    """
    leaf_NH = torch.empty(shape, device=device)
    known = {parameter.untyped_storage().data_ptr() for parameter in parameters} if graph_bytes else set()
    graphs: dict[int, torch.Tensor] = {}
    random_states: list[list[torch.Tensor]] = []
    first_kept = 0 if graph_bytes else len(rows)
    held, rate, measures = 0, 0.0, True
    for chunk, places in enumerate(rows):
        random_states.append(_random_state(device))
        # The first one is measured even where it will not be kept.
        with_graph = chunk >= first_kept
        with torch.set_grad_enabled(with_graph), _saved_bytes(known if with_graph and measures else None) as saved:
            vectors_CH = encode(chunk)
        leaf_NH[places.to(device)] = vectors_CH.detach()
        if not with_graph:
            continue
        own = saved[0] + unseen_bytes * sizes[chunk] if measures else int(rate * sizes[chunk])
        if chunk == 0:
            rate = own / max(1, sizes[0])
            first_kept = _first_that_fits(sizes, rate, graph_bytes)
            measures = rate * sum(sizes) > graph_bytes / 2
        if chunk >= first_kept and held + own <= graph_bytes:
            graphs[chunk] = vectors_CH
            held += own
    leaf_NH.requires_grad_()
    num_kept = len(graphs)

    def backward() -> None:
        assert leaf_NH.grad is not None, "the loss did not reach the text vectors"
        kept = set(graphs)
        # The newest first: what they hold is freed before memory is taken for the others.
        while graphs:
            chunk, vectors_CH = graphs.popitem()
            torch.autograd.backward(vectors_CH, leaf_NH.grad[rows[chunk].to(device)])
            del vectors_CH
        if len(kept) == len(rows):
            return
        now = _random_state(device)
        for chunk, places in enumerate(rows):
            if chunk not in kept:
                _set_random_state(device, random_states[chunk])
                torch.autograd.backward(encode(chunk), leaf_NH.grad[places.to(device)])
        _set_random_state(device, now)

    return TrainingVectors(leaf_NH, backward, held, num_kept, len(rows))


def _first_that_fits(sizes: Sequence[int], rate: float, graph_bytes: int) -> int:
    """Return the first of the last chunks that fit into `graph_bytes` together, at so many bytes for each of size."""
    total, first = 0.0, len(sizes)
    while first > 0 and total + rate * sizes[first - 1] <= graph_bytes:
        first -= 1
        total += rate * sizes[first]
    return first


@contextlib.contextmanager
def _saved_bytes(known: set[int] | None) -> Iterator[list[int]]:
    """Count the bytes that graphs built inside this context save for their backward pass, each storage once.

    Args:
        known: storages that are not counted; None counts nothing.
    """
    total = [0]
    if known is None:
        yield total
        return
    counted = set(known)

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in counted:
            counted.add(storage.data_ptr())
            total[0] += storage.nbytes()
        # Without its history: a graph that held its own output would never be freed.
        return tensor.detach()

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield total


def _random_state(device: torch.device) -> list[torch.Tensor]:
    states = [torch.get_rng_state()]
    return [*states, torch.cuda.get_rng_state(device)] if device.type == "cuda" else states


def _set_random_state(device: torch.device, states: list[torch.Tensor]) -> None:
    torch.set_rng_state(states[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states[1], device)
