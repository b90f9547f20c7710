"""The `optimizer` and `training` sections of a recipe."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

from peftrec.config import Range
from peftrec.training.augmentation_config import AugmentationConfig
from peftrec.training.optimizer_kind import OptimizerKind

Rate = Annotated[float, Range(gt=0)]
Fraction = Annotated[float, Range(ge=0, le=1)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """AdamW with a group each for the language model, the head, and the ids.

    Args:
        kind: `adamw` is torch's. `adamw_8bit` keeps the moments of tensors of 4,096 numbers or more in a byte each;
            `paged_adamw` and `paged_adamw_8bit` let moments leave the GPU when it is full, and are on a CPU the same as
            without paging. These three need bitsandbytes.
        learning_rate: of what the PEFT method trains; None takes the method's own default.
        user_learning_rate: of what the users' own method trains (`profile.method`); None takes that method's default.
        head_learning_rate: of item head, user encoder and scale, and of attention pooling.
        id_learning_rate: of id vectors and item biases; None takes the head's.
        weight_decay: of all groups but the ids.
        id_weight_decay: of the ids; None takes `weight_decay`.
        warmup_steps: steps over which rates rise linearly from near zero; steps of the language model for its rates.
        schedule: how rates fall after that, over the steps that a group makes.
        final_rate: share of the rate that the cosine schedule ends with.
        clip_norm: gradients of each group are cut to this norm; None cuts nothing.
    """

    kind: OptimizerKind = "adamw"
    learning_rate: Rate | None = None
    user_learning_rate: Rate | None = None
    head_learning_rate: Rate = 1e-3
    id_learning_rate: Rate | None = None
    weight_decay: Annotated[float, Range(ge=0)] = 0.01
    id_weight_decay: Annotated[float, Range(ge=0)] | None = None
    warmup_steps: Annotated[int, Range(ge=0)] = 0
    schedule: Literal["constant", "cosine"] = "cosine"
    final_rate: Fraction = 0.05
    clip_norm: Annotated[float, Range(gt=0)] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """The loop.

    Args:
        num_epochs: passes over the training windows, the frozen ones included.
        max_steps: stop after this many optimiser steps; None goes on to the end.
        batch_users: windows of user histories in one batch; `auto` takes the fewest with which steps take an item
            `encodings` times an epoch at most, and sets `accumulation_steps` too (see `plan_batches`). What it came to
            is printed, and stands in the recipe of the run folder.
        encodings: how often steps take an item an epoch at most, on average, where `batch_users` is `auto`. More make
            more steps of the language model, of fewer users each. An item is encoded each time it is taken, and once
            more on the way back where its graph does not fit `graph_memory_mib`.
        batch_memory_mib: what user vectors and item vectors of one batch may take where `batch_users` is `auto`, by
            an estimate.
        accumulation_steps: batches whose gradients make one optimiser step.
        encoder_interval: optimiser steps of the head on one table of text vectors (rounded so that tables share an
            epoch evenly); the gradients that they leave on it then make one step of the language model, which so sees
            batch_users * accumulation_steps * encoder_interval windows a step. With 1 both step together.
        warmup_frozen_epochs: epochs before the language model's adapter moves; they run on vectors computed once.
        evaluate_every: epochs between evaluations on the validation cases.
        patience: evaluations without improvement before training stops; None never stops early.
        metric: key of the validation metric that picks the best weights.
        graph_memory_mib: the graphs of so many texts as fit into this are kept; the others are encoded again, a chunk
            (`encoder.token_budget`) at a time, with the stored gradients. Memory stays at this and one chunk, whatever
            batch and catalogue; 0 keeps none. MiniLM-L6 with LoRA in all layers holds about 0.15 MiB a token.
        mixed_precision: `bf16` lets language models train under autocast to bfloat16; their adapters, all gradients and
            the optimiser's state stay float32, and so do head and loss. Evaluation and whatever is stored run without
            it, so that a run gives the same vectors on every machine. A setting of GPUs from Ampere on; CPUs that lack
            it in hardware are slower so.
        tf32: let matrix products of training on a GPU round their inputs to 10 bits (Ampere and newer), those of head
            and loss too. Evaluation and whatever is stored run without it.
        compile: compile the layers of the language model with torch.compile (inductor) for training, shapes left open;
            up to a minute at the start. Gradients are the same up to rounding.
        seed: of everything that is random.
        augmentation: what is done to the inputs of training windows; nothing by default.
        trackers: names that Accelerate's `log_with` knows, such as tensorboard.
        processes: how many processes the recipe is made for; another number is an error. None takes any. `batch_users`
            is of each process.
        shard_backbone: deal the frozen weights of the language model out over the processes (FSDP2), each layer put
            together while it computes; what is trained stays whole everywhere. No graphs are kept then
            (`graph_memory_mib`): every text is encoded twice a step.
        timeout_seconds: how long processes wait for one that does not answer before they stop and name it.
        checkpoint_steps: optimiser steps between checkpoints within an epoch; None saves at the end of epochs alone.
        keep_every: epochs between checkpoints that are kept for good, beside the newest two and that of the best epoch;
            None keeps no others.
        on_out_of_memory: `halve` takes a step that ran out of memory again, in chunks (`encoder.token_budget`) and with
            graphs (`graph_memory_mib`) of half the size, as often as needed, in one process; `stop` says what to lower.
    """

    num_epochs: Annotated[int, Range(ge=1)] = 10
    max_steps: Annotated[int, Range(ge=1)] | None = None
    batch_users: Annotated[int, Range(ge=1)] | Literal["auto"] = 256
    encodings: Annotated[float, Range(ge=1)] = 12.0
    batch_memory_mib: Annotated[int, Range(ge=1)] = 2048
    accumulation_steps: Annotated[int, Range(ge=1)] = 1
    encoder_interval: Annotated[int, Range(ge=1)] = 1
    warmup_frozen_epochs: Annotated[int, Range(ge=0)] = 0
    evaluate_every: Annotated[int, Range(ge=1)] = 1
    patience: Annotated[int, Range(ge=1)] | None = 3
    metric: str = "ndcg@10"
    graph_memory_mib: Annotated[int, Range(ge=0)] = 2048
    mixed_precision: Literal["no", "bf16"] = "no"
    tf32: bool = False
    compile: bool = False
    seed: Annotated[int, Range(ge=0)] = 0
    augmentation: AugmentationConfig = dataclasses.field(default_factory=AugmentationConfig)
    trackers: tuple[Literal["tensorboard", "wandb", "mlflow", "trackio"], ...] = ()
    processes: Annotated[int, Range(ge=1)] | None = None
    shard_backbone: bool = False
    timeout_seconds: Annotated[float, Range(gt=0)] = 1800.0
    checkpoint_steps: Annotated[int, Range(ge=1)] | None = None
    keep_every: Annotated[int, Range(ge=1)] | None = None
    on_out_of_memory: Literal["stop", "halve"] = "stop"

    def __post_init__(self) -> None:
        if self.batch_users == "auto" and self.accumulation_steps != 1:
            raise ValueError("accumulation_steps: is chosen by batch_users: auto; leave it out")

    @property
    def users_a_batch(self) -> int:
        """`batch_users`, when it has been resolved."""
        assert self.batch_users != "auto", "batch_users has not been resolved"
        return self.batch_users
