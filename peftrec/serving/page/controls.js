// What can be asked for beside the list, and what the address remembers.

import { $, el, plural, put } from "./elements.js";
import { newFields } from "./new_item.js";
import { ask } from "./service.js";
import { page, state } from "./state.js";

export async function describe() {
  page.service = await ask("v1/service");
  const { items, rules, reranking } = page.service;
  put("about", [plural(items, "item"), rules.length && plural(rules.length, "rule"), reranking.length && `re-ranked by ${reranking.join(", ")}`]
    .filter(Boolean).join(" · "));
  $("new").hidden = !page.service.new_items;
  $("diversity-field").hidden = !page.service.diversity;
  $("age-field").hidden = !page.service.ages;
  $("kind-field").hidden = !page.service.event_kinds;
  put("kind", ...(page.service.event_kinds ?? []).map((kind) => el("option", {}, kind)));
  state.kind = page.service.event_kinds?.[0] ?? null;
  newFields();
  showControls();
}

export function showControls() {
  const served = state.diversity === null;
  const steps = page.service.reranking?.length;
  $("diversity").value = served ? 0 : state.diversity;
  const told = served && steps ? "as served" : Number($("diversity").value).toFixed(2);
  put("diversity-value", told);
  $("diversity").setAttribute("aria-valuetext", told);
  $("own").hidden = !steps || served;
  $("k").value = state.k;
  $("explain").checked = state.explain;
  document.querySelector(`[name=mode][value=${state.mode}]`).checked = true;
  $("user-form").hidden = state.mode !== "user";
}

/** Keep what is looked at in the address's fragment, which browsers send to nobody. */
export function remember() {
  const kept = new URLSearchParams();
  if (state.mode === "user") kept.set("user", state.user);
  else for (const event of state.history) kept.append("item", event.item_id);
  if (state.k !== 10) kept.set("k", state.k);
  if (state.diversity !== null) kept.set("diversity", state.diversity);
  if (!state.explain) kept.set("reasons", "no");
  history.replaceState(null, "", `#${kept}`);
}
