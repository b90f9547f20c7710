"""The recipe: one section from each package, composed; and what it builds."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from peftrec.baselines import BASELINES, Baseline
from peftrec.config import (
    InputError,
    RecipeError,
    apply_overrides,
    dump_yaml,
    parse_section,
    read_yaml,
    section_to_dict,
)
from peftrec.data import SOURCES, DataConfig, Dataset, load_dataset
from peftrec.encoders import CatalogueText, EncoderConfig, ItemEncoder, TextEncoder, load_backbone
from peftrec.evaluation import EvaluationConfig
from peftrec.losses import LOSSES, LossConfig
from peftrec.losses.full_softmax import FullSoftmax
from peftrec.methods import METHODS, MethodConfig
from peftrec.methods.lora import LoraConfig
from peftrec.metrics import RANK_METRICS
from peftrec.models import SCORERS, USER_ENCODERS, RecommenderModel, ScorerConfig, UserEncoderConfig
from peftrec.models.scorer import CosineScorer
from peftrec.models.transformer import TransformerUserEncoder
from peftrec.training import OptimizerConfig, TrainingConfig

if TYPE_CHECKING:
    import torch


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that determines a run.

    Args:
        data: where the tables are, how they are cleaned and split.
        encoder: how an item becomes a vector.
        method: what of the language model is trained.
        user: how a history becomes a vector.
        scorer: how the two become a score.
        loss: what is minimised.
        optimizer: rates, decay, schedule.
        training: epochs, batches, seed.
        evaluation: cutoffs and rules.
        baseline: fit this instead of training a model; the sections of the model are then not used, but for the
            encoder's backbone, which content_knn reads, as a baseline or as the reference beside one.
        output_dir: the run folder.
    """

    data: Annotated[DataConfig, SOURCES]
    encoder: EncoderConfig = dataclasses.field(default_factory=EncoderConfig)
    method: Annotated[MethodConfig, METHODS] = dataclasses.field(default_factory=LoraConfig)
    user: Annotated[UserEncoderConfig, USER_ENCODERS] = dataclasses.field(default_factory=TransformerUserEncoder)
    scorer: Annotated[ScorerConfig, SCORERS] = dataclasses.field(default_factory=CosineScorer)
    loss: Annotated[LossConfig, LOSSES] = dataclasses.field(default_factory=FullSoftmax)
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
    training: TrainingConfig = dataclasses.field(default_factory=TrainingConfig)
    evaluation: EvaluationConfig = dataclasses.field(default_factory=EvaluationConfig)
    baseline: Annotated[Baseline, BASELINES] | None = None
    output_dir: str = "runs/latest"

    def __post_init__(self) -> None:
        if not self.output_dir.strip():
            raise ValueError("output_dir: is empty; it names the run folder")
        if self.loss.candidates == "batch" and self.training.encoder_interval > 1:
            raise ValueError(
                f"training.encoder_interval: {self.training.encoder_interval} needs a loss over the catalogue; "
                f"{self.loss.kind} encodes other items in every step, so use 1"
            )
        if self.encoder.embedding_dim is not None:
            self.user.check_dim(self.encoder.embedding_dim)
        name, _, cutoff = self.training.metric.partition("@")
        known = [f"{metric}@{k}" for k in self.evaluation.ks for metric in RANK_METRICS]
        if self.training.metric not in known:
            raise ValueError(f"training.metric: '{name}@{cutoff}' is not evaluated; there are {', '.join(known)}")
        if self.training.warmup_frozen_epochs >= self.training.num_epochs and self._tunes_backbone:
            raise ValueError(
                f"training.warmup_frozen_epochs: {self.training.warmup_frozen_epochs} of {self.training.num_epochs} "
                f"epochs leaves none in which the language model trains; lower it, or use method.kind=frozen"
            )

    @property
    def _tunes_backbone(self) -> bool:
        return self.baseline is None and self.encoder.uses_text and self.method.kind != "frozen"

    def resolved(self) -> Recipe:
        """Return the recipe with the method's own learning rate where none is given."""
        if self.optimizer.learning_rate is not None:
            return self
        rate = self.method.default_learning_rate
        return dataclasses.replace(self, optimizer=dataclasses.replace(self.optimizer, learning_rate=rate))

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe as plain values, every default written out."""
        return section_to_dict(self)

    def to_yaml(self) -> str:
        """Return YAML that `load_recipe` reads back to an equal recipe."""
        return dump_yaml(self.to_dict())


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read, override and check a recipe; nothing else is opened.

    Args:
        path: a YAML file.
        overrides: such as `optimizer.learning_rate=1e-3`.
    Returns:
        The resolved recipe.
    Raises:
        RecipeError: with the file, the dotted path, and what would be right.
    """
    values = read_yaml(path)
    try:
        return parse_section(Recipe, _overridden(values, overrides)).resolved()
    except RecipeError as error:
        raise RecipeError(f"{path}: {error}") from None


