// One entry of the list, and what opens below it.

import { button, el, hint, named, plural, put, say, unseen } from "./elements.js";
import { take } from "./history.js";
import { ask, path, told, troubleOf } from "./service.js";
import { added, page, state } from "./state.js";

export function entry(item, score, before) {
  const name = named(item);
  const more = el("div", { class: "more", hidden: true });
  const acts = el("div", { class: "acts" }, adder(item));
  if (page.service.words && !page.shown.fallback) acts.append(opener("Words", `Words that carry ${name}`, more, "words", () => words(item)));
  if (page.service.similar) acts.append(opener("Similar", `Items similar to ${name}`, more, "similar", () => similar(item)));
  const badge = added.some((one) => one.item_id === item.item_id) ? el("span", { class: "badge" }, "added here") : "";
  const why = page.shown.fallback ? null : item.explanation;
  return el("li", { class: "entry" },
    el("div", {}, el("span", { class: "rank" }, unseen("Place "), String(item.rank)), moveOf(item, before)),
    el("div", {}, el("h3", {}, name, " ", badge), factsOf(item.fields), why && el("p", { class: "why" }, why.sentence)),
    score,
    el("div", { class: "foot" }, why?.evidence.length ? evidenceOf(why) : null, acts),
    more);
}

function adder(item) {
  const made = button("Add to history", `Add ${named(item)} to the history`, () => take(item));
  made.dataset.what = "add";
  return made;
}

function moveOf(item, before) {
  if (before === null) return null;
  const was = before.get(item.item_id);
  if (was === undefined) return el("span", { class: "move up" }, "new");
  if (was === item.rank) return null;
  const places = Math.abs(was - item.rank);
  const up = was > item.rank;
  return el("span", { class: up ? "move up" : "move" }, el("span", { "aria-hidden": true }, `${up ? "▲" : "▼"} ${places}`),
    unseen(`${up ? "up" : "down"} ${plural(places, "place")}`));
}

function factsOf(fields) {
  const facts = Object.entries(fields ?? {}).filter(([, value]) => value !== null && value?.length !== 0);
  if (!facts.length) return null;
  const cut = (text) => (text.length > 80 ? `${text.slice(0, 79)}…` : text);
  return el("ul", { class: "facts plain", "aria-label": "Fields" }, ...facts.slice(0, 6).map(([column, value]) =>
    el("li", { title: column }, unseen(`${column}: `), typeof value === "boolean" ? `${value ? "" : "not "}${column}` : cut([].concat(value).join(", ")))));
}

function evidenceOf(why) {
  return el("ul", { class: "evidence plain", "aria-label": "What the history does for the score" }, ...why.evidence.map((event) =>
    el("li", { class: event.change < 0 ? "minus" : "plus" }, `${named(event)} ${event.change < 0 ? "−" : "+"}${Math.abs(event.change).toFixed(page.digits)}`)));
}

/* ---- What opens below an entry ---- */

function opener(text, label, more, what, make) {
  const made = button(text, label, async () => {
    const open = made.getAttribute("aria-expanded") === "true";
    for (const other of made.parentNode.querySelectorAll("[aria-expanded]")) other.setAttribute("aria-expanded", "false");
    more.hidden = open;
    if (open) return;
    made.setAttribute("aria-expanded", "true");
    const turn = (more.dataset.turn = String(Math.random()));
    put(more, hint(what === "words" ? "Looking for the words that carry it; this takes seconds." : "Looking."));
    try {
      const parts = await make();
      if (more.dataset.turn === turn) put(more, ...parts);
    } catch (error) {
      if (more.dataset.turn === turn) put(more, troubleOf(error));
    }
  });
  made.setAttribute("aria-expanded", "false");
  made.dataset.what = what;
  return made;
}

async function words(item) {
  const answer = await ask("v1/explanations", { ...told(), item_ids: [item.item_id], words: true });
  const why = answer.explanations[0];
  say(why.sentence);
  if (why.words === null) return [hint("Nothing is known of the user, so no word carries it.")];
  const most = Math.max(...why.words.map((word) => Math.abs(word.attribution)), 1e-9);
  const letters = Array.from(why.text); // places are counted in letters, not in JavaScript's halves of them
  const text = el("p", { class: "text" });
  let end = 0;
  for (const word of why.words) {
    const share = word.attribution / most;
    text.append(letters.slice(end, word.start).join(""));
    const spelt = letters.slice(word.start, word.end).join("");
    // Signs have their part in the sum, and nobody reads it off them.
    const kind = !/[\p{L}\p{N}]/u.test(spelt) ? null : share >= 0.4 ? "for" : share >= 0.15 ? "faint" : share <= -0.15 ? "against" : null;
    text.append(kind === null ? spelt : el("mark", { class: kind, title: word.attribution.toFixed(3) }, spelt));
    end = word.end;
  }
  text.append(letters.slice(end).join(""));
  const key = { for: "carries it", faint: "a little", against: "speaks against it" };
  return [el("h4", {}, "Words that carry it"), text,
    el("p", { class: "hint key" }, ...Object.entries(key).map(([kind, said]) => el("mark", { class: kind }, said))),
    el("p", {}, why.sentence),
    why.complete === false ? hint("The words do not add up to the whole score: take them as a hint.") : null];
}

async function similar(item) {
  const age = state.age !== "" && page.service.ages ? `&age=${Number(state.age)}` : "";
  const answer = await ask(`${path("items", item.item_id, "similar")}?k=5&details=true${age}`);
  say(`${plural(answer.items.length, "similar item")}.`);
  const rows = answer.items.map((one) => el("li", {}, el("div", {}, named(one), factsOf(one.fields)), adder(one)));
  return [el("h4", {}, `Similar to ${named(item)}`), rows.length ? el("ul", { class: "plain" }, ...rows) : hint(answer.reason ?? "There are none.")];
}
