// The setup page. Each of its parts has its own file; this one connects them.

import { Player } from "../audio/player.js";
import { INSECURE } from "../audio/capture.js";
import { Companion } from "./companion.js";
import { Doctor } from "./doctor.js";
import { Download } from "./download.js";
import { byId, element } from "../shared/dom.js";
import { EngineChoices } from "./engine-choices.js";
import { Headset } from "./headset.js";
import { hear } from "./hear.js";
import { languageOptions } from "./languages.js";
import { Models } from "./models.js";
import { otherPrograms } from "./other-programs.js";
import { tell, tellKept } from "../shared/notices.js";
import { RealEngines } from "./real-engines.js";
import { OwnTools } from "./tools.js";
import { References } from "./references.js";
import { askingForModels, settingsFile } from "./settings-file.js";
import { SettingsForm } from "./settings-form.js";
import { showVoices } from "./voice-list.js";

if (!window.isSecureContext) tell(INSECURE, { key: "insecure", severity: "warning" });

const form = new SettingsForm();
const player = new Player();
const headset = new Headset(form, player);
const engines = new EngineChoices(form);
const download = new Download();
const models = new Models(form, download);
new RealEngines(form, models, engines, download);
new Doctor().addEventListener("step", () => engines.showHealth());
new Companion(form);
new References(form, player);
const tools = new OwnTools(form);
settingsFile(form);
otherPrograms(form);
askingForModels();

// --- voice -----------------------------------------------------------------------------------------------------------

const GALLERY = 40; // voices shown one by one; more become a list

engines.addEventListener("voices", () => {
  const gallery = engines.voices.length > 1 && engines.voices.length <= GALLERY;
  byId("voice-gallery").hidden = !gallery;
  byId("voice-list").hidden = gallery;
  byId("voices").replaceChildren(...(gallery ? [{ name: "", label: "Default voice" }, ...engines.voices].map(voiceRow) : []));
  listVoices();
});

const listVoices = () => showVoices(byId("voice.name"), engines.voices, form.settings.voice.name);

function voiceRow({ name, label }) {
  const checked = name === form.settings.voice.name;
  const radio = element("input", { type: "radio", name: "voice.name", value: name, checked });
  radio.dataset.setting = "voice.name";
  const hearIt = element("button", { type: "button", textContent: "Hear it", "aria-label": `Hear it: ${label}` });
  hearIt.addEventListener("click", () =>
    say(hearIt, async () => form.settings.voice.name === name || (await form.save("voice.name", name))),
  );
  return element("li", {}, element("label", {}, radio, label), hearIt);
}

const say = (button, choose) =>
  hear(player, button, { choose, atSoundCard: form.settings.audio.place === "soundcard" });

byId("hear").addEventListener("click", () => say(byId("hear")));

// --- the first visit -------------------------------------------------------------------------------------------------

byId("go").addEventListener("click", async () => {
  if (await form.save("set_up", true)) location.assign("/talk#start");
});
byId("more").addEventListener("click", () => {
  byId("sections").classList.add("everything");
  byId("voice").scrollIntoView();
  byId("voice").querySelector("select, input").focus({ preventScroll: true });
});

/** Follow a link to a part of the page; on the first visit this shows all parts. */
function follow() {
  const part = document.getElementById(location.hash.slice(1));
  if (part?.closest(".later")) byId("sections").classList.add("everything");
  part?.scrollIntoView();
}

addEventListener("hashchange", follow);

// --- to begin with ---------------------------------------------------------------------------------------------------

form.addEventListener("change", () => {
  byId("mind.api_key").placeholder = form.keySet ? "saved" : "none";
  listVoices();
  tools.load().catch((error) => tell(error.message, { key: "load", severity: "error" }));
  const { language: spoken } = form.settings.ears;
  if (language.value !== spoken && spoken) language.append(new Option(spoken, spoken, false, true));
});
models.addEventListener("told", () => engines.showHealth());
const language = byId("ears.language");
language.replaceChildren(...languageOptions());
try {
  await form.load();
  await Promise.all([engines.load(), headset.load(), models.load(), tools.load()]);
  await tellKept();
} catch (error) {
  tell(error.message, { key: "load", severity: "error" });
}
follow(); // once the parts have their final size
