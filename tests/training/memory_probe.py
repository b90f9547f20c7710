"""Train in a process that may have little more memory than it has when training begins.

    memory_probe.py RECIPE MEBIBYTES

says the budget of a chunk that it ends with, or what it was told.
"""

from __future__ import annotations

import resource
import sys
import warnings
from pathlib import Path


def main() -> None:
    """Train, and let the system refuse memory."""
    from peftrec.build import build
    from peftrec.config import InputError
    from peftrec.data import load_dataset
    from peftrec.fitting import make_trainer
    from peftrec.recipe import load_recipe

    recipe = load_recipe(sys.argv[1], ())
    dataset = load_dataset(recipe.data)
    built = build(recipe, dataset)
    recipe, trainer = make_trainer(built, recipe, dataset, lambda _: None, None)
    trainer.evaluate = lambda _: {recipe.training.metric: 0.0}
    encoder = built.model.text_encoder
    assert encoder is not None
    encoder.encode(encoder.tokenize(["small red wine"]))  # what is made once, such as code for this machine, is there
    status = Path("/proc/self/status").read_text().split("VmSize:")[1].split()[0]
    limit = int(status) * 1024 + int(sys.argv[2]) * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    warnings.simplefilter("ignore")
    try:
        result = trainer.train()
    except InputError as error:
        sys.stdout.write(f"told: {error}\n")
        return
    sys.stdout.write(f"budget {encoder.config.token_budget} steps {result.num_steps}\n")


if __name__ == "__main__":
    main()
