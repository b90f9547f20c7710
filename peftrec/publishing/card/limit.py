"""What a card says of what a run is for, and of what it cannot do."""

from __future__ import annotations

from collections.abc import Iterator

from peftrec.publishing.card.fact import Facts
from peftrec.publishing.card.markdown import code, plain


def limit_section(facts: Facts) -> str:
    """Return the sections on intended use and limits."""
    parts = (_items, _users, _texts, _machine, _always)
    lines = [f"- {told}" for part in parts for told in part(facts)]
    return "\n\n".join(["## Intended use", _use(facts), "## Limits", "\n".join(lines)])


def _use(facts: Facts) -> str:
    told = (
        "Ranking the items of this catalogue for people whose history lies in it, as first or only stage of a "
        "recommender, and comparing methods on the same data."
    )
    if facts.kind == "baseline":
        told = "A floor to compare recommenders with on the same data, or a simple recommender where it is good enough."
    return (
        f"{told} It is not for decisions about people, and nobody has tried it with real users: all figures are of "
        f"recorded events."
    )


def _items(facts: Facts) -> Iterator[str]:
    data = facts.recipe.data
    if facts.kind == "text":
        yield (
            f"It recommends the {facts.num_items:,} items of its table and those that {code('add_items')} is given; "
            f"how well items without training events do is told above only where cold items were measured."
        )
        if facts.recipe.encoder.uses_ids:
            yield "Items that training has not seen have no id vector and rest on their text alone."
    elif facts.kind == "ids":
        yield (
            f"It recommends none but the {facts.num_items:,} items of its table, and has learned nothing of those "
            f"without training events: new items need a new training."
        )
    elif facts.kind == "baseline":
        yield f"It recommends none but the {facts.num_items:,} items of its table, and takes in no new ones."
    else:
        yield "What each member needs, reads and cannot do stands in its own card, and holds for the whole."
        yield (
            f"It recommends none but the {facts.num_items:,} items of its table; a member that reads texts can take in "
            f"new ones."
        )
    if data.item_attributes is not None and facts.kind in ("text", "ids"):
        columns = ", ".join(code(name) for name in data.item_attributes)
        yield f"It was trained with the items' {columns}; a new item without them is told apart less well."


def _users(facts: Facts) -> Iterator[str]:
    recipe = facts.recipe
    if facts.kind != "baseline":
        yield "Users without any event get the most popular items of the training data" + (
            ", unless their attributes are given." if recipe.profile is not None and facts.kind == "text" else "."
        )
    if facts.kind in ("text", "ids"):
        yield f"It sees the last {recipe.user.max_history} events of a history and nothing before them."
        if recipe.data.user_attributes is not None:
            columns = ", ".join(code(name) for name in recipe.data.user_attributes)
            yield f"It reads {columns} of the user; what is left out counts as missing."
        if recipe.profile is not None:
            yield "It reads texts about users: whoever runs it holds what they say, and lists may depend on it."
    if facts.kind != "ensemble" and recipe.reads_times:
        yield "It needs the time of every event, and lists depend on the time that lies between them."
    if recipe.data.event_words is not None and facts.kind == "text":
        words = ", ".join(code(word) for word in recipe.data.event_words.values())
        yield f"It tells kinds of events apart by the words {words}; others are refused."


def _texts(facts: Facts) -> Iterator[str]:
    if not facts.reads_backbone or facts.kind == "ensemble":
        return
    if facts.about.language:
        languages = ", ".join(code(name) for name in facts.about.language)
        yield f"Its texts are in {languages} by the word of the publisher; nothing was measured by language."
    else:
        yield "The language of its texts is not stated; nothing was measured in languages that it was not trained on."
    if facts.base_model is None:
        yield (
            f"Its backbone, {plain(facts.backbone)}, was a folder of the machine that trained it: without that very "
            f"folder the run does not load."
        )
    else:
        yield "What the backbone has learned of people and things, prejudice included, is in its vectors too."


def _machine(facts: Facts) -> Iterator[str]:
    kind = facts.recipe.encoder.quantization
    if kind == "none" or facts.kind != "text":
        return
    yield (
        f"Its backbone is quantised ({code(kind)}): it needs bitsandbytes and the kind of device that it was trained "
        f"on, and on another, or merged, it gives other vectors."
    )


def _always(facts: Facts) -> Iterator[str]:
    leaks = facts.test.get("leaks")
    if leaks:
        yield f"Its figures are of recorded events, of which training knew this: {plain(str(leaks))}"
    if facts.kind != "baseline":
        yield "It has learned what people clicked or bought from what they were shown, and may keep up that choice."
    if facts.test.get("slices") is None and facts.kind != "baseline":
        yield "Differences between groups of users were not measured."
