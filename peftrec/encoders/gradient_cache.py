"""Vectors as leaves of a loss, whose gradient is carried into the encoder afterwards, chunk by chunk."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import torch


@dataclasses.dataclass(frozen=True)
class TrainingVectors:
    """Vectors of texts as leaves, and the way back into the encoder.

    Args:
        vectors_NH: a leaf; losses accumulate its gradient, over one step or several.
        backward: adds the gradients of the encoder's parameters that follow from `vectors_NH.grad`.
    """

    vectors_NH: torch.Tensor
    backward: Callable[[], None]


def cached_vectors(
    rows: Sequence[torch.Tensor],
    encode: Callable[[int], torch.Tensor],
    shape: tuple[int, int],
    device: torch.device,
    *,
    keep_graphs: bool,
) -> TrainingVectors:
    """Encode in chunks and return leaves whose stored gradient can be carried into the encoder.

    With `keep_graphs` every chunk's graph is held until `backward`; without, chunks are encoded again there, one at a
    time, with the random states of the first pass, so that memory stays that of one chunk. Both give the gradient of
    one large batch.

    Args:
        rows: which rows of the result each chunk gives; every row is given once.
        encode: the number of a chunk to its vectors.
        shape: of the result, (N, H).
        device: of the encoder.
        keep_graphs: see above.
    Source:
        Gao et al. (2021), Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup.
    """
    leaf_NH = torch.empty(shape, device=device)
    graphs: list[torch.Tensor] = []
    random_states: list[list[torch.Tensor]] = []
    for chunk, places in enumerate(rows):
        random_states.append(_random_state(device))
        with torch.set_grad_enabled(keep_graphs):
            vectors_CH = encode(chunk)
        leaf_NH[places.to(device)] = vectors_CH.detach()
        if keep_graphs:
            graphs.append(vectors_CH)
    leaf_NH.requires_grad_()

    def backward() -> None:
        assert leaf_NH.grad is not None, "the loss did not reach the text vectors"
        gradients = [leaf_NH.grad[places.to(device)] for places in rows]
        if keep_graphs:
            torch.autograd.backward(graphs, gradients)
            graphs.clear()
            return
        now = _random_state(device)
        for chunk, (state, gradient_CH) in enumerate(zip(random_states, gradients, strict=True)):
            _set_random_state(device, state)
            torch.autograd.backward(encode(chunk), gradient_CH)
        _set_random_state(device, now)

    return TrainingVectors(leaf_NH, backward)


def _random_state(device: torch.device) -> list[torch.Tensor]:
    states = [torch.get_rng_state()]
    return [*states, torch.cuda.get_rng_state(device)] if device.type == "cuda" else states


def _set_random_state(device: torch.device, states: list[torch.Tensor]) -> None:
    torch.set_rng_state(states[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states[1], device)
