// What is asked of the service, and what it answers.

import { $, button, el, put, say } from "./elements.js";
import { page, state } from "./state.js";

export const TOKEN = "peftrec.token";

export class Trouble extends Error {
  constructor(message, status = 0, request = "") {
    super(message);
    this.status = status;
    this.request = request;
  }
}

export function troubleOf(error, retry) {
  if (!(error instanceof Trouble)) throw error; // a fault of the page, for the console
  return el("div", { class: "trouble" }, el("p", {}, error.message),
    error.request && el("p", {}, "Request ", el("code", {}, error.request)),
    retry && el("div", {}, button("Try again", null, retry)));
}

export async function ask(path, body, method = body === undefined ? "GET" : "POST") {
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

export const path = (...parts) => ["v1", ...parts.map(encodeURIComponent)].join("/");

/** The history as the service reads it, oldest first. */
export function told() {
  const events = state.mode === "user" ? page.past.slice().reverse() : state.history;
  const body = { history: events.map((event) => event.item_id), unknown: "skip" };
  const kinds = page.service.event_kinds;
  if (kinds) body.events = events.map((event) => (kinds.includes(event.kind) ? event.kind : kinds[0]));
  return body;
}

export function askForList(wanted) {
  if (state.age !== "" && page.service.ages) wanted.age = Number(state.age);
  if (state.mode === "user") {
    return ask(`${path("users", state.user, "recommendations")}?${new URLSearchParams(wanted)}`);
  }
  return ask("v1/recommendations", { ...told(), ...wanted });
}
