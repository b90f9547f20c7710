// The list: asked for, and shown.

import { describe, remember } from "./controls.js";
import { $, el, hint, named, plural, put, say, unseen } from "./elements.js";
import { entry } from "./entry.js";
import { showPast } from "./history.js";
import { showAdded } from "./new_item.js";
import { ask, askForList, path, troubleOf } from "./service.js";
import { MOST_EVENTS, added, page, state } from "./state.js";

let running = null;
let again = false;

/** Make the list anew; while one is under way, once more after it, with whatever is wanted by then. */
export function refresh() {
  again = true;
  running ??= (async () => {
    while (again) {
      again = false;
      await load();
      if (added.length && page.shown) await showAdded().catch((error) => put("new-trouble", troubleOf(error)));
    }
  })().finally(() => (running = null));
  return running;
}

async function load() {
  remember();
  const whose = who();
  if (whose === "user ") {
    showNone("The list comes with a user's id.");
    return showPast();
  }
  $("list").setAttribute("aria-busy", "true");
  try {
    if (page.service.items === undefined) await describe();
    const wanted = { k: state.k, details: true, explain: state.explain && page.service.explains };
    if (state.diversity !== null && page.service.diversity) wanted.diversity = state.diversity;
    const events = state.mode === "user" ? ask(`${path("users", state.user, "history")}?k=${MOST_EVENTS}`) : null;
    const [answer, found] = await Promise.all([askForList(wanted), events]);
    performance.mark("answered");
    if (whose !== who()) return;
    page.past = found?.events ?? [];
    put("trouble");
    showList(answer, whose);
    showPast();
    requestAnimationFrame(() => setTimeout(() => performance.measure("list shown", "answered")));
  } catch (error) {
    if (whose !== who()) return;
    showNone(error.status === 401 ? "The list comes with the token." : null);
    if (error.status !== 401) {
      put("trouble", troubleOf(error, async () => {
        await refresh();
        $("list-title").focus();
      }));
    }
  } finally {
    $("list").setAttribute("aria-busy", "false");
  }
}

/** Empty the list, so that nobody takes an old one for what was asked for. */
function showNone(why) {
  put("list", why && el("li", { class: "none" }, why));
  $("notice").hidden = $("kept-out").hidden = true;
  page.ranks = page.shown = null;
}

const who = () => (state.mode === "user" ? `user ${state.user}` : "history");

function showList(answer, whose) {
  const before = page.ranks?.whose === whose ? page.ranks.places : null;
  const focused = document.activeElement; // what stands at its place in the next list gets the focus
  const place = [...$("list").children].indexOf(focused.closest(".entry"));
  page.shown = answer;
  page.ranks = { whose, places: new Map(answer.items.map((item) => [item.item_id, item.rank])) };
  const lowest = Math.min(...answer.items.map((item) => item.score));
  const highest = Math.max(...answer.items.map((item) => item.score));
  const floor = lowest - 0.15 * (highest - lowest || 1); // so that the last has a bar, too
  const largest = Math.max(Math.abs(lowest), Math.abs(highest));
  page.digits = largest < 1 ? 4 : largest < 100 ? 2 : 0;
  const score = (item) => {
    const bar = el("i", { title: "between the lowest and the highest score of this list" });
    bar.style.width = `${Math.round((100 * (item.score - floor)) / (highest - floor))}%`;
    return el("div", { class: "score" }, unseen("Score "), item.score.toFixed(page.digits), bar, el("span", { class: "source" }, unseen("by "), item.source));
  };
  $("list").classList.toggle("brief", !state.explain || answer.fallback !== null);
  put("list", ...answer.items.map((item) => entry(item, score(item), before)),
    answer.items.length ? null : el("li", { class: "none" }, sentence(answer.reason ?? "Nothing can be recommended")));
  const notices = [];
  if (answer.fallback) notices.push(`Not personal: ${answer.fallback}.`);
  if (answer.items.length && (answer.reason || answer.fallback)) notices.push(sentence(answer.reason ?? "These are the most popular items"));
  if (answer.skipped.length) notices.push(`The list is made without ${answer.skipped.slice(0, 5).join(", ")}: no item has such an id.`);
  put("notice", notices.join(" "));
  $("notice").hidden = !notices.length;
  $("kept-out").hidden = !page.service.rules.length;
  put("suppressed", ...answer.suppressed.map((one) => el("li", {}, el("h3", {}, named(one)), el("p", {}, `${one.rule}: ${one.reason}`))),
    answer.suppressed.length ? null : hint("No rule kept anything out of this list."));
  if (place >= 0) $("list").children[Math.min(place, answer.items.length - 1)]?.querySelector(`[data-what=${focused.dataset.what}]`)?.focus();
  const fresh = before === null ? 0 : answer.items.filter((item) => !before.has(item.item_id)).length;
  say(`${plural(answer.items.length, "recommendation")}${fresh ? `, ${fresh} new` : ""}. ${notices.join(" ")}`);
}

const sentence = (text) => `${text[0].toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? "" : "."}`;
