// The history: of a user or built here, and the search for what to add to it.

import { $, button, el, hint, named, plural, put, say } from "./elements.js";
import { refresh } from "./list.js";
import { ask, troubleOf } from "./service.js";
import { MOST_EVENTS, SHOWN_EVENTS, page, state } from "./state.js";

/** Add an item: to the history built here, or as an event of the user, in the service's store. */
export async function take(item) {
  const kind = page.service.event_kinds ? state.kind : undefined;
  if (state.mode === "user" && !state.user) return $("user").focus();
  if (state.mode === "history") {
    state.history.push({ item_id: item.item_id, title: item.title, kind });
  } else {
    const event_id = crypto.getRandomValues(new Uint32Array(4)).join("-");
    try {
      await ask("v1/events", { events: [{ event_id, user_id: state.user, item_id: item.item_id, kind }] });
    } catch (error) {
      put("trouble", troubleOf(error, () => take(item)));
      return;
    }
  }
  await refresh();
}

export function showPast() {
  const own = state.mode === "history";
  const events = own ? state.history.slice().reverse() : page.past;
  put("past-count", events.length ? `${events.length}${!own && events.length === MOST_EVENTS ? " newest" : ""}` : "");
  put("past-hint", events.length
    ? events.length > SHOWN_EVENTS ? `The newest ${SHOWN_EVENTS} are shown.` : ""
    : own ? "Nothing yet. Add items from the list, or find them by their titles."
    : state.user ? "The service knows no event of this user. What you add is stored." : "");
  $("clear").hidden = !own || !events.length;
  put("search-label", own ? "Find an item to add to it" : "Find an item; adding it stores an event");
  put("past", ...events.slice(0, SHOWN_EVENTS).map((event, place) => el("li", {},
    el("span", {}, named(event)),
    event.kind ? el("span", { class: "date" }, event.kind) : null,
    own ? button("✕", `Remove ${named(event)}`, () => drop(events.length - 1 - place)) : el("span", { class: "date" }, new Date(event.time_ms).toISOString().slice(0, 10)))));
  // A box that scrolls must be within reach of the keyboard; where it has buttons it is.
  if (own) $("past").removeAttribute("tabindex");
  else $("past").tabIndex = 0;
}

async function drop(place) {
  state.history.splice(place, 1);
  await refresh();
  const rows = $("past").children;
  (rows[Math.min(rows.length - 1, state.history.length - place)]?.querySelector("button") ?? $("search")).focus();
}

let searched = 0;

export async function search() {
  const query = $("search").value.trim();
  const turn = ++searched;
  if (!query) return put("found");
  let rows;
  try {
    const answer = await ask(`v1/items?${new URLSearchParams({ query, k: 8 })}`);
    rows = answer.items.map((item) => el("li", {}, el("button", { type: "button", onclick: () => closeSearch() || take(item) }, named(item),
      el("small", {}, Object.values(item.fields).flat().filter(Boolean).join(" · ").slice(0, 60)))));
    if (turn === searched) say(`${plural(rows.length, "item")} found.`);
    if (!rows.length) rows = [el("li", {}, hint("No title holds all of these words."))];
  } catch (error) {
    rows = [el("li", {}, troubleOf(error))];
  }
  if (turn === searched) put("found", ...rows);
}

function closeSearch() {
  $("search").value = "";
  put("found");
  searched++;
  $("search").focus();
}

export function walk(event) {
  const buttons = [...$("found").querySelectorAll("button")];
  const place = buttons.indexOf(document.activeElement);
  if (event.key === "ArrowDown" && buttons.length) buttons[Math.min(place + 1, buttons.length - 1)]?.focus();
  else if (event.key === "ArrowUp" && place >= 0) (buttons[place - 1] ?? $("search")).focus();
  else if (event.key === "Escape") closeSearch();
  else if (event.key === "Enter" && place < 0 && buttons.length) buttons[0]?.click();
  else return;
  event.preventDefault();
}
