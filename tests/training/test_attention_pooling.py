"""When attention pooling steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from peftrec.training.optimizer import is_lm_group, parameter_groups

ATTENTION = ("encoder.pooling=attention", "encoder.attention_dim=8", "optimizer.head_learning_rate=0.05")


def test_pooling_steps_with_the_language_model(make_recipe: Callable[..., Any], prepare: Callable[..., Any]) -> None:
    overrides = ("method.kind=frozen", "training.batch_users=16", "training.num_epochs=2")
    prepared = prepare(
        make_recipe(*ATTENTION, *overrides, "training.warmup_frozen_epochs=1", "training.encoder_interval=2")
    )
    groups = parameter_groups(prepared.model)
    assert list(groups) == ["pooling", "head"]
    assert is_lm_group("pooling")
    prepared.trainer.train()
    steps = prepared.record.gradients
    per_epoch = len(steps) // 2
    moved = [step["text_encoder.token_attention.query"] is not None for step in steps]
    assert not any(moved[:per_epoch])
    assert 0 < sum(moved[per_epoch:]) < per_epoch
    assert prepared.trainer.num_encoder_steps == sum(moved)
