/** Asking the gateway: one question in flight, and only the newest may answer. */

import { keyHeaders } from "./key.js";

const LIMIT = 20;
const GIVE_UP_MS = 10_000; // a connection that hangs turns into a message, not into a page that waits for ever

/** The gateway's refusal, or none of its answers at all. `status` is the HTTP status, 0 where there was none. */
export class SearchFailure extends Error {
  constructor(status, detail = "") {
    super(typeof detail === "string" ? detail : "");
    this.status = status;
  }
}

/**
 * One search. Without a kind it is the plain GET; a kind goes into the filters of the POST.
 * @returns {Promise<object>} the body of the answer, see POST /v1/search
 * @throws {SearchFailure} for a refusal, an unreachable gateway or a body that is not an answer
 */
async function fetchAnswer(query, kind, signal) {
  const request = kind
    ? fetch("/v1/search", {
        method: "POST",
        headers: { "Content-Type": "application/json", ...keyHeaders() },
        body: JSON.stringify({ query, limit: LIMIT, filters: { kind: [kind] } }),
        signal,
      })
    : fetch(`/v1/search?${new URLSearchParams({ q: query, limit: LIMIT })}`, { headers: keyHeaders(), signal });
  let response;
  let body;
  try {
    response = await request;
    body = await response.json();
  } catch (error) {
    if (signal.aborted) throw signal.reason;
    throw new SearchFailure(response?.status ?? 0, String(error));
  }
  if (!response.ok) throw new SearchFailure(response.status, body?.detail ?? body?.title ?? "");
  if (!Array.isArray(body?.hits)) throw new SearchFailure(response.status, "the answer has no hits");
  return body;
}

/** Sends queries and hands back the newest one's outcome; whatever a newer query overtakes is cancelled and dropped. */
export class LatestSearch {
  #turn = 0;
  #controller = null;
  #handlers;

  /**
   * @param {object} handlers
   * @param {(answer: object, elapsedMs: number) => void} handlers.onAnswer
   * @param {(failure: SearchFailure) => void} handlers.onFailure
   * @param {() => void} handlers.onOvertaken a query in flight was dropped for a newer one
   */
  constructor(handlers) {
    this.#handlers = handlers;
  }

  async ask(query, kind) {
    this.drop();
    const turn = this.#turn;
    const controller = new AbortController();
    this.#controller = controller;
    const giveUp = setTimeout(() => controller.abort(new SearchFailure(504)), GIVE_UP_MS);
    const startedMs = performance.now();
    let report;
    try {
      const answer = await fetchAnswer(query, kind, controller.signal);
      const elapsedMs = performance.now() - startedMs;
      report = () => this.#handlers.onAnswer(answer, elapsedMs);
    } catch (failure) {
      report = () => this.#handlers.onFailure(failure);
    } finally {
      clearTimeout(giveUp);
    }
    // Cancelling is a courtesy to the server; the order of turns is what keeps an older answer off the page.
    if (turn !== this.#turn) return;
    this.#controller = null;
    report();
  }

  /** Cancels the query in flight, if there is one. */
  drop() {
    this.#turn += 1;
    if (!this.#controller) return;
    this.#controller.abort();
    this.#controller = null;
    this.#handlers.onOvertaken();
  }
}
