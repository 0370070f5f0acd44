// The one download at a time, shown in the part of the page that asked for it: its progress, a token if a publisher
// requires one, and stopping it.

import { call } from "../shared/api.js";
import { byId, element } from "../shared/dom.js";

const LOOK = 500; // ms between two updates

export const size = (bytes) => (bytes >= 1e9 ? `${(bytes / 1e9).toFixed(1)} GB` : `${Math.round(bytes / 1e6)} MB`);

/** Event: `busy` when a download begins or ends. */
export class Download extends EventTarget {
  busy = false;
  #box = byId("download");
  #line = byId("download-line");
  #answer = null; // takes the token that was asked for, or null

  constructor() {
    super();
    byId("download-stop").addEventListener("click", () => this.#stop());
    byId("token-form").addEventListener("submit", (event) => {
      event.preventDefault();
      const token = byId("token").value.trim();
      byId("token").value = "";
      if (token) this.#answer?.(token);
    });
  }

  /**
   * Download models, shown in `place`; resolves to whether all have arrived.
   * @param {{stage: string, engine: string, name: string, label: string}[]} models
   */
  async fetch(models, place) {
    const wanted = models.map(({ stage, engine, name }) => ({ stage, engine, model: name }));
    this.#open(models.map(({ label }) => label).join(", "), place);
    return this.#run(async () => {
      for (let token = ""; token !== null; token = await this.#token()) {
        const status = await this.#follow(await call("POST", "/api/downloads", { models: wanted, token }));
        if (!status.licence) return status;
      }
      return null;
    });
  }

  /** Follow a download that was started before this page was opened. */
  async join(place) {
    const status = await call("GET", "/api/downloads");
    if (status.state !== "asking" && status.state !== "fetching") return false;
    this.#open("Earlier download", place);
    return this.#run(() => this.#follow(status));
  }

  #open(title, place) {
    place.append(this.#box);
    this.#box.hidden = false;
    byId("download-title").textContent = title;
    this.#box.scrollIntoView({ block: "nearest" });
  }

  /** Resolves to whether everything has arrived. */
  async #run(work) {
    this.#setBusy(true);
    try {
      const status = await work();
      const done = status?.state === "done";
      this.#end(done ? "Downloaded and verified." : (status?.message ?? "Stopped. Your progress is saved."));
      return done;
    } catch (error) {
      this.#end(error.message);
      return false;
    } finally {
      this.#setBusy(false);
    }
  }

  #setBusy(busy) {
    this.busy = busy;
    this.dispatchEvent(new Event("busy"));
  }

  /** Show the download until it ends; resolves to its final state. */
  async #follow(status) {
    for (;;) {
      this.#show(status);
      if (status.state !== "asking" && status.state !== "fetching") return status;
      await new Promise((resolve) => setTimeout(resolve, LOOK));
      status = await call("GET", "/api/downloads");
    }
  }

  #show({ state, size: all, have, files, checking, waiting, message, licence, ...pace }) {
    const bar = byId("download-all");
    byId("download-stop").hidden = false;
    bar.hidden = state !== "asking" && state !== "fetching";
    if (all) bar.value = have / all;
    else bar.removeAttribute("value");
    byId("download-figures").textContent = all && !bar.hidden ? figures(have, all, pace) : "";
    byId("download-files").replaceChildren(...(bar.hidden ? [] : files.filter(worthwhile).map(fileRow)));
    byId("token-form").hidden = !licence;
    byId("licence").href = licence ?? "";
    byId("licence").textContent = licence ?? "";
    if (state === "asking") this.#line.textContent = "Checking the size…";
    else if (waiting) this.#line.textContent = "Connection lost. Retrying…";
    else this.#line.textContent = checking ? `Verifying ${checking}…` : (message ?? "");
    // For screen readers: at every quarter.
    byId("download-share").textContent = all && !bar.hidden ? `${Math.floor((4 * have) / all) * 25}% downloaded.` : "";
  }

  /** Resolves to the token that is entered, or null if the user gives up. */
  #token() {
    byId("token").focus();
    return new Promise((resolve) => {
      this.#answer = resolve;
    });
  }

  #end(sentence) {
    for (const id of ["download-all", "download-stop", "token-form"]) byId(id).hidden = true;
    for (const id of ["download-figures", "download-share"]) byId(id).textContent = "";
    byId("download-files").replaceChildren();
    this.#line.textContent = sentence;
  }

  async #stop() {
    this.#answer?.(null);
    await call("DELETE", "/api/downloads").catch((error) => this.#end(error.message));
  }
}

const worthwhile = ({ size: all, have }) => all >= 1e6 || have < all;

function fileRow({ path, size: all, have }) {
  return element(
    "li",
    {},
    element("span", { textContent: path }),
    element("span", { className: "figures quiet", textContent: `${size(have)} of ${size(all)}` }),
    element("progress", { max: all || 1, value: have, "aria-label": path }),
  );
}

function figures(have, all, { speed, left_s: left }) {
  const rest = left === null ? "" : `, ${time(left)} left`;
  return `${size(have)} of ${size(all)}, ${(speed / 1e6).toFixed(1)} MB/s${rest}`;
}

function time(seconds) {
  if (seconds < 90) return `${Math.ceil(seconds)} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}
