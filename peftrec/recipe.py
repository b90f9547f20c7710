"""The recipe: one section from each package, composed."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from peftrec.baselines import BASELINES, Baseline
from peftrec.config import (
    RecipeError,
    apply_overrides,
    dump_yaml,
    parse_section,
    read_yaml,
    section_to_dict,
)
from peftrec.data import SOURCES, DataConfig
from peftrec.encoders import AttributesConfig, EncoderConfig, attention_here
from peftrec.evaluation import EvaluationConfig
from peftrec.losses import LOSSES, DebiasConfig, LossConfig
from peftrec.losses.full_softmax import FullSoftmax
from peftrec.methods import METHODS, MethodConfig
from peftrec.methods.lora import LoraConfig
from peftrec.metrics import RANK_METRICS
from peftrec.models import SCORERS, USER_ENCODERS, ProfileConfig, ScorerConfig, UserEncoderConfig
from peftrec.models.scorer import CosineScorer
from peftrec.models.transformer import TransformerUserEncoder
from peftrec.retrieval import RetrievalConfig
from peftrec.training import OptimizerConfig, TrainingConfig

# Keys of the section `data` that decide which events there are, and which of them are targets.
_DECIDE_TARGETS = tuple(
    f"data.{name}"
    for name in (
        "split", "cleaning", "timestamps", "sample", "sessions",
        "event_words", "event_weights", "weigh_counts", "min_target_weight",
    )
)  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that determines a run.

    Args:
        data: where the tables are, how they are cleaned and split.
        encoder: how an item becomes a vector.
        attributes: how the columns of `data.item_attributes` and `data.user_attributes` become vectors.
        method: what of the language model is trained.
        user: how a history becomes a vector.
        profile: a language model reads each user's attributes and history too; None leaves that out.
        scorer: how the two become a score.
        loss: what is minimised.
        debias: penalties beside it, on popularity and on gaps between groups of items; None adds nothing.
        optimizer: rates, decay, schedule.
        training: epochs, batches, seed.
        evaluation: cutoffs and rules.
        baseline: fit this instead of training a model; the sections of the model are then not used, but for the
            encoder's backbone, which content_knn reads, as a baseline or as the reference beside one.
        retrieval: how lists are made of the trained run; nothing that is trained or measured depends on it.
        output_dir: the run folder.
    """

    data: Annotated[DataConfig, SOURCES]
    encoder: EncoderConfig = dataclasses.field(default_factory=EncoderConfig)
    attributes: AttributesConfig = dataclasses.field(default_factory=AttributesConfig)
    method: Annotated[MethodConfig, METHODS] = dataclasses.field(default_factory=LoraConfig)
    user: Annotated[UserEncoderConfig, USER_ENCODERS] = dataclasses.field(default_factory=TransformerUserEncoder)
    profile: ProfileConfig | None = None
    scorer: Annotated[ScorerConfig, SCORERS] = dataclasses.field(default_factory=CosineScorer)
    loss: Annotated[LossConfig, LOSSES] = dataclasses.field(default_factory=FullSoftmax)
    debias: DebiasConfig | None = None
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
    training: TrainingConfig = dataclasses.field(default_factory=TrainingConfig)
    evaluation: EvaluationConfig = dataclasses.field(default_factory=EvaluationConfig)
    baseline: Annotated[Baseline, BASELINES] | None = None
    retrieval: RetrievalConfig = dataclasses.field(default_factory=RetrievalConfig)
    output_dir: str = "runs/latest"

    def __post_init__(self) -> None:
        if not self.output_dir.strip():
            raise ValueError("output_dir: is empty; it names the run folder")
        if self.loss.candidates != "catalogue" and self.training.encoder_interval > 1:
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
        if self.baseline is None and self.reads_times and self.data.timestamps == "order":
            raise ValueError(
                "user.time_intervals: true needs times, but data.timestamps is 'order' (positions do not tell how much "
                "time lies between events); use false, or data.timestamps: time"
            )
        self._check_sources()
        self._check_methods()
        self._check_profile()
        self._check_ratings()
        if self.training.augmentation.substitute is not None and not self.encoder.uses_text and self.baseline is None:
            raise ValueError("training.augmentation.substitute: compares texts of items, but encoder.inputs is ids")
        named = self.data.item_attributes is not None or self.data.user_attributes is not None
        if not named and self.attributes != AttributesConfig():
            raise ValueError(
                "attributes: says how columns become vectors, but there are none; name them in data.item_attributes or "
                "data.user_attributes"
            )
        if self.training.warmup_frozen_epochs >= self.training.num_epochs and self._tunes_backbone:
            raise ValueError(
                f"training.warmup_frozen_epochs: {self.training.warmup_frozen_epochs} of {self.training.num_epochs} "
                f"epochs leaves none in which the language model trains, or its pooling; lower it, or use "
                f"method.kind=frozen without encoder.pooling=attention"
            )

    def _check_methods(self) -> None:
        """Refuse what a method declares that it cannot do; whether it can act on the backbone only that tells."""
        if self.baseline is not None or not self.encoder.uses_text:
            return
        methods = {"method": self.method}
        if self.profile is not None and self.profile.method is not None:
            methods["profile.method"] = self.profile.method
        for path, method in methods.items():
            able = method.declared()
            if method.layers != "all" and not able.can_limit_layers:
                raise ValueError(f"{path}.layers: '{method.kind}' acts on all layers or none; use all")
            if self.encoder.pooling == "attention" and method.reads_pooled_states:
                raise ValueError(
                    f"encoder.pooling: attention learns from the states of all tokens, but {path}.kind '{method.kind}' "
                    f"reads pooled ones, once; use mean, or another method"
                )
            if self.encoder.quantization != "none" and not able.quantized_base:
                raise ValueError(
                    f"{path}.kind: '{method.kind}' with these settings needs full precision; encoder.quantization is "
                    f"{self.encoder.quantization}; use none, or another method"
                )

    def _check_profile(self) -> None:
        if self.profile is not None and not self.encoder.uses_text:
            raise ValueError("profile: is read by the language model of the items, but encoder.inputs is ids")
        own_users = self.profile is not None and self.profile.method is not None
        if self.optimizer.user_learning_rate is not None and not own_users:
            raise ValueError("optimizer.user_learning_rate: is of profile.method, of which there is none; leave it out")
        if self.profile is not None and self.profile.fusion == "alone" and self.encoder.head == "projection":
            raise ValueError("profile.fusion: alone compares texts on the items' axes; use encoder.head: residual")
        alone = self.profile is not None and self.profile.fusion == "alone"
        if alone and self.baseline is None and self.reads_times:
            raise ValueError(
                "user.time_intervals: true is read by nothing with profile.fusion: alone; use false, or add"
            )
        given = {"user_template": self.data.user_template, "event_words": self.data.event_words}
        unread = next((name for name, value in given.items() if value is not None), None)
        if unread and self.profile is None and self.baseline is None:
            raise ValueError(f"data.{unread}: is read by nothing; add a section profile, or leave it out")

    def _check_sources(self) -> None:
        if "content" in self.retrieval.counted and (self.baseline is not None or not self.encoder.uses_text):
            raise ValueError(
                "retrieval.sources.content: compares items by vectors of their texts, which this run does not have; "
                "leave it out"
            )

    def _check_ratings(self) -> None:
        if self.baseline is not None:
            return
        if self.loss.needs_ratings and not self.data.ratings:
            raise ValueError(
                f"data.ratings: is false, but loss.kind: {self.loss.kind} learns how events were rated; set it to true "
                f"(data.columns.rating names the column)"
            )
        if self.data.ratings and not self.loss.needs_ratings:
            raise ValueError(
                "data.ratings: is read by nothing; use loss.kind: squared_error, or leave it out (data.cleaning."
                "min_rating reads the ratings by itself)"
            )

    @property
    def reads_times(self) -> bool:
        """Whether the model or baseline learns from when events happened, and not only from their order."""
        return self.user.needs_times if self.baseline is None else self.baseline.reads_times

    @property
    def _tunes_backbone(self) -> bool:
        users = None if self.profile is None else self.profile.method
        tunes = self.method.kind != "frozen" or (users is not None and users.kind != "frozen")
        return self.baseline is None and self.encoder.uses_text and (tunes or self.encoder.pooling == "attention")

    def resolved(self) -> Recipe:
        """Return the recipe with each method's own learning rate where none is given."""
        rates = {"learning_rate": self.method.default_learning_rate}
        if self.profile is not None and self.profile.method is not None:
            rates["user_learning_rate"] = self.profile.method.default_learning_rate
        missing: dict[str, Any] = {name: rate for name, rate in rates.items() if getattr(self.optimizer, name) is None}
        return dataclasses.replace(self, optimizer=dataclasses.replace(self.optimizer, **missing))

    def here(self) -> Recipe:
        """Return the recipe of a trained run with an implementation of attention that this machine has."""
        attention = attention_here(self.encoder.attention)
        return dataclasses.replace(self, encoder=dataclasses.replace(self.encoder, attention=attention))

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


