"""What a refresh of the catalogue, and the lists of all users, cost on so many GPUs."""

from __future__ import annotations

import dataclasses

from peftrec.benchmark.scale.gpu import A100, Gpu
from peftrec.benchmark.scale.scenario import Setting, World
from peftrec.benchmark.scale.size import FLOAT, vector_bytes, weight_bytes
from peftrec.benchmark.scale.traffic import gathered_bytes, padded_rows
from peftrec.benchmark.scale.work import encoding_flops, ranking_flops


@dataclasses.dataclass(frozen=True, kw_only=True)
class Refresh:
    """All items encoded anew, dealt out over processes and gathered, and the lists of all users.

    Args:
        world: the data.
        setting: the backbone, and how it is stored.
        processes: GPUs.
        gpu: of which kind.
    """

    world: World
    setting: Setting
    processes: int
    gpu: Gpu = A100

    @property
    def tokens(self) -> int:
        """Of all items."""
        return self.world.items * self.world.tokens

    @property
    def flops(self) -> float:
        """Of all items, in all processes together."""
        return float(self.world.items * encoding_flops(self.setting.shape, [self.world.tokens]))

    @property
    def seconds(self) -> float:
        """Of encoding: in float32 without TF32 where weights are so, as vectors that are kept are never rounded."""
        return self.gpu.compute_seconds(self.flops / self.processes, self.setting.products)

    @property
    def vectors(self) -> int:
        """Bytes of all text vectors, which each process then holds."""
        return vector_bytes(self.world.items, self.setting.shape.width)

    @property
    def sent(self) -> float:
        """Bytes that each process sends."""
        rows = padded_rows(self.world.items, self.processes)
        return gathered_bytes(vector_bytes(rows, self.setting.shape.width), self.processes)

    @property
    def send_seconds(self) -> float:
        """Of sending."""
        return self.gpu.send_seconds(self.sent, self.processes)

    @property
    def most_items(self) -> float:
        """Items whose text vectors and item vectors fit beside the weights on one GPU; they are held whole."""
        setting = self.setting
        free = self.gpu.memory - weight_bytes(setting.shape, setting.storage)
        return free / (FLOAT * (setting.shape.width + setting.dim))

    @property
    def ranking_seconds(self) -> float:
        """Of scoring all items for all users, in float32; choosing the best is not counted."""
        flops = ranking_flops(self.world.users, self.world.items, self.setting.dim)
        return self.gpu.compute_seconds(flops / self.processes, "float32")
