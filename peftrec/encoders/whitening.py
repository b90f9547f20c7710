"""Whitening of vectors by their own covariance."""

from __future__ import annotations

import dataclasses

import torch

from peftrec.config import InputError

_ONE_THREAD_DIM = 1024


@dataclasses.dataclass(frozen=True)
class Whitening:
    """The map x -> (x - mean) M.

    Args:
        mean: shape (H,).
        matrix: M, shape (H, D).
    """

    mean: torch.Tensor
    matrix: torch.Tensor

    def __call__(self, vectors: torch.Tensor) -> torch.Tensor:
        """Return the mapped vectors, shape (N, D), not of unit length."""
        return (vectors - self.mean) @ self.matrix

    @classmethod
    def fit(
        cls, vectors: torch.Tensor, *, power: float = -0.25, ridge: float = 1e-3, dim: int | None = None
    ) -> Whitening:
        """Fit to N vectors: M = E (Lambda + ridge)^power E^T with the covariance C = E Lambda E^T.

        With `dim`, M = E (Lambda + ridge)^power restricted to the `dim` largest eigenvalues: the same inner products,
        up to what the other axes add.

        Args:
            vectors: shape (N, H); computed in double precision.
            power: -0.5 whitens fully.
            ridge: positive, in units of the covariance.
            dim: D; None keeps all H axes.
        Raises:
            InputError: if dim is larger than H, or a vector is not finite.
        Source:
            Su et al. (2021), Whitening Sentence Representations, eq. 4 to 6, with the power left free.
        """
        if not bool(torch.isfinite(vectors).all()):
            raise InputError("text vectors hold NaN or infinite values; the backbone is damaged or overflows")
        if dim is not None and dim > vectors.shape[1]:
            raise InputError(
                f"encoder.embedding_dim is {dim}, but text vectors have {vectors.shape[1]} dimensions; use at most that"
            )
        double = vectors.double()
        mean = double.mean(0)
        centred = double - mean
        values, axes = _eigh(centred.T @ centred / len(vectors))
        scaled = axes * (values.clamp(min=0) + ridge) ** power
        matrix = scaled @ axes.T if dim is None else scaled.flip(1)[:, :dim]
        return cls(mean.to(vectors.dtype), matrix.to(vectors.dtype).contiguous())


def _eigh(covariance: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return eigenvalues and axes of a covariance.

    On a CPU by one thread where it is not large: threads that wait for each other in thousands of small steps take many
    times as long as soon as another process wants a core.
    """
    threads = torch.get_num_threads()
    alone = covariance.device.type == "cpu" and len(covariance) <= _ONE_THREAD_DIM
    torch.set_num_threads(1 if alone else threads)
    try:
        values, axes = torch.linalg.eigh(covariance)
    finally:
        torch.set_num_threads(threads)
    return values, axes
