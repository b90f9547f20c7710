"""Gradients of one optimiser step, in this process alone or in one of several that were launched together.

    torchrun --nproc_per_node 2 rank_probe.py CASES.json FOLDER

writes for each case the gradients and the loss that each process has.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import torch


def gradients(recipe: Any, dataset: Any) -> dict[str, torch.Tensor]:
    """Return the gradient of every parameter after the first step of an epoch, before anything moves, and its loss."""
    from peftrec.build import build
    from peftrec.fitting import make_trainer

    training = dataclasses.replace(recipe.training, max_steps=1, num_epochs=1, patience=None)
    recipe = dataclasses.replace(recipe, training=training)
    built = build(recipe, dataset)
    # Adapters that start as the identity would hide what lies behind their zeros.
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in built.model.method_parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    built.model.weights_changed()
    whole = held_bytes(built.model)
    _, trainer = make_trainer(built, recipe, dataset, lambda _: None, None)
    loop: Any = trainer
    found: dict[str, torch.Tensor] = {}

    def keep() -> None:
        for name, parameter in built.model.named_parameters():
            if parameter.grad is not None:
                found[name] = parameter.grad.detach().clone()

    loop.optimizer.step = keep
    loop.accelerator.end_training = lambda: None  # it would end the processes' group, which the next case needs
    loop.evaluate = lambda _: {recipe.training.metric: 0.0}
    held = held_bytes(built.model)
    result = loop.train()
    assert found, "nothing has a gradient"
    found["held_share"] = torch.tensor(held / whole)
    return found | {"loss": torch.tensor([result.epochs[0]["loss"]], dtype=torch.float64)}


def held_bytes(model: Any) -> int:
    """Return the bytes of weights that this process holds."""
    own = [one.to_local() if hasattr(one, "to_local") else one for one in model.parameters()]
    return sum(one.numel() * one.element_size() for one in own)


def main() -> None:
    """Work off the cases as one of several processes."""
    from accelerate import Accelerator
    from safetensors.torch import save_file

    from peftrec.data import load_dataset
    from peftrec.recipe import load_recipe

    cases, folder = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), Path(sys.argv[2])
    state = Accelerator()
    assert state.num_processes == 2, f"{state.num_processes} processes were started"
    for name, (path, overrides) in cases.items():
        recipe = load_recipe(path, overrides)
        found = gradients(recipe, load_dataset(recipe.data))
        save_file(found, folder / f"{name}.rank{state.process_index}.safetensors")


if __name__ == "__main__":
    main()
