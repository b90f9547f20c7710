"""What every PEFT method promises, checked on a tiny encoder, a tiny decoder, and once on the real MiniLM."""

from __future__ import annotations

import copy
import dataclasses
import functools
import inspect
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from peftrec.config import InputError
from peftrec.encoders import Backbone, EncoderConfig, TextEncoder, load_backbone
from peftrec.methods import METHODS, find_layers, linear_names, read_adapter_tensors
from peftrec.methods.plain_peft import register_with_peft

FAMILIES = ("bert", "llama")

# What each method must declare, so that declaring nothing passes nothing. A new method adds its line here.
ALL = {
    "identity_at_start",
    "base_frozen",
    "can_merge",
    "can_limit_layers",
    "supports_checkpointing",
    "encoder",
    "decoder",
    "quantized_base",
}
IN_PLACE = {"base_frozen", "can_merge", "quantized_base"}
PROMPT = {"identity_at_start", "can_merge", "can_limit_layers"}
DECLARED = {
    "lora": ALL,
    "adalora": ALL,
    "bitfit": ALL - IN_PLACE,
    "ia3": ALL,
    "layernorm": ALL,
    "full": ALL - IN_PLACE,
    "frozen": ALL - {"can_merge", "can_limit_layers"},
    "prompt": ALL - PROMPT,
    "p_tuning": ALL - PROMPT,
    "vera": ALL,
    "oft": ALL,
    "peft": ALL - {"quantized_base"},
    "adapter": ALL - {"can_merge"},
    "prefix": ALL - {"can_merge", "identity_at_start"},
    "side": ALL - {"can_merge", "can_limit_layers"},
    "lora+pissa": ALL - {"base_frozen", "quantized_base"},
    "lora+all": ALL - {"base_frozen", "quantized_base"},
    "peft+c3a": ALL - {"quantized_base", "identity_at_start"},
}
# Settings for the tests that differ from the defaults; `kind+variant` is another way to use a kind, tested likewise.
SETTINGS: dict[str, dict[str, Any]] = {
    "lora": {"rank": 4},
    "lora+stabilized": {"rank": 4, "rank_stabilized": True},
    "lora+dora": {"rank": 4, "dora": True},
    "lora+pissa": {"rank": 4, "init": "pissa"},
    "lora+eva": {"rank": 4, "init": "eva"},
    "lora+pattern": {"rank": 4, "rank_pattern": {"attention.self.query": 2}, "alpha_pattern": {"output.dense": 4.0}},
    "lora+rates": {"rank": 4, "b_rate_factor": 16.0},
    "lora+all": {"rank": 4, "rank_stabilized": True, "dora": True, "init": "pissa"},
    "adalora": {"initial_rank": 4, "target_rank": 2},
    "prompt": {"num_tokens": 3},
    "p_tuning": {"num_tokens": 3, "hidden_dim": 8},
    "vera": {"rank": 8},
    "oft": {"block_size": 8},
    "adapter": {"reduction_factor": 4.0},
    "adapter+houlsby": {"reduction_factor": 4.0, "placement": "houlsby", "activation": "gelu"},
    "adapter+parallel": {"reduction_factor": 4.0, "placement": "parallel", "activation": "silu", "scale": 4.0},
    "prefix": {"num_tokens": 3},
    "side": {"width": 8, "every": 2},
    "side+layers": {"width": 8, "every": 2, "include_embeddings": False},
    "peft": {"peft_type": "LOHA", "settings": {"r": 2, "alpha": 4}},
    "peft+lokr": {"peft_type": "LOKR", "settings": {"r": 2}},
    "peft+boft": {"peft_type": "BOFT", "settings": {"boft_block_size": 8}},
    "peft+hra": {"peft_type": "HRA", "settings": {"r": 4}},
    "peft+c3a": {"peft_type": "C3A", "settings": {"block_size": 8}},
    "peft+miss": {"peft_type": "MISS", "settings": {"r": 4}},
}
OF_FAMILY: dict[tuple[str, str], dict[str, Any]] = {
    ("lora+pattern", "llama"): {"rank": 4, "rank_pattern": {"o_proj": 3}, "alpha_pattern": {"down_proj": 4.0}},
}
KINDS = (*METHODS.kinds(), *(case for case in SETTINGS if "+" in case))
# Folders that plain `peft` reads, at once or when peftrec has told it how.
OURS = {"adapter", "prefix", "bitfit", "full"}
PLAIN_PEFT = {"lora", "adalora", "layernorm", "prompt", "p_tuning", "vera", "oft", "peft", "ia3"}
# What cannot act on a backbone, and what the refusal says.
REFUSED = {("bitfit", "llama"): "bitfit cannot act on LlamaModel, which has no biases"}
# Files that hold more than what trains: random matrices; the start that was taken out of the base; or less.
STORES_OTHER = {"vera", "p_tuning", "lora+pissa", "lora+all"}
# Where the start is the base model's up to the rounding of a decomposition.
ROUNDED = {"lora+pissa", "lora+all", "peft+hra"}
TRAINS = [kind for kind in KINDS if kind != "frozen"]

