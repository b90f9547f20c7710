"""Text vectors of a step, each item encoded by one process and seen by all.

Shapes: C items of a step, K those of one process, H width of text vectors.
"""

from __future__ import annotations

import torch

from peftrec.encoders import CatalogueText, TrainingVectors
from peftrec.launch import Ranks


def shared_vectors(
    catalogue: CatalogueText, items_C: torch.Tensor, ranks: Ranks, *, graph_bytes: int
) -> TrainingVectors:
    """Return vectors of a step's items as leaves, shape (C, H), whose gradient goes back to who encoded each.

    Items are dealt out by their tokens. `backward` adds the leaf's gradients up over all processes, once, and carries
    each process's part into its encoder; gradients of weights are then its share of the sum and are still to be added
    up. Chunks differ in number from process to process: between these two points nothing is sent.

    Args:
        catalogue: texts and encoder.
        items_C: distinct items, the same in all processes.
        ranks: the processes.
        graph_bytes: that the graphs of one process may hold.
    """
    if ranks.alone:
        return catalogue.training_vectors(items_C, graph_bytes=graph_bytes)
    shares = ranks.shares(catalogue.tokenized.lengths[items_C])
    mine = shares[ranks.index]
    if catalogue.encoder.in_step:
        own: TrainingVectors | None = _in_step(catalogue, items_C[mine], ranks)
    else:
        own = catalogue.training_vectors(items_C[mine], graph_bytes=graph_bytes) if len(mine) else None
    own_KH = _nothing(catalogue) if own is None else own.vectors_NH.detach()
    leaf_CH = ranks.gather(own_KH, shares).requires_grad_()

    def backward() -> None:
        if leaf_CH.grad is None:  # this process had no user
            leaf_CH.grad = torch.zeros_like(leaf_CH)
        ranks.add(leaf_CH.grad)
        if own is not None:
            own.vectors_NH.grad = leaf_CH.grad[mine.to(leaf_CH.device)]
            own.backward()

    kept = (0, 0, 0) if own is None else (own.kept_bytes, own.num_kept, own.num_chunks)
    return TrainingVectors(leaf_CH, backward, *kept)


def _in_step(catalogue: CatalogueText, items_K: torch.Tensor, ranks: Ranks) -> TrainingVectors:
    """Encode in as many chunks as the process that has most of them: what there is too much gives no vector.

    No graph is kept: how many fit would be another number in each process.
    """
    encoder, texts = catalogue.encoder, catalogue.tokenized
    rows = encoder.chunks(texts, items_K) if len(items_K) else []
    items_of = [items_K[chunk] for chunk in rows]
    num_more = ranks.most(len(rows)) - len(rows)
    filler = texts.lengths.argmin()[None]

    def encode(chunk: int) -> torch.Tensor:
        vectors_CH: torch.Tensor = encoder(texts, items_of[chunk])
        return vectors_CH[: len(rows[chunk])]

    items_of += [filler] * num_more
    rows = [*rows, *[torch.empty(0, dtype=torch.int64)] * num_more]
    return encoder.cached_vectors(texts, items_of, rows, encode, graph_bytes=0)


def _nothing(catalogue: CatalogueText) -> torch.Tensor:
    return torch.empty(0, catalogue.encoder.dim, device=catalogue.encoder.device)
