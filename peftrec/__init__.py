"""peftrec: turn a pretrained language model into a recommender by training a few percent of its weights."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from peftrec.comparing import compare as compare
    from peftrec.config import InputError as InputError
    from peftrec.config import RecipeError as RecipeError
    from peftrec.encoding import encode_items as encode_items
    from peftrec.ensembling import ensemble as ensemble
    from peftrec.evaluating import evaluate as evaluate
    from peftrec.methods.plain_peft import register_with_peft as register_with_peft
    from peftrec.recipe import Recipe as Recipe
    from peftrec.recipe import load_recipe as load_recipe
    from peftrec.recommender import Recommender as Recommender
    from peftrec.recommending import recommend_file as recommend_file
    from peftrec.retrieval import Recommendation as Recommendation
    from peftrec.run import train as train
    from peftrec.updating import update as update

__version__ = "0.1.0"

# Resolved on first use, so that `import peftrec` loads neither torch nor transformers.
_MODULES = {
    "InputError": "peftrec.config",
    "RecipeError": "peftrec.config",
    "Recipe": "peftrec.recipe",
    "load_recipe": "peftrec.recipe",
    "encode_items": "peftrec.encoding",
    "ensemble": "peftrec.ensembling",
    "register_with_peft": "peftrec.methods.plain_peft",
    "Recommendation": "peftrec.retrieval",
    "Recommender": "peftrec.recommender",
    "recommend_file": "peftrec.recommending",
    "evaluate": "peftrec.evaluating",
    "compare": "peftrec.comparing",
    "train": "peftrec.run",
    "update": "peftrec.updating",
}

__all__ = sorted([*_MODULES, "__version__"])


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'peftrec' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
