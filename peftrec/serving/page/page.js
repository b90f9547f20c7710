// The page of `peftrec serve`. What comes from the service is only ever set as text, never as HTML.

const TOKEN = "peftrec.token";
const MOST_EVENTS = 500; // as many as a list reads of a user
const SHOWN_EVENTS = 50;
const MOST_RANKS = 1000; // the longest list that the service makes
const SEARCH_MS = 120;

const $ = (id) => document.getElementById(id);
const state = { mode: "history", user: "", history: [], k: 10, diversity: null, explain: true, age: "", kind: null };
const added = []; // items that were added on this page
let service = {};
let past = []; // the user's events, newest first
let ranks = null; // item id -> place in the list before, for whomever it was
let shown = null; // the last answer
let digits = 2; // behind the point, in scores

/* ---- Elements ---- */

function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "class") made.className = value;
    else if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== false && value != null) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child != null));
  return made;
}

/** Put children in the place of whatever an element has. */
function put(into, ...children) {
  (into.nodeType ? into : $(into)).replaceChildren(...children.filter((child) => child != null));
}

const hint = (text) => el("p", { class: "hint" }, text);
const unseen = (text) => el("span", { class: "unseen" }, text);
const button = (text, label, onclick) => el("button", { type: "button", "aria-label": label, onclick }, text);
const plural = (count, one, many = `${one}s`) => `${count.toLocaleString("en")} ${count === 1 ? one : many}`;
const named = (item) => item.title || item.item_id;

function say(text) {
  put("said", text);
}

function troubleOf(error, retry) {
  if (!(error instanceof Trouble)) throw error; // a fault of the page, for the console
  return el("div", { class: "trouble" }, el("p", {}, error.message),
    error.request && el("p", {}, "Request ", el("code", {}, error.request)),
    retry && el("div", {}, button("Try again", null, retry)));
}

/* ---- The service ---- */

class Trouble extends Error {
  constructor(message, status = 0, request = "") {
    super(message);
    this.status = status;
    this.request = request;
  }
}

