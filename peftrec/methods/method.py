"""What every PEFT method is: a frozen config, declared capabilities, and the handle that applying it returns."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import torch
from torch import nn

from peftrec.config import InputError, Range
from peftrec.methods.structure import find_layers

if TYPE_CHECKING:
    from peftrec.methods.foreign_adapter import ForeignAdapter


@dataclasses.dataclass(frozen=True, kw_only=True)
class Capabilities:
    """What a method promises; the contract tests check each promise that it makes.

    Args:
        identity_at_start: outputs equal the base model's before the first step.
        base_frozen: the weights of the backbone are never changed.
        can_merge: the method can be folded into the weights of the backbone.
        can_limit_layers: `layers: k` is honoured and leaves every layer below untouched.
        supports_checkpointing: gradient checkpointing gives the same gradients.
        encoder: works on encoders (BERT kinds).
        decoder: works on decoders (Llama kinds).
        quantized_base: works on a backbone whose weights are quantised.
    """

    identity_at_start: bool
    base_frozen: bool
    can_merge: bool
    can_limit_layers: bool
    supports_checkpointing: bool
    encoder: bool
    decoder: bool
    quantized_base: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class BaseModel:
    """Which backbone an adapter belongs to, as written into `adapter_config.json`.

    Args:
        name: Hub id, never a folder of this machine.
        revision: commit or tag on the Hub, or None where it is not known; the package and its version where one that
            carries other weights stands in for the Hub.
    """

    name: str
    revision: str | None = None


class AppliedMethod:
    """A method that sits in a backbone: its parameters, hooks, files.

    The base class is the frozen backbone: no parameters, no file.

    Args:
        model: the backbone with the method in it; its own `forward` runs everything.
        first_layer: index of the lowest layer that the method changes; states that enter it are those of the base
            model and may be cached. The number of layers where nothing is changed.
    """

    # States that the method puts before those of the text; they take positions, and are cut off before pooling.
    num_virtual_tokens: int = 0
    # Where the method works beside the backbone: the hidden states whose pooled vectors `combine` takes (0 for the
    # embeddings, l for what layer l - 1 gives). Then nothing inside the backbone changes.
    pooled_states: tuple[int, ...] = ()
    # Whether the weights of the backbone, as they are, hold all of it: there is nothing to fold in.
    in_weights: bool = True

    def __init__(self, model: nn.Module, first_layer: int) -> None:
        self.model = model
        self.first_layer = first_layer

    def named_parameters(self) -> dict[str, nn.Parameter]:
        """Return the parameters that the method trains, by their name in the backbone."""
        return {}

    def rate_factors(self) -> dict[str, float]:
        """Return, by parameter name, factors on the learning rate; 1 for names that are left out."""
        return {}

    def combine(self, pooled_CKH: torch.Tensor) -> torch.Tensor:
        """Return vectors (C, H) from the pooled vectors of the K `pooled_states`, shape (C, K, H)."""
        raise NotImplementedError

    @property
    def start(self) -> ForeignAdapter | None:
        """The adapter made elsewhere that `initialize` takes its weights from, or None."""
        return None

    def initialize(self, batches: Iterable[Mapping[str, torch.Tensor]]) -> None:
        """Fit what starts from data, once, before training; `batches` holds model inputs and is read lazily.

        A method that is loaded from a file is not initialised.
        """

    def begin_training(self, num_steps: int) -> None:
        """Be told how many optimiser steps the method will make.

        Raises:
            InputError: if it cannot do with so few.
        """

    @property
    def settled(self) -> bool:
        """Whether the weights may be judged: False before a schedule of the method's own has run out."""
        return True

    def finish_training(self) -> None:
        """Be told that training is over and the best weights are in place.

        Raises:
            InputError: if the method has not done what it is for.
        """

    def training_state(self) -> dict[str, torch.Tensor]:
        """Return what a checkpoint needs beyond `state_dict`."""
        return {}

    def load_training_state(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Load what `training_state` returned."""
        check_tensors({}, tensors, what="state of the method")

    def summary(self) -> dict[str, Any]:
        """Return what is worth knowing of the method as it is now, for logs and `metrics.json`."""
        return {}

    def penalty(self) -> torch.Tensor | None:
        """Return a scalar added to the loss once per optimiser step, or None."""
        return None

    def after_optimizer_step(self, step: int) -> None:
        """Run what the method does after the optimiser step of the given number (0 for the first)."""

    def set_training(self, mode: bool) -> None:
        """Switch the method's own dropout; the frozen layers always run in eval mode."""

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return exactly the tensors that training changes, and what is needed to load them elsewhere."""
        return {}

    def published_tensors(self) -> dict[str, torch.Tensor]:
        """Return the tensors of the adapter file, which `load_state_dict` takes too."""
        return self.state_dict()

    def load_state_dict(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Load what `state_dict` or `published_tensors` returned.

        Raises:
            InputError: if a key is missing or foreign, or a shape differs.
        """
        check_tensors(self.state_dict(), tensors, what="adapter")

    def adapter_config(self, base: BaseModel) -> dict[str, Any] | None:
        """Return the content of `adapter_config.json`, or None where there is no adapter to store."""
        del base
        return None

    def merge(self) -> None:
        """Fold the method into the backbone's weights, in place; afterwards the method has no parameters.

        Raises:
            InputError: if the method declares that it cannot merge.
        """

    @contextlib.contextmanager
    def disabled(self) -> Iterator[None]:
        """Run the base model alone inside this context."""
        yield

    @contextlib.contextmanager
    def unchanging(self) -> Iterator[None]:
        """Promise that no weight changes inside this context: what follows from them may be computed once."""
        yield


@dataclasses.dataclass(frozen=True, kw_only=True)
class MethodConfig:
    """What all methods share.

    Args:
        layers: `all`, or k to change only the top k layers.
    """

    kind: ClassVar[str]
    capabilities: ClassVar[Capabilities]
    default_learning_rate: ClassVar[float]
    # Whether it works on pooled states, computed once, so that pooling cannot learn.
    reads_pooled_states: ClassVar[bool] = False

    layers: Literal["all"] | Annotated[int, Range(ge=1)] = "all"

    def declared(self) -> Capabilities:
        """Return what the method promises with these settings."""
        return self.capabilities

    def apply(self, model: nn.Module) -> AppliedMethod:
        """Put the method into a backbone, in place, and return its handle.

        Args:
            model: any `transformers` model without a task head.
        Raises:
            InputError: if the method cannot act on this backbone.
        """
        raise NotImplementedError

    def first_layer(self, model: nn.Module) -> int:
        """Return the index of the lowest layer that `layers` admits; 0 for `all`.

        Raises:
            InputError: if `layers` asks for more layers than the backbone has.
        """
        num_layers = len(find_layers(model).layers)
        if self.layers == "all":
            return 0
        if self.layers > num_layers:
            raise InputError(
                f"method.layers is {self.layers}; the backbone has {num_layers} layers, so use at most that, or all"
            )
        return num_layers - self.layers


def check_tensors(expected: Mapping[str, torch.Tensor], found: Mapping[str, torch.Tensor], *, what: str) -> None:
    """Compare names, shapes and types.

    Raises:
        InputError: naming the first missing or foreign key, or the first shape or type that differs.
    """
    missing, foreign = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    if missing or foreign:
        details = [
            f"{len(keys)} {label}, such as '{keys[0]}'"
            for label, keys in (("missing", missing), ("unknown", foreign))
            if keys
        ]
        raise InputError(f"the {what} does not fit this backbone and recipe: {'; '.join(details)}")
    for key, tensor in expected.items():
        if tensor.shape != found[key].shape:
            raise InputError(
                f"the {what} does not fit this backbone and recipe: '{key}' has shape {tuple(found[key].shape)}, "
                f"expected {tuple(tensor.shape)}"
            )
        if tensor.dtype != found[key].dtype:
            raise InputError(
                f"the {what} does not fit this backbone and recipe: '{key}' is {found[key].dtype}, expected "
                f"{tensor.dtype}"
            )


def read_adapter_tensors(folder: Path) -> dict[str, torch.Tensor]:
    """Read `adapter_model.safetensors` of a folder.

    Raises:
        InputError: if it is missing or damaged.
    """
    from safetensors.torch import load_file

    path = folder / "adapter_model.safetensors"
    try:
        tensors = dict(load_file(path))
    except FileNotFoundError:
        raise InputError(f"{path}: missing; the folder holds no adapter") from None
    except Exception as error:
        raise InputError(f"{path}: cannot be read ({error}); the file is truncated or damaged") from error
    wrong = next((name for name, one in tensors.items() if one.is_floating_point() and not one.isfinite().all()), None)
    if wrong is not None:
        raise InputError(f"{path}: '{wrong}' holds numbers that are NaN or infinite")
    return tensors
