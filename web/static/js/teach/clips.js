// The clips: played one by one, their transcripts corrected, and left out if they are of no use.

import { call } from "../shared/api.js";
import { chosenDevices } from "../audio/devices.js";
import { Player } from "../audio/player.js";
import { playSample } from "../audio/sample.js";
import { byId, element, icon } from "../shared/dom.js";

const SHOWN = 50; // clips shown at first, and added each time

export class Clips {
  #page;
  #player = new Player();
  #most = SHOWN;
  #shown = "";

  constructor(page) {
    this.#page = page;
    page.addEventListener("change", () => this.#show());
    byId("more-clips").addEventListener("click", () => {
      this.#most += SHOWN;
      this.#show();
    });
  }

  #show() {
    const { lesson, busy } = this.#page;
    byId("clips-part").hidden = !lesson?.clips.length;
    if (!lesson?.clips.length) return;
    const kept = lesson.clips.filter(({ dropped }) => !dropped);
    const minutes = kept.reduce((sum, { seconds }) => sum + seconds, 0) / 60;
    byId("clips-line").textContent = `${kept.length} of ${lesson.clips.length} clips will be learnt, ${minutes.toFixed(1)} minutes.`;
    byId("more-clips").hidden = lesson.clips.length <= this.#most;
    const state = JSON.stringify([lesson.id, lesson.clips, busy, this.#most]);
    // Do not touch a text that is being edited.
    if (state === this.#shown || byId("clips").querySelector("textarea:focus")) return;
    this.#shown = state;
    const held = document.activeElement?.id;
    byId("clips").replaceChildren(...lesson.clips.slice(0, this.#most).map((clip, number) => this.#row(clip, number + 1, busy)));
    if (held?.startsWith("clip-")) byId(held)?.focus();
  }

  #row({ id, text, seconds, source, start, dropped }, number, busy) {
    const rest = `/clips/${encodeURIComponent(id)}`;
    const words = element("textarea", { id: `clip-${id}-text`, value: text, rows: 2, maxLength: 2000, dir: "auto", disabled: busy, "aria-label": `What is said in clip ${number}` });
    const keep = element("input", { id: `clip-${id}-keep`, type: "checkbox", checked: !dropped, disabled: busy });
    words.addEventListener("change", () => {
      if (words.value.trim()) keep.checked = true;
      this.#save(rest, number, words.value, keep.checked);
    });
    keep.addEventListener("change", () => this.#save(rest, number, words.value, keep.checked));
    const hear = element("button", { id: `clip-${id}-hear`, type: "button", className: "only-icon", "aria-label": `Hear clip ${number}` }, icon("play"));
    hear.addEventListener("click", async () => {
      byId("clip-error").textContent = "";
      try {
        const path = `/api/teaching/${encodeURIComponent(this.#page.lesson.id)}${rest}`;
        await this.#player.toggle(hear, async (signal) =>
          playSample(await call("GET", path, undefined, signal), chosenDevices().output, signal),
        );
      } catch (error) {
        byId("clip-error").textContent = error.message;
      }
    });
    const about = `${seconds.toFixed(1)} s, ${source} at ${start.toFixed(1)} s${dropped ? ` · left out: ${dropped}` : ""}`;
    return element(
      "li",
      { className: dropped ? "dropped" : "" },
      hear,
      words,
      element("label", { className: "keep" }, keep, "Learn it"),
      element("span", { className: "small quiet figures", textContent: about }),
    );
  }

  async #save(rest, number, text, kept) {
    if (await this.#page.act("clip-error", "PUT", rest, { text, kept })) byId("clip-line").textContent = `Clip ${number} saved.`;
  }
}
