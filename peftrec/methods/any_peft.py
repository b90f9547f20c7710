"""Any other method of Hugging Face `peft`, by its own configuration."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

from torch import nn

from peftrec.config import InputError, nearest
from peftrec.methods.method import Capabilities, MethodConfig
from peftrec.methods.peft_method import AppliedPeft
from peftrec.methods.structure import name_pattern
from peftrec.methods.target import check_ranks, find_targets

# Those that keep every promise below; the contract tests run over this list.
# RandLoRA repeats its random matrices for every module in the file, FourierFT drifts when merged.
KNOWN = ("LOHA", "LOKR", "BOFT", "HRA", "C3A", "MISS")
# What the recipe says elsewhere, or what is decided when the method is applied.
_OURS = (
    "task_type", "inference_mode", "base_model_name_or_path", "revision", "modules_to_save", "peft_type",
    "layers_to_transform", "layers_pattern",
)  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class PeftConfig(MethodConfig):
    """A method of `peft` that has no kind of its own here, with the settings that `peft` documents for it.

    Parameters: as `peft` says.

    Args:
        peft_type: its name in `peft`, one of LOHA, LOKR, BOFT, HRA, C3A, MISS.
        settings: arguments of its configuration class; without `target_modules` all linear modules are changed.
    Source:
        The documentation of `peft`.
    """

    kind: ClassVar[str] = "peft"
    default_learning_rate: ClassVar[float] = 1e-3
    capabilities: ClassVar[Capabilities] = Capabilities(
        identity_at_start=True,
        base_frozen=True,
        can_merge=True,
        can_limit_layers=True,
        supports_checkpointing=True,
        encoder=True,
        decoder=True,
        quantized_base=False,
    )

    peft_type: str
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.peft_type not in KNOWN:
            hint = nearest(self.peft_type.upper(), KNOWN)
            raise ValueError(
                f"peft_type: '{self.peft_type}' is not one that is known to train, save and reload here.{hint} One of: "
                f"{', '.join(KNOWN)}; methods with a kind of their own are reached by that"
            )
        ours = next((key for key in self.settings if key in _OURS), None)
        if ours is not None:
            raise ValueError(f"settings: '{ours}' is set by peftrec (layers: k limits it to the top k); leave it out")
        if "target_modules" in self.settings and self.layers != "all":
            raise ValueError("settings: target_modules and layers exclude each other; use one of them")

    def declared(self) -> Capabilities:
        # C3A starts from random circulant blocks.
        return dataclasses.replace(self.capabilities, identity_at_start=self.peft_type != "C3A")

    def apply(self, model: nn.Module) -> AppliedPeft:
        """Inject the method; see `MethodConfig.apply`."""
        from peft import TaskType
        from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
        from peft.utils import PeftType

        first_layer = self.first_layer(model)
        settings = dict(self.settings)
        if "target_modules" not in settings:
            names = find_targets(model, "all_linear", first_layer)
            settings["target_modules"] = name_pattern(names)
            if isinstance(rank := settings.get("r"), int):
                check_ranks(model, dict.fromkeys(names, rank), key="method.settings.r")
        try:
            config = PEFT_TYPE_TO_CONFIG_MAPPING[PeftType[self.peft_type]](
                task_type=TaskType.FEATURE_EXTRACTION, **settings
            )
            return AppliedPeft(model, config, first_layer, can_merge=True)
        except (TypeError, ValueError) as error:
            raise InputError(f"method.settings: {self.peft_type} refuses them: {error}") from error
