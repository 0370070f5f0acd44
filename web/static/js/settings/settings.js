// The settings of one of several users at a gateway. The administrator chooses the engines; they are only shown.

import { Player } from "../audio/player.js";
import { Companion } from "../setup/companion.js";
import { hear } from "../setup/hear.js";
import { SettingsForm } from "../setup/settings-form.js";
import { showBuiltins } from "../setup/tool-row.js";
import { showVoices } from "../setup/voice-list.js";
import { call } from "../shared/api.js";
import { byId, element } from "../shared/dom.js";
import { tell, tellKept } from "../shared/notices.js";
import { PARTS } from "../shared/parts.js";

const form = new SettingsForm();
const player = new Player();
new Companion(form);

byId("hear").addEventListener("click", () => hear(player, byId("hear")));

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
  const told = await call("GET", "/api/tools");
  const held = document.activeElement?.id;
  showBuiltins(form, told);
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
