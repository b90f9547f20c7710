"""A GPU by its data sheet, and the shares of it that are assumed to be reached."""

from __future__ import annotations

import dataclasses
from typing import Final, Literal

Products = Literal["bf16", "tf32", "float32"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gpu:
    """What a GPU can do, and how a launch of several is wired.

    Args:
        name: of the model.
        bf16: dense matrix products in bfloat16, operations a second.
        tf32: likewise in TF32.
        float32: likewise in float32.
        memory: bytes.
        inside: bytes a second that one sends to others of its machine.
        across: bytes a second that one sends to other machines.
        host: bytes a second from the memory of its machine to one of its GPUs.
        a_machine: GPUs in a machine.
        compute_share: of the peak of products that is assumed.
        link_share: of the links that is assumed.
    """

    name: str
    bf16: float
    tf32: float
    float32: float
    memory: float
    inside: float
    across: float
    host: float
    a_machine: int = 8
    compute_share: float = 0.4
    link_share: float = 0.7

    def compute_seconds(self, flops: float, products: Products) -> float:
        """Return the seconds of products at the assumed share of the peak."""
        peak: float = getattr(self, products)
        return flops / (peak * self.compute_share)

    def send_seconds(self, num_bytes: float, processes: int) -> float:
        """Return the seconds in which each process sends so many bytes; a ring goes as fast as its slowest link."""
        link = self.inside if processes <= self.a_machine else self.across
        return num_bytes / (link * self.link_share)

    def read_seconds(self, num_bytes: float) -> float:
        """Return the seconds in which so many bytes come from the memory of the machine."""
        return num_bytes / (self.host * self.link_share)


# NVIDIA's data sheets of the A100 80GB SXM and of the DGX A100: dense products, NVLink 600 GB/s both ways together, a
# network card of 200 Gbit/s for each GPU, and PCIe 4.0 x16.
A100: Final = Gpu(
    name="NVIDIA A100 80GB (SXM)", bf16=312e12, tf32=156e12, float32=19.5e12, memory=80e9, inside=300e9, across=25e9,
    host=32e9,
)  # fmt: skip
