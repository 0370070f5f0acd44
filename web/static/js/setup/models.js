// This computer: its hardware, and which models it can run, download and use.

import { call } from "../shared/api.js";
import { size } from "./download.js";
import { byId, element, withCommands } from "../shared/dom.js";
import { tell } from "../shared/notices.js";

export const STAGES = { ears: "Ears", mind: "Mind", voice: "Voice" };
export const RUNS = { well: "Runs well", slowly: "Runs slowly", no: "Can’t run" };

/** Event: `told` when there is news about the machine. */
export class Models extends EventTarget {
  /** What the server knows: {hardware, models, proposal}. */
  told = null;
  #form;
  #download;

  constructor(form, download) {
    super();
    this.#form = form;
    this.#download = download;
    download.addEventListener("busy", () => this.#show());
    form.addEventListener("refused", ({ detail: { lacking } }) => lacking && this.#offer(lacking));
  }

  async load() {
    await this.refresh();
    let { url } = this.#form.settings.mind;
    this.#form.addEventListener("change", () => {
      if (url === this.#form.settings.mind.url) return this.#tell();
      ({ url } = this.#form.settings.mind); // what the machine lacks depends on it
      return this.#lookAgain();
    });
    // Not awaited: it lasts as long as the download does.
    this.#download.join(byId("machine-download")).then((done) => done && this.#lookAgain());
  }

  #lookAgain() {
    return this.refresh().catch((error) => tell(error.message, { key: "machine", severity: "error" }));
  }

  async refresh() {
    this.told = await call("GET", "/api/hardware");
    this.#showMachine();
    this.#tell();
  }

  #tell() {
    this.#show();
    this.dispatchEvent(new Event("told"));
  }

  /** Whether the current settings use this model. */
  inUse(row) {
    const { engine, model } = this.#form.settings[row.stage];
    return same(row, row.stage, engine, model);
  }

  /** Download models, then look again at what is here; resolves to whether all have arrived. */
  async fetch(models, place) {
    const done = await this.#download.fetch(models, place);
    await this.refresh();
    return done;
  }

  /** Use a model; resolves to whether it is in use now. */
  use({ stage, engine, name }) {
    return this.#form.saveTree({ [stage]: { engine, model: name } }, `${stage}.engine`);
  }

  #showMachine() {
    const { hardware } = this.told;
    const cards = hardware.gpus.map((gpu) => `${gpu.name} with ${size(gpu.free_bytes)} free`);
    byId("machine-line").textContent =
      `${hardware.processor}, ${hardware.cores} cores, ${size(hardware.memory_bytes)} of memory, ` +
      `${cards.join(" and ") || "no NVIDIA graphics card"}, ${size(hardware.free_disk_bytes)} of free disk space.`;
    for (const stage of Object.keys(STAGES)) {
      const names = this.told.models.filter((model) => model.stage === stage && model.name);
      byId(`${stage}-models`).replaceChildren(...names.map(({ name, label }) => new Option(label, name)));
    }
  }

  #show() {
    if (!this.told) return;
    const groups = Object.entries(STAGES).map(([stage, title]) => {
      const rows = this.told.models.filter((model) => model.stage === stage).map((model) => this.#row(model));
      return element("section", {}, element("h3", { textContent: title }), element("ul", {}, ...rows));
    });
    const held = document.activeElement?.closest(".model")?.dataset.key; // keep the focus on the row that has it
    byId("models").replaceChildren(...groups);
    const row = held && [...document.querySelectorAll(".model")].find(({ dataset }) => dataset.key === held);
    if (row) (row.querySelector("button:enabled") ?? row).focus({ preventScroll: true });
  }

  #row(model) {
    const licence = model.licence && `Licence: ${model.licence}.`;
    const missing = model.runs === "no" ? "" : model.missing;
    const words = [model.line, model.why, missing, licence].filter(Boolean).join(" ");
    const row = element(
      "li",
      { className: "model", tabIndex: -1 },
      element(
        "div",
        {},
        element("b", { textContent: model.label }),
        element("span", { className: "small quiet" }, ...withCommands(words)),
      ),
      element("span", { className: `small verdict ${model.runs}`, textContent: RUNS[model.runs] }),
      this.#action(model),
    );
    row.dataset.key = [model.stage, model.engine, model.name].join(" ");
    return row;
  }

  /** Return a button, or the word that says why there is none. */
  #action(model) {
    const words = (text) => element("span", { className: "small quiet state", textContent: text });
    if (this.inUse(model)) return words("In use");
    if (model.download_bytes && !model.here) {
      if (model.runs === "no" || model.missing) return words(size(model.download_bytes));
      if (!model.room) return words(model.room_why);
      const text = `Download ${size(model.download_bytes)}`;
      return button(text, `${text}: ${model.label}`, this.#download.busy, () =>
        this.fetch([model], byId("machine-download")),
      );
    }
    if (model.runs === "no") return words("");
    return button("Use", `Use ${model.label}`, false, async () => {
      byId(model.stage === "voice" ? "engines" : model.stage).scrollIntoView({ block: "center" });
      await this.use(model);
    });
  }

  /** Offer the missing model of a refused choice: a button under the sentence downloads and then uses it. */
  #offer({ stage, engine, model }) {
    const place = document.querySelector(`[data-error="${stage}.engine"]`);
    const known = this.told.models.find((row) => same(row, stage, engine, model));
    const wanted = known ?? { stage, engine, name: model, label: model };
    const text = known ? `Download ${known.label}, ${size(known.download_bytes)}` : `Download ${model}`;
    const fetch = button(text, text, this.#download.busy, async () => {
      fetch.disabled = true;
      if (await this.fetch([wanted], place.parentElement)) await this.use(wanted);
      else fetch.disabled = false;
    });
    place.append(" ", fetch);
  }

}

/** Whether a row is the model that the settings name; an empty name means the engine's default. */
function same(row, stage, engine, model) {
  return row.stage === stage && row.engine === engine && (model ? row.name === model : row.default);
}

function button(text, label, disabled, act) {
  const made = element("button", { type: "button", textContent: text, "aria-label": label, disabled });
  made.addEventListener("click", act);
  return made;
}
