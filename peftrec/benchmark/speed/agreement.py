"""Whether our step and the usual one are the same computation: one batch, one loss, the same gradients."""

from __future__ import annotations

import dataclasses

import torch

from peftrec.benchmark.speed.padded import PaddedTraining
from peftrec.benchmark.speed.setting import Setting, Workload
from peftrec.benchmark.speed.step_trainer import StepTrainer

TOLERANCE = 1e-4


@dataclasses.dataclass(frozen=True, kw_only=True)
class Agreement:
    """How far two ways of the same step are apart.

    Args:
        loss: |ours - theirs| / |theirs|.
        gradient: the largest |ours - theirs| / |theirs| over the trained tensors, norms taken over each.
        num_tensors: how many there are.
    """

    loss: float
    gradient: float
    num_tensors: int

    @property
    def agrees(self) -> bool:
        """Whether both lie within the tolerance of sums taken in another order."""
        return max(self.loss, self.gradient) <= TOLERANCE


def compare_steps(setting: Setting, workload: Workload) -> Agreement:
    """Compare loss and gradients of LoRA on all layers, all dropout off, the items of the whole batch as candidates.

    B, which starts at zero and would leave A without a gradient, is drawn at random first.
    """
    recipe = setting.load("method.kind=lora", "method.layers=all", "encoder.dropout=0", "user.dropout=0")
    ours = StepTrainer(recipe, workload.dataset)
    encoder = ours.model.text_encoder
    assert encoder is not None
    random = torch.Generator().manual_seed(setting.seed)
    tensors = {
        name: torch.randn(tensor.shape, generator=random) * 0.02 for name, tensor in encoder.method.state_dict().items()
    }
    encoder.method.load_state_dict(tensors)
    ours.model.weights_changed()
    theirs = PaddedTraining("lora", recipe, workload.dataset, ours.model)
    _load_adapter(theirs, tensors)
    batch = workload.batches[0]
    loss, gradients = ours.gradients(batch)
    expected_loss, expected = theirs.gradients(batch)
    if set(gradients) != set(expected):
        raise AssertionError(f"other tensors have gradients: {sorted(set(gradients) ^ set(expected))[:4]}")
    apart = [float((gradients[name] - expected[name]).norm() / expected[name].norm()) for name in gradients]
    return Agreement(
        loss=abs(loss - expected_loss) / abs(expected_loss), gradient=max(apart), num_tensors=len(gradients)
    )


def _load_adapter(training: PaddedTraining, tensors: dict[str, torch.Tensor]) -> None:
    from peft import set_peft_model_state_dict

    result = set_peft_model_state_dict(training.language_model, dict(tensors))
    assert not result.unexpected_keys, result.unexpected_keys
