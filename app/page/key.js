/** The API key of a gateway that asks for one: typed once, kept for this tab until it is closed. */

const STORED_AS = "searchbar-key";

/** What a request carries: the key, once there is one. */
export function keyHeaders() {
  const key = sessionStorage.getItem(STORED_AS);
  return key ? { "X-API-Key": key } : {};
}

/** The form that asks for the key. */
export class KeyForm {
  #form;
  #input;

  /**
   * @param {HTMLFormElement} form with one input
   * @param {() => void} onKey a key was typed and will be sent from now on
   */
  constructor(form, onKey) {
    this.#form = form;
    this.#input = form.querySelector("input");
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      sessionStorage.setItem(STORED_AS, this.#input.value.trim());
      this.#input.value = "";
      onKey();
    });
  }

  /** Shown for a refusal that a key would cure: none was sent, or a wrong one. */
  show(failure) {
    this.#form.hidden = !(failure && [401, 403].includes(failure.status));
  }
}
