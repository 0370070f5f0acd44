// The recordings: dropped, chosen or recorded here, sent one by one, listed, removed, and prepared.

import { ApiError, sendForm } from "../shared/api.js";
import { Recorder } from "../audio/recorder.js";
import { wav } from "../audio/sample.js";
import { byId, element, icon } from "../shared/dom.js";

const LONGEST = 600; // seconds of a recording made on this page

export class Recordings {
  #page;
  #recorder = new Recorder(byId("record"), LONGEST);
  #sending = false;
  #shown = "";

  constructor(page) {
    this.#page = page;
    page.addEventListener("change", () => this.#show());
    byId("add").addEventListener("click", () => byId("files").click());
    byId("files").addEventListener("change", () => {
      const files = [...byId("files").files];
      byId("files").value = "";
      this.#send(files);
    });
    byId("record").addEventListener("click", () => {
      byId("recordings-error").textContent = "";
      this.#recorder.toggle();
    });
    this.#recorder.addEventListener("silent", ({ detail: { message } }) => (byId("recordings-error").textContent = message));
    this.#recorder.addEventListener("second", ({ detail: { seconds } }) => {
      const clock = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
      byId("recordings-line").textContent = `Recording: ${clock}. Read something aloud, and pause between sentences.`;
    });
    this.#recorder.addEventListener("made", ({ detail: { samples } }) =>
      this.#send([new File([wav(samples)], "recorded-here.wav")]),
    );
    const drop = byId("drop");
    for (const kind of ["dragover", "dragleave", "drop"]) {
      drop.addEventListener(kind, (event) => {
        event.preventDefault();
        drop.classList.toggle("over", kind === "dragover");
        if (kind === "drop") this.#send([...event.dataTransfer.files]);
      });
    }
    byId("prepare").addEventListener("click", () =>
      page.act("prepare-error", "POST", "/prepare", { check_voice: byId("check-voice").checked }),
    );
  }

  /** Send the recordings, then the texts; a file that is refused is reported, and the others are still sent. */
  async #send(files) {
    if (!files.length || this.#sending || !this.#page.lesson) return;
    this.#sending = true;
    const troubles = [];
    let taken = 0;
    const voice = this.#page.lesson.id;
    const bar = byId("sending");
    byId("recordings-error").textContent = "";
    bar.hidden = false;
    for (const [number, file] of files.entries()) {
      byId("recordings-line").textContent = `Sending ${number + 1} of ${files.length}…`;
      bar.value = number / files.length;
      try {
        await sendForm("/api/teaching/recordings", { voice, file });
        taken += 1;
      } catch (error) {
        if (!(error instanceof ApiError)) throw error;
        troubles.push(error.message);
        if ([409, 507].includes(error.status)) break; // there is no room for the others either
      }
    }
    bar.hidden = true;
    this.#sending = false;
    byId("recordings-line").textContent = taken === 1 ? "Added." : taken ? `${taken} files added.` : "";
    byId("recordings-error").textContent = troubles.join(" ");
    await this.#page.refresh();
  }

  #show() {
    const { overview, lesson, busy } = this.#page;
    if (!lesson) return;
    for (const id of ["add", "record"]) byId(id).disabled = busy && !this.#recorder.running;
    byId("prepare").disabled = !lesson.recordings.length || overview.work?.under_way === true || overview.needs.model !== "";
    byId("prepare").classList.toggle("primary", lesson.clips.length === 0);
    byId("whisper-line").textContent = overview.needs.whisper
      ? "They’re cut at pauses, and Whisper writes down what is said."
      : "They’re cut at pauses. Whisper isn’t on this computer, so you write down what is said yourself; or download it in Setup first.";
    byId("check-voice-hint").textContent = overview.needs.encoder
      ? "Clips that don’t sound like the others are left out."
      : "Clips that don’t sound like the others are left out, and the similarity to the speaker is measured. This downloads the speaker encoder once (17 MB, from PyPI).";
    const state = JSON.stringify([lesson.id, lesson.recordings, busy]);
    if (state === this.#shown) return;
    this.#shown = state;
    byId("recordings").replaceChildren(...lesson.recordings.map((recording) => this.#row(recording, busy)));
  }

  #row({ name, bytes }, busy) {
    const remove = element("button", { type: "button", className: "bare only-icon", "aria-label": `Remove ${name}`, disabled: busy }, icon("bin"));
    remove.addEventListener("click", () => this.#page.act("recordings-error", "DELETE", `/recordings/${encodeURIComponent(name)}`));
    const size = bytes >= 1e6 ? `${(bytes / 1e6).toFixed(1)} MB` : `${Math.ceil(bytes / 1e3)} kB`;
    return element("li", {}, element("span", { textContent: name }), element("span", { className: "small quiet figures", textContent: size }), remove);
  }
}
