// The page of `peftrec serve`: what was looked at is recalled, and what is done is listened to.

import { showControls } from "./controls.js";
import { $, el, put } from "./elements.js";
import { search, showPast, take, walk } from "./history.js";
import { refresh } from "./list.js";
import { addItem, proposeText } from "./new_item.js";
import { TOKEN, ask, path } from "./service.js";
import { SHOWN_EVENTS, page, state } from "./state.js";

const SEARCH_MS = 120;

let searchTimer = 0;

async function recall() {
  const kept = new URLSearchParams(location.hash.slice(1));
  const k = Number(kept.get("k"));
  const diversity = Number.parseFloat(kept.get("diversity"));
  state.mode = kept.get("user") ? "user" : "history";
  $("user").value = state.user = kept.get("user") ?? "";
  if ([5, 10, 20, 50].includes(k)) state.k = k;
  state.diversity = diversity >= 0 && diversity <= 0.9 ? diversity : null;
  state.explain = kept.get("reasons") !== "no";
  state.history = kept.getAll("item").map((item_id) => ({ item_id, title: null }));
  showControls();
  await refresh();
  const untitled = state.history.filter((event) => event.title === null);
  await Promise.all(untitled.slice(-SHOWN_EVENTS).map(async (event) => {
    event.title = await ask(path("items", event.item_id)).then((item) => item.title, () => event.item_id);
  }));
  if (untitled.length) showPast();
}

function change(wanted) {
  Object.assign(state, wanted);
  showControls();
  return refresh();
}

const on = (id, type, listener) => $(id).addEventListener(type, listener);
for (const choice of document.querySelectorAll("[name=mode]")) choice.addEventListener("change", () => {
  page.past = [];
  change({ mode: choice.value });
});
on("user-form", "submit", (event) => {
  event.preventDefault();
  change({ user: $("user").value });
});
on("token-form", "submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(TOKEN, $("token").value.trim());
  $("token").value = "";
  $("token-form").hidden = true;
  page.service = {};
  refresh();
});
on("diversity", "input", () => change({ diversity: Number($("diversity").value) }));
on("own", "click", () => {
  change({ diversity: null });
  $("diversity").focus();
});
on("k", "change", () => change({ k: Number($("k").value) }));
on("explain", "change", () => change({ explain: $("explain").checked }));
on("age", "change", () => $("age").reportValidity() && change({ age: $("age").value }));
on("kind", "change", () => (state.kind = $("kind").value));
on("search", "input", () => {
  clearTimeout(searchTimer);
  searchTimer = setTimeout(search, SEARCH_MS);
});
on("search", "keydown", walk);
on("found", "keydown", walk);
on("clear", "click", () => {
  change({ history: [] });
  $("search").focus();
});
on("new-name", "input", proposeText);
for (const id of ["new-id", "new-text"]) on(id, "input", () => ($(id).dataset.own = $(id).value ? "yes" : ""));
on("new-form", "submit", addItem);
on("skip", "click", (event) => {
  event.preventDefault();
  $("list-title").focus();
});
addEventListener("hashchange", recall);

put("list", ...Array.from({ length: 6 }, () => el("li", { class: "entry blank", "aria-hidden": true })));
recall();
