// The settings of one of several users at a gateway. The administrator chooses the engines; they are only shown.

import { Player } from "../audio/player.js";
import { playSample } from "../audio/sample.js";
import { chosenDevices } from "../audio/devices.js";
import { Companion } from "../setup/companion.js";
import { SettingsForm } from "../setup/settings-form.js";
import { toolRow } from "../setup/tool-row.js";
import { showVoices } from "../setup/voice-list.js";
import { call } from "../shared/api.js";
import { byId, element } from "../shared/dom.js";
import { tell, tellKept } from "../shared/notices.js";
import { PARTS } from "../shared/parts.js";

const form = new SettingsForm();
const player = new Player();
new Companion(form);

byId("hear").addEventListener("click", async () => {
  byId("hear-error").textContent = "";
  try {
    await player.toggle(byId("hear"), async (signal) => {
      const sound = await call("POST", "/api/voice/hear", { text: byId("hear-text").value.trim() }, signal);
      await playSample(sound, chosenDevices().output, signal);
    });
  } catch (error) {
    byId("hear-error").textContent = error.message;
  }
});

function showShared({ stages }, { engines }) {
  const rows = Object.entries(stages).map(([stage, known]) => {
    const { engine, model } = form.settings[stage];
    const spec = known.find(({ name }) => name === engine);
    const named = [spec?.label ?? engine, model || spec?.model].filter(Boolean).join(", ");
    const state = engines[stage]?.state === "ready" ? "Ready" : "Not ready";
    return element(
      "li",
      {},
      element("b", { textContent: PARTS[stage] }),
      element("span", { className: "quiet", textContent: named }),
      element("span", { className: "quiet", textContent: state }),
    );
  });
  byId("loaded").replaceChildren(...rows);
}

async function showTools() {
  const { usable, builtins } = await call("GET", "/api/tools");
  byId("tools-unusable").hidden = usable;
  const held = document.activeElement?.id;
  const save = (tool) => (permission) => form.save("tools.permissions", { [tool.name]: permission });
  byId("builtin-tools").replaceChildren(...builtins.map((tool) => toolRow("builtin", tool, save(tool))));
  if (held) byId(held)?.focus();
}

try {
  await form.load();
  const [known, health] = await Promise.all([call("GET", "/api/engines"), call("GET", "/health")]);
  const show = async () => {
    showVoices(byId("voice.name"), known.voices, form.settings.voice.name);
    await showTools().catch((error) => tell(error.message, { key: "load", severity: "error" }));
  };
  form.addEventListener("change", show);
  showShared(known, health);
  await show();
  await tellKept();
} catch (error) {
  tell(error.message, { key: "load", severity: "error" });
}
