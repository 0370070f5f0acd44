// This computer: what it has, which models it can run, and fetching them.

import { call } from "./api.js";
import { byId, element } from "./dom.js";

const STAGES = { ears: "Ears", mind: "Mind", voice: "Voice" };
const RUNS = { well: "Runs well", slowly: "Slowly", no: "Not here" };
const LOOK = 500; // ms between two looks at a download

const size = (bytes) => (bytes >= 1e9 ? `${(bytes / 1e9).toFixed(1)} GB` : `${Math.round(bytes / 1e6)} MB`);

export class Models {
  #form;
  #told = null; // what the server knows of the machine
  #wanted = []; // models still to be fetched, the first of them now
  #fetching = false;

  constructor(form) {
    this.#form = form;
    byId("download-stop").addEventListener("click", () => this.#stop());
    byId("use-proposal").addEventListener("click", () => this.#useProposal());
    byId("token-form").addEventListener("submit", (event) => {
      event.preventDefault();
      const token = byId("token").value.trim();
      byId("token").value = "";
      if (token) this.#fetch(this.#wanted, token);
    });
  }

  async load() {
    this.#form.addEventListener("change", () => this.#showModels());
    this.#told = await call("GET", "/api/hardware");
    this.#showMachine();
    this.#showModels();
    const status = await call("GET", "/api/downloads");
    if (status.state === "asking" || status.state === "fetching") this.#join(status);
  }

  // -- what there is --------------------------------------------------------------------------------------------------

  #showMachine() {
    const { hardware, proposal } = this.#told;
    const cards = hardware.gpus.map((gpu) => `${gpu.name} with ${size(gpu.free_bytes)} free`);
    byId("machine-line").textContent =
      `${hardware.processor}, ${hardware.cores} cores, ${size(hardware.memory_bytes)} of memory, ` +
      `${cards.join(" and ") || "no NVIDIA card"}, ${size(hardware.free_disk_bytes)} of disk free.`;
    for (const stage of Object.keys(STAGES)) {
      const names = this.#told.models.filter((model) => model.stage === stage && model.name);
      byId(`${stage}-models`).replaceChildren(...names.map(({ name, label }) => new Option(label, name)));
    }
    byId("proposal").hidden = proposal.profile === "offline";
    const engines = Object.values(proposal.choices).map(({ label }) => label);
    byId("proposal-line").textContent = `${proposal.why} Proposed: ${engines.join(", ")}.`;
    byId("use-proposal").hidden = !proposal.available;
  }

  #showModels() {
    if (!this.#told) return;
    const groups = Object.entries(STAGES).map(([stage, title]) => {
      const rows = this.#told.models.filter((model) => model.stage === stage).map((model) => this.#row(model));
      return element("section", {}, element("h3", { textContent: title }), element("ul", {}, ...rows));
    });
    byId("models").replaceChildren(...groups);
  }

  #row(model) {
    return element(
      "li",
      { className: "model" },
      element(
        "div",
        {},
        element("b", { textContent: model.label }),
        element("span", { className: "small quiet", textContent: `${model.line} ${model.why}` }),
      ),
      element("span", { className: `small verdict ${model.runs}`, textContent: RUNS[model.runs] }),
      this.#action(model),
    );
  }

  /** A button, or the word that says why there is none. */
  #action(model) {
    const { engine, model: chosen } = this.#form.settings[model.stage];
    const words = (text) => element("span", { className: "small quiet state", textContent: text });
    if (engine === model.engine && (chosen || model.name) === model.name) return words("In use");
    if (!model.offered) return words("");
    if (model.download_bytes && !model.here) {
      if (model.runs === "no") return words(size(model.download_bytes));
      if (!model.room) return words(model.room_why);
      const fetch = element("button", { type: "button", textContent: `Fetch ${size(model.download_bytes)}` });
      fetch.setAttribute("aria-label", `Fetch ${model.label}, ${size(model.download_bytes)}`);
      fetch.disabled = this.#fetching;
      fetch.addEventListener("click", () => this.#fetch([model]));
      return fetch;
    }
    if (model.runs === "no") return words("");
    const use = element("button", { type: "button", textContent: "Use", "aria-label": `Use ${model.label}` });
    use.addEventListener("click", () => {
      use.disabled = true;
      this.#form.saveTree({ [model.stage]: { engine: model.engine, model: model.name } }, `${model.stage}.engine`);
      byId(model.stage === "voice" ? "engines" : model.stage)?.scrollIntoView({ block: "center" });
    });
    return use;
  }