async function ask(path, body, method = body === undefined ? "GET" : "POST") {
  const headers = {};
  const token = sessionStorage.getItem(TOKEN);
  if (token !== null) headers.Authorization = `Bearer ${token}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const answer = await fetch(path, { method, headers, body: JSON.stringify(body) }).catch(() => {
    throw new Trouble("The service does not answer. Is it running?");
  });
  if (answer.status === 204) return null;
  // A proxy may answer for the service, in a language of its own.
  const content = await answer.json().catch(() => ({ error: { message: `It was answered with status ${answer.status}, and not in JSON.` } }));
  if (answer.ok && !content.error) return content;
  if (answer.status === 401) askForToken();
  throw new Trouble(content.error?.message ?? `It was answered with status ${answer.status}.`, answer.status, content.error?.request_id);
}

function askForToken() {
  const was = sessionStorage.getItem(TOKEN) !== null;
  sessionStorage.removeItem(TOKEN);
  $("token-form").hidden = false;
  put("token-label", was ? "That is not the service's token; try another" : "This service asks for its token");
  $("token").focus();
  say($("token-label").textContent);
}

const path = (...parts) => ["v1", ...parts.map(encodeURIComponent)].join("/");

/** The history as the service reads it, oldest first. */
function told() {
  const events = state.mode === "user" ? past.slice().reverse() : state.history;
  const body = { history: events.map((event) => event.item_id), unknown: "skip" };
  const kinds = service.event_kinds;
  if (kinds) body.events = events.map((event) => (kinds.includes(event.kind) ? event.kind : kinds[0]));
  return body;
}

function askForList(wanted) {
  if (state.age !== "" && service.ages) wanted.age = Number(state.age);
  if (state.mode === "user") {
    return ask(`${path("users", state.user, "recommendations")}?${new URLSearchParams(wanted)}`);
  }
  return ask("v1/recommendations", { ...told(), ...wanted });
}

/* ---- The list ---- */

let running = null;
let again = false;

/** Make the list anew; while one is under way, once more after it, with whatever is wanted by then. */
function refresh() {
  again = true;
  running ??= (async () => {
    while (again) {
      again = false;
      await load();
      if (added.length && shown) await showAdded().catch((error) => put("new-trouble", troubleOf(error)));
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
    if (service.items === undefined) await describe();
    const wanted = { k: state.k, details: true, explain: state.explain && service.explains };
    if (state.diversity !== null && service.diversity) wanted.diversity = state.diversity;
    const events = state.mode === "user" ? ask(`${path("users", state.user, "history")}?k=${MOST_EVENTS}`) : null;
    const [answer, found] = await Promise.all([askForList(wanted), events]);
    performance.mark("answered");
    if (whose !== who()) return;
    past = found?.events ?? [];
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
  ranks = shown = null;
}

const who = () => (state.mode === "user" ? `user ${state.user}` : "history");

function showList(answer, whose) {
  const before = ranks?.whose === whose ? ranks.places : null;
  const focused = document.activeElement; // what stands at its place in the next list gets the focus
  const place = [...$("list").children].indexOf(focused.closest(".entry"));
  shown = answer;
  ranks = { whose, places: new Map(answer.items.map((item) => [item.item_id, item.rank])) };
  const lowest = Math.min(...answer.items.map((item) => item.score));
  const highest = Math.max(...answer.items.map((item) => item.score));
  const floor = lowest - 0.15 * (highest - lowest || 1); // so that the last has a bar, too
  const largest = Math.max(Math.abs(lowest), Math.abs(highest));
  digits = largest < 1 ? 4 : largest < 100 ? 2 : 0;
  const score = (item) => {
    const bar = el("i", { title: "between the lowest and the highest score of this list" });
    bar.style.width = `${Math.round((100 * (item.score - floor)) / (highest - floor))}%`;
    return el("div", { class: "score" }, unseen("Score "), item.score.toFixed(digits), bar, el("span", { class: "source" }, unseen("by "), item.source));
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
  $("kept-out").hidden = !service.rules.length;
  put("suppressed", ...answer.suppressed.map((one) => el("li", {}, el("h3", {}, named(one)), el("p", {}, `${one.rule}: ${one.reason}`))),
    answer.suppressed.length ? null : hint("No rule kept anything out of this list."));
  if (place >= 0) $("list").children[Math.min(place, answer.items.length - 1)]?.querySelector(`[data-what=${focused.dataset.what}]`)?.focus();
  const fresh = before === null ? 0 : answer.items.filter((item) => !before.has(item.item_id)).length;
  say(`${plural(answer.items.length, "recommendation")}${fresh ? `, ${fresh} new` : ""}. ${notices.join(" ")}`);
}

const sentence = (text) => `${text[0].toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? "" : "."}`;

function entry(item, score, before) {
  const name = named(item);
  const more = el("div", { class: "more", hidden: true });
  const acts = el("div", { class: "acts" }, adder(item));
  if (service.words && !shown.fallback) acts.append(opener("Words", `Words that carry ${name}`, more, "words", () => words(item)));
  if (service.similar) acts.append(opener("Similar", `Items similar to ${name}`, more, "similar", () => similar(item)));
  const badge = added.some((one) => one.item_id === item.item_id) ? el("span", { class: "badge" }, "added here") : "";
  const why = shown.fallback ? null : item.explanation;
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
    el("li", { class: event.change < 0 ? "minus" : "plus" }, `${named(event)} ${event.change < 0 ? "−" : "+"}${Math.abs(event.change).toFixed(digits)}`)));
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
  const age = state.age !== "" && service.ages ? `&age=${Number(state.age)}` : "";
  const answer = await ask(`${path("items", item.item_id, "similar")}?k=5&details=true${age}`);
  say(`${plural(answer.items.length, "similar item")}.`);
  const rows = answer.items.map((one) => el("li", {}, el("div", {}, named(one), factsOf(one.fields)), adder(one)));
  return [el("h4", {}, `Similar to ${named(item)}`), rows.length ? el("ul", { class: "plain" }, ...rows) : hint(answer.reason ?? "There are none.")];
}

/* ---- The history ---- */

/** Add an item: to the history built here, or as an event of the user, in the service's store. */
async function take(item) {
  const kind = service.event_kinds ? state.kind : undefined;
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

function showPast() {
  const own = state.mode === "history";
  const events = own ? state.history.slice().reverse() : past;
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

let searchTimer = 0;
let searched = 0;

async function search() {
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

function walk(event) {
  const buttons = [...$("found").querySelectorAll("button")];
  const place = buttons.indexOf(document.activeElement);
  if (event.key === "ArrowDown" && buttons.length) buttons[Math.min(place + 1, buttons.length - 1)]?.focus();
  else if (event.key === "ArrowUp" && place >= 0) (buttons[place - 1] ?? $("search")).focus();
  else if (event.key === "Escape") closeSearch();
  else if (event.key === "Enter" && place < 0 && buttons.length) buttons[0]?.click();
  else return;
  event.preventDefault();
}

/* ---- New items ---- */

function newFields() {
  const fields = Object.entries(service.fields).map(([column, kind]) => {
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
  put("new-template", service.template ? `The run makes it as ${service.template}` : "");
}

/** Write what the run's template makes of what is known, until somebody writes a text of their own. */
function proposeText() {
  const name = $("new-name").value.trim();
  if (!$("new-id").dataset.own) $("new-id").value = name && `new-${name.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, "-").slice(0, 60)}`;
  if ($("new-text").dataset.own) return;
  const values = { title: name };
  for (const input of $("new-fields").querySelectorAll("[data-column]")) values[input.dataset.column] ??= input.value.trim();
  const parts = service.template.split(/\{([^{}]+)\}/); // literal, column, literal, ...
  let text = "";
  for (let place = 1; place < parts.length; place += 2) {
    const value = values[parts[place]];
    if (value) text += (text || place === 1 ? parts[place - 1] : "") + value;
  }
  $("new-text").value = text;
}

async function addItem(event) {
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
async function showAdded() {
  const wanted = { k: MOST_RANKS };
  if (service.diversity) wanted.diversity = 0;
  const answer = await askForList(wanted);
  const had = new Set(told().history);
  put("added", ...added.map((item) => {
    const [place, hidden, listed] = [answer.items, answer.suppressed, shown.items].map((all) => all.find((one) => one.item_id === item.item_id));
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

/* ---- Controls, and what the address remembers ---- */

async function describe() {
  service = await ask("v1/service");
  const { items, rules, reranking } = service;
  put("about", [plural(items, "item"), rules.length && plural(rules.length, "rule"), reranking.length && `re-ranked by ${reranking.join(", ")}`]
    .filter(Boolean).join(" · "));
  $("new").hidden = !service.new_items;
  $("diversity-field").hidden = !service.diversity;
  $("age-field").hidden = !service.ages;
  $("kind-field").hidden = !service.event_kinds;
  put("kind", ...(service.event_kinds ?? []).map((kind) => el("option", {}, kind)));
  state.kind = service.event_kinds?.[0] ?? null;
  newFields();
  showControls();
}

function showControls() {
  const served = state.diversity === null;
  const steps = service.reranking?.length;
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
function remember() {
  const kept = new URLSearchParams();
  if (state.mode === "user") kept.set("user", state.user);
  else for (const event of state.history) kept.append("item", event.item_id);
  if (state.k !== 10) kept.set("k", state.k);
  if (state.diversity !== null) kept.set("diversity", state.diversity);
  if (!state.explain) kept.set("reasons", "no");
  history.replaceState(null, "", `#${kept}`);
}

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
  past = [];
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
  service = {};
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
