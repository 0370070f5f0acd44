// The recordings of the voice to speak with: added, corrected in their words, listened to, removed.

import { call } from "../shared/api.js";
import { chosenDevices } from "../audio/devices.js";
import { playSample } from "../audio/sample.js";
import { byId, element, icon } from "../shared/dom.js";

export class References {
  #form;

  constructor(form) {
    this.#form = form;
    form.addEventListener("change", () => this.#show());
    byId("add-reference").addEventListener("click", () => byId("reference-file").click());
    byId("reference-file").addEventListener("change", () => this.#add());
  }

  #show() {
    const { references } = this.#form.settings.voice;
    byId("add-reference").disabled = references.length >= 5;
    const list = byId("reference-list");
    if (list.contains(document.activeElement) && document.activeElement.matches("textarea")) return;
    list.replaceChildren(...references.map((reference) => this.#row(reference)));
  }

  #row({ recording, text }) {
    const path = `/api/voice/references/${encodeURIComponent(recording)}`;
    const name = { "aria-label": `Transcript of ${recording}` };
    const words = element("textarea", { value: text, rows: 2, maxLength: 2000, dir: "auto", ...name });
    words.addEventListener("change", () => this.#do(() => call("PUT", path, { text: words.value }), "Saved."));
    const hear = button("play", `Hear ${recording}`, () =>
      this.#do(async () => playSample(await call("GET", path), chosenDevices().output), ""),
    );
    const remove = button("bin", `Remove ${recording}`, () => this.#do(() => call("DELETE", path), "Removed."));
    const title = element("b", { textContent: recording });
    const head = element("div", { className: "reference-head" }, title, hear, remove);
    return element("li", { className: "reference" }, head, words);
  }

  async #add() {
    const [file] = byId("reference-file").files;
    byId("reference-file").value = "";
    if (!file) return;
    this.#say(`Listening to ${file.name}…`);
    await this.#do(async () => {
      const { text } = await call("POST", "/api/voice/references", { name: file.name, data: await base64(file) });
      this.#say(text ? "Added. Check the transcript and correct any mistakes." : "Added. Type what is said in it.");
    });
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

async function base64(file) {
  const url = await new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.addEventListener("load", () => resolve(reader.result));
    reader.addEventListener("error", () => reject(new Error("The file can’t be read.")));
    reader.readAsDataURL(file);
  });
  return url.slice(url.indexOf(",") + 1);
}
