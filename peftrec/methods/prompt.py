"""Prompt tuning and P-tuning: learned states before the text."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar

import torch
from torch import nn

from peftrec.config import Range
from peftrec.methods.method import Capabilities, MethodConfig, check_tensors
from peftrec.methods.peft_method import AppliedPeft
from peftrec.methods.structure import text_config

_CAPABILITIES = Capabilities(
    identity_at_start=False,
    base_frozen=True,
    can_merge=False,
    can_limit_layers=False,
    supports_checkpointing=True,
    encoder=True,
    decoder=True,
    quantized_base=True,
)


class AppliedPrompt(AppliedPeft):
    """A learned prompt before every text.

    Files hold the states of the prompt, as plain `peft` reads them; checkpoints hold what they are computed from.
    """

    def __init__(self, model: nn.Module, config: Any) -> None:
        super().__init__(model, config, 0, can_merge=False)
        # Here peft works in the forward of its wrapper, not inside the backbone.
        self.model = self.peft_model
        self.num_virtual_tokens = config.num_virtual_tokens

    def state_dict(self) -> dict[str, torch.Tensor]:
        return {name: parameter.detach() for name, parameter in self._parameters.items()}

    def published_tensors(self) -> dict[str, torch.Tensor]:
        return super().state_dict()

    @torch.no_grad()
    def load_state_dict(self, tensors: Mapping[str, torch.Tensor]) -> None:
        if tensors.keys() == {"prompt_embeddings"}:
            check_tensors(self.published_tensors(), tensors, what="adapter")
            self.peft_model.prompt_encoder["default"].embedding.weight.copy_(tensors["prompt_embeddings"])
            # From here on the states are used as they are; what they were once computed from is not in the file.
            self.config.inference_mode = True
            return
        check_tensors(self.state_dict(), tensors, what="adapter")
        self.config.inference_mode = False
        for name, parameter in self._parameters.items():
            parameter.copy_(tensors[name])

    @contextlib.contextmanager
    def disabled(self) -> Iterator[None]:
        # peft's own switch asks for a model that generates.
        num_tokens, self.num_virtual_tokens = self.num_virtual_tokens, 0
        self.peft_model.forward = self.peft_model.get_base_model().forward
        try:
            yield
        finally:
            del self.peft_model.forward
            self.num_virtual_tokens = num_tokens

    def _own_parameters(self) -> dict[str, nn.Parameter]:
        return {name: parameter for name, parameter in self.peft_model.named_parameters() if parameter.requires_grad}


def _shape(model: nn.Module) -> dict[str, int]:
    """Return the sizes that peft would look for under the names of some architectures only."""
    config = text_config(model)
    return {
        "token_dim": config.hidden_size,
        "num_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
    }


@dataclasses.dataclass(frozen=True, kw_only=True)
class PromptConfig(MethodConfig):
    """`num_tokens` learned states stand before the embeddings of every text; they take positions, but are not pooled.

    Parameters: num_tokens * width.

    Args:
        num_tokens: states; with `encoder.max_tokens` at most as many as the backbone has positions.
    Source:
        Lester et al. (2021), The Power of Scale for Parameter-Efficient Prompt Tuning.
    """

    kind: ClassVar[str] = "prompt"
    default_learning_rate: ClassVar[float] = 3e-2
    capabilities: ClassVar[Capabilities] = _CAPABILITIES

    num_tokens: Annotated[int, Range(ge=1)] = 8

    def apply(self, model: nn.Module) -> AppliedPrompt:
        """Put the prompt before the embeddings; see `MethodConfig.apply`."""
        from peft import PromptTuningConfig, TaskType

        config = PromptTuningConfig(
            task_type=TaskType.FEATURE_EXTRACTION, num_virtual_tokens=self.num_tokens, **_shape(model)
        )
        return AppliedPrompt(model, config)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PTuningConfig(MethodConfig):
    """As prompt tuning, but the states come out of a learned MLP over learned embeddings: MLP(e_1), ..., MLP(e_n).

    Only the states are stored in the end.

    Parameters: num_tokens * width, and (width + 1) * hidden_dim + (hidden_dim + 1) * (hidden_dim + width) of the MLP.

    Args:
        num_tokens: states; with `encoder.max_tokens` at most as many as the backbone has positions.
        hidden_dim: inner width of the MLP of three layers.
    Source:
        Liu et al. (2021), GPT Understands, Too; with an MLP in place of the LSTM.
    """

    kind: ClassVar[str] = "p_tuning"
    default_learning_rate: ClassVar[float] = 1e-3
    capabilities: ClassVar[Capabilities] = _CAPABILITIES

    num_tokens: Annotated[int, Range(ge=1)] = 8
    hidden_dim: Annotated[int, Range(ge=1)] = 128

    def apply(self, model: nn.Module) -> AppliedPrompt:
        """Put the prompt and its MLP before the embeddings; see `MethodConfig.apply`."""
        from peft import PromptEncoderConfig, TaskType

        config = PromptEncoderConfig(
            task_type=TaskType.FEATURE_EXTRACTION,
            num_virtual_tokens=self.num_tokens,
            encoder_hidden_size=self.hidden_dim,
            **_shape(model),
        )
        return AppliedPrompt(model, config)
