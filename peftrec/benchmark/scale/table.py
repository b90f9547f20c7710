"""The tables of the document, each by its name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from peftrec.benchmark.scale.gpu import A100
from peftrec.benchmark.scale.number import duration, markdown, with_prefix
from peftrec.benchmark.scale.refresh import Refresh
from peftrec.benchmark.scale.scenario import SETTINGS, Setting, World
from peftrec.benchmark.scale.shape import LLAMA_7B, MINILM, BackboneShape, Tuning
from peftrec.benchmark.scale.size import (
    FLOAT,
    Precision,
    Storage,
    adapter_bytes,
    graph_bytes,
    host_bytes,
    layer_bytes,
    optimizer_bytes,
    token_bytes,
    trunk_bytes,
    vector_bytes,
    weight_bytes,
)
from peftrec.benchmark.scale.step import Step, TableSteps
from peftrec.benchmark.scale.traffic import shard_bytes
from peftrec.benchmark.scale.work import encoding_flops, training_flops

WORLD: Final = World()
PROCESSES: Final = (1, 8, 64)
_BACKBONES: Final = (MINILM, LLAMA_7B)
_TUNINGS: Final = {"LoRA": Tuning(), "LoRA, top 2": Tuning(layers=2), "full": Tuning(kind="full")}
_INTERVAL: Final = 1000
_DRAWN: Final = 65_536


def assumptions() -> str:
    """Return what the other tables take for granted."""
    gpu = A100
    rows = [
        ["items, tokens of each", f"{WORLD.items:,}, {WORLD.tokens}"],
        ["users, events of each", f"{WORLD.users:,}, {WORLD.events}"],
        ["users a step on each GPU, LoRA rank", f"{SETTINGS[0].users}, {Tuning().rank}"],
        ["GPU", gpu.name],
        ["products, operations a second", f"{_rate(gpu.bf16)} bfloat16, {_rate(gpu.tf32)} TF32, "
         f"{_rate(gpu.float32)} float32"],
        ["share of them that is reached", f"{gpu.compute_share:.0%}"],
        ["memory", with_prefix(gpu.memory, "B")],
        ["sent by a GPU a second", f"{with_prefix(gpu.inside, 'B')} inside a machine of {gpu.a_machine}, "
         f"{with_prefix(gpu.across, 'B')} to other machines"],
        ["read from the machine's memory a second", with_prefix(gpu.host, "B")],
        ["share of these links that is reached", f"{gpu.link_share:.0%}"],
    ]  # fmt: skip
    rows += [[f"{setting.name}: weights, item vectors, chunks, graphs", _said(setting)] for setting in SETTINGS]
    return markdown(["assumed", ""], rows)


def _rate(flops: float) -> str:
    return with_prefix(flops)


def _said(setting: Setting) -> str:
    chunk, graphs = f"{setting.token_budget:,}", f"{setting.graph_mib:,}"
    return f"{setting.storage}, {setting.dim} wide, {chunk} tokens, {graphs} MiB"


def weights() -> str:
    """Return bytes of weights."""
    storages: tuple[Storage, ...] = ("float32", "bfloat16", "int8", "nf4")
    rows = [
        [shape.name, f"{shape.parameters:,}", *(with_prefix(weight_bytes(shape, one), "B") for one in storages)]
        for shape in _BACKBONES
    ]
    return markdown(["backbone", "parameters", *storages], rows)


def training() -> str:
    """Return what trains, and what a token costs."""
    rows = [_training_row(shape, name) for shape in _BACKBONES for name in _TUNINGS]
    header = ["backbone", "trains", "parameters", "adapter", "gradients and moments", "graph a token, float32", "bf16"]
    header += ["operations a token: forward and back", "encoded twice"]
    return markdown(header, rows)


def _training_row(shape: BackboneShape, name: str) -> list[str]:
    tuning = _TUNINGS[name]
    flops = training_flops(shape, tuning, [WORLD.tokens])
    number = shape.trained_parameters(tuning)
    storage: Storage = "bfloat16" if shape is LLAMA_7B else "float32"
    precisions: tuple[Precision, ...] = ("float32",) if tuning.kind == "full" else ("float32", "bf16")
    graphs = [with_prefix(graph_bytes(shape, tuning, one, storage), "B") for one in precisions]
    return [
        shape.name,
        name,
        with_prefix(number),
        with_prefix(adapter_bytes(shape, tuning), "B") if tuning.kind == "lora" else "",
        with_prefix(optimizer_bytes(number), "B"),
        *graphs,
        *[""] * (2 - len(graphs)),
        with_prefix(flops.total(kept=1.0) / WORLD.tokens),
        with_prefix(flops.total(kept=0.0) / WORLD.tokens),
    ]


def stored() -> str:
    """Return what a catalogue and its users take on disks and in memories."""
    tokens = WORLD.items * WORLD.tokens
    rows = [
        [shape.name]
        + [with_prefix(trunk_bytes(shape, tokens, width=width), "B") for width in (FLOAT, FLOAT // 2)]
        + [with_prefix(vector_bytes(WORLD.items, shape.width), "B")]
        + [with_prefix(vector_bytes(WORLD.items, dim) + optimizer_bytes(WORLD.items * dim), "B")]
        for shape, dim in ((MINILM, 384), (LLAMA_7B, 256))
    ]
    header = ["backbone", "cached states, float32", "float16", "text vectors", "ids with gradients and moments"]
    events = WORLD.users * WORLD.events
    held = host_bytes(WORLD.users, events)
    timed = host_bytes(WORLD.users, events, times=True)
    beside = (
        f"Tokens: {with_prefix(token_bytes(WORLD.items, tokens), 'B')} on disk. Events: {with_prefix(held, 'B')} in "
        f"the memory of each process, {with_prefix(timed, 'B')} with times, without ids of users."
    )
    return f"{markdown(header, rows)}\n\n{beside}"


def steps() -> str:
    """Return what a training step over the batch's items costs."""
    rows = [
        _step_row(Step(world=WORLD, setting=setting, processes=count)) for setting in SETTINGS for count in PROCESSES
    ]
    header = ["setting", "GPUs", "candidates", "tokens encoded, a GPU", "graphs kept", "operations, a GPU: encoder"]
    header += ["head, user encoder, loss", "memory, a GPU", "sent, a GPU", "computing", "sending", "an epoch"]
    return markdown(header, rows)


