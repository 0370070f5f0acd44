// People who are told apart by their voices: whether they are, who they are, and another one's voice recorded.

import { call } from "../shared/api.js";
import { Microphone } from "../audio/capture.js";
import { chosenDevices } from "../audio/devices.js";
import { base64, joined, wav } from "../audio/sample.js";
import { byId, confirmDialog, element, icon } from "../shared/dom.js";

const RATE = 24000;
const LENGTH = 12; // seconds of a recording

const microphone = new Microphone();
let recorded = []; // blocks of samples

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

/** Do something that may fail, and say so here. */
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

async function record() {
  recorded = [];
  await microphone.start(chosenDevices().input || null);
  byId("person-form").querySelector("button").disabled = true;
}

function heard(samples) {
  if (!microphone.open) return;
  recorded.push(samples);
  const seconds = recorded.reduce((sum, block) => sum + block.length, 0) / RATE;
  say(`Talk about your day, in your usual voice: ${Math.max(0, Math.ceil(LENGTH - seconds))} s`);
  if (seconds >= LENGTH) told(learn);
}

async function learn() {
  microphone.stop();
  const name = byId("person").value.trim();
  try {
    const data = await base64(wav(joined(recorded)));
    show(await call("POST", "/api/people", { name, agreed: byId("agreed").checked, data }));
    say(`Parley knows ${name}’s voice now.`);
    byId("person-form").reset();
  } finally {
    recorded = [];
    byId("person-form").querySelector("button").disabled = false;
  }
}

export function watchPeople() {
  microphone.addEventListener("block", ({ detail: { samples } }) => heard(samples));
  byId("tell-apart").addEventListener("change", () => set({ people: byId("tell-apart").checked }));
  byId("keep-guests").addEventListener("change", () => set({ guests: byId("keep-guests").checked }));
  byId("person-form").addEventListener("submit", (event) => {
    event.preventDefault();
    told(record);
  });
}
