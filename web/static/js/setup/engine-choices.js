// The engine of each stage: what can be chosen, one honest line on each, and the state of the chosen one.

import { call } from "../shared/api.js";
import { size } from "./download.js";
import { byId, element } from "../shared/dom.js";
import { PARTS } from "../shared/parts.js";

const AGAIN = 1500; // ms between two updates while an engine loads or rests

/** Events: `voices` when the choice of voices changes; `reloading` with a line on an engine that is being loaded. */
export class EngineChoices extends EventTarget {
  #form;
  #stages = {};
  /** The voices that the running engine can speak with: {name, label}. */
  voices = [];
  #voicesOf = null; // the engine they belong to
  #tried = {}; // by stage the engine requested last: one that was refused still shows what it needs
  #server = ""; // the language model's server at the last try
  #reloading = null; // the timer that polls while a new engine loads
  #again = null; // the timer of the next update

  constructor(form) {
    super();
    this.#form = form;
  }

  async load() {
    this.#stages = (await call("GET", "/api/engines")).stages;
    for (const [stage, engines] of Object.entries(this.#stages)) {
      const place = document.querySelector(`[data-stage="${stage}"]`);
      place.replaceChildren(...engines.map((engine) => this.#choice(stage, engine)));
    }
    this.#form.addEventListener("change", () => {
      this.#show();
      this.#tryAgain();
    });
    this.#form.addEventListener("saving", ({ detail: tree }) => {
      for (const stage of Object.keys(this.#stages)) this.#tried[stage] = tree[stage]?.engine ?? this.#tried[stage];
      if (tree.mind?.api_key) this.#server = ""; // with another key it counts as another server
      this.#show();
      this.#watchReloading(tree);
    });
    this.#form.addEventListener("settled", () => {
      clearInterval(this.#reloading);
      this.#reloading = null;
      this.showHealth(); // nothing remains of a refused engine
    });
    const { url, model } = this.#form.settings.mind;
    this.#server = `${url} ${model}`;
    this.#form.show();
    this.#show();
  }

