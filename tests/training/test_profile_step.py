"""Steps in which users' texts are read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

PROFILE = "profile={method: {kind: lora, rank: 4}, max_tokens: 40, item_tokens: 8, attribute_tokens: 8}"


def test_every_parameter_of_both_adapters_learns(make_recipe: Callable[..., Any], prepare: Callable[..., Any]) -> None:
    prepared = prepare(make_recipe(PROFILE, "training.num_epochs=2", "optimizer.head_learning_rate=0.1"))
    prepared.trainer.train()
    names = [name for name in prepared.record.gradients[0] if "lora" in name]
    assert any(name.startswith("profiles.text_encoder.") for name in names)
    for name in names:
        if "key.lora_B" not in name:
            assert any(step[name] is not None and bool(step[name].any()) for step in prepared.record.gradients), name


def test_gradients_of_users_texts_wait_for_the_step_of_the_language_model(
    make_recipe: Callable[..., Any], prepare: Callable[..., Any]
) -> None:
    still = (
        "optimizer.learning_rate=1e-12",
        "optimizer.user_learning_rate=1e-12",
        "optimizer.head_learning_rate=1e-12",
        "training.num_epochs=1",
    )
    often = prepare(make_recipe(PROFILE, *still, "training.batch_users=30", "profile.method.layers=1"))
    seldom = prepare(
        make_recipe(
            PROFILE, *still, "training.batch_users=30", "profile.method.layers=1", "training.encoder_interval=2"
        )
    )
    for prepared in (often, seldom):
        torch.nn.init.normal_(prepared.model.profiles.out.weight, generator=torch.Generator().manual_seed(1))
        torch.manual_seed(5)
        prepared.trainer.train()
    assert [len(prepared.record.gradients) for prepared in (often, seldom)] == [2, 2]
    names = [name for name in often.record.gradients[0] if name.startswith("profiles.text_encoder.")]
    assert names
    for name in names:
        assert seldom.record.gradients[0][name] is None
        mean = sum(step[name] for step in often.record.gradients) / 2
        torch.testing.assert_close(seldom.record.gradients[1][name], mean, rtol=1e-3, atol=1e-7)
