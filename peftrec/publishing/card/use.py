"""What a card says of how to use a run, with peftrec and with plain `peft`, and how to make it again."""

from __future__ import annotations

import json

from peftrec.methods.plain_peft import PREFIX
from peftrec.publishing.card.fact import Facts
from peftrec.publishing.card.markdown import block, code, plain

_POOLED = {
    "mean": "vectors = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)",
    "cls": "vectors = states[:, 0]",
    "last": "vectors = states[torch.arange(len(states)), mask.sum(1) - 1]",
}


def use_section(facts: Facts) -> str:
    """Return the section on loading: three lines with peftrec, more where plain `peft` reads the adapter."""
    place = facts.repo_id or "path/to/this/folder"
    call = ", ".join(['history=["an item\'s id", "a later one\'s"]', "k=10", *_needed(facts)])
    lines = (
        f"from peftrec import Recommender\n\n"
        f"recommender = Recommender.from_pretrained({json.dumps(place)})\n"
        f"recommender.recommend({call})"
    )
    parts = ["## Use", block("python", lines), *_after(facts)]
    return "\n\n".join([*parts, *_plain(facts)])


def _needed(facts: Facts) -> list[str]:
    """Return further arguments that `recommend` needs, or that the run was trained to read."""
    if facts.kind in ("baseline", "ensemble"):
        return []
    data, needed = facts.recipe.data, []
    if facts.recipe.reads_times:
        needed.append("times=[1700000000, 1700000100]")
    if facts.recipe.profile is not None and data.user_template is not None:
        needed.append('attributes="what data.user_template makes of the user"')
    if data.event_words is not None and facts.recipe.profile is not None:
        kinds = [*data.event_words]
        needed.append(f"events={json.dumps([kinds[0], kinds[-1]], ensure_ascii=False)}")
    if data.user_attributes is not None:
        columns = dict.fromkeys(data.user_attributes, "...")
        needed.append(f"user_attributes={json.dumps(columns, ensure_ascii=False)}")
    return needed


def _after(facts: Facts) -> list[str]:
    """Say what comes back, and what else may be asked."""
    told = "It returns ids, titles and scores, best first."
    if facts.kind == "text":
        told += f" {code('recommender.add_items(ids, texts)')} makes new items recommendable from their texts alone."
    return [told]


def _plain(facts: Facts) -> list[str]:
    """Say what plain `peft` can do with the folder."""
    if facts.kind != "text":
        return []
    head = "### Without peftrec"
    kind = code(facts.recipe.method.kind)
    if facts.adapter is None:
        return [head, f"Method {kind} leaves no adapter to load: the text encoder is the backbone as it is, and what "
                      f"was trained on top of it needs peftrec."]  # fmt: skip
    found = str(facts.adapter.get("peft_type", ""))
    if found.startswith(PREFIX):
        known = facts.recipe.method.reads_pooled_states
        taught = (
            "" if known else f", or {code('peft')} in a process that has called {code('peftrec.register_with_peft()')}"
        )
        return [head, f"Plain {code('peft')} does not have the method {kind}: loading the adapter needs "
                      f"{code('peftrec.Recommender')}{taught}."]  # fmt: skip
    return [head, _adapter_text(facts, found), block("python", _snippet(facts))]


def _adapter_text(facts: Facts, found: str) -> str:
    told = (
        f"The adapter ({code(found)}) is plain {code('peft')}'s. These lines give the vectors of texts as the adapted "
        f"language model makes them; what turns them into recommendations (whitening, head, user encoder) is "
        f"peftrec's."
    )
    if facts.base_model is None:
        told += f" They need the backbone, {plain(facts.backbone)}, which was a folder of the machine that trained it."
    if facts.recipe.encoder.quantization != "none":
        told += (
            f" The run was trained on the backbone in {code(facts.recipe.encoder.quantization)}; on one that is not "
            f"quantised, as here, vectors differ."
        )
    if (facts.revision or "").endswith("-dequantized"):
        told += f" The weights that it was trained on ({plain(str(facts.revision))}) are close to the Hub's, not equal."
    return told


def _snippet(facts: Facts) -> str:
    revision = facts.revision
    pinned = "" if revision is None or revision.endswith("-dequantized") else f", revision={json.dumps(revision)}"
    base = f"{json.dumps(facts.base_model or 'path/to/backbone')}{pinned}"
    text = facts.text or {}
    prefix = text.get("prefix", facts.recipe.encoder.prefix)
    pooling = text.get("pooling", facts.recipe.encoder.pooling)
    # Prompts stand before the tokens of the text, and are no part of it.
    num_virtual = int((facts.adapter or {}).get("num_virtual_tokens") or 0)
    cut = f"[:, {num_virtual}:]" if num_virtual and (facts.adapter or {}).get("peft_type") != "PREFIX_TUNING" else ""
    texts = "texts" if not prefix else f"[{json.dumps(prefix, ensure_ascii=False)} + text for text in texts]"
    lines = [
        "import torch",
        "from peft import PeftModel",
        "from transformers import AutoModel, AutoTokenizer",
        "",
        f'tokenizer = AutoTokenizer.from_pretrained({base}, padding_side="right")',
        f"model = AutoModel.from_pretrained({base})",
        f"model = PeftModel.from_pretrained(model, {json.dumps(facts.repo_id or 'path/to/this/folder')}).eval()",
        f"texts = [{json.dumps(facts.recipe.data.template, ensure_ascii=False)}]  # filled in, as items are",
        f"batch = tokenizer({texts}, padding=True, truncation=True, max_length={facts.recipe.encoder.max_tokens}, "
        f'return_tensors="pt")',
        'mask = batch["attention_mask"]',
        "with torch.no_grad():",
        f"    states = model(**batch).last_hidden_state{cut}",
    ]
    if prefix is None:
        lines.insert(7, "# A backbone that was trained with a prefix, such as E5 with 'query: ', had it here too.")
    if pooling != "mean":
        lines.insert(5, "tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token")
    return "\n".join([*lines, _pooled(pooling)])


def _pooled(pooling: str) -> str:
    if pooling == "attention":
        return "# How the states of a text become one vector was learned too: that needs peftrec."
    if pooling == "auto":
        return f"{_POOLED['mean']}  # of an encoder\n# of a decoder: {_POOLED['last']}"
    return _POOLED[pooling]


def reproduce_section(facts: Facts) -> str:
    """Return the section on making the run again."""
    if facts.kind == "ensemble":
        weights = facts.metrics["ensemble"]["weights"]
        line = "peftrec train members/NAME/recipe.yaml data.root=PATH/TO/DATA output_dir=runs/NAME"
        told = f"Train each of the {len(weights)} members, then put them together with {code('peftrec ensemble')}:"
    else:
        line = "peftrec train recipe.yaml data.root=PATH/TO/DATA output_dir=runs/again"
        told = f"{code('recipe.yaml')} holds every setting that the run was made with:"
        if facts.reads_backbone and facts.base_model is None:
            line += " encoder.backbone=PATH/TO/BACKBONE"
    seen = facts.metrics.get("data_sha256")
    check = f"With the same data {code('data_sha256')} in {code('metrics.json')} is {code(seen)}." if seen else ""
    return "\n\n".join(part for part in ("## Reproduce", told, block("bash", line), check) if part)
