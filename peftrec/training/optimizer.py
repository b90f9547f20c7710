"""Parameter groups and learning-rate schedules."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn

from peftrec.models import RecommenderModel
from peftrec.training.config import OptimizerConfig
from peftrec.training.optimizer_kind import optimizer_class


def parameter_groups(model: RecommenderModel) -> dict[str, list[nn.Parameter]]:
    """Return the trained parameters by group: `lm`, `user_lm`, `pooling`, `head`, `ids`; empty groups are left out.

    What a method trains at another rate stands in groups of its own, named `lm x <factor>`.
    """
    groups: dict[str, list[nn.Parameter]] = {"lm": []}
    for part, parameter, factor in model.method_rates():
        groups.setdefault(_lm_group(part, factor), []).append(parameter)
    groups |= {"pooling": model.pooling_parameters(), "head": model.head_parameters(), "ids": model.id_parameters()}
    return {name: parameters for name, parameters in groups.items() if parameters}


def is_lm_group(name: str) -> bool:
    """Whether a group holds parameters of the language model, or of the pooling that steps with it."""
    return name.split(" x ")[0] in ("lm", "user_lm", "pooling")


def _lm_group(part: str, factor: float) -> str:
    return part if factor == 1.0 else f"{part} x {factor:g}"


def build_optimizer(model: RecommenderModel, config: OptimizerConfig) -> torch.optim.Optimizer:
    """Return the AdamW of `config.kind` over all groups, each with its own rate and weight decay.

    Raises:
        ValueError: if the language model's rate has not been resolved.
        InputError: if bitsandbytes is needed, and missing or unable to act on the model's device.
    """
    groups = parameter_groups(model)
    rates = {"lm": config.learning_rate, "user_lm": config.user_learning_rate}
    if any(rates[part] is None for part, _, _ in model.method_rates()):
        raise ValueError("learning rates of the methods are not resolved; load the recipe with peftrec.load_recipe")
    id_decay = config.weight_decay if config.id_weight_decay is None else config.id_weight_decay
    settings = {
        **{
            _lm_group(part, factor): (factor * (rates[part] or 0.0), config.weight_decay)
            for part, _, factor in model.method_rates()
        },
        "pooling": (config.head_learning_rate, config.weight_decay),
        "head": (config.head_learning_rate, config.weight_decay),
        "ids": (config.id_learning_rate or config.head_learning_rate, id_decay),
    }
    return optimizer_class(config.kind, model.device)(
        [
            {"name": name, "params": parameters, "lr": settings[name][0], "weight_decay": settings[name][1]}
            for name, parameters in groups.items()
        ]
    )


def rate_factor(config: OptimizerConfig, num_steps: int) -> Callable[[int], float]:
    """Return the factor on the learning rate at a step: linear warm-up, then constant or a cosine fall.

    factor(s) = min(1, (s + 1) / (warmup + 1)) * (f + (1 - f) (1 + cos(pi s / n)) / 2), n steps in all, f the final
    rate.

    Args:
        config: the `optimizer` section.
        num_steps: steps that the group makes.
    """

    def factor(step: int) -> float:
        warm = min(1.0, (step + 1) / (config.warmup_steps + 1))
        if config.schedule == "constant":
            return warm
        fall = 0.5 * (1 + math.cos(math.pi * min(1.0, step / max(1, num_steps))))
        return warm * (config.final_rate + (1 - config.final_rate) * fall)

    return factor
