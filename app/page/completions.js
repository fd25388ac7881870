/** Completions under the bar while typing: asking for them, and the list they are chosen from. */

import { keyHeaders } from "./key.js";
import { completionOption } from "./view.js";

const LIMIT = 6;
const DEBOUNCE_MS = 80;

/**
 * The names that the typed text may become.
 * @returns {Promise<object[]>} none where they cannot be had: the search for the same text says what is away
 */
async function fetchCompletions(typed, signal) {
  try {
    const asked = new URLSearchParams({ q: typed, limit: LIMIT });
    const response = await fetch(`/v1/suggest?${asked}`, { headers: keyHeaders(), signal });
    const body = response.ok ? await response.json() : {};
    return Array.isArray(body.completions) ? body.completions : [];
  } catch {
    return [];
  }
}

/** The list below the input. It is open only while it completes exactly what the input holds. */
export class CompletionList {
  #input;
  #list;
  #onChoose;
  #onToggle;
  #completions = [];
  #active = -1; // position of the active completion; -1: the input itself
  #debounce = 0;
  #controller = null;

  /**
   * @param {HTMLInputElement} input
   * @param {HTMLElement} list
   * @param {object} handlers
   * @param {(text: string) => void} handlers.onChoose a completion was taken; the list is closed
   * @param {() => void} handlers.onToggle the list was opened or closed
   */
  constructor(input, list, { onChoose, onToggle }) {
    this.#input = input;
    this.#list = list;
    this.#onChoose = onChoose;
    this.#onToggle = onToggle;
    input.addEventListener("input", () => this.#askSoon());
    input.addEventListener("blur", () => this.close());
    // The input keeps the focus, or a press on a completion would close the list before the click.
    list.addEventListener("mousedown", (event) => event.preventDefault());
    list.addEventListener("click", ({ target }) => {
      const option = target.closest(".completion");
      if (option) this.#choose([...list.children].indexOf(option));
    });
  }

  get isOpen() {
    return !this.#list.hidden;
  }

  get hasActive() {
    return this.#active >= 0;
  }

  /** Acts on a key pressed in the input. @returns {boolean} whether the key was the list's */
  onKey(event) {
    if (!this.isOpen) return false;
    const places = this.#completions.length + 1; // one ring: the input, then the completions
    if (event.key === "ArrowDown") this.#activate(((this.#active + 2) % places) - 1);
    else if (event.key === "ArrowUp") this.#activate(((this.#active + places) % places) - 1);
    else if (event.key === "Enter" && this.hasActive) this.#choose(this.#active);
    else if (event.key === "Escape") this.close();
    else return false;
    event.preventDefault();
    event.stopPropagation(); // the page clears the input on Escape
    return true;
  }

  /** Closes the list and forgets what was asked. */
  close() {
    clearTimeout(this.#debounce);
    this.#controller?.abort();
    this.#controller = null;
    this.#show([]);
  }

  #askSoon() {
    this.close();
    if (this.#input.value.trim()) this.#debounce = setTimeout(() => this.#ask(), DEBOUNCE_MS);
  }

  async #ask() {
    const controller = new AbortController();
    this.#controller = controller;
    const typed = this.#input.value;
    const found = await fetchCompletions(typed.trim(), controller.signal);
    // Cancelling is a courtesy to the server; this is what keeps an older answer off the page.
    if (controller === this.#controller && typed === this.#input.value) this.#show(found);
  }

  #show(completions) {
    const wasOpen = this.isOpen;
    if (!wasOpen && !completions.length) return;
    this.#activate(-1);
    this.#completions = completions;
    this.#list.replaceChildren(...completions.map(completionOption));
    this.#list.hidden = !completions.length;
    if (wasOpen !== this.isOpen) this.#onToggle();
  }

  #activate(position) {
    this.#list.querySelector("[aria-selected=true]")?.setAttribute("aria-selected", "false");
    this.#active = position;
    if (position < 0) return this.#input.removeAttribute("aria-activedescendant");
    const option = this.#list.children[position];
    option.setAttribute("aria-selected", "true");
    this.#input.setAttribute("aria-activedescendant", option.id);
  }

  #choose(position) {
    const { text } = this.#completions[position];
    this.close();
    this.#onChoose(text);
  }
}
