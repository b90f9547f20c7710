"""What a recipe builds: data set and untrained model."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch

from peftrec.config import InputError, RecipeError
from peftrec.data import Dataset, FittedAttributes, Inspection, fit_attributes, inspect_dataset, load_dataset
from peftrec.data.source import distinct_words
from peftrec.encoders import (
    AttributePart,
    Backbone,
    CatalogueText,
    EncoderConfig,
    ItemEncoder,
    TextCache,
    TextEncoder,
    check_start,
    load_backbone,
    token_lengths,
    twin_backbone,
)
from peftrec.losses import Debias, ItemGroups, popularity_groups
from peftrec.methods.structure import changed_modules
from peftrec.models import ProfileTexts, RecommenderModel, build_profiles
from peftrec.propensity import propensities_of
from peftrec.recipe import Recipe

Report = Callable[[str], None]


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
        counts = {"num_texts": len(tokens), "num_tokens": len(tokens.tokens_T), "num_cut": tokens.num_cut}
        if self.model.profiles is None:
            return counts
        users = training_profiles(self.model, self.dataset)
        return counts | {
            "num_profiles": len(users.texts),
            "num_profile_tokens": len(users.texts.tokens_T),
            "num_profiles_cut": users.texts.num_cut,
            "num_events_left_out": users.num_left_out,
        }

    def describe(self, recipe: Recipe) -> list[str]:
        """Return lines for people: texts, what the method moves, parameters by part."""
        lines = []
        if self.model.catalogue_text is not None:
            counts = self.text_counts()
            cut = f"{counts['num_cut']:,} texts ({counts['num_cut'] / counts['num_texts']:.1%}) cut"
            limit = f"encoder.max_tokens={recipe.encoder.max_tokens}"
            lines.append(f"texts: {counts['num_texts']:,} items, {counts['num_tokens']:,} tokens; {cut} at {limit}")
            if self.model.profiles is not None:
                lines.append(
                    f"profiles: {counts['num_profiles']:,} users, {counts['num_profile_tokens']:,} tokens; "
                    f"{counts['num_profiles_cut']:,} cut, {counts['num_events_left_out']:,} events not told whole"
                )
        parts = {"items": self.model.item_encoder.attributes, "users": self.model.user_attributes}
        lines += [f"attributes of {who}: {part.fitted.describe()}" for who, part in parts.items() if part is not None]
        for start, encoder in self.model.text_encoders().items():
            method, who = encoder.method, "users" if start == "user_adapter" else "items"
            if method.named_parameters():
                modules = ", ".join(changed_modules(encoder.model, method.named_parameters()))
                lines.append(f"{encoder.method_config.kind} for {who} changes {modules}")
        lines += [
            f"{part}: {count.trainable:,} of {count.total:,} parameters train; "
            + (
                f"{count.stored:,} stored as {count.dtype} in {count.stored_bytes:,} bytes"
                if count.stored
                else "none stored"
            )
            for part, count in self.model.parameter_counts().items()
        ]
        return lines


def inspect_data(recipe: Recipe) -> tuple[Inspection, str]:
    """Look at the data of a recipe as it reads, cleans and splits them; needs no weights, and trains nothing.

    Args:
        recipe: resolved.
    Returns:
        The numbers, and why texts are counted in words where the backbone's tokenizer is not at hand, or "".
    """
    dataset = load_dataset(recipe.data)
    if not recipe.encoder.uses_text:
        return inspect_dataset(dataset), "encoder.inputs is ids, which reads no text"
    try:
        lengths = token_lengths(recipe.encoder, dataset.catalogue.texts)
    except InputError as error:
        return inspect_dataset(dataset), str(error)
    return inspect_dataset(dataset, token_lengths=lengths, max_tokens=recipe.encoder.max_tokens), ""


def build(recipe: Recipe, dataset: Dataset | None = None, report: Report = lambda _: None) -> Built:
    """Load the data and make the untrained model; deterministic for `training.seed`.

    What the frozen backbone gives the catalogue is read from `encoder.cache`, or computed and kept there.

    Args:
        recipe: resolved.
        dataset: use this instead of loading what `recipe.data` names.
        report: is handed a line at a time on what is read, computed and kept.
    Raises:
        InputError: if the model reads times and the data have none, the data were read with other attributes, or an
            attribute tells nothing of what trains.
    """
    dataset = load_dataset(recipe.data) if dataset is None else dataset
    if recipe.reads_times and dataset.sequences.times is None:
        raise InputError(
            "user.time_intervals: true needs times, but this data set has only an order (data.timestamps: order); use "
            "false"
        )
    has_id = torch.from_numpy(dataset.item_counts() > 0)
    _check_attributes(recipe, dataset)
    attributes = fit_attributes(dataset)
    seed_all(recipe.training.seed)
    model = build_model(recipe, dataset.catalogue.texts, has_id, attributes, report)
    if model.item_encoder.attributes is not None and dataset.item_attributes is not None:
        model.item_encoder.attributes.set_rows(attributes["items"].encode(dataset.item_attributes))
    tell_users(model, dataset)
    for one in model.text_encoders().values():
        check_start(one)
    if model.catalogue_text is None:
        return Built(dataset, model, None)
    model.catalogue_text.store_trunk()  # first, so that the vectors too are computed from it
    base_vectors_NH = model.catalogue_text.base_vectors()
    model.item_encoder.fit_whitening(base_vectors_NH)
    encoder = model.catalogue_text.encoder
    encoder.method.initialize(encoder.batches(model.catalogue_text.tokenized))
    if model.profiles is not None and model.profiles.own:
        users = model.profiles.encoder
        users.method.initialize(users.batches(training_profiles(model, dataset).texts))
    return Built(dataset, model, base_vectors_NH)


def _check_attributes(recipe: Recipe, dataset: Dataset) -> None:
    """See that a data set was read with the attributes that the recipe names."""
    for key in ("item_attributes", "user_attributes"):
        named, table = getattr(recipe.data, key), getattr(dataset, key)
        if named != (None if table is None else dict(table.configs)):
            raise InputError(f"data.{key}: the data set was read with other attributes than the recipe names")


def recipe_backbone(encoder: EncoderConfig) -> Backbone:
    """Load the backbone that an `encoder` section names, as it says; see `load_backbone`."""
    return load_backbone(
        encoder.backbone,
        encoder.revision,
        encoder.quantization,
        dtype=encoder.dtype,
        attention=encoder.attention,
    )


def build_model(
    recipe: Recipe,
    texts: Sequence[str],
    has_id: torch.Tensor,
    attributes: Mapping[str, FittedAttributes] | None = None,
    report: Report | None = None,
) -> RecommenderModel:
    """Make the untrained model for a catalogue; its whitening is not fitted yet.

    Args:
        recipe: resolved.
        texts: one an item.
        has_id: which items have an id vector, shape (N,); read only where ids are used.
        attributes: columns of `items` and `users` as training has seen them, where there are any.
        report: is handed a line on what the cache is read or written for; None leaves the cache alone.
    Raises:
        InputError: if the backbone cannot be loaded or the method cannot act on it.
    """
    catalogue_text = spare = profiles = None
    if recipe.encoder.uses_text:
        backbone = recipe_backbone(recipe.encoder)
        if recipe.profile is not None and recipe.profile.method is not None:
            spare = twin_backbone(backbone, (recipe.method, recipe.profile.method))
        # Before the method moves weights, by which the cache finds what belongs to them.
        cache = None if report is None else TextCache(recipe.encoder.cache, backbone, report)
        catalogue_text = CatalogueText(TextEncoder(backbone, recipe.encoder, recipe.method), texts, cache)
    text_dim = 0 if catalogue_text is None else catalogue_text.encoder.dim
    dim = recipe.encoder.embedding_dim or text_dim
    # Everything else starts as it does without attributes.
    with torch.random.fork_rng(devices=()):
        fitted = {} if attributes is None else attributes
        parts = {subject: AttributePart(recipe.attributes, columns, dim) for subject, columns in fitted.items()}
    has_id_N = has_id if recipe.encoder.uses_ids else None
    item_encoder = ItemEncoder(recipe.encoder, text_dim, has_id_N, parts.get("items"))
    if recipe.profile is not None and catalogue_text is not None:
        words = None if recipe.data.event_words is None else distinct_words(recipe.data.event_words)
        profiles = build_profiles(recipe.profile, catalogue_text.encoder, spare, texts, words, item_encoder.dim)
    try:
        model = RecommenderModel(
            catalogue_text,
            item_encoder,
            recipe.user,
            recipe.scorer,
            profiles,
            parts.get("users"),
            learns_margin=recipe.loss.learns_margin,
        )
    except ValueError as error:
        raise error if isinstance(error, InputError) else RecipeError(str(error)) from None
    # The backbone lies on the GPU where there is one; the rest follows it there.
    return model if catalogue_text is None else model.to(catalogue_text.encoder.device)


def tell_users(model: RecommenderModel, dataset: Dataset) -> None:
    """Tell a model what is known of each user: the text and the attributes, where it reads them.

    Raises:
        InputError: if attributes were read with other settings than the model was trained with.
    """
    if model.profiles is not None:
        model.profiles.tokens.set_users(dataset.user_texts)
    if model.user_attributes is not None:
        if dataset.user_attributes is None:
            raise InputError("data.user_attributes: the model reads attributes of users, but the data have none")
        model.user_attributes.set_rows(model.user_attributes.fitted.encode(dataset.user_attributes))


def training_profiles(model: RecommenderModel, dataset: Dataset) -> ProfileTexts:
    """Return the text of every user at the end of training, and what was left out of it."""
    assert model.profiles is not None
    sequences, lengths = dataset.sequences, np.minimum(dataset.split.train_lengths, model.max_history)
    starts = sequences.offsets[:-1] + dataset.split.train_lengths - lengths
    width = max(1, int(lengths.max(initial=0)))
    return model.profiles.tokens.assemble(
        sequences.gather(starts, lengths, width),
        sequences.gather_events(starts, lengths, width),
        None if dataset.user_texts is None else np.arange(len(sequences)),
    )


def build_debias(recipe: Recipe, dataset: Dataset) -> Debias | None:
    """Make the weights of targets and the penalties beside the loss, or None where the recipe has neither.

    Raises:
        InputError: if the items have no column of groups or of propensities, or all are of one group.
    """
    if recipe.debias is None:
        return None
    propensities = propensities_of(recipe.debias.propensity, recipe, dataset, "debias.propensity")
    return Debias(recipe.debias, dataset.item_counts(), item_groups(recipe, dataset), propensities)


def item_groups(recipe: Recipe, dataset: Dataset) -> ItemGroups | None:
    """Return the groups that the recipe's penalty is on, or None where there is no such penalty.

    Raises:
        InputError: if the items have no column of groups.
    """
    config = None if recipe.debias is None else recipe.debias.groups
    if config is None:
        return None
    if config.popularity_bins is not None:
        return popularity_groups(dataset.item_counts(), config.popularity_bins)
    from peftrec.data.item_group import read_item_groups  # loads polars

    assert config.column is not None
    key = "debias.groups.column"
    names, group_N = read_item_groups(recipe.data, config.column, dataset.catalogue.ids, key=key)
    if not (group_N < 0).any():
        return ItemGroups(names, group_N)
    return ItemGroups((*names, "(no value)"), np.where(group_N < 0, len(names), group_N), unknown=len(names))


def seed_all(seed: int) -> None:
    """Seed Python's and torch's generators; NumPy's are made from the seed where they are used."""
    random.seed(seed)
    torch.manual_seed(seed)
