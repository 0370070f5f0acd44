// People told apart by their voices: whether that is on, who they are, and recording another person's voice.

import { call } from "../shared/api.js";
import { Recorder } from "../audio/recorder.js";
import { base64, wav } from "../audio/sample.js";
import { byId, confirmDialog, element, icon } from "../shared/dom.js";

const RATE = 24000;
const LENGTH = 12; // seconds of a recording

export async function updatePeople() {
  show(await call("GET", "/api/people"));
}

function show({ wanted, guests, people }) {
  byId("tell-apart").checked = wanted;
  byId("keep-guests").checked = guests;
  byId("told-apart").hidden = !wanted;
  byId("first-person").hidden = people.some(({ owner }) => owner);
  byId("people-list").replaceChildren(...people.map(row));
}

function row({ name, owner }) {
  const bin = element(
    "button",
    { type: "button", className: "bare only-icon", "aria-label": `Forget ${name}’s voice`, title: "Forget this voice" },
    icon("bin"),
  );
  bin.addEventListener("click", async () => {
    const text = owner
      ? "This permanently deletes the description of your voice. Until a first voice is recorded again, yours is a guest’s."
      : "This permanently deletes the description of this voice. What was said stays in memory.";
    if (!(await confirmDialog({ title: `Forget ${name}’s voice?`, text, yes: "Forget" }))) return;
    await told(async () => show(await call("DELETE", `/api/people/${encodeURIComponent(name)}`)));
    byId("tell-apart").focus();
  });
  return element("li", {}, element("span", { textContent: owner ? `${name} (you)` : name, dir: "auto" }), bin);
}

/** Do something that may fail, and report a failure here. */
async function told(act) {
  try {
    await act();
  } catch (error) {
    say(error.message);
  }
}

function say(text) {
  byId("people-line").textContent = text;
}

async function set(memory) {
  say(memory.people ? "Loading the voice model…" : "");
  await told(async () => {
    await call("PUT", "/api/settings", { memory });
    say("");
  });
  await updatePeople();
}

/** Learn the voice; a shorter recording was stopped and does not describe a voice. */
async function learn(samples) {
  if (samples.length < LENGTH * RATE) return say("Stopped. Nothing was kept.");
  const name = byId("person").value.trim();
  say("Listening to it…");
  const data = await base64(wav(samples));
  show(await call("POST", "/api/people", { name, agreed: byId("agreed").checked, data }));
  say(`Parley knows ${name}’s voice now.`);
  byId("person-form").reset();
}

export function watchPeople() {
  const recorder = new Recorder(byId("person-form").querySelector("button"), LENGTH);
  recorder.addEventListener("silent", ({ detail: { message } }) => say(message));
  recorder.addEventListener("second", ({ detail: { seconds } }) =>
    say(`Talk about your day, in your usual voice: ${LENGTH - seconds} s`),
  );
  recorder.addEventListener("made", ({ detail: { samples } }) => told(() => learn(samples)));
  byId("tell-apart").addEventListener("change", () => set({ people: byId("tell-apart").checked }));
  byId("keep-guests").addEventListener("change", () => set({ guests: byId("keep-guests").checked }));
  byId("person-form").addEventListener("submit", (event) => {
    event.preventDefault();
    recorder.toggle();
  });
}
