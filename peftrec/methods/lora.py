"""LoRA and its variants: low-rank updates of linear layers."""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, ClassVar, Literal

import torch
from torch import nn

from peftrec.config import InputError, Range
from peftrec.methods.foreign_adapter import ForeignAdapter, read_foreign_adapter
from peftrec.methods.low_rank import AppliedLowRank
from peftrec.methods.method import Capabilities, MethodConfig
from peftrec.methods.structure import name_pattern
from peftrec.methods.target import Targets, check_ranks, find_targets, matches

logger = logging.getLogger(__name__)


class AppliedLora(AppliedLowRank):
    """LoRA in the backbone.

    Args:
        model: the backbone, changed in place.
        config: a fresh `peft` config.
        first_layer: see `AppliedMethod`.
        b_rate_factor: factor on the learning rate of every B.
        start: the adapter that training starts from, or None.
    """

    def __init__(
        self,
        model: nn.Module,
        config: Any,
        first_layer: int,
        *,
        b_rate_factor: float,
        start: Callable[[], ForeignAdapter] | None = None,
    ) -> None:
        super().__init__(model, config, first_layer)
        self._read_start = start
        self.b_rate_factor = b_rate_factor

    @functools.cached_property
    def start(self) -> ForeignAdapter | None:
        return None if self._read_start is None else self._read_start()

    def initialize(self, batches: Iterable[Mapping[str, torch.Tensor]]) -> None:
        """Take the weights of the adapter that training starts from.

        Raises:
            InputError: if it does not fit.
        """
        del batches
        if self.start is None:
            return
        tensors = self.start.fitting(self.config.to_dict(), self.state_dict())
        self.load_state_dict(tensors)
        taken = self.state_dict()
        assert all(torch.equal(taken[name], tensors[name].to(taken[name])) for name in tensors)
        logger.info("method.start_from: %d tensors taken from %s", len(tensors), self.start.source)

    def rate_factors(self) -> dict[str, float]:
        if self.b_rate_factor == 1.0:
            return {}
        return {name: self.b_rate_factor for name in self.named_parameters() if ".lora_B." in name}