  #choice(stage, { name, label, line, downloads }) {
    const name_ = `${stage}.engine`;
    const id = `${stage}-${name}`;
    const read = { "aria-labelledby": `${id}-name`, "aria-describedby": `${id}-hint ${id}-health` };
    const radio = element("input", { type: "radio", name: name_, value: name, ...read });
    radio.dataset.setting = name_;
    const words = downloads ? `${line} Needs a model, which is downloaded once.` : line;
    const health = element("span", { id: `${id}-health`, className: "small quiet health", hidden: true });
    health.dataset.health = `${stage} ${name}`;
    return element(
      "label",
      { className: "choice" },
      radio,
      element(
        "span",
        {},
        element("b", { id: `${id}-name`, textContent: label }),
        element("span", { id: `${id}-hint`, className: "small quiet", textContent: words }),
        health,
      ),
    );
  }

  /** Show the settings of engines that are not built in only if such an engine is chosen. */
  #show() {
    const { settings, defaults } = this.#form;
    for (const stage of Object.keys(this.#stages)) {
      const part = document.querySelector(`[data-for-stage="${stage}"]`);
      part.hidden = (this.#tried[stage] ?? settings[stage].engine) === defaults[stage].engine;
    }
    for (const part of document.querySelectorAll("[data-engines]")) {
      const [stage, ...names] = part.dataset.engines.split(" ");
      const { engine } = settings[stage];
      part.hidden = !names.includes(engine) && !names.includes(this.#tried[stage] ?? engine);
    }
    for (const [stage, engines] of Object.entries(this.#stages)) {
      const { model } = engines.find(({ name }) => name === (this.#tried[stage] ?? settings[stage].engine)) ?? {};
      byId(`${stage}.model`).placeholder = model || "the server’s first model";
    }
    byId("builtin-note").hidden = settings.mind.engine !== "builtin";
    this.showHealth();
  }

  /** Retry a server that was refused for lack of an address, once it has a new one. */
  #tryAgain() {
    const { engine, url, model } = this.#form.settings.mind;
    const server = `${url} ${model}`;
    const changed = server !== this.#server;
    this.#server = server;
    const again = changed && url && this.#tried.mind === "openai" && engine !== "openai";
    if (again) this.#form.save("mind.engine", "openai");
  }

  async showHealth() {
    clearTimeout(this.#again);
    const { engines } = await call("GET", "/health").catch(() => ({})); // if it is away, the next change says so
    if (!engines) return;
    for (const place of document.querySelectorAll("[data-health]")) {
      const [stage, name] = place.dataset.health.split(" ");
      const status = engines[stage];
      place.hidden = name !== this.#form.settings[stage].engine || !status;
      place.textContent = "";
      if (place.hidden) continue;
      place.textContent = sentence(status);
      place.classList.toggle("failed", status.state === "failed");
    }
    this.#showLoaded(engines);
    await this.#listVoices(engines.voice);
    clearTimeout(this.#again);
    if (Object.values(engines).some(({ state }) => state === "loading" || state === "stopped"))
      this.#again = setTimeout(() => this.showHealth(), AGAIN);
  }

  /** Show every running part with its engine, state and memory. */
  #showLoaded(engines) {
    const rows = Object.entries(PARTS)
      .filter(([part]) => engines[part])
      .map(([part, title]) =>
        element(
          "li",
          {},
          element("b", { textContent: title }),
          element("span", { className: "quiet", textContent: this.#name(part, engines[part].engine) }),
          element("span", { className: "figures quiet", textContent: sentence(engines[part]) }),
        ),
      );
    byId("loaded").replaceChildren(...rows);
    const bytes = Object.values(engines).reduce((sum, { memory_bytes: each }) => sum + (each ?? 0), 0);
    byId("loaded-sum").textContent = bytes ? `${size(bytes)} of this computer’s memory in total.` : "";
  }

  /** Return an engine's name in the catalogue, with its model. */
  #name(part, engine) {
    const spec = this.#stages[part]?.find(({ name }) => name === engine);
    const model = this.#form.settings[part]?.model || spec?.model;
    return [spec?.label ?? NAMES[engine] ?? engine, model].filter(Boolean).join(", ");
  }

  /** Show the new engine's progress on its own line; the old engine goes on until the new one is ready. */
  #watchReloading(asked) {
    clearInterval(this.#reloading);
    for (const [stage, { engine }] of Object.entries(asked)) {
      if (engine) this.#tellReloading(stage, { engine, state: "loading" });
    }
    const watch = setInterval(async () => {
      // If this fails, the change itself reports why.
      const { reloading } = await call("GET", "/health").catch(() => ({ reloading: {} }));
      if (watch !== this.#reloading) return; // it has ended meanwhile
      for (const [stage, status] of Object.entries(reloading)) this.#tellReloading(stage, status);
    }, AGAIN / 3);
    this.#reloading = watch;
  }

  #tellReloading(stage, status) {
    const place = document.querySelector(`[data-health="${stage} ${status.engine}"]`);
    if (!place) return;
    place.hidden = false;
    place.textContent = sentence(status);
    this.dispatchEvent(new CustomEvent("reloading", { detail: place.textContent }));
  }

  async #listVoices({ engine, state }) {
    if (state !== "ready" || engine === this.#voicesOf) return;
    this.#voicesOf = engine;
    this.voices = (await call("GET", "/api/engines")).voices;
    this.dispatchEvent(new Event("voices"));
  }
}

/** The parts that are not chosen. */
const NAMES = { silero: "Silero VAD", "smart-turn": "smart-turn", memory: "all-MiniLM-L6-v2, Chroma", resemblyzer: "Resemblyzer" };

function sentence({ state, last_error: error, progress, memory_bytes: bytes }) {
  if (state === "failed") return `Not working: ${error}`;
  if (state === "loading") return `Getting ready: ${progress?.what ?? "loading"}…`;
  if (state !== "ready") return "Not running.";
  return bytes ? `Ready, ${size(bytes)} of memory.` : "Ready.";
}
