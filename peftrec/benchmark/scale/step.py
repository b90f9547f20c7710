"""What training steps cost on so many GPUs."""

from __future__ import annotations

import dataclasses
import functools
import math

from peftrec.benchmark.scale.gpu import A100, Gpu, Products
from peftrec.benchmark.scale.scenario import Setting, World
from peftrec.benchmark.scale.size import (
    FLOAT,
    adapter_bytes,
    graph_bytes,
    optimizer_bytes,
    trunk_bytes,
    vector_bytes,
    weight_bytes,
)
from peftrec.benchmark.scale.traffic import StepTraffic, gathered_bytes, padded_rows, summed_bytes
from peftrec.benchmark.scale.work import loss_flops, training_flops
from peftrec.models import USER_ENCODERS
from peftrec.training.batch_plan import StepMemory


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step:
    """A training step with the batch's items as candidates, or those and drawn ones.

    All items of a batch are taken to be distinct, which is the most that it can have.

    Args:
        world: the data.
        setting: how a backbone is trained.
        processes: GPUs.
        gpu: of which kind.
    """

    world: World
    setting: Setting
    processes: int
    gpu: Gpu = A100

    @property
    def candidates(self) -> int:
        """Items of all processes together."""
        of_batch = self.processes * self.setting.users * self.world.events
        return min(self.world.items, of_batch + self.setting.drawn)

    @property
    def own(self) -> int:
        """Items that one process encodes."""
        return math.ceil(self.candidates / self.processes)

    @property
    def tokens(self) -> int:
        """Tokens that one process encodes."""
        return self.own * self.world.tokens

    @property
    def positions(self) -> int:
        """Targets of one process."""
        return self.setting.users * self.world.places

    @functools.cached_property
    def a_token(self) -> float:
        """Bytes of a graph, for each token."""
        setting = self.setting
        return graph_bytes(setting.shape, setting.tuning, setting.precision, setting.storage)

    @property
    def kept(self) -> float:
        """Share of the tokens whose graphs are kept until the way back; those of whole chunks."""
        chunk = min(self.setting.token_budget, self.tokens)
        chunks = math.floor(self.setting.graph_mib * 2**20 / (chunk * self.a_token))
        return min(1.0, chunks * chunk / self.tokens)

    @property
    def encoder_flops(self) -> float:
        """Of the language model, in one process."""
        flops = training_flops(self.setting.shape, self.setting.tuning, [self.world.tokens])
        return self.own * flops.total(self.kept)

    @property
    def other_flops(self) -> float:
        """Of head, user encoder and loss, in one process; each runs the head for all candidates."""
        side, users, places = self.setting.side, self.setting.users, self.world.places
        history = side.history_flops(users * places, users * places**2)
        return side.item_flops(self.candidates) + history + loss_flops(self.positions, self.candidates, side.dim)

    @property
    def traffic(self) -> StepTraffic:
        """What is sent; flags of tensors are some thousand bytes, and left out."""
        setting = self.setting
        return StepTraffic(
            processes=self.processes,
            candidates=self.candidates,
            width=setting.shape.width,
            parameters=setting.trained,
            tensors=0,
        )

    @property
    def memory(self) -> float:
        """Bytes on one GPU: weights, what trains, graphs, one chunk more where not all are kept, and candidates.

        Text vectors of the candidates count four times: gathered, put in their places, their gradient, and one copy
        more on the way.
        """
        setting = self.setting
        chunk = min(setting.token_budget, self.tokens) * self.a_token
        graphs = min(self.tokens * self.a_token, setting.graph_mib * 2**20 + chunk)
        vectors = 4 * vector_bytes(self.candidates, setting.shape.width)
        user = USER_ENCODERS.load("transformer")()
        side = StepMemory.of(user, setting.dim)
        places = setting.users * self.world.places
        held = places * side.place_bytes + places * self.world.places * side.pair_bytes
        weights = weight_bytes(setting.shape, setting.storage) + adapter_bytes(setting.shape, setting.tuning)
        trained = optimizer_bytes(setting.trained) + FLOAT * setting.side.parameters
        return weights + trained + graphs + vectors + held + self.candidates * side.item_bytes

    @property
    def compute_seconds(self) -> float:
        """Of products: those of the language model in its precision, the others in TF32 (`training.tf32: true`)."""
        products: Products = "bf16" if self.setting.precision == "bf16" else "tf32"
        encoder = self.gpu.compute_seconds(self.encoder_flops, products)
        return encoder + self.gpu.compute_seconds(self.other_flops, "tf32")

    @property
    def send_seconds(self) -> float:
        """Of sending, during which nothing is computed."""
        return self.gpu.send_seconds(self.traffic.sent, self.processes)

    @property
    def read(self) -> int:
        """Bytes of cached states that one process reads; 0 where the whole backbone runs."""
        shape, tuned = self.setting.shape, self.setting.shape.tuned_layers(self.setting.tuning)
        return trunk_bytes(shape, self.tokens) if 0 < tuned < shape.layers else 0

    @property
    def read_seconds(self) -> float:
        """Of bringing cached states to the GPU from the memory of the machine."""
        return self.gpu.read_seconds(self.read)

    @property
    def seconds(self) -> float:
        """Of a step: states are read while others are computed with, and what is sent waits for both."""
        return max(self.compute_seconds, self.read_seconds) + self.send_seconds

    @property
    def epoch_seconds(self) -> float:
        """Of all users once."""
        return math.ceil(self.world.users / (self.processes * self.setting.users)) * self.seconds