def _step_row(step: Step) -> list[str]:
    return [
        step.setting.name,
        f"{step.processes}",
        f"{step.candidates:,}",
        f"{step.tokens:,}",
        f"{step.kept:.0%}",
        with_prefix(step.encoder_flops),
        with_prefix(step.other_flops),
        with_prefix(step.memory, "B"),
        with_prefix(step.traffic.sent, "B"),
        duration(step.compute_seconds),
        duration(step.send_seconds),
        duration(step.epoch_seconds),
    ]


def cached() -> str:
    """Return what reading cached states asks of a machine of eight GPUs."""
    rows = []
    for setting in SETTINGS:
        step = Step(world=WORLD, setting=setting, processes=A100.a_machine)
        if step.read:
            disk = A100.a_machine * step.read / step.compute_seconds
            rows.append(
                [
                    setting.name,
                    with_prefix(step.read, "B"),
                    duration(step.read_seconds),
                    duration(step.compute_seconds),
                    f"{with_prefix(disk, 'B')} a second",
                ]
            )
    header = ["setting", "states read a step, a GPU", "from the machine's memory", "computing"]
    return markdown([*header, "asked of the machine's disks, if it is to compute all the time"], rows)


def losses() -> str:
    """Return what each source of candidates costs on 64 GPUs."""
    rows = []
    for setting in (SETTINGS[0], SETTINGS[2]):
        for name, drawn in (("in_batch_softmax", 0), (f"sampled_softmax, {_DRAWN:,} drawn", _DRAWN)):
            step = Step(world=WORLD, setting=setting.with_drawn(drawn), processes=PROCESSES[-1])
            rows.append(
                [
                    setting.name,
                    name,
                    f"{step.candidates:,}",
                    with_prefix(step.encoder_flops),
                    with_prefix(step.other_flops),
                    with_prefix(step.traffic.sent, "B"),
                    duration(step.seconds),
                    "",
                ]
            )
        table = TableSteps(world=WORLD, setting=setting, processes=PROCESSES[-1], interval=_INTERVAL)
        rows.append(
            [
                setting.name,
                f"full_softmax, a table for {_INTERVAL:,} steps",
                f"{WORLD.items:,}",
                with_prefix(table.table_flops / _INTERVAL),
                with_prefix(table.head_flops),
                with_prefix(table.sent / _INTERVAL, "B"),
                duration(table.seconds),
                with_prefix(table.most_items),
            ]
        )
    header = ["setting", "loss", "candidates", "operations a step, a GPU: encoder", "head, user encoder, loss"]
    return markdown([*header, "sent a step", "a step", "most items that fit on a GPU"], rows)