  async #useProposal() {
    const { choices, profile } = this.#told.proposal;
    const lacking = Object.entries(choices)
      .map(([stage, { engine, model }]) =>
        this.#told.models.find(
          (each) => each.stage === stage && each.engine === engine && (!model || each.name === model),
        ),
      )
      .filter((model) => model?.download_bytes && !model.here);
    if (lacking.length && !(await this.#fetch(lacking))) return;
    const tree = { profile };
    for (const [stage, { engine, model }] of Object.entries(choices)) tree[stage] = { engine, model };
    await this.#form.saveTree(tree, "mind.engine");
  }

  // -- fetching -------------------------------------------------------------------------------------------------------

  /** Fetch one after the other; resolves to whether all have come. */
  async #fetch(models, token = "") {
    this.#wanted = [...models];
    this.#fetching = true;
    this.#showModels();
    byId("download").scrollIntoView({ block: "center" });
    try {
      while (this.#wanted.length) {
        const [{ stage, engine, name, label }] = this.#wanted;
        const wanted = { stage, engine, model: name, token };
        if (!(await this.#follow(await call("POST", "/api/downloads", wanted)))) return false;
        this.#end(`${label} has come, and is checked.`);
        this.#wanted.shift();
      }
      this.#told = await call("GET", "/api/hardware");
      return true;
    } catch (error) {
      this.#end(error.message);
      return false;
    } finally {
      this.#fetching = false;
      this.#showModels();
    }
  }

  /** Show it until it ends; resolves to whether it has come. */
  async #follow(status) {
    for (;;) {
      this.#show(status);
      if (status.state !== "asking" && status.state !== "fetching") break;
      await new Promise((resolve) => setTimeout(resolve, LOOK));
      status = await call("GET", "/api/downloads");
    }
    return status.state === "done";
  }

  /** One that was begun before this page was opened. */
  async #join(status) {
    try {
      if (await this.#follow(status)) this.#end("The model has come, and is checked.");
      this.#told = await call("GET", "/api/hardware");
      this.#showModels();
    } catch (error) {
      this.#end(error.message);
    }
  }

  #show(status) {
    const busy = status.state === "asking" || status.state === "fetching";
    byId("download").hidden = false;
    byId("download-title").textContent = this.#wanted[0]?.label ?? "Fetching a model";
    byId("download-stop").hidden = !busy;
    byId("download-all").hidden = !busy;
    if (status.size) byId("download-all").value = status.have / status.size;
    else byId("download-all").removeAttribute("value");
    byId("download-figures").textContent = busy && status.size ? figures(status) : "";
    byId("download-files").replaceChildren(...(busy ? status.files.filter(moving).map(fileRow) : []));
    byId("token-form").hidden = !status.licence;
    if (status.licence) {
      byId("licence").href = status.licence;
      byId("licence").textContent = status.licence;
    }
    if (status.state === "asking") byId("download-line").textContent = "Asking for its size …";
    else if (status.checking) byId("download-line").textContent = `Checking ${status.checking} …`;
    else if (status.state === "stopped")
      byId("download-line").textContent = "Stopped. What has come is kept; fetch it again to go on.";
    else byId("download-line").textContent = status.message ?? "";
  }

  #end(sentence) {
    byId("download").hidden = false;
    for (const id of ["download-all", "download-stop", "token-form"]) byId(id).hidden = true;
    byId("download-figures").textContent = "";
    byId("download-files").replaceChildren();
    byId("download-line").textContent = sentence;
  }

  async #stop() {
    await call("DELETE", "/api/downloads");
  }
}

const moving = ({ size: all, have }) => all >= 1e6 || have < all;

function fileRow({ path, size: all, have }) {
  return element(
    "li",
    {},
    element("span", { textContent: path }),
    element("span", { className: "figures quiet", textContent: `${size(have)} of ${size(all)}` }),
    element("progress", { max: all || 1, value: have, "aria-label": path }),
  );
}

function figures({ have, size: all, speed, left_s: left }) {
  const rest = left === null ? "" : `, ${time(left)} left`;
  return `${size(have)} of ${size(all)}, ${(speed / 1e6).toFixed(1)} MB/s${rest}`;
}

function time(seconds) {
  if (seconds < 90) return `${Math.ceil(seconds)} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}