def recipe_for_evaluation(recipe: Recipe, overrides: Sequence[str]) -> Recipe:
    """Return the recipe of a run with overrides that leave what was trained as it was.

    Args:
        recipe: resolved.
        overrides: of the sections `data` and `evaluation`; not of what decides which events are targets.
    Raises:
        RecipeError: if another section, the split, the cleaning or the order of events would change.
    """
    for override in overrides:
        if not override.startswith(("data.", "evaluation.")):
            raise RecipeError(f"override {override!r}: a run's evaluation takes only data.* and evaluation.*")
        if override.startswith(("data.split", "data.cleaning", "data.timestamps")):
            section = override.partition("=")[0]
            raise RecipeError(
                f"override {override!r}: with another {section} targets would be events that the run was trained on"
            )
    values = apply_overrides(Recipe, recipe.to_dict(), overrides)
    evaluation = parse_section(EvaluationConfig, values["evaluation"], path="evaluation")
    # The metric that picked the best weights need not be among those evaluated now.
    values["training"]["metric"] = f"ndcg@{evaluation.ks[0]}"
    return parse_section(Recipe, values).resolved()


def _overridden(values: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Apply overrides; another method drops the file's learning rate, which was chosen for the file's method."""
    result = apply_overrides(Recipe, values, overrides)
    before, after = ((source.get("method") or {}) for source in (values, result))
    mappings = isinstance(before, dict) and isinstance(after, dict)
    changed = mappings and before.get("kind", LoraConfig.kind) != after.get("kind", LoraConfig.kind)
    given = any(override.partition("=")[0].strip() == "optimizer.learning_rate" for override in overrides)
    if changed and not given and isinstance(result.get("optimizer"), dict):
        result["optimizer"].pop("learning_rate", None)
    return result


@dataclasses.dataclass(frozen=True)
class Built:
    """What a recipe makes.

    Args:
        dataset: cleaned and split.
        model: the recommender, untrained.
        base_vectors_NH: vectors of the catalogue from the backbone without its method; None where texts are not used.
    """

    dataset: Dataset
    model: RecommenderModel
    base_vectors_NH: torch.Tensor | None

    def text_counts(self) -> dict[str, int]:
        """Count texts, tokens, and the texts that were cut at `max_tokens`; empty where texts are not used."""
        if self.model.catalogue_text is None:
            return {}
        tokens = self.model.catalogue_text.tokenized
        return {"num_texts": len(tokens), "num_tokens": len(tokens.tokens_T), "num_cut": tokens.num_cut}

    def describe(self, recipe: Recipe) -> list[str]:
        """Return lines for people: texts, what the method moves, parameters by part."""
        lines = []
        if self.model.catalogue_text is not None:
            counts = self.text_counts()
            cut = f"{counts['num_cut']:,} texts ({counts['num_cut'] / counts['num_texts']:.1%}) cut"
            limit = f"encoder.max_tokens={recipe.encoder.max_tokens}"
            lines.append(f"texts: {counts['num_texts']:,} items, {counts['num_tokens']:,} tokens; {cut} at {limit}")
            stored_bytes = self.model.catalogue_text.tokenized.stored_bytes
            if stored_bytes:
                lines.append(f"states of the frozen layers: {stored_bytes / 2**20:,.0f} MiB in memory")
            targets = ", ".join(self.model.catalogue_text.encoder.method.named_parameters())
            if targets:
                lines.append(f"{recipe.method.kind} moves {targets.count(',') + 1} tensors: {_shortened(targets)}")
        lines += [
            f"{part}: {count.trainable:,} of {count.total:,} parameters train; {count.stored_bytes:,} bytes stored"
            for part, count in self.model.parameter_counts().items()
        ]
        return lines


def _shortened(text: str, width: int = 160) -> str:
    return text if len(text) <= width else text[: width - 3] + "..."


def build(recipe: Recipe, dataset: Dataset | None = None) -> Built:
    """Load the data and make the untrained model; deterministic for `training.seed`.

    Args:
        recipe: resolved.
        dataset: use this instead of loading what `recipe.data` names.
    """
    import torch

    dataset = load_dataset(recipe.data) if dataset is None else dataset
    has_id = torch.from_numpy(dataset.item_counts() > 0)
    seed_all(recipe.training.seed)
    model = build_model(recipe, dataset.catalogue.texts, has_id)
    if model.catalogue_text is None:
        return Built(dataset, model, None)
    model.catalogue_text.store_trunk()  # first, so that the vectors too are computed from it
    base_vectors_NH = model.catalogue_text.base_vectors()
    model.item_encoder.fit_whitening(base_vectors_NH)
    encoder = model.catalogue_text.encoder
    encoder.method.initialize(encoder.batches(model.catalogue_text.tokenized))
    return Built(dataset, model, base_vectors_NH)


def build_model(recipe: Recipe, texts: Sequence[str], has_id: torch.Tensor) -> RecommenderModel:
    """Make the untrained model for a catalogue; its whitening is not fitted yet.

    Args:
        recipe: resolved.
        texts: one an item.
        has_id: which items have an id vector, shape (N,); read only where ids are used.
    Raises:
        InputError: if the backbone cannot be loaded or the method cannot act on it.
    """
    catalogue_text = None
    if recipe.encoder.uses_text:
        backbone = load_backbone(recipe.encoder.backbone, recipe.encoder.revision, recipe.encoder.quantization)
        catalogue_text = CatalogueText(TextEncoder(backbone, recipe.encoder, recipe.method), texts)
    text_dim = 0 if catalogue_text is None else catalogue_text.encoder.dim
    item_encoder = ItemEncoder(recipe.encoder, text_dim, has_id if recipe.encoder.uses_ids else None)
    try:
        model = RecommenderModel(catalogue_text, item_encoder, recipe.user, recipe.scorer)
    except ValueError as error:
        raise error if isinstance(error, InputError) else RecipeError(str(error)) from None
    # A quantised backbone lies on the GPU where there is one; the rest follows it there.
    return model if catalogue_text is None else model.to(catalogue_text.encoder.device)


def frozen_vectors(recipe: Recipe, texts: Sequence[str]) -> torch.Tensor:
    """Return mean-pooled vectors of texts from the backbone as published, shape (N, H).

    A quantised backbone is loaded in full precision for them: references are the same beside all runs.
    """
    frozen = METHODS.load("frozen")()
    encoder = dataclasses.replace(recipe.encoder, pooling="mean")
    backbone = load_backbone(encoder.backbone, encoder.revision)
    return CatalogueText(TextEncoder(backbone, encoder, frozen), texts).vectors()


def seed_all(seed: int) -> None:
    """Seed Python's and torch's generators; NumPy's are made from the seed where they are used."""
    import torch

    random.seed(seed)
    torch.manual_seed(seed)