def refresh() -> str:
    """Return what encoding all items and listing them for all users costs."""
    rows = []
    for setting in (SETTINGS[0], SETTINGS[2]):
        for count in PROCESSES:
            found = Refresh(world=WORLD, setting=setting, processes=count)
            rows.append(
                [
                    setting.shape.name,
                    setting.storage,
                    f"{count}",
                    with_prefix(found.tokens),
                    with_prefix(found.flops),
                    duration(found.seconds),
                    with_prefix(found.sent, "B"),
                    duration(found.send_seconds),
                    with_prefix(found.vectors, "B"),
                    with_prefix(found.most_items),
                    duration(found.ranking_seconds),
                ]
            )
    header = ["backbone", "weights", "GPUs", "tokens", "operations", "encoding", "sent, a GPU", "sending"]
    return markdown([*header, "text vectors", "most items that fit on a GPU", "scores for all users"], rows)


def sharding() -> str:
    """Return what sharding the frozen layers of the large backbone would send."""
    rows = []
    setting = SETTINGS[2]
    storages: tuple[Storage, ...] = ("bfloat16", "nf4")
    for storage in storages:
        layers = layer_bytes(LLAMA_7B, storage)
        for count in PROCESSES[1:]:
            step = Step(world=WORLD, setting=setting, processes=count)
            for budget in (2048, 8192):
                chunks = -(-step.tokens // budget)
                sent = shard_bytes(layers, chunks, count, passes=3)
                rows.append(
                    [
                        storage,
                        f"{count}",
                        f"{budget:,}",
                        with_prefix(layers, "B"),
                        with_prefix(layers / count, "B"),
                        str(chunks),
                        with_prefix(sent, "B"),
                        duration(A100.send_seconds(sent, count)),
                        duration(step.compute_seconds),
                    ]
                )
    header = ["weights", "GPUs", "token_budget", "layers, whole", "a GPU's shard", "chunks", "sent a step, a GPU"]
    return markdown([*header, "sending", "computing"], rows)


def encoding() -> str:
    """Return what a token of a catalogue costs."""
    rows = [[shape.name, with_prefix(encoding_flops(shape, [WORLD.tokens]) / WORLD.tokens)] for shape in _BACKBONES]
    return markdown(["backbone", "operations a token, without gradients"], rows)


TABLES: Final[Mapping[str, Callable[[], str]]] = {
    "assumptions": assumptions,
    "weights": weights,
    "encoding": encoding,
    "training": training,
    "stored": stored,
    "steps": steps,
    "cached": cached,
    "losses": losses,
    "refresh": refresh,
    "sharding": sharding,
}
"""What writes each table, by the name that the document calls it."""