TEXTS = [
    "small red wine. wine",
    "large blue cheese",
    "green tea",
    "a",
    "black rye bread, small, dry, sweet, oak. bread",
    "iced mint herb tea - large. tea",
    "goat",
    "soft aged hard blue goat cheese: 12",
]


def settings_of(case: str, family: str) -> dict[str, Any]:
    return OF_FAMILY.get((case, family), SETTINGS.get(case, {}))


def method_of(case: str, family: str = "bert", **settings: Any) -> Any:
    """The config of a case: a kind, or `kind+variant`."""
    return METHODS.load(case.partition("+")[0])(**{**settings_of(case, family), **settings})


def declared(kind: str) -> Any:
    return method_of(kind).declared()


def that(**wanted: bool) -> list[str]:
    """Kinds whose declarations are as given."""
    return [kind for kind in KINDS if all(getattr(declared(kind), name) == value for name, value in wanted.items())]


@functools.cache
def _read(path: str, quantization: Any) -> Backbone:
    return load_backbone(path, None, quantization)


def text_encoder(
    path: Path | str,
    case: str,
    *,
    family: str = "bert",
    budget: int = 64,
    start: bool = True,
    quantization: Any = "none",
    gradient_checkpointing: bool = False,
    **settings: Any,
) -> TextEncoder:
    """A fresh text encoder with a method in it, fitted to the texts where the method starts from data."""
    torch.manual_seed(0)
    config = EncoderConfig(max_tokens=16, token_budget=budget, gradient_checkpointing=gradient_checkpointing)
    # A copy of what has been read is as fresh as one that is read again, and the tests read thousands.
    backbone = copy.deepcopy(_read(str(path), quantization))
    encoder = TextEncoder(backbone, config, method_of(case, family, **settings))
    if start:
        _initialize(encoder, case, (str(path), family, budget, quantization, gradient_checkpointing, repr(settings)))
    return encoder


_STARTS: dict[tuple[Any, ...], dict[str, torch.Tensor]] = {}


def _initialize(encoder: TextEncoder, case: str, made_as: tuple[Any, ...]) -> None:
    """Fit a method to the texts; EVA decomposes for seconds, so that what it found is loaded the next time."""
    if case == "lora+eva" and made_as in _STARTS:
        encoder.method.load_state_dict(_STARTS[made_as])
        return
    encoder.method.initialize(encoder.batches(encoder.tokenize(TEXTS)))
    if case == "lora+eva":
        _STARTS[made_as] = {name: tensor.clone() for name, tensor in encoder.method.state_dict().items()}


def works_on(case: str, family: str) -> bool:
    role = "encoder" if family == "bert" else "decoder"
    return (case, family) not in REFUSED and getattr(declared(case), role)


@pytest.fixture
def make(backbones: dict[str, Path]) -> Callable[..., TextEncoder]:
    """Make a fresh text encoder with a method in it."""

    def make(case: str, family: str, **settings: Any) -> TextEncoder:
        if not works_on(case, family):
            pytest.skip(f"{case} does not work on {family}")
        return text_encoder(backbones[family], case, family=family, **settings)

    return make


def encode(encoder: TextEncoder, texts: list[str] = TEXTS) -> torch.Tensor:
    return encoder.eval().encode(encoder.tokenize(texts))


def take_steps(encoder: TextEncoder, num_steps: int = 2, texts: list[str] = TEXTS) -> dict[str, float]:
    """Train towards random vectors; return the largest gradient that each parameter of the model has had."""
    parameters = encoder.method.named_parameters()
    optimizer = torch.optim.AdamW(parameters.values(), lr=1e-2)
    target = torch.randn(len(texts), encoder.dim, generator=torch.Generator().manual_seed(1))
    tokens = encoder.tokenize(texts)
    seen: dict[str, float] = {}
    encoder.train()
    encoder.method.begin_training(num_steps)
    for step in range(num_steps):
        (encoder(tokens, torch.arange(len(texts))) - target).square().sum().backward()
        penalty = encoder.method.penalty()
        if penalty is not None:
            penalty.backward()
        for name, parameter in encoder.model.named_parameters():
            if parameter.grad is not None:
                seen[name] = max(seen.get(name, 0.0), float(parameter.grad.abs().max()))
        optimizer.step()
        encoder.method.after_optimizer_step(step)
        encoder.model.zero_grad(set_to_none=True)
    assert encoder.method.settled
    encoder.method.finish_training()
    encoder.eval()
    return seen


@pytest.mark.parametrize("kind", KINDS)
def test_declares_what_it_must(kind: str) -> None:
    found = {name for name in ALL if getattr(declared(kind), name)}
    plain = kind.partition("+")[0]
    assert found == DECLARED.get(kind, DECLARED[plain])
    assert METHODS.load(plain).default_learning_rate > 0


