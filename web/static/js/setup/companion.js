// Who the user talks to: presets, the user's own personas by name, and the text in force.

import { byId } from "../shared/dom.js";
import { PERSONAS } from "./personas.js";

const OWN = "own: ";

export class Companion {
  #form;
  #words = byId("mind.persona");
  #preset = byId("preset");
  #name = byId("persona-name");

  constructor(form) {
    this.#form = form;
    form.addEventListener("change", () => this.#show());
    this.#preset.addEventListener("change", () => this.#choose());
    byId("persona-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#keep(this.#name.value.trim());
    });
    byId("persona-remove").addEventListener("click", () => this.#remove());
    byId("persona-reset").addEventListener("click", () => this.#take(this.#form.defaults.mind.persona));
  }

  get #presets() {
    const own = this.#form.settings.mind.personas.map(({ name, text }) => ({ value: OWN + name, name, text }));
    const made = [{ name: "Parley", text: this.#form.defaults.mind.persona }, ...PERSONAS];
    return [...made.map((each) => ({ value: each.name, ...each })), ...own];
  }

  get #chosen() {
    return this.#presets.find(({ text }) => text === this.#form.settings.mind.persona);
  }

  #show() {
    const chosen = this.#chosen;
    const options = this.#presets.map(({ value, name }) => new Option(name, value, false, value === chosen?.value));
    this.#preset.replaceChildren(...options, ...(chosen ? [] : [new Option("Not saved yet", "", false, true)]));
    const own = chosen?.value.startsWith(OWN);
    if (own) this.#name.value = chosen.name;
    byId("persona-remove").hidden = !own;
    byId("persona-reset").hidden = chosen?.value === "Parley";
    byId("persona-note").textContent =
      this.#form.settings.mind.engine === "builtin"
        ? "The built-in replies can’t follow this. A language model can."
        : "The language model is told this before every reply.";
  }

  async #choose() {
    const chosen = this.#presets.find(({ value }) => value === this.#preset.value);
    if (chosen) await this.#take(chosen.text);
  }

  /** Put a text in force. The user's own text is saved first if it has not been saved. */
  async #take(text) {
    const { persona, personas } = this.#form.settings.mind;
    const mind = { persona: text };
    if (!this.#chosen) mind.personas = [...personas, { name: unused("My persona", personas), text: persona }];
    this.#words.value = text;
    await this.#form.saveTree({ mind }, "mind.persona");
  }

  async #keep(name) {
    if (!name) return this.#name.focus();
    const text = this.#words.value;
    // The same text under another name is renamed.
    const others = this.#form.settings.mind.personas.filter((each) => each.name !== name && each.text !== text);
    await this.#form.saveTree({ mind: { persona: text, personas: [...others, { name, text }] } }, "mind.personas");
  }

  async #remove() {
    const { value } = this.#chosen ?? {};
    const personas = this.#form.settings.mind.personas.filter(({ name }) => OWN + name !== value);
    const { persona } = this.#form.defaults.mind;
    this.#words.value = persona;
    this.#name.value = "";
    await this.#form.saveTree({ mind: { persona, personas } }, "mind.personas");
  }
}

function unused(name, personas) {
  const taken = new Set(personas.map((each) => each.name));
  let free = name;
  for (let number = 2; taken.has(free); number += 1) free = `${name} ${number}`;
  return free;
}
