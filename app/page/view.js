/** Elements from data. Text from the network enters the page through text nodes alone. */

const SVG = "http://www.w3.org/2000/svg";

const KIND_NAMES = { track: "Track", album: "Album", artist: "Artist", podcast: "Podcast", playlist: "Playlist" };

const MATCH_HINTS = {
  title: "the title matches the words",
  artist: "the artist matches the words",
  text: "letters and words are alike",
  meaning: "the meaning is close",
  correction: "found by the corrected spelling",
};

const AWAY = {
  speller: "Spelling is away: results are for what you typed.",
  embedder: "Meaning is away: results match by their words alone.",
  index: "Part of the index is away: results may be missing.",
};

const FAILURES = {
  0: "The search server cannot be reached.",
  401: "This server asks for an API key.",
  403: "This server does not know that API key.",
  413: "That is too long to search for.",
  422: "That cannot be searched for.",
  429: "Too many searches right now.",
  503: "Search is away for a moment.",
  504: "The answer took too long.",
};

const FIELD_NAMES = { id: "ID", matched_by: "Matched by" };

export function element(tag, attributes = {}, children = []) {
  return withAttributes(document.createElement(tag), attributes, children);
}

export function svgElement(tag, attributes = {}, children = []) {
  return withAttributes(document.createElementNS(SVG, tag), attributes, children);
}

function withAttributes(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

/** Text whose direction is its own: a right-to-left name does not reorder its neighbours. */
function isolated(text) {
  return element("bdi", {}, [String(text)]);
}

function icon(name) {
  return svgElement("svg", { class: "icon", "aria-hidden": "true" }, [svgElement("use", { href: `#icon-${name}` })]);
}

/** "Track · Michael Jackson · Thriller · 1983", without what is empty or says the title again. */
function subtitle(hit, id) {
  const parts = [hit.artist, hit.album].filter((name) => name && name !== hit.title);
  if (hit.year) parts.push(hit.year);
  const line = element("p", { class: "hit-line", id }, [element("span", { class: "kind" }, [KIND_NAMES[hit.kind] ?? hit.kind])]);
  for (const part of parts) line.append(" · ", isolated(part));
  return line;
}

function matchChips(matchedBy) {
  const chips = matchedBy.map((by) => element("span", { class: `chip chip-${by}`, title: MATCH_HINTS[by] ?? "" }, [by]));
  return element("p", { class: "chips" }, chips);
}

function fieldText(value) {
  if (value === null || value === undefined || value === "") return "–";
  return Array.isArray(value) ? value.join(", ") : String(value);
}

function details(hit, id) {
  const rows = Object.entries(hit).map(([name, value]) =>
    element("div", {}, [
      element("dt", {}, [FIELD_NAMES[name] ?? name.charAt(0).toUpperCase() + name.slice(1)]),
      element("dd", {}, [isolated(fieldText(value))]),
    ]),
  );
  return element("dl", { class: "details", id, hidden: "" }, rows);
}

/** One option of the result list; its details are in it, hidden. */
export function hitOption(hit, position) {
  const id = `hit-${position}`;
  const known = hit.kind in KIND_NAMES ? hit.kind : "playlist";
  return element(
    "li",
    { class: "hit", id, role: "option", "aria-selected": "false", "aria-labelledby": `${id}-title ${id}-line` },
    [
      element("span", { class: `tile tile-${known}` }, [icon(known)]),
      element("div", { class: "hit-body" }, [
        element("p", { class: "hit-title", id: `${id}-title` }, [isolated(hit.title)]),
        subtitle(hit, `${id}-line`),
      ]),
      matchChips(hit.matched_by ?? []),
      details(hit, `${id}-details`),
    ],
  );
}

/** One option of the list under the bar: the name, then its kind and, of a track or an album, its artist. */
export function completionOption({ kind, text, artist }, position) {
  const line = element("span", { class: "completion-line" }, [KIND_NAMES[kind] ?? kind]);
  if (artist) line.append(" · ", isolated(artist));
  const attributes = { class: "completion", id: `completion-${position}`, role: "option", "aria-selected": "false" };
  const known = kind in KIND_NAMES ? kind : "playlist";
  return element("li", attributes, [icon(known), element("span", { class: "completion-text" }, [isolated(text)]), " ", line]);
}

/** The line above the hits that says what was made of the query; null when there is nothing to say. */
export function spellingLine(answer, onSearchInstead) {
  const { action, corrected } = answer;
  if (action === "replace") return ["Showing results for ", element("strong", {}, [isolated(corrected)])];
  if (action !== "suggest") return null;
  const button = element("button", { type: "button", class: "suggestion" }, [isolated(corrected)]);
  button.addEventListener("click", () => onSearchInstead(corrected));
  return ["Did you mean ", button, "?"];
}

/** One notice for each part that is away. */
export function awayNotices(degraded) {
  return degraded.map((part) =>
    element("p", { class: "notice" }, [icon("away"), AWAY[part] ?? `The ${part} is away: results may be incomplete.`]),
  );
}

export function failureText({ status, message }) {
  const said = FAILURES[status] ?? `Search did not work (${status}).`;
  if (status === 401 || status === 403) return said;
  const reason = status === 422 && message ? ` ${message}` : "";
  return `${said}${reason} Keep typing, or press Enter to try again.`;
}

export function nothingFoundText(query, kindLabel) {
  return kindLabel ? `No ${kindLabel.toLowerCase()} found for “${query}”. Try All.` : `Nothing found for “${query}”.`;
}