@pytest.mark.parametrize(("kind", "family"), REFUSED)
def test_a_method_that_cannot_act_is_refused(kind: str, family: str, backbones: dict[str, Path]) -> None:
    with pytest.raises(InputError, match=REFUSED[kind, family]):
        text_encoder(backbones[family], kind, family=family)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_a_method_does_not_declare_is_refused(
    family: str, backbones: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    lora = METHODS.load("lora")
    role = "encoder" if family == "bert" else "decoder"
    config = EncoderConfig(max_tokens=16)
    monkeypatch.setattr(lora, "capabilities", dataclasses.replace(lora.capabilities, **{role: False}))
    with pytest.raises(InputError, match=f"'lora' does not work on .*, which is an? {role}"):
        TextEncoder(load_backbone(str(backbones[family])), config, lora(rank=2))
    all_or_none = dataclasses.replace(lora.capabilities, **{role: True, "can_limit_layers": False})
    monkeypatch.setattr(lora, "capabilities", all_or_none)
    TextEncoder(load_backbone(str(backbones[family])), config, lora(rank=2))
    with pytest.raises(InputError, match=r"method\.layers: 'lora' acts on all layers or none"):
        TextEncoder(load_backbone(str(backbones[family])), config, lora(rank=2, layers=1))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", that(identity_at_start=True))
def test_identity_at_the_start(kind: str, family: str, make: Callable[..., TextEncoder]) -> None:
    tolerance = 5e-6 if kind in ROUNDED else 1e-6
    torch.testing.assert_close(encode(make(kind, family)), encode(make("frozen", family)), rtol=0, atol=tolerance)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", TRAINS)
def test_only_its_own_parameters_get_gradients_and_each_does(
    kind: str, family: str, make: Callable[..., TextEncoder]
) -> None:
    encoder = make(kind, family)
    own = {id(parameter) for parameter in encoder.method.named_parameters().values()}
    names = {name for name, parameter in encoder.model.named_parameters() if id(parameter) in own}
    assert len(names) == len(own) > 0
    seen = take_steps(encoder)
    assert set(seen) == names
    # Adding the same number to all keys changes no softmax.
    still = {name for name, value in seen.items() if value == 0.0 and not re.search(r"key\.bias$|k_proj\.bias$", name)}
    assert not still


def test_frozen_has_nothing_to_train(make: Callable[..., TextEncoder]) -> None:
    encoder = make("frozen", "bert")
    assert not encoder.method.named_parameters()
    assert not any(parameter.requires_grad for parameter in encoder.model.parameters())
    assert encoder.method.adapter_config(encoder.backbone.base) is None


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", TRAINS)
def test_outputs_move_and_the_base_stays_where_declared(
    kind: str, family: str, backbones: dict[str, Path], make: Callable[..., TextEncoder]
) -> None:
    if not works_on(kind, family):
        pytest.skip(f"{kind} does not work on {family}")
    backbone = load_backbone(str(backbones[family]))
    before = {name: (tensor, tensor.clone()) for name, tensor in backbone.model.state_dict(keep_vars=True).items()}
    torch.manual_seed(0)
    encoder = TextEncoder(backbone, EncoderConfig(max_tokens=16), method_of(kind, family))
    encoder.method.initialize(encoder.batches(encoder.tokenize(TEXTS)))
    start = encode(encoder)
    take_steps(encoder)
    assert float((encode(encoder) - start).abs().max()) > 1e-3
    moved = [name for name, (live, copy) in before.items() if not torch.equal(live, copy)]
    assert bool(moved) != declared(kind).base_frozen, moved


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", TRAINS)
def test_saved_tensors_are_its_own_and_give_the_same_in_a_fresh_object(
    kind: str, family: str, tmp_path: Path, make: Callable[..., TextEncoder]
) -> None:
    encoder = make(kind, family)
    take_steps(encoder)
    parameters = encoder.method.named_parameters().values()
    for number, state in enumerate((encoder.method.state_dict(), encoder.method.published_tensors())):
        if kind not in STORES_OTHER and (number == 0 or kind != "adalora"):
            assert sum(tensor.numel() for tensor in state.values()) == sum(tensor.numel() for tensor in parameters)
        folder = tmp_path / str(number)
        folder.mkdir()
        save_file({key: tensor.contiguous() for key, tensor in state.items()}, folder / "adapter_model.safetensors")
        fresh = make(kind, family, start=False)
        assert float((encode(fresh) - encode(encoder)).abs().max()) > 1e-3
        fresh.method.load_state_dict(read_adapter_tensors(folder))
        torch.testing.assert_close(encode(fresh), encode(encoder), rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", TRAINS)
def test_tensors_that_do_not_fit_are_refused(kind: str, tmp_path: Path, make: Callable[..., TextEncoder]) -> None:
    encoder = make(kind, "bert", start=False)
    state = {key: tensor.clone() for key, tensor in encoder.method.state_dict().items()}
    key = sorted(state)[0]
    before = encode(encoder)
    with pytest.raises(InputError, match="1 missing, such as"):
        encoder.method.load_state_dict({name: tensor for name, tensor in state.items() if name != key})
    with pytest.raises(InputError, match="1 unknown, such as 'foreign'"):
        encoder.method.load_state_dict({**state, "foreign": torch.zeros(1)})
    with pytest.raises(InputError, match=re.escape(f"'{key}' has shape")):
        encoder.method.load_state_dict({**state, key: torch.zeros(3, 3, 3)})
    if kind not in ("prompt", "p_tuning") and works_on(kind, "llama"):
        with pytest.raises(InputError, match="missing"):
            encoder.method.load_state_dict(make(kind, "llama", start=False).method.state_dict())
    assert torch.equal(encode(encoder), before)
    with pytest.raises(InputError, match="missing; the folder holds no adapter"):
        read_adapter_tensors(tmp_path)
    (tmp_path / "adapter_model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(InputError, match="truncated or damaged"):
        read_adapter_tensors(tmp_path)


def save_folder(encoder: TextEncoder, folder: Path, texts: list[str]) -> None:
    state = {key: tensor.contiguous() for key, tensor in encoder.method.published_tensors().items()}
    save_file(state, folder / "adapter_model.safetensors")
    config = encoder.method.adapter_config(encoder.backbone.base)
    (folder / "adapter_config.json").write_text(json.dumps(config))
    save_file({"vectors": encode(encoder, texts)}, folder / "expected.safetensors")


@pytest.fixture(scope="module")
def saved_folders(backbones: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder for every method and family: adapter file, and the vectors it gave."""
    folders = {}
    for kind in TRAINS:
        for family in FAMILIES:
            if not works_on(kind, family):
                continue
            encoder = text_encoder(backbones[family], kind, family=family)
            take_steps(encoder)
            folder = tmp_path_factory.mktemp(f"{kind}_{family}")
            save_folder(encoder, folder, TEXTS)
            folders[f"{kind} {family}"] = folder
    return folders


FRESH_PROCESS = """
import json, sys
from pathlib import Path
from safetensors.torch import load_file
from peftrec.encoders import Backbone, EncoderConfig, TextEncoder, load_backbone
from peftrec.methods import METHODS, read_adapter_tensors
plan = json.loads(sys.stdin.read())
gaps = {}
for name, folder in plan["folders"].items():
    kind, family = name.split()
    method = METHODS.load(kind.partition("+")[0])(**plan["settings"][name])
    config = EncoderConfig(max_tokens=16, token_budget=64)
    encoder = TextEncoder(load_backbone(plan["backbones"][family]), config, method).eval()
    encoder.method.load_state_dict(read_adapter_tensors(Path(folder)))
    found = encoder.encode(encoder.tokenize(plan["texts"]))
    gaps[name] = float((found - load_file(Path(folder) / "expected.safetensors")["vectors"]).abs().max())
print(json.dumps(gaps))
"""


def gaps_in_another_process(
    folders: dict[str, Path], backbones: dict[str, Any], settings: dict[str, Any], texts: list[str]
) -> dict[str, float]:
    """Load every folder in one fresh process; how far its vectors lie from those that were saved with it."""
    plan = {
        "folders": {name: str(path) for name, path in folders.items()},
        "backbones": {name: str(path) for name, path in backbones.items()},
        "settings": settings,
        "texts": texts,
    }
    command = [sys.executable, "-c", FRESH_PROCESS]
    done = subprocess.run(command, input=json.dumps(plan), capture_output=True, text=True, check=True)
    gaps: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    assert set(gaps) == set(folders)
    return gaps


def test_saved_folders_give_the_same_in_another_process(
    saved_folders: dict[str, Path], backbones: dict[str, Path]
) -> None:
    settings = {name: settings_of(*name.split()) for name in saved_folders}
    gaps = gaps_in_another_process(saved_folders, backbones, settings, TEXTS)
    assert max(gaps.values()) <= 1e-6, gaps


@pytest.mark.slow
def test_folders_of_the_real_minilm_give_the_same_in_another_process(minilm: str, tmp_path: Path) -> None:
    folders, settings, texts = {}, {}, TEXTS[:4]
    for kind in (kind for kind in TRAINS if "+" not in kind):
        name = f"{kind} minilm"
        limits = {"layers": 2} if declared(kind).can_limit_layers else {}
        settings[name] = SETTINGS.get(kind, {}) | limits
        encoder = text_encoder(minilm, kind, **limits)
        take_steps(encoder, texts=texts)
        folders[name] = tmp_path / kind
        folders[name].mkdir()
        save_folder(encoder, folders[name], texts)
    gaps = gaps_in_another_process(folders, {"minilm": minilm}, settings, texts)
    assert max(gaps.values()) <= 1e-6, gaps


def test_plain_peft_reads_the_folders(saved_folders: dict[str, Path], backbones: dict[str, Path]) -> None:
    from peft import PeftModel
    from safetensors.torch import load_file
    from transformers import AutoModel

    register_with_peft()
    register_with_peft()
    checked = set()
    for name, folder in saved_folders.items():
        kind, family = name.split()
        if kind.partition("+")[0] not in PLAIN_PEFT | OURS:
            continue
        path = str(backbones[family])
        assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == path
        ours = TextEncoder(load_backbone(path), EncoderConfig(max_tokens=16), METHODS.load("frozen")())
        model = PeftModel.from_pretrained(AutoModel.from_pretrained(path), str(folder)).eval()
        tokens = ours.tokenize(TEXTS)
        found = []
        for text in range(len(TEXTS)):
            place, valid = tokens.gather(torch.tensor([text]))
            with torch.no_grad():
                states = model(input_ids=tokens.tokens_T[place], attention_mask=valid.long()).last_hidden_state
            states = states[:, -place.shape[1] :]
            found.append(states[0, -1] if family == "llama" else states[0].mean(0))
        expected = load_file(folder / "expected.safetensors")["vectors"]
        torch.testing.assert_close(torch.stack(found), expected, rtol=0, atol=1e-5)
        checked.add(kind.partition("+")[0])
    assert checked == PLAIN_PEFT | OURS


def test_plain_peft_reads_folders_with_the_short_name_of_before(
    saved_folders: dict[str, Path], backbones: dict[str, Path], tmp_path: Path
) -> None:
    from peft import PeftModel
    from transformers import AutoModel

    register_with_peft()
    folder = Path(shutil.copytree(saved_folders["adapter bert"], tmp_path / "old"))
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["peft_type"].startswith("PEFTREC_ADAPTER (of the package peftrec: ")
    (folder / "adapter_config.json").write_text(json.dumps(config | {"peft_type": "PEFTREC_ADAPTER"}))
    inputs = {"input_ids": torch.tensor([[5, 6, 7]])}
    found = []
    for path in (folder, saved_folders["adapter bert"]):
        model = PeftModel.from_pretrained(AutoModel.from_pretrained(str(backbones["bert"])), str(path)).eval()
        with torch.no_grad():
            found.append(model(**inputs).last_hidden_state)
    assert torch.equal(*found)


def test_plain_peft_refuses_tensors_of_another_backbone(
    saved_folders: dict[str, Path], backbones: dict[str, Path], tmp_path: Path
) -> None:
    from peft import PeftModel
    from transformers import AutoModel

    register_with_peft()
    folder, other = saved_folders["adapter bert"], saved_folders["adapter llama"]
    for name, source in (("adapter_config.json", folder), ("adapter_model.safetensors", other)):
        (tmp_path / name).write_bytes((source / name).read_bytes())
    with pytest.raises(InputError, match="missing, such as"):
        PeftModel.from_pretrained(AutoModel.from_pretrained(str(backbones["bert"])), str(tmp_path))


def test_what_plain_peft_is_extended_by_is_still_there() -> None:
    """If this fails, peft has changed: mend `methods/plain_peft.py`, and then the upper bound in `pyproject.toml`."""
    import enum

    from peft import PeftConfig, mapping
    from peft.tuners.tuners_utils import BaseTuner
    from peft.utils import PeftType

    assert issubclass(PeftType, str)
    assert issubclass(PeftType, enum.Enum)
    assert all(hasattr(PeftType, name) for name in ("_member_map_", "_value2member_map_", "_member_names_"))
    for name in ("CONFIG", "TUNER", "PREFIX"):
        assert isinstance(getattr(mapping, f"PEFT_TYPE_TO_{name}_MAPPING"), dict)
    assert dataclasses.is_dataclass(PeftConfig)
    parameters = list(inspect.signature(BaseTuner._remap_adapter_state_dict_for_load).parameters)
    assert parameters == ["model", "config", "adapter_name", "state_dict"]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", KINDS)
def test_merged_equals_unmerged_or_is_refused(kind: str, family: str, make: Callable[..., TextEncoder]) -> None:
    encoder = make(kind, family)
    if not declared(kind).can_merge:
        if kind != "frozen":
            with pytest.raises(InputError, match="merge"):
                encoder.method.merge()
        return
    take_steps(encoder)
    unmerged = encode(encoder)
    encoder.method.merge()
    encoder.model = encoder.method.model
    torch.testing.assert_close(encode(encoder), unmerged, rtol=0, atol=1e-5)
    assert not encoder.method.named_parameters()
    assert not encoder.method.state_dict()
    with pytest.raises(InputError), encoder.method.disabled():
        pass


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", TRAINS)
def test_switched_off_is_the_base(kind: str, family: str, make: Callable[..., TextEncoder]) -> None:
    encoder = make(kind, family)
    if not declared(kind).base_frozen:
        with pytest.raises(InputError), encoder.method.disabled():
            pass
        return
    take_steps(encoder)
    tuned = encode(encoder)
    with encoder.method.disabled():
        torch.testing.assert_close(encode(encoder), encode(make("frozen", family)), rtol=0, atol=1e-6)
    assert torch.equal(encode(encoder), tuned)


def sizes(model: nn.Module, first: int) -> list[tuple[int, int]]:
    """(in, out) of every linear module of the layers from `first` upwards."""
    linears = [model.get_submodule(name) for name in linear_names(model, first_layer=first)]
    return [(linear.in_features, linear.out_features) for linear in linears]


def norm_sizes(model: nn.Module, first: int) -> int:
    """Parameters of norms in the layers from `first` upwards, and outside the layers where that is all of them."""
    layers = find_layers(model).layers
    of_layers = {id(parameter) for parameter in layers.parameters()}
    norms = [module for module in model.modules() if "Norm" in type(module).__name__]
    admitted = {id(parameter) for parameter in layers[first:].parameters()}
    parameters = [parameter for norm in norms for parameter in norm.parameters()]
    return sum(p.numel() for p in parameters if id(p) in admitted or (first == 0 and id(p) not in of_layers))


WIDTH, INNER, KEYS, STATES = 32, 48, {"bert": 32, "llama": 16}, 3
BOTTLENECK = 2 * WIDTH * 8 + 8 + WIDTH
# What the documentation of each method says of its parameters, written again: (model, layers, first layer, family).
FORMULAS: dict[str, Callable[[nn.Module, int, int, str], int]] = {
    "lora": lambda m, n, f, family: sum(4 * (i + o) for i, o in sizes(m, f)),
    "lora+dora": lambda m, n, f, family: sum(4 * (i + o) + o for i, o in sizes(m, f)),
    "lora+pattern": lambda m, n, f, family: (
        sum(4 * (i + o) for i, o in sizes(m, f)) - n * (2 if family == "bert" else 1) * 2 * WIDTH
    ),
    "adalora": lambda m, n, f, family: sum(4 * (i + o + 1) for i, o in sizes(m, f)),
    "adapter": lambda m, n, f, family: n * BOTTLENECK,
    "adapter+houlsby": lambda m, n, f, family: 2 * n * BOTTLENECK,
    "adapter+parallel": lambda m, n, f, family: n * BOTTLENECK,
    "prefix": lambda m, n, f, family: n * 3 * 2 * KEYS[family],
    "side": lambda m, n, f, family: STATES * BOTTLENECK + STATES - 1 + WIDTH,
    "bitfit": lambda m, n, f, family: sum(
        p.numel() for name, p in m.named_parameters() if name.endswith("bias") and (f == 0 or f".{f}." in name)
    ),
    "layernorm": lambda m, n, f, family: norm_sizes(m, f),
    "ia3": lambda m, n, f, family: n * (2 * KEYS[family] + INNER),
    "full": lambda m, n, f, family: sum(p.numel() for p in (find_layers(m).layers[f:] if f else m).parameters()),
    "frozen": lambda m, n, f, family: 0,
    "prompt": lambda m, n, f, family: 3 * WIDTH,
    "p_tuning": lambda m, n, f, family: 3 * WIDTH + (WIDTH + 1) * 8 + (8 + 1) * (8 + WIDTH),
    "vera": lambda m, n, f, family: sum(8 + o for _, o in sizes(m, f)),
    "oft": lambda m, n, f, family: sum(i // 8 * 8 * 7 // 2 for i, _ in sizes(m, f)),
}


def test_every_method_has_a_formula() -> None:
    assert set(FORMULAS) >= set(METHODS.kinds()) - {"peft"}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", FORMULAS)
def test_there_are_as_many_parameters_as_the_formula_says(
    kind: str, family: str, make: Callable[..., TextEncoder]
) -> None:
    base = make("frozen", family).model
    num_layers = len(find_layers(base).layers)
    for layers in ("all", 1) if declared(kind).can_limit_layers else ("all",):
        used = num_layers if layers == "all" else 1
        expected = FORMULAS[kind](base, used, num_layers - used, family)
        found = make(kind, family, layers=layers).method.named_parameters().values()
        assert sum(parameter.numel() for parameter in found) == expected
        assert expected > 0 or kind == "frozen"


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", KINDS)
def test_padding_and_chunks_change_no_vector(kind: str, family: str, make: Callable[..., TextEncoder]) -> None:
    encoder = make(kind, family, budget=16)
    if kind != "frozen":
        take_steps(encoder)
    tokens = encoder.tokenize(TEXTS)
    small = encode(encoder)
    with torch.no_grad():
        together = encoder(tokens, torch.arange(len(TEXTS)))
        alone = torch.cat([encoder(tokens, torch.tensor([text])) for text in range(len(TEXTS))])
        backwards = encoder.encode(tokens, torch.arange(len(TEXTS) - 1, -1, -1)).flip(0)
    for other in (together, alone, backwards):
        torch.testing.assert_close(other, small, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", that(can_limit_layers=True))
def test_top_layers_leave_the_lower_ones_alone(kind: str, family: str, make: Callable[..., TextEncoder]) -> None:
    encoder, base = make(kind, family, layers=1), make("frozen", family)
    num_layers = encoder.num_layers
    assert encoder.method.first_layer == num_layers - 1
    for name in encoder.method.named_parameters():
        assert re.search(rf"(^|\.)(layer|layers)\.{num_layers - 1}\.", name), name
    take_steps(encoder)
    tokens = encoder.tokenize(TEXTS)
    place, valid = tokens.gather(torch.arange(len(TEXTS)))
    inputs = {"input_ids": tokens.tokens_T[place], "attention_mask": valid.long()}
    with torch.no_grad():
        tuned = encoder.model(**inputs, output_hidden_states=True).hidden_states
        untuned = base.model(**inputs, output_hidden_states=True).hidden_states
    for layer in range(num_layers):
        assert torch.equal(tuned[layer], untuned[layer]), layer
    assert not torch.equal(tuned[-1], untuned[-1])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("kind", that(can_limit_layers=True))
def test_cached_trunk_is_exact(kind: str, layers: int, family: str, make: Callable[..., TextEncoder]) -> None:
    encoder = make(kind, family, layers=layers, budget=48)
    take_steps(encoder)
    plain = encoder.tokenize(TEXTS)
    cached = encoder.store_trunk(plain)
    assert cached.trunk_TH is not None
    assert not cached.trunk_TH.requires_grad
    layer_list = find_layers(encoder.model).layers
    target = torch.randn(len(TEXTS), encoder.dim)
    results = []
    # Chunks have the padded shapes that the trunk was stored with, so that even rounding is the same.
    for texts in (plain, cached):
        encoder.model.zero_grad(set_to_none=True)
        vectors = torch.zeros(len(TEXTS), encoder.dim)
        for chunk in texts.chunks(torch.arange(len(TEXTS)), 48):
            part = encoder(texts, chunk)
            (part * target[chunk]).sum().backward()
            vectors[chunk] = part.detach()
        gradients = {name: p.grad.clone() for name, p in encoder.method.named_parameters().items()}
        results.append((vectors, gradients))
    (vectors, gradients), (cached_vectors, cached_gradients) = results
    assert torch.equal(vectors, cached_vectors)
    for name, gradient in gradients.items():
        assert torch.equal(gradient, cached_gradients[name]), name
    assert find_layers(encoder.model).layers is layer_list


def test_no_trunk_is_stored_where_the_method_reaches_the_embeddings(make: Callable[..., TextEncoder]) -> None:
    for kind in ("lora", "frozen"):
        encoder = make(kind, "bert")
        assert encoder.store_trunk(encoder.tokenize(TEXTS)).trunk_TH is None


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", [kind for kind in that(supports_checkpointing=True) if kind != "frozen"])
def test_gradient_checkpointing_gives_the_same_gradients(
    kind: str, family: str, make: Callable[..., TextEncoder]
) -> None:
    calls: list[int] = []

    def counted(original: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *arguments, **named: (calls.append(1), original(*arguments, **named))[1]

    found = []
    for checkpointing in (False, True):
        encoder = make(kind, family, gradient_checkpointing=checkpointing)
        for layer in find_layers(encoder.model).layers if checkpointing else ():
            layer._gradient_checkpointing_func = counted(layer._gradient_checkpointing_func)
        tokens = encoder.tokenize(TEXTS)
        encoder.train()
        encoder(tokens, torch.arange(len(TEXTS))).square().sum().backward()
        found.append({name: p.grad for name, p in encoder.method.named_parameters().items()})
        with torch.no_grad():
            assert torch.equal(encoder(tokens, torch.arange(3)), encoder(tokens, torch.arange(3)))
        if not checkpointing:
            assert not calls
    # A side network's gradients never enter the layers.
    assert bool(calls) or kind.startswith("side")
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=1e-5, atol=1e-6)


def test_checkpointing_is_refused_where_it_does_not_work(
    make: Callable[..., TextEncoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    lora = METHODS.load("lora")
    monkeypatch.setattr(lora, "capabilities", dataclasses.replace(lora.capabilities, supports_checkpointing=False))
    with pytest.raises(InputError, match=r"encoder\.gradient_checkpointing: 'lora' does not work with it"):
        make("lora", "bert", gradient_checkpointing=True)


@pytest.mark.parametrize("kind", KINDS)
def test_frozen_layers_run_without_dropout_in_training(kind: str, make: Callable[..., TextEncoder]) -> None:
    encoder = make(kind, "bert")
    tokens = encoder.tokenize(TEXTS)
    encoder.train()
    with torch.no_grad():
        torch.testing.assert_close(encoder(tokens, torch.arange(3)), encoder(tokens, torch.arange(3)), rtol=0, atol=0)


DROPS = [
    *((kind, {"dropout": 0.5}) for kind in KINDS if "dropout" in {f.name for f in dataclasses.fields(method_of(kind))}),
    ("peft", {"settings": {"r": 2, "rank_dropout": 0.5}}),
    ("peft+lokr", {"peft_type": "LOKR", "settings": {"r": 2, "module_dropout": 0.5}}),
]


@pytest.mark.parametrize(("kind", "settings"), DROPS)
def test_dropout_acts_in_training_only(kind: str, settings: Any, make: Callable[..., TextEncoder]) -> None:
    encoder = make(kind, "bert", **settings)
    take_steps(encoder)
    tokens, items = encoder.tokenize(TEXTS), torch.arange(3)
    with torch.no_grad():
        encoder.train()
        assert len({encoder(tokens, items).sum().item() for _ in range(8)}) > 1
        encoder.eval()
        assert torch.equal(encoder(tokens, items), encoder(tokens, items))


@pytest.mark.parametrize("kind", that(can_limit_layers=True))
def test_more_layers_than_there_are_is_refused(kind: str, make: Callable[..., TextEncoder]) -> None:
    with pytest.raises(InputError, match=r"method\.layers is 4; the backbone has 3 layers"):
        make(kind, "bert", layers=4)


QUANTIZED = [
    (kind, quantization)
    for kind in that(quantized_base=True)
    for quantization in (("int8", "nf4", "fp4") if kind in ("lora", "adalora") else ("int8", "nf4"))
    if kind != "frozen" and (kind, quantization) != ("lora+dora", "int8")
]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("kind", "quantization"), QUANTIZED)
def test_on_quantised_backbones(kind: str, quantization: str, family: str, make: Callable[..., TextEncoder]) -> None:
    pytest.importorskip("bitsandbytes")
    encoder, base = (make(name, family, quantization=quantization) for name in (kind, "frozen"))
    untouched = {name: tensor.clone() for name, tensor in base.model.state_dict().items()}
    start = encode(base)
    own = {id(parameter) for parameter in encoder.method.named_parameters().values()}
    names = {name for name, parameter in encoder.model.named_parameters() if id(parameter) in own}
    seen = take_steps(encoder)
    assert set(seen) == names
    assert not {name for name, value in seen.items() if value == 0.0}
    tuned = encode(encoder)
    assert float((tuned - start).abs().max()) > 1e-3
    with encoder.method.disabled():
        torch.testing.assert_close(encode(encoder), start, rtol=0, atol=1e-6)
    fresh = make(kind, family, quantization=quantization, start=False)
    fresh.method.load_state_dict(encoder.method.published_tensors())
    torch.testing.assert_close(encode(fresh), tuned, rtol=0, atol=1e-6)
    with pytest.raises(InputError, match="merge"):
        encoder.method.merge()
    again = make("frozen", family, quantization=quantization).model.state_dict()
    assert all(torch.equal(again[name], tensor) for name, tensor in untouched.items())


def test_dora_is_refused_on_weights_that_it_cannot_read(make: Callable[..., TextEncoder]) -> None:
    pytest.importorskip("bitsandbytes")
    with pytest.raises(InputError, match=r"method\.dora: bitsandbytes does not give DoRA the weights of int8; use nf4"):
        make("lora+dora", "bert", quantization="int8")


@pytest.mark.parametrize("kind", that(quantized_base=False))
def test_what_needs_full_precision_is_refused_on_less(kind: str, make: Callable[..., TextEncoder]) -> None:
    pytest.importorskip("bitsandbytes")
    with pytest.raises(InputError, match=r"method\.kind: '.*' with these settings does not work on quantised weights"):
        make(kind, "bert", quantization="nf4")


REAL = [pytest.param(kind, marks=pytest.mark.slow if "+" in kind else ()) for kind in KINDS]


@pytest.mark.parametrize("kind", REAL)
def test_the_real_minilm(kind: str, minilm: str) -> None:
    torch.manual_seed(0)
    settings = {"layers": 2} if declared(kind).can_limit_layers else {}
    encoder = text_encoder(minilm, kind, **settings)
    base = TextEncoder(load_backbone(minilm), EncoderConfig(max_tokens=16), METHODS.load("frozen")())
    texts = TEXTS[:4]
    if declared(kind).identity_at_start:
        tolerance = 5e-6 if kind in ROUNDED else 1e-6
        torch.testing.assert_close(encode(encoder, texts), encode(base, texts), rtol=0, atol=tolerance)
    if kind == "frozen":
        return
    own = set(map(id, encoder.method.named_parameters().values()))
    names = {name for name, parameter in encoder.model.named_parameters() if id(parameter) in own}
    before = {name: tensor.clone() for name, tensor in encoder.model.state_dict().items() if name not in names}
    seen = take_steps(encoder, texts=texts)
    if declared(kind).base_frozen:
        after = encoder.model.state_dict()
        assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert set(seen) == names
    assert not {name for name, value in seen.items() if value == 0.0 and not name.endswith("key.bias")}
    tuned = encode(encoder, texts)
    assert float((tuned - encode(base, texts)).abs().max()) > 1e-3
    tokens = encoder.tokenize(texts)
    with torch.no_grad():
        alone = torch.cat([encoder(tokens, torch.tensor([text])) for text in range(len(texts))])
    torch.testing.assert_close(alone, tuned, rtol=1e-5, atol=1e-5)
    if declared(kind).base_frozen:
        with encoder.method.disabled():
            torch.testing.assert_close(encode(encoder, texts), encode(base, texts), rtol=0, atol=1e-6)
    fresh = text_encoder(minilm, kind, start=False, **settings)
    fresh.method.load_state_dict(encoder.method.state_dict())
    torch.testing.assert_close(encode(fresh, texts), tuned, rtol=0, atol=1e-6)
    config = encoder.method.adapter_config(encoder.backbone.base)
    assert config is not None
    assert config["base_model_name_or_path"] == minilm
    assert "site-packages" not in json.dumps(config)
    if declared(kind).can_merge:
        encoder.method.merge()
        encoder.model = encoder.method.model
        torch.testing.assert_close(encode(encoder, texts), tuned, rtol=0, atol=1e-5)
