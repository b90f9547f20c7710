// Elements of the page. What comes from the service is only ever set as text, never as HTML.

export const $ = (id) => document.getElementById(id);

export function el(tag, attributes = {}, ...children) {
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
export function put(into, ...children) {
  (into.nodeType ? into : $(into)).replaceChildren(...children.filter((child) => child != null));
}

export const hint = (text) => el("p", { class: "hint" }, text);
export const unseen = (text) => el("span", { class: "unseen" }, text);
export const button = (text, label, onclick) => el("button", { type: "button", "aria-label": label, onclick }, text);
export const plural = (count, one, many = `${one}s`) => `${count.toLocaleString("en")} ${count === 1 ? one : many}`;
export const named = (item) => item.title || item.item_id;

export function say(text) {
  put("said", text);
}
