// The recordings of the voice to speak with: added, their transcripts corrected, played, removed.

import { call } from "../shared/api.js";
import { chosenDevices } from "../audio/devices.js";
import { Recorder } from "../audio/recorder.js";
import { base64, playSample, wav } from "../audio/sample.js";
import { byId, confirmDialog, element, icon } from "../shared/dom.js";

const LONGEST = 30; // seconds of a recording made on this page

export class References {
  #form;
  #player;

  constructor(form, player) {
    this.#form = form;
    this.#player = player;
    form.addEventListener("change", () => this.#show());
    byId("add-reference").addEventListener("click", () => byId("reference-file").click());
    byId("reference-file").addEventListener("change", () => {
      const [file] = byId("reference-file").files;
      byId("reference-file").value = "";
      if (file) this.#add(file.name, file);
    });
    const recorder = new Recorder(byId("record-reference"), LONGEST);
    byId("record-reference").addEventListener("click", () => recorder.toggle());
    recorder.addEventListener("silent", ({ detail: { message } }) => this.#say(message));
    recorder.addEventListener("second", ({ detail: { seconds } }) =>
      this.#say(`Recording: ${seconds} of ${LONGEST} s. Read something aloud, in your usual voice.`),
    );
    recorder.addEventListener("made", ({ detail: { samples } }) => this.#add("My voice", wav(samples)));
    this.#showLibrary();
  }

  /** The voices that csm-voice keeps: to hear, use or remove. */
  async #showLibrary() {
    const { voices } = await call("GET", "/api/voices/library").catch(() => ({ voices: [] }));
    byId("library").hidden = voices.length === 0;
    byId("library-voices").replaceChildren(...voices.map((voice) => this.#libraryRow(voice)));
  }

  #libraryRow({ name, note }) {
    const path = `/api/voices/library/${encodeURIComponent(name)}`;
    const hear = button("play", `Hear ${name}`, () => this.#hear(hear, path));
    const remove = button("bin", `Remove ${name}`, async () => {
      const text = "This permanently deletes the voice from csm-voice.";
      if (!(await confirmDialog({ title: `Remove ${name}?`, text, yes: "Remove" }))) return;
      await this.#do(() => call("DELETE", path), "Removed.");
      await this.#showLibrary();
    });
    const use = element("button", { type: "button", textContent: "Use", "aria-label": `Use ${name}` });
    use.addEventListener("click", () => this.#do(() => call("POST", path), `Parley now speaks as ${name}.`));
    const title = element("span", {}, element("b", { textContent: name }), " ", element("span", { className: "small quiet", textContent: note }));
    return element("li", {}, title, hear, use, remove);
  }

  #show() {
    const { references } = this.#form.settings.voice;
    for (const id of ["add-reference", "record-reference"]) byId(id).disabled = references.length >= 5;
    const list = byId("reference-list");
    if (list.contains(document.activeElement) && document.activeElement.matches("textarea")) return;
    list.replaceChildren(...references.map((reference) => this.#row(reference)));
  }

  #row({ recording, text }) {
    const path = `/api/voice/references/${encodeURIComponent(recording)}`;
    const name = { "aria-label": `Transcript of ${recording}` };
    const words = element("textarea", { value: text, rows: 2, maxLength: 2000, dir: "auto", ...name });
    words.addEventListener("change", () => this.#do(() => call("PUT", path, { text: words.value }), "Saved."));
    const hear = button("play", `Hear ${recording}`, () => this.#hear(hear, path));
    const remove = button("bin", `Remove ${recording}`, () => this.#do(() => call("DELETE", path), "Removed."));
    const title = element("b", { textContent: recording });
    const head = element("div", { className: "reference-head" }, title, hear, remove);
    return element("li", { className: "reference" }, head, words);
  }

  async #add(name, sound) {
    this.#say(`Listening to ${name}…`);
    await this.#do(async () => {
      const { text } = await call("POST", "/api/voice/references", { name, data: await base64(sound) });
      this.#say(text ? "Added. Check the transcript and correct any mistakes." : "Added. Type what is said in it.");
    });
  }

  async #hear(button, path) {
    this.#say("");
    const play = async (signal) => playSample(await call("GET", path, undefined, signal), chosenDevices().output, signal);
    await this.#player.toggle(button, play).catch((error) => this.#say(error.message));
  }

  async #do(act, done) {
    try {
      await act();
      if (done !== undefined) this.#say(done);
      await this.#form.refresh();
    } catch (error) {
      this.#say(error.message);
    }
  }

  #say(text) {
    byId("reference-line").textContent = text;
  }
}

function button(name, label, act) {
  const made = element("button", { type: "button", className: "bare only-icon", "aria-label": label }, icon(name));
  made.addEventListener("click", act);
  return made;
}
