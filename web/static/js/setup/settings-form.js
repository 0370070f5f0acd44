// Controls with `data-setting="voice.pitch"` show and change that setting. A change is saved at once; an error is shown
// under the control.

import { ApiError, call } from "../shared/api.js";
import { byId, withCommands } from "../shared/dom.js";
import { tell, withdraw } from "../shared/notices.js";
import { PARTS } from "../shared/parts.js";

const FRAME = 32; // ms: silence is counted in frames of this length
const silence = (milliseconds) => `${((Math.ceil(milliseconds / FRAME) * FRAME) / 1000).toFixed(2)} s`;
const UNITS = {
  "voice.words_per_minute": (value) => `${value} words a minute`,
  "voice.volume": (value) => `${Math.round(value * 100)}%`,
  "turns.silence_ms": silence,
  "turns.shortest_ms": silence,
  "turns.longest_ms": silence,
  "ears.sensitivity": (value) => `${Math.round(value * 100)}%`,
  "memory.budget_chars": (value) => `${value.toLocaleString()} characters`,
  "mind.max_tokens": (value) => `${value} tokens`,
};

const controls = (name = null) =>
  [...document.querySelectorAll("[data-setting]")].filter(
    (control) => name === null || control.dataset.setting === name,
  );

const read = (tree, name) => name.split(".").reduce((branch, part) => branch?.[part], tree);

/** {"voice.pitch": 3} as the tree {voice: {pitch: 3}}. */
function branch(name, value) {
  return name.split(".").reduceRight((inner, part) => ({ [part]: inner }), value);
}

/**
 * Events: `change` whenever the settings in force have changed; `saving` (with the tree) and `settled` around each
 * attempt; `refused` (with the ApiError) when one was not accepted.
 */
export class SettingsForm extends EventTarget {
  /** The settings in force, once loaded. */
  settings = null;
  defaults = null;
  /** Whether there is a key of the language model's server. */
  keySet = false;
  #last = Promise.resolve();
  #clear = null;

  async load() {
    this.#take(await call("GET", "/api/settings"));
    document.addEventListener("change", ({ target }) => {
      if (target.dataset?.setting) this.#changed(target);
    });
    document.addEventListener("input", ({ target }) => {
      if (target.dataset?.setting) this.#tellValue(target);
    });
  }

  #take({ settings, defaults, api_key_set: keySet }) {
    this.settings = settings;
    this.defaults = defaults;
    this.keySet = keySet;
    this.show();
    this.dispatchEvent(new Event("change"));
  }

  /** Set every control to the settings in force, except one that has the focus or an error. */
  show() {
    for (const control of controls()) {
      const value = read(this.settings, control.dataset.setting);
      const beingChanged =
        control === document.activeElement && control.matches("input[type=text], input[type=url], textarea");
      if (value === undefined || beingChanged || control.getAttribute("aria-invalid") === "true") continue;
      if (control.type === "radio") control.checked = control.value === value;
      else if (control.type === "checkbox") control.checked = value;
      else control.value = value ?? "";
      this.#tellValue(control);
    }
    for (const part of document.querySelectorAll("[data-when]")) part.hidden = !read(this.settings, part.dataset.when);
    for (const part of document.querySelectorAll("[data-unless]"))
      part.hidden = read(this.settings, part.dataset.unless);
  }

  #tellValue(control) {
    const output = document.querySelector(`output[for="${control.dataset.setting}"]`);
    if (!output) return;
    output.textContent = (UNITS[control.dataset.setting] ?? String)(control.valueAsNumber);
    control.setAttribute("aria-valuetext", output.textContent);
  }

  #changed(control) {
    let value = control.value;
    if (control.type === "checkbox") value = control.checked;
    else if (control.type === "range" || control.type === "number") value = control.valueAsNumber;
    return this.save(control.dataset.setting, Number.isNaN(value) ? null : value);
  }

  /** Save one setting after any that are still being saved; resolves to whether it was accepted. */
  save(name, value) {
    return this.saveTree(branch(name, value), name);
  }

  /** Save several settings at once, such as {ears: {engine: "whisper"}}. An error is shown at `name`. */
  saveTree(tree, name = "") {
    this.#last = this.#last.then(() => this.#put(name, tree));
    return this.#last;
  }

  async #put(name, tree) {
    this.#busy(name, true);
    this.#complain(name, "");
    this.dispatchEvent(new CustomEvent("saving", { detail: tree }));
    try {
      const answer = await call("PUT", "/api/settings", tree);
      withdraw("settings");
      this.#take(answer);
      this.#praise(answer.applied ?? []);
      return true;
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      this.#refused(name, error);
      return false;
    } finally {
      this.#busy(name, false);
      this.dispatchEvent(new Event("settled"));
    }
  }

  /** Load the settings after another part of the page had the server change them. */
  async refresh() {
    this.#take(await call("GET", "/api/settings"));
  }

  #refused(name, error) {
    byId("saved").textContent = "";
    const field = [error.field, name].find((each) => each && document.querySelector(`[data-error="${each}"]`));
    if (field) this.#complain(field, error.message);
    else tell(error.message, { key: "settings", severity: "error" });
    this.dispatchEvent(new CustomEvent("refused", { detail: error }));
    // A refused choice goes back to the value in force; text stays, so that it can be corrected.
    for (const control of controls(name)) {
      if (control.type === "radio") control.checked = control.value === read(this.settings, name);
      if (control.type === "checkbox") control.checked = read(this.settings, name);
    }
  }

  #complain(name, message) {
    const place = document.querySelector(`[data-error="${name}"]`);
    if (place) place.replaceChildren(...withCommands(message));
    for (const control of controls(name)) {
      if (message && control.type !== "radio" && control.type !== "checkbox")
        control.setAttribute("aria-invalid", "true");
      else control.removeAttribute("aria-invalid");
    }
  }

  #busy(name, busy) {
    for (const control of controls(name)) control.closest("fieldset, .field, .switch")?.classList.toggle("busy", busy);
  }

  #praise(applied) {
    const anew = applied.map((stage) => PARTS[stage] ?? stage).join(" and ");
    this.confirm(anew ? `Saved. Now in use: ${anew}.` : "Saved.");
  }

  /** Show for a moment that something is done. */
  confirm(sentence) {
    byId("saved").textContent = sentence;
    clearTimeout(this.#clear);
    this.#clear = setTimeout(() => (byId("saved").textContent = ""), 4000);
  }
}
