"""Launches that ask for an engine which cannot run these steps are refused before anything is started."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from peftrec.config import InputError
from peftrec.launch import launched, require_torch_engine
from peftrec.training.accelerator import make_accelerator
from peftrec.training.config import TrainingConfig

ENGINES = [
    ("ACCELERATE_USE_DEEPSPEED", r"DeepSpeed.*multi_gpu\.yaml"),
    ("ACCELERATE_USE_MEGATRON_LM", r"Megatron-LM.*multi_gpu\.yaml"),
    ("ACCELERATE_USE_FSDP", r"FSDP.*fsdp2\.yaml and set training\.shard_backbone=true"),
]


@pytest.mark.parametrize(("flag", "told"), ENGINES)
def test_refused_everywhere(flag: str, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a message of what to use, and not with one of a package that is missing."""
    monkeypatch.setenv(flag, "true")
    for start in (require_torch_engine, launched, lambda: make_accelerator(TrainingConfig(), None)):
        with pytest.raises(InputError, match=told):
            start()


@pytest.mark.parametrize("value", ["false", ""])
def test_others_go_on(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for flag, _ in ENGINES:
        monkeypatch.setenv(flag, value) if value else monkeypatch.delenv(flag, raising=False)
    require_torch_engine()
    assert launched().alone


@pytest.mark.slow
def test_why_the_engine_cannot_be_used() -> None:
    """Accelerate hands backward passes to the engine; where only an optimiser was prepared there is none."""
    words = (
        "import accelerate.accelerator as a, torch\n"
        "from accelerate.utils import DistributedType\n"
        "one = a.Accelerator(cpu=True)\n"
        "one.state.distributed_type = DistributedType.DEEPSPEED\n"
        "one.deepspeed_engine_wrapped = None\n"
        "one.backward(torch.ones(1, requires_grad=True).sum())\n"
    )
    done = subprocess.run([sys.executable, "-c", words], env=os.environ, capture_output=True, text=True)
    assert done.returncode != 0
    assert "'NoneType' object has no attribute 'backward'" in done.stderr
