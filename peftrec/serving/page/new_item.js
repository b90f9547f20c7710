// New items: their form, and where they stand.

import { $, button, el, hint, named, plural, put, say } from "./elements.js";
import { refresh } from "./list.js";
import { ask, askForList, path, told, troubleOf } from "./service.js";
import { added, page } from "./state.js";

const MOST_RANKS = 1000; // the longest list that the service makes

export function newFields() {
  const fields = Object.entries(page.service.fields).map(([column, kind]) => {
    const id = `field-${column}`;
    const input = kind === "boolean"
      ? el("select", { id }, ...["", "true", "false"].map((value) => el("option", {}, value)))
      : el("input", { id, type: kind === "number" ? "number" : "text", step: kind === "number" ? "any" : null });
    input.dataset.column = column;
    input.dataset.kind = kind ?? "text";
    input.addEventListener("input", proposeText);
    return [el("label", { for: id }, kind === "texts" ? `${column}, parted by commas` : column), input];
  });
  put("new-fields", ...fields.flat());
  put("new-template", page.service.template ? `The run makes it as ${page.service.template}` : "");
}

/** Write what the run's template makes of what is known, until somebody writes a text of their own. */
export function proposeText() {
  const name = $("new-name").value.trim();
  if (!$("new-id").dataset.own) $("new-id").value = name && `new-${name.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, "-").slice(0, 60)}`;
  if ($("new-text").dataset.own) return;
  const values = { title: name };
  for (const input of $("new-fields").querySelectorAll("[data-column]")) values[input.dataset.column] ??= input.value.trim();
  const parts = page.service.template.split(/\{([^{}]+)\}/); // literal, column, literal, ...
  let text = "";
  for (let place = 1; place < parts.length; place += 2) {
    const value = values[parts[place]];
    if (value) text += (text || place === 1 ? parts[place - 1] : "") + value;
  }
  $("new-text").value = text;
}

export async function addItem(event) {
  event.preventDefault();
  const item = { item_id: $("new-id").value, title: $("new-name").value, text: $("new-text").value };
  const fields = {};
  for (const input of $("new-fields").querySelectorAll("[data-column]")) {
    const { column, kind } = input.dataset;
    if (input.value === "") continue;
    fields[column] = kind === "number" ? Number(input.value)
      : kind === "boolean" ? input.value === "true"
      : kind === "texts" ? input.value.split(",").map((part) => part.trim()).filter(Boolean)
      : input.value;
  }
  if (Object.keys(fields).length) item.fields = fields;
  const submit = $("new-form").querySelector("button.main");
  submit.disabled = true;
  try {
    await ask("v1/items", { items: [item] });
  } catch (error) {
    put("new-trouble", troubleOf(error));
    return;
  } finally {
    submit.disabled = false;
  }
  put("new-trouble");
  $("new-form").reset();
  delete $("new-id").dataset.own;
  delete $("new-text").dataset.own;
  added.push(item);
  await refresh();
  $("new-name").focus();
  say($("added").lastElementChild?.textContent ?? "");
}

/** Tell where the items that were added here stand for this history: by score alone, and in the list. */
export async function showAdded() {
  const wanted = { k: MOST_RANKS };
  if (page.service.diversity) wanted.diversity = 0;
  const answer = await askForList(wanted);
  const had = new Set(told().history);
  put("added", ...added.map((item) => {
    const [place, hidden, listed] = [answer.items, answer.suppressed, page.shown.items].map((all) => all.find((one) => one.item_id === item.item_id));
    const where = had.has(item.item_id) ? "is in the history"
      : place ? `rank ${place.rank.toLocaleString("en")} by score${listed ? `, place ${listed.rank} of the list` : ", below the list"}`
      : hidden ? `kept out by a rule, ${hidden.rule}: ${hidden.reason}`
      : `not among the ${plural(answer.items.length, "item")} that can be ranked`;
    return el("li", {}, el("span", {}, named(item), " ", el("span", { class: "hint" }, where)),
      button("Delete", `Delete ${named(item)} from the catalogue`, () => removeItem(item)));
  }));
}

async function removeItem(item) {
  try {
    await ask(path("items", item.item_id), undefined, "DELETE");
  } catch (error) {
    put("trouble", troubleOf(error, () => removeItem(item)));
    return;
  }
  added.splice(added.indexOf(item), 1);
  put("added"); // the next list fills it again
  await refresh();
  $("new-details").querySelector("summary").focus();
}