def recipe_with(recipe: Recipe, overrides: Sequence[str]) -> Recipe:
    """Return a recipe with overrides, as `load_recipe` applies them to a file.

    Args:
        recipe: resolved.
        overrides: such as `optimizer.learning_rate=1e-3`.
    Raises:
        RecipeError: with the dotted path, and what would be right.
    """
    return parse_section(Recipe, _overridden(recipe.to_dict(), overrides)).resolved()


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
        if override.startswith(_DECIDE_TARGETS):
            section = override.partition("=")[0]
            raise RecipeError(
                f"override {override!r}: with another {section} targets would be events that the run was trained on"
            )
    values = apply_overrides(Recipe, recipe.to_dict(), overrides)
    evaluation = parse_section(EvaluationConfig, values["evaluation"], path="evaluation")
    # The cutoff that picked the best weights need not be among those evaluated now; the metric is.
    name = recipe.training.metric.partition("@")[0]
    values["training"]["metric"] = f"{name}@{evaluation.ks[0]}"
    return parse_section(Recipe, values).resolved()


def _overridden(values: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Apply overrides; another method drops the file's learning rate, which was chosen for the file's method."""
    result = apply_overrides(Recipe, values, overrides)
    given = {override.partition("=")[0].strip() for override in overrides}
    for keys, rate in ((("method",), "learning_rate"), (("profile", "method"), "user_learning_rate")):
        changed = _kind_at(values, keys) != _kind_at(result, keys)
        if changed and f"optimizer.{rate}" not in given and isinstance(result.get("optimizer"), dict):
            result["optimizer"].pop(rate, None)
    return result


def _kind_at(values: dict[str, Any], keys: Sequence[str]) -> Any:
    """Return the kind of a method in a recipe's plain values, that of the default where none is named."""
    section: Any = values
    for key in keys:
        section = section.get(key) if isinstance(section, dict) else None
    return section.get("kind", LoraConfig.kind) if isinstance(section, dict) else LoraConfig.kind
