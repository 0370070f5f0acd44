// The sample sentence, as the chosen voice says it.

import { chosenDevices } from "../audio/devices.js";
import { playSample } from "../audio/sample.js";
import { call } from "../shared/api.js";
import { byId } from "../shared/dom.js";

/** Play it, or stop it. `choose` may choose a voice first; nothing is played unless it resolves to true. */
export async function hear(player, button, { choose = () => true, atSoundCard = false } = {}) {
  byId("hear-error").textContent = "";
  try {
    await player.toggle(button, async (signal) => {
      if (!(await choose()) || signal.aborted) return;
      const text = byId("hear-text").value.trim();
      if (atSoundCard) await call("POST", "/api/soundcard/hear", { text }, signal);
      else await playSample(await call("POST", "/api/voice/hear", { text }, signal), chosenDevices().output, signal);
    });
  } catch (error) {
    byId("hear-error").textContent = error.message;
  }
}