@dataclasses.dataclass(frozen=True, kw_only=True)
class TableSteps:
    """Training with all items as candidates: one table of their vectors serves many steps of the head.

    Args:
        world: the data.
        setting: how a backbone is trained.
        processes: GPUs.
        interval: `training.encoder_interval`.
        gpu: of which kind.
    """

    world: World
    setting: Setting
    processes: int
    interval: int
    gpu: Gpu = A100

    @property
    def table_flops(self) -> float:
        """Of the language model for a table, in one process; hardly a graph of so many texts is kept."""
        flops = training_flops(self.setting.shape, self.setting.tuning, [self.world.tokens])
        return self.world.items / self.processes * flops.total(kept=0.0)

    @property
    def head_flops(self) -> float:
        """Of head and loss in every step, in one process; the user encoder is little beside them."""
        side, positions = self.setting.side, self.setting.users * self.world.places
        return side.item_flops(self.world.items) + loss_flops(positions, self.world.items, side.dim)

    @property
    def sent(self) -> float:
        """Bytes that each process sends for a table: its vectors, and their gradients."""
        rows = padded_rows(self.world.items, self.processes)
        width = self.setting.shape.width
        gathered = gathered_bytes(vector_bytes(rows, width), self.processes)
        return gathered + summed_bytes(vector_bytes(self.world.items, width), self.processes)

    @property
    def seconds(self) -> float:
        """Of a step, with its share of a table."""
        table = self.gpu.compute_seconds(self.table_flops, "bf16") + self.gpu.send_seconds(self.sent, self.processes)
        return table / self.interval + self.gpu.compute_seconds(self.head_flops, "tf32")

    @property
    def item_bytes(self) -> int:
        """Bytes of an item on each GPU: its text vector, that one's gradient, and what a step makes of it."""
        side = StepMemory.of(USER_ENCODERS.load("transformer")(), self.setting.dim)
        return vector_bytes(2, self.setting.shape.width) + side.item_bytes

    @property
    def most_items(self) -> float:
        """Items that fit beside weights and graphs on one GPU."""
        setting = self.setting
        free = self.gpu.memory - weight_bytes(setting.shape, setting.storage) - setting.graph_mib * 2**20
        return free / self.item_bytes
