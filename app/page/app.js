/** The page: typing, keys, filters and the URL on one side, answers on the other. */

import { CompletionList } from "./completions.js";
import { KeyForm } from "./key.js";
import { LatestSearch } from "./search.js";
import { LatencyWindow, drawSparkline, drawStages, formatMs } from "./timings.js";
import { awayNotices, failureText, hitOption, nothingFoundText, spellingLine } from "./view.js";

const DEBOUNCE_MS = 70;
const SETTLE_MS = 400; // for the URL (Safari allows 100 changes in 30 s) and for what a screen reader is told

const byId = (id) => document.getElementById(id);

class Page {
  #input = byId("query");
  #list = byId("hits");
  #kinds = byId("kinds");
  #latency = new LatencyWindow();
  #search = new LatestSearch({
    onAnswer: (answer, elapsedMs) => this.#showAnswer(answer, elapsedMs),
    onFailure: (failure) => this.#showFailure(failure),
    onOvertaken: () => (this.#latency.overtaken += 1),
  });
  #completions = new CompletionList(this.#input, byId("completions"), {
    onChoose: (text) => this.#searchFor(text),
    onToggle: () => this.#showExpanded(),
  });
  #keyForm = new KeyForm(byId("key-form"), () => this.#searchNow());
  #active = -1; // position of the active hit; -1: the input itself
  #debounce = 0;
  #settle = 0;

  start() {
    this.#input.addEventListener("input", () => this.#searchSoon());
    this.#input.addEventListener("keydown", (event) => this.#onInputKey(event));
    this.#kinds.addEventListener("change", () => this.#searchNow());
    this.#list.addEventListener("click", (event) => this.#onHitClick(event));
    document.addEventListener("keydown", (event) => this.#onPageKey(event));
    byId("clear").addEventListener("click", () => this.#searchFor(""));
    byId("form").addEventListener("submit", (event) => event.preventDefault());
    byId("examples").addEventListener("click", ({ target }) => {
      if (target.matches(".example")) this.#searchFor(target.textContent);
    });
    this.#restore(new URLSearchParams(location.search));
  }

  get #query() {
    return this.#input.value.trim();
  }

  get #kind() {
    return this.#kinds.querySelector("input:checked");
  }

  #restore(parameters) {
    const kind = [...this.#kinds.querySelectorAll("input")].find((input) => input.value === parameters.get("kind"));
    if (kind) kind.checked = true;
    if (parameters.has("q")) this.#input.value = parameters.get("q");
    this.#searchNow();
  }

  #searchFor(query) {
    this.#completions.close();
    this.#input.value = query;
    // On a phone the focus would raise the keyboard over the hits just asked for.
    if (!matchMedia("(pointer: coarse)").matches) this.#input.focus();
    this.#searchNow();
  }

  #searchSoon() {
    clearTimeout(this.#debounce);
    if (!this.#query) return this.#searchNow();
    byId("clear").hidden = false;
    this.#debounce = setTimeout(() => this.#searchNow(), DEBOUNCE_MS);
  }

  #searchNow() {
    clearTimeout(this.#debounce);
    byId("clear").hidden = !this.#input.value;
    this.#afterSettling(() => this.#keepUrl());
    if (!this.#query) {
      this.#search.drop();
      return this.#showWelcome();
    }
    document.body.classList.add("waiting");
    this.#search.ask(this.#query, this.#kind.value);
  }

  #afterSettling(...tasks) {
    clearTimeout(this.#settle);
    this.#settle = setTimeout(() => tasks.forEach((task) => task()), SETTLE_MS);
  }

  #keepUrl() {
    const parameters = new URLSearchParams();
    if (this.#query) parameters.set("q", this.#query);
    if (this.#kind.value) parameters.set("kind", this.#kind.value);
    const search = String(parameters) && `?${parameters}`;
    if (search !== location.search) history.replaceState(null, "", `${location.pathname}${search}`);
  }

  #onPageKey(event) {
    if (event.isComposing || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape") {
      event.preventDefault();
      this.#searchFor("");
    } else if (event.key === "/" && !event.target.matches("input:not([type=radio])")) {
      event.preventDefault();
      this.#input.focus();
      this.#input.select();
    }
  }

  #onInputKey(event) {
    if (event.isComposing || this.#completions.onKey(event)) return;
    const count = this.#list.childElementCount;
    if (count && (event.key === "ArrowDown" || event.key === "ArrowUp")) {
      event.preventDefault();
      // One ring of count + 1 places: the input, then the hits.
      const step = event.key === "ArrowDown" ? 1 : -1;
      this.#activate(((this.#active + 1 + step + count + 1) % (count + 1)) - 1);
    } else if (event.key === "Enter") {
      event.preventDefault();
      if (this.#active >= 0) this.#toggleDetails(this.#list.children[this.#active]);
      else {
        this.#completions.close();
        this.#searchNow();
      }
    }
  }

  #onHitClick(event) {
    const option = event.target.closest(".hit");
    // A click that ends a text selection is for copying, and the details are for reading.
    if (!option || event.target.closest(".details") || !getSelection().isCollapsed) return;
    this.#activate([...this.#list.children].indexOf(option));
    this.#toggleDetails(option);
  }

  #activate(position) {
    this.#list.querySelector("[aria-selected=true]")?.setAttribute("aria-selected", "false");
    this.#active = position;
    if (position < 0) {
      if (!this.#completions.hasActive) this.#input.removeAttribute("aria-activedescendant");
      return;
    }
    const option = this.#list.children[position];
    option.setAttribute("aria-selected", "true");
    option.scrollIntoView({ block: "nearest" });
    this.#input.setAttribute("aria-activedescendant", option.id);
  }

  #toggleDetails(option) {
    const details = option.querySelector(".details");
    details.hidden = !details.hidden;
    // An option's contents are its name to a screen reader: the details are tied to it as its description.
    if (details.hidden) option.removeAttribute("aria-describedby");
    else option.setAttribute("aria-describedby", details.id);
    option.scrollIntoView({ block: "nearest" });
    const rows = [...details.children].map(({ firstChild, lastChild }) => `${firstChild.textContent}: ${lastChild.textContent}`);
    this.#announce(details.hidden ? "Details closed" : `Details. ${rows.join(", ")}`);
  }

  /** Fills the part under the bar; whatever is not given is hidden. */
  #show({ spelling = null, notices = [], options = [], message = "", failure = null, welcome = false }) {
    document.body.classList.remove("waiting");
    this.#activate(-1);
    fill(byId("spelling"), spelling ?? []);
    fill(byId("notices"), notices);
    fill(this.#list, options);
    fill(byId("message"), message ? [message] : []);
    this.#keyForm.show(failure);
    byId("welcome").hidden = !welcome;
    this.#showExpanded();
  }

  /** The input controls one list at a time: the completions while they are open, else the hits. */
  #showExpanded() {
    const completing = this.#completions.isOpen;
    this.#input.setAttribute("aria-controls", completing ? "completions" : "hits");
    this.#input.setAttribute("aria-expanded", String(completing || !this.#list.hidden));
  }

  #showWelcome() {
    this.#show({ welcome: true });
    byId("stages").hidden = true;
    this.#announce("");
  }

  #showAnswer(answer, elapsedMs) {
    const options = answer.hits.map(hitOption);
    const kindLabel = this.#kind.value && this.#kind.parentElement.textContent;
    const spelling = spellingLine(answer, (corrected) => this.#searchFor(corrected));
    const message = options.length ? "" : nothingFoundText(answer.query, kindLabel);
    this.#show({ spelling, notices: awayNotices(answer.degraded ?? []), options, message });
    this.#showTimings(answer.timings_ms ?? {}, elapsedMs);
    const found = options.length ? `${options.length} results.` : message;
    const above = ["spelling", "notices"].map((id) => byId(id).textContent).join(" ");
    this.#afterSettling(() => this.#keepUrl(), () => this.#announce(`${above} ${found}`));
  }

  #showTimings(timingsMs, elapsedMs) {
    byId("readout").hidden = false;
    byId("stages").hidden = !Number.isFinite(timingsMs.total);
    byId("total").textContent = formatMs(timingsMs.total ?? 0);
    drawStages(byId("stage-rows"), timingsMs);
    this.#latency.record(elapsedMs);
    byId("p50").textContent = formatMs(this.#latency.quantileMs(0.5));
    byId("p90").textContent = formatMs(this.#latency.quantileMs(0.9));
    drawSparkline(byId("sparkline"), this.#latency);
    const count = this.#latency.latenciesMs.length;
    // Cancelled queries are often the slow ones, so the figures must not hide that they are left out.
    const left = this.#latency.overtaken ? `; ${this.#latency.overtaken} overtaken by typing left out` : "";
    byId("sample").textContent = `${count === 1 ? "1 answer" : `last ${count} answers`}${left}`;
  }

  #showFailure(failure) {
    const message = failureText(failure);
    this.#show({ message, failure });
    byId("stages").hidden = true;
    this.#announce(message);
  }

  #announce(text) {
    byId("announcement").textContent = text;
  }
}

function fill(container, children) {
  container.replaceChildren(...children);
  container.hidden = children.length === 0;
}

new Page().start();
