"""LoRA that starts from the largest singular values of the weights, in a form that loads everywhere."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from peftrec.config import InputError
from peftrec.methods.lora import AppliedLora
from peftrec.methods.method import BaseModel, check_tensors


class AppliedPissa(AppliedLora):
    """PiSSA: W becomes (W - s B0 A0) + s B A, and B A starts as B0 A0.

    A0 and B0 come from a singular value decomposition, whose signs differ between machines. So files hold the update of
    the unchanged W as a LoRA of twice the rank, s [B, -B0] [A; A0], which plain `peft` reads too; A, B, A0 and B0 can
    all be taken from it without loss.
    """

    def __init__(self, model: nn.Module, config: Any, first_layer: int, **named: Any) -> None:
        super().__init__(model, config, first_layer, **named)
        self._start = {key: tensor.clone() for key, tensor in super().state_dict().items()}

    def state_dict(self) -> dict[str, torch.Tensor]:
        if self.merged:
            return {}
        return {key: _doubled(key, tensor, self._start[key]) for key, tensor in super().state_dict().items()}

    @torch.no_grad()
    def load_state_dict(self, tensors: Mapping[str, torch.Tensor]) -> None:
        check_tensors(self.state_dict(), tensors, what="adapter")
        split = {key: _halves(key, tensor) for key, tensor in tensors.items()}
        self._load({key: now for key, (now, _) in split.items()})
        start = {key: then if then is not None else self._start[key] for key, (_, then) in split.items()}
        for key, then in start.items():
            if key.endswith("lora_B.weight"):
                self._move_start(key.removesuffix("lora_B.weight"), then, start[key.replace("lora_B", "lora_A")])
        self._start = {key: tensor.clone() for key, tensor in start.items()}

    def adapter_config(self, base: BaseModel) -> dict[str, Any]:
        config = super().adapter_config(base)
        # Twice the rank at the same scale: alpha / rank, or alpha / sqrt(rank).
        factor = 2**0.5 if config["use_rslora"] else 2
        config.update(r=2 * config["r"], lora_alpha=factor * config["lora_alpha"], init_lora_weights=True)
        config["rank_pattern"] = {name: 2 * rank for name, rank in config["rank_pattern"].items()}
        config["alpha_pattern"] = {name: factor * alpha for name, alpha in config["alpha_pattern"].items()}
        return config

    @contextlib.contextmanager
    def disabled(self) -> Iterator[None]:
        raise InputError("PiSSA changes the base model's weights; load the backbone anew to run it alone")
        yield

    def _move_start(self, prefix: str, b_start: torch.Tensor, a_start: torch.Tensor) -> None:
        """Let the rest that stands in W be that of another decomposition."""
        module = self.peft_model.get_submodule(prefix.rstrip("."))
        device = module.get_base_layer().weight.device
        b_own, a_own = (self._start[f"{prefix}lora_{side}.weight"].to(device) for side in "BA")
        b_start, a_start = b_start.to(device), a_start.to(device)
        if torch.equal(b_own, b_start) and torch.equal(a_own, a_start):
            return
        module.get_base_layer().weight += module.scaling["default"] * (b_own @ a_own - b_start @ a_start)


def _doubled(key: str, now: torch.Tensor, start: torch.Tensor) -> torch.Tensor:
    if key.endswith("lora_A.weight"):
        return torch.cat([now, start.to(now.device)])
    if key.endswith("lora_B.weight"):
        return torch.cat([now, -start.to(now.device)], dim=1)
    return now


def _halves(key: str, tensor: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
    if key.endswith("lora_A.weight"):
        now, start = tensor.chunk(2)
        return now.contiguous(), start.contiguous()
    if key.endswith("lora_B.weight"):
        now, start = tensor.chunk(2, dim=1)
        return now.contiguous(), -start.contiguous()
    return tensor, None
