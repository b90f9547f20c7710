// What the page looks at, and what it was told.

/** What is asked for; the address remembers it. */
export const state = { mode: "history", user: "", history: [], k: 10, diversity: null, explain: true, age: "", kind: null };

export const page = {
  service: {}, // what the service says that it offers
  past: [], // the user's events, newest first
  ranks: null, // item id -> place in the list before, for whomever it was
  shown: null, // the last answer
  digits: 2, // behind the point, in scores
};

/** Items that were added on this page. */
export const added = [];

export const MOST_EVENTS = 500; // as many as a list reads of a user
export const SHOWN_EVENTS = 50;
