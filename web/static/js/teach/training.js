// The training: what it takes here, starting and continuing it, its plots and samples, and using its voice.

import { call } from "../shared/api.js";
import { chosenDevices } from "../audio/devices.js";
import { Player } from "../audio/player.js";
import { playSample } from "../audio/sample.js";
import { byId, confirmDialog, element, icon } from "../shared/dom.js";
import { plots } from "./plots.js";
import { duration } from "./work.js";

const DISK = 2; // GB that a voice's checkpoints take: weights and optimiser of three of them

export class Training {
  #page;
  #player = new Player();
  #lesson = null; // the lesson whose figures are in the form
  #shown = "";

  constructor(page) {
    this.#page = page;
    page.addEventListener("change", () => this.#show());
    byId("steps").addEventListener("input", () => this.#showCost());
    byId("estimate").addEventListener("click", () => page.act("training-error", "POST", "/estimate", this.#wanted()));
    byId("train").addEventListener("click", () => page.act("training-error", "POST", "/train", this.#wanted()));
    byId("anew").addEventListener("click", async () => {
      const text = "This permanently deletes what was learnt so far. Recordings and transcripts stay.";
      if (await confirmDialog({ title: "Start over?", text, yes: "Delete" })) await page.act("training-error", "DELETE", "/training");
    });
    byId("beside").addEventListener("change", () => {
      if (page.busy) page.act("training-error", "PUT", "/work", { beside_talks: byId("beside").checked });
    });
    byId("use").addEventListener("click", () => this.#use());
  }

  #wanted() {
    return { steps: byId("steps").valueAsNumber || 0, beside_talks: byId("beside").checked };
  }

  async #use() {
    byId("use").disabled = true;
    byId("use-line").textContent = "Loading it…";
    const used = await this.#page.act("use-error", "POST", "/use");
    byId("use-line").textContent = used ? `Parley now speaks as ${this.#page.lesson.person}.` : "";
    byId("use").disabled = false;
  }

  #show() {
    const { overview, lesson, busy } = this.#page;
    const fit = lesson?.clips.some(({ dropped }) => !dropped) ?? false;
    byId("training-part").hidden = !fit && !lesson?.lines.length;
    byId("samples-part").hidden = !lesson?.usable && !lesson?.samples.length;
    if (!lesson) return;
    if (this.#lesson !== lesson.id) {
      this.#lesson = lesson.id;
      byId("steps").value = lesson.steps ?? 300;
      byId("beside").checked = overview.beside_talks;
    }
    const begun = lesson.kept_step > 0;
    const over = begun && lesson.kept_step >= lesson.steps;
    byId("steps-field").hidden = begun || busy;
    byId("before").hidden = busy;
    byId("estimate").hidden = begun;
    byId("anew").hidden = !begun;
    byId("train").hidden = over;
    byId("train").querySelector("span").textContent = begun ? `Continue after step ${lesson.kept_step}` : "Start training";
    for (const id of ["estimate", "train"]) byId(id).disabled = !fit || overview.work?.under_way === true || overview.needs.model !== "";
    this.#showCost();
    byId("use").disabled = !lesson.usable || busy;
    const state = JSON.stringify([lesson.id, lesson.lines, lesson.samples]);
    if (state === this.#shown) return;
    this.#shown = state;
    byId("plots").hidden = lesson.lines.length < 2;
    if (lesson.lines.length > 1) byId("plots").replaceChildren(...plots(lesson.lines));
    byId("samples").replaceChildren(...lesson.samples.map((sample) => this.#sample(sample)));
  }

  #showCost() {
    const { overview, lesson } = this.#page;
    if (!lesson) return;
    const { step_s: step, memory, steps, kept_step: kept } = lesson;
    const wanted = kept ? steps - kept : byId("steps").valueAsNumber || 0;
    const disk = `It takes up to ${DISK} GB on the disk; ${(overview.needs.free / 1e9).toFixed(0)} GB are free.`;
    if (kept && wanted <= 0) byId("cost").textContent = "The training is complete.";
    else if (step === null) byId("cost").textContent = `How long it takes here isn’t known yet: minutes with a graphics card, many hours without one. ${disk}`;
    else byId("cost").textContent = `${kept ? "The rest" : "It"} takes about ${duration(step * wanted)} here, ${duration(step)} a step, and ${(memory / 2 ** 30).toFixed(1)} GB of memory. ${disk}`;
  }

  #sample({ file, step, number }) {
    const name = `sentence ${number} after step ${step}`;
    const hear = element("button", { type: "button", className: "bare only-icon", "aria-label": `Hear ${name}` }, icon("play"));
    hear.addEventListener("click", async () => {
      byId("use-error").textContent = "";
      try {
        const path = `/api/teaching/${encodeURIComponent(this.#page.lesson.id)}/samples/${encodeURIComponent(file)}`;
        await this.#player.toggle(hear, async (signal) =>
          playSample(await call("GET", path, undefined, signal), chosenDevices().output, signal),
        );
      } catch (error) {
        byId("use-error").textContent = error.message;
      }
    });
    return element("li", {}, element("span", { textContent: `After step ${step}, sentence ${number}` }), hear);
  }
}
