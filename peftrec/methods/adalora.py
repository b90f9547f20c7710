"""AdaLoRA: low-rank updates whose ranks are dealt out by importance while training runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import torch
from torch import nn

from peftrec.config import InputError, Range
from peftrec.methods.low_rank import AppliedLowRank
from peftrec.methods.method import AppliedMethod, Capabilities, MethodConfig, check_tensors
from peftrec.methods.structure import name_pattern
from peftrec.methods.target import Targets, check_ranks, find_targets

_AVERAGES = ("ipt", "exp_avg_ipt", "exp_avg_unc")


class AppliedAdaLora(AppliedLowRank):
    """AdaLoRA in the backbone.

    Args:
        model: the backbone, changed in place.
        config: a fresh `peft` config; its steps are set by `begin_training`.
        first_layer: see `AppliedMethod`.
        settings: of the recipe.
    """

    def __init__(self, model: nn.Module, config: Any, first_layer: int, settings: AdaLoraConfig) -> None:
        super().__init__(model, config, first_layer)
        self.settings = settings
        self._num_done = 0
        self._pattern: dict[str, list[bool]] = {}

    def _own_parameters(self) -> dict[str, nn.Parameter]:
        # Beside a base in bfloat16 peft switches the gradients of its own count of ranks on.
        for name, parameter in self.model.named_parameters():
            if name.endswith("ranknum.default"):
                parameter.requires_grad_(False)
        return super()._own_parameters()

    @property
    def _allocator(self) -> Any:
        return self.peft_model.base_model.rankallocator

    @property
    def _last_allocation(self) -> int:
        """The step in which the budget is reached."""
        return int(self.config.total_step - self.config.tfinal)

    def begin_training(self, num_steps: int) -> None:
        if num_steps < 2:
            raise InputError(
                f"method.kind: adalora needs at least 2 steps of the language model to deal out ranks, the recipe "
                f"makes {num_steps}; lower training.encoder_interval or raise training.num_epochs"
            )
        final = min(max(1, round(self.settings.final_share * num_steps)), num_steps - 1)
        first = min(round(self.settings.warmup_share * num_steps), num_steps - final - 1)
        self.config.total_step, self.config.tinit, self.config.tfinal = num_steps, first, final
        self._num_done = 0

    def penalty(self) -> torch.Tensor | None:
        """Return the mean over all A and B of ||A A^T - I|| and ||B^T B - I||, times the weight (eq. 4)."""
        if self.settings.orthogonal_weight == 0:
            return None
        gaps = []
        for name, parameter in self.named_parameters().items():
            if ".lora_A." in name or ".lora_B." in name:
                gram = parameter @ parameter.T if ".lora_A." in name else parameter.T @ parameter
                gaps.append(torch.linalg.matrix_norm(gram - torch.eye(len(gram), device=gram.device)))
        mean: torch.Tensor = torch.stack(gaps).mean()
        return self.settings.orthogonal_weight * mean

    def after_optimizer_step(self, step: int) -> None:
        # peft keeps the pattern in the config that is saved, where it would call for tensors without pruned rows.
        self.config.rank_pattern = self._pattern or None
        self.peft_model.base_model.update_and_allocate(step)
        self._pattern = dict(self.config.rank_pattern or {})
        self.config.rank_pattern = None
        self._num_done = step + 1

    @property
    def settled(self) -> bool:
        return self._num_done > self._last_allocation

    def finish_training(self) -> None:
        wanted = self.settings.target_rank * len(self._ranks())
        found = sum(self._ranks().values())
        if not self.settled or found > wanted:
            raise InputError(
                f"method.kind: adalora ended with {found} ranks in all, {wanted} were to be reached after "
                f"{self._last_allocation + 1} steps of the language model, of which {self._num_done} were made"
            )

    def training_state(self) -> dict[str, torch.Tensor]:
        state = {"num_done": torch.tensor(self._num_done), "num_steps": torch.tensor(self.config.total_step)}
        for average in _AVERAGES:
            stored = getattr(self._allocator, average)
            state |= {f"{average}/{name}": tensor.detach() for name, tensor in stored.items()}
        return state | {f"pattern/{name}": torch.tensor(kept) for name, kept in self._pattern.items()}

    def load_training_state(self, tensors: Mapping[str, torch.Tensor]) -> None:
        if "num_done" not in tensors:
            raise InputError("the checkpoint lacks AdaLoRA's averages of importance; it was made with another method")
        if int(tensors["num_steps"]) != self.config.total_step:
            raise InputError(
                f"the checkpoint deals out AdaLoRA's ranks over {int(tensors['num_steps'])} steps of the language "
                f"model, the recipe now makes {self.config.total_step}; resume with the same number of epochs and steps"
            )
        self._num_done = int(tensors["num_done"])
        self._allocator.reset_ipt()
        self._pattern = {}
        device = next(iter(self.named_parameters().values())).device
        for key, tensor in tensors.items():
            kind, _, name = key.partition("/")
            if kind == "pattern":
                self._pattern[name] = tensor.tolist()
            elif kind in _AVERAGES:
                getattr(self._allocator, kind)[name] = tensor.to(device)

    def summary(self) -> dict[str, Any]:
        return {"ranks": self._ranks()}

    def published_tensors(self) -> dict[str, torch.Tensor]:
        """Return the tensors without the rows that were taken away; plain `peft` reads them with the saved pattern."""
        if not any(self._ranks().values()):  # before training every singular value is zero
            return self.state_dict()
        result = {}
        for key, tensor in self.state_dict().items():
            kept = self._kept(key)
            result[key] = tensor[:, kept] if ".lora_B" in key else tensor[kept]
        return result

    def load_state_dict(self, tensors: Mapping[str, torch.Tensor]) -> None:
        own = self.state_dict()
        check_tensors(dict.fromkeys(own, torch.zeros(0)), {key: torch.zeros(0) for key in tensors}, what="adapter")
        filled = {key: _with_empty_rows(key, own[key], tensor) for key, tensor in tensors.items()}
        check_tensors(own, filled, what="adapter")
        self._load(filled)

    def adapter_config(self, base: Any) -> dict[str, Any]:
        config = super().adapter_config(base)
        if not any(self._ranks().values()):
            return config
        keys = (key for key in self.state_dict() if ".lora_E" in key)
        config["rank_pattern"] = {key.removeprefix("base_model.model."): self._kept(key).tolist() for key in keys}
        return config

    def _kept(self, key: str) -> torch.Tensor:
        """Return which rows of the module that a tensor belongs to have a singular value."""
        prefix = key[: key.rindex(".lora_")]
        values: torch.Tensor = self.peft_model.get_submodule(prefix).lora_E["default"]
        return values.detach()[:, 0] != 0

    def _ranks(self) -> dict[str, int]:
        """Return the rank of every target module, by its name in the backbone."""
        named = self.named_parameters().items()
        return {
            name.removesuffix(".lora_E.default"): int((parameter != 0).sum())
            for name, parameter in named
            if name.endswith(".lora_E.default")
        }


def _with_empty_rows(key: str, own: torch.Tensor, tensor: torch.Tensor) -> torch.Tensor:
    """Put back rows that were left out of the file: singular values of 0, which make the others' values idle."""
    axis = 1 if ".lora_B" in key else 0
    if tensor.ndim != own.ndim or tensor.shape[axis] > own.shape[axis]:
        return tensor
    shape = list(tensor.shape)
    shape[axis] = own.shape[axis] - tensor.shape[axis]
    return torch.cat([tensor, tensor.new_zeros(shape)], dim=axis)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdaLoraConfig(MethodConfig):
    """W x becomes W x + (alpha / initial_rank) B diag(E) A x; triplets of least importance are taken away as it trains.

    The budget stays at `initial_rank` a module for the first steps, falls by a cubic to `target_rank` a module on
    average, and stays there for the last ones. Importance is the averaged sensitivity times uncertainty of a triplet.
    Epochs before the budget is reached are not candidates for the best weights. Where triplets are equally important,
    fewer than the budget may be left.

    Parameters: the sum over target modules of initial_rank * (in + out + 1); stored in the end are those of the ranks
    that are left.

    Args:
        initial_rank: at most the smaller side of every target.
        target_rank: mean rank of a module in the end; smaller than `initial_rank`.
        alpha: numerator of the update's scale.
        dropout: on the input of A.
        targets: `all_linear`, or endings of module names.
        warmup_share: share of the language model's steps before the first rank is taken away.
        final_share: share of them after the last one is.
        interval: steps between two allocations.
        sensitivity_decay: of the average of sensitivity (beta 1).
        uncertainty_decay: of the average of uncertainty (beta 2).
        orthogonal_weight: weight of the penalty that keeps A and B orthogonal, added once a step.
    Source:
        Zhang et al. (2023), AdaLoRA: Adaptive Budget Allocation for Parameter-Efficient Fine-Tuning, eq. 3 to 12.
    """

    kind: ClassVar[str] = "adalora"
    default_learning_rate: ClassVar[float] = 1e-3
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

    initial_rank: Annotated[int, Range(ge=2)] = 12
    target_rank: Annotated[int, Range(ge=1)] = 8
    alpha: Annotated[float, Range(gt=0)] = 32.0
    dropout: Annotated[float, Range(ge=0, lt=1)] = 0.0
    targets: Targets = "all_linear"
    warmup_share: Annotated[float, Range(ge=0, lt=1)] = 0.1
    final_share: Annotated[float, Range(gt=0, lt=1)] = 0.3
    interval: Annotated[int, Range(ge=1)] = 1
    sensitivity_decay: Annotated[float, Range(gt=0, lt=1)] = 0.85
    uncertainty_decay: Annotated[float, Range(gt=0, lt=1)] = 0.85
    orthogonal_weight: Annotated[float, Range(ge=0)] = 0.5

    def __post_init__(self) -> None:
        if self.target_rank >= self.initial_rank:
            raise ValueError(
                f"target_rank: {self.target_rank} is not below initial_rank ({self.initial_rank}), from which ranks "
                f"are taken away; lower it, or use kind: lora for a fixed rank"
            )
        if self.warmup_share + self.final_share >= 1:
            raise ValueError("final_share: with warmup_share it leaves no steps in which ranks are taken away")

    def apply(self, model: nn.Module) -> AppliedMethod:
        """Inject AdaLoRA into the targets of the admitted layers; see `MethodConfig.apply`."""
        from peft import AdaLoraConfig as PeftAdaLoraConfig
        from peft import TaskType

        first_layer = self.first_layer(model)
        names = find_targets(model, self.targets, first_layer)
        check_ranks(model, dict.fromkeys(names, self.initial_rank), key="method.initial_rank")
        config = PeftAdaLoraConfig(
            task_type=TaskType.FEATURE_EXTRACTION,
            init_r=self.initial_rank,
            target_r=self.target_rank,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            target_modules=name_pattern(names),
            deltaT=self.interval,
            beta1=self.sensitivity_decay,
            beta2=self.uncertainty_decay,
            orth_reg_weight=self.orthogonal_weight,
            # peft asks for them here already; how many steps there are is known only to `begin_training`.
            total_step=2,
            tinit=0,
            tfinal=1,
        )
        return AppliedAdaLora(model, config, first_layer, self)