class AppliedEva(AppliedLora):
    """LoRA whose A starts from the directions of most variance of what its module is given."""

    def initialize(self, batches: Iterable[Mapping[str, torch.Tensor]]) -> None:
        """Fit every A by incremental SVD on the texts; B stays zero.

        Raises:
            InputError: if there are too few tokens to find as many directions as the rank.
        """
        from peft.tuners.lora.eva import initialize_lora_eva_weights

        # peft runs over its batches again until the directions stand still.
        stored = [dict(batch) for batch in batches]
        try:
            initialize_lora_eva_weights(
                self.peft_model,
                dataloader=stored,
                forward_fn=lambda model, batch: model(**batch),
                gather_distributed_inputs=False,
                show_progress_bar=False,
            )
        except (ValueError, RuntimeError) as error:
            raise InputError(
                f"method.init: eva found no start in the item texts ({error}); use init: default"
            ) from error
        self._parameters = self._own_parameters()


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoraConfig(MethodConfig):
    """W x becomes W x + s B A x, with A of shape (rank, in), B of shape (out, rank), and s = alpha / rank.

    Parameters: the sum over target modules of rank * (in + out), and of out more with `dora`.

    Args:
        rank: inner width; at most the smaller side of every target.
        alpha: numerator of the update's scale.
        dropout: on the input of A.
        targets: `all_linear`, or endings of module names ("query", "attention.output.dense").
        rank_stabilized: s = alpha / sqrt(rank), so that larger ranks do not learn more slowly (rsLoRA).
        dora: learn the length of every column of the changed weight apart from its direction (DoRA).
        init: `default` draws A at random and sets B to zero; `pissa` takes both from the largest singular values of W
            and leaves the rest in W; `eva` takes A from the directions of most variance of the module's inputs over the
            item texts (ranks are not moved between modules) and sets B to zero.
        rank_pattern: ranks of single modules, by the ending of their name; the others have `rank`.
        alpha_pattern: alphas of single modules, likewise.
        b_rate_factor: factor on the learning rate of B (LoRA+); 1 trains A and B at the same rate.
        start_from: folder or Hub id (`owner/name[@revision]`) of a LoRA of the same backbone, trained by plain `peft`
            or sentence-transformers, whose weights A and B start as. Its settings must be those above. It is read when
            training begins, and not by the run that comes out.
    Source:
        Hu et al. (2022), LoRA, eq. 3; Kalajdzievski (2023), rsLoRA; Liu et al. (2024), DoRA; Meng et al. (2024), PiSSA;
        Paischer et al. (2024), EVA; Hayou et al. (2024), LoRA+.
    """

    kind: ClassVar[str] = "lora"
    default_learning_rate: ClassVar[float] = 3e-4
    capabilities: ClassVar[Capabilities] = Capabilities(
        identity_at_start=True,
        base_frozen=True,
        can_merge=True,
        can_limit_layers=True,
        supports_checkpointing=True,
        encoder=True,
        decoder=True,
        quantized_base=True,
    )

    rank: Annotated[int, Range(ge=1)] = 8
    alpha: Annotated[float, Range(gt=0)] = 16.0
    dropout: Annotated[float, Range(ge=0, lt=1)] = 0.0
    targets: Targets = "all_linear"
    rank_stabilized: bool = False
    dora: bool = False
    init: Literal["default", "pissa", "eva"] = "default"
    rank_pattern: dict[str, Annotated[int, Range(ge=1)]] = dataclasses.field(default_factory=dict)
    alpha_pattern: dict[str, Annotated[float, Range(gt=0)]] = dataclasses.field(default_factory=dict)
    b_rate_factor: Annotated[float, Range(gt=0)] = 1.0
    start_from: str | None = None

    def __post_init__(self) -> None:
        if self.start_from is not None and not self.start_from.strip():
            raise ValueError("start_from: is empty; it names a folder or a Hub id, or is null")
        if self.start_from is not None and self.init != "default":
            raise ValueError(f"init: {self.init} and start_from both say how A and B start; leave one out")
        if self.init == "eva" and self.rank_pattern:
            raise ValueError("rank_pattern: with init eva peft moves ranks between modules; use one of them")

    def declared(self) -> Capabilities:
        if self.init != "pissa":
            return dataclasses.replace(self.capabilities, identity_at_start=self.start_from is None)
        # It takes the largest singular values out of W, which a quantised W cannot give and disabling cannot put back.
        return dataclasses.replace(self.capabilities, base_frozen=False, quantized_base=False)

    def apply(self, model: nn.Module) -> AppliedLora:
        """Inject LoRA into the targets of the admitted layers; see `MethodConfig.apply`."""
        from peft import EvaConfig, TaskType
        from peft import LoraConfig as PeftLoraConfig

        first_layer = self.first_layer(model)
        names = find_targets(model, self.targets, first_layer)
        own = matches(names, self.rank_pattern, key="method.rank_pattern")
        matches(names, self.alpha_pattern, key="method.alpha_pattern")
        check_ranks(model, {name: self.rank for name in names if name not in own})
        check_ranks(model, own, key="method.rank_pattern")
        if self.dora and getattr(model, "is_loaded_in_8bit", False):
            raise InputError("method.dora: bitsandbytes does not give DoRA the weights of int8; use nf4, or no dora")
        config = PeftLoraConfig(
            task_type=TaskType.FEATURE_EXTRACTION,
            r=self.rank,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            target_modules=name_pattern(names),
            use_rslora=self.rank_stabilized,
            use_dora=self.dora,
            init_lora_weights=True if self.init == "default" else self.init,
            rank_pattern=dict(self.rank_pattern),
            alpha_pattern=dict(self.alpha_pattern),
            eva_config=EvaConfig(rho=1.0) if self.init == "eva" else None,
        )
        start = None if self.start_from is None else functools.partial(read_foreign_adapter, self.start_from)
        return self._applied()(model, config, first_layer, b_rate_factor=self.b_rate_factor, start=start)

    def _applied(self) -> type[AppliedLora]:
        if self.init == "pissa":
            from peftrec.methods.pissa import AppliedPissa

            return AppliedPissa
        return AppliedEva if self.init == "eva" else AppliedLora
