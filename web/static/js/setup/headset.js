// Where the headset is, its microphone and headphones, and trying them: the level, the test sound, and the speech
// probability from the voice activity model.

import { call } from "../shared/api.js";
import { Microphone } from "../audio/capture.js";
import { chooseDevices, chosenDevices, listDevices } from "../audio/devices.js";
import { encode } from "../audio/pcm.js";
import { Playback } from "../audio/playback.js";
import { chime, playSample } from "../audio/sample.js";
import { asStop, byId, showLevel } from "../shared/dom.js";
import { Likelihood } from "./likelihood.js";
import { Realtime } from "../shared/realtime.js";

const FALL = 0.6; // of the meter, every tenth of a second

export class Headset {
  #form;
  #microphone = new Microphone();
  #realtime = null; // while the model listens
  #likelihood = new Likelihood(byId("likelihood"));
  #idle = null; // while it listens: restores the buttons
  #player;
  #peak = 0;

  constructor(form, player) {
    this.#form = form;
    this.#player = player;
    this.#microphone.addEventListener("block", ({ detail }) => this.#block(detail));
    this.#microphone.addEventListener("lost", ({ detail }) => this.#say(detail.message));
    this.#microphone.addEventListener("found", ({ detail }) => this.#found(detail.label));
    byId("listen").addEventListener("click", () => this.#toggle());
    byId("watch").addEventListener("click", () => this.#toggle());
    byId("input").addEventListener("change", () => this.#chooseInput());
    byId("output").addEventListener("change", () => this.#chooseOutput());
    byId("test-sound").addEventListener("click", () => this.#test());
    byId("ears.sensitivity").addEventListener("input", ({ target }) => (this.#likelihood.line = target.valueAsNumber));
    navigator.mediaDevices?.addEventListener("devicechange", () => this.#list());
    setInterval(() => {
      showLevel(byId("in-level"), this.#peak);
      this.#peak *= FALL;
    }, 100);
  }

  get #inBrowser() {
    return this.#form.settings.audio.place === "browser";
  }

  async load() {
    let place = this.#form.settings.audio.place;
    this.#form.addEventListener("change", async () => {
      this.#likelihood.line = this.#form.settings.ears.sensitivity;
      if (place === this.#form.settings.audio.place) return;
      place = this.#form.settings.audio.place;
      this.#stop();
      await this.#list();
    });
    this.#likelihood.line = this.#form.settings.ears.sensitivity;
    await this.#list();
  }

  // -- which devices ------------------------------------------------------------------------------------------------

  async #list() {
    byId("output-line").textContent = "";
    if (this.#inBrowser) await this.#listBrowser();
    else await this.#listSoundcard();
  }

  async #listBrowser() {
    const { inputs, outputs } = await listDevices();
    const { input, output } = chosenDevices();
    fill(
      byId("input"),
      inputs.map(({ deviceId, label }) => [deviceId, label || "Microphone"]),
      input,
    );
    fill(
      byId("output"),
      outputs.map(({ deviceId, label }) => [deviceId, label || "Headphones"]),
      output,
    );
    byId("output").disabled = !Playback.canChooseOutput;
    if (!Playback.canChooseOutput) {
      byId("output-line").textContent =
        "This browser plays through your system’s default output. Change it in your system’s sound settings.";
    } else if (inputs.length && !inputs.some(({ label }) => label)) {
      byId("output-line").textContent = "Device names appear once you allow the microphone.";
    }
  }

  async #listSoundcard() {
    byId("output").disabled = false;
    try {
      const { inputs, outputs } = await call("GET", "/api/soundcard/devices");
      const names = (devices) => devices.map((device) => [device.name, device.name]);
      fill(byId("input"), names(inputs), this.#form.settings.audio.input ?? "");
      fill(byId("output"), names(outputs), this.#form.settings.audio.output ?? "");
    } catch (error) {
      fill(byId("input"), [], "");
      fill(byId("output"), [], "");
      byId("output-line").textContent = error.message;
    }
  }

  async #chooseInput() {
    const chosen = byId("input").value;
    if (!this.#inBrowser) {
      await this.#form.save("audio.input", chosen || null);
      return;
    }
    chooseDevices({ input: chosen });
    if (this.#idle) await this.#start();
  }

  async #chooseOutput() {
    const chosen = byId("output").value;
    if (this.#inBrowser) chooseDevices({ output: chosen });
    else await this.#form.save("audio.output", chosen || null);
  }

  // -- trying them --------------------------------------------------------------------------------------------------

  async #toggle() {
    if (this.#idle) this.#stop();
    else await this.#start();
  }

  async #start() {
    this.#show(true);
    if (this.#inBrowser) {
      try {
        await this.#microphone.start(chosenDevices().input || null);
      } catch (error) {
        this.#stop();
        this.#say(error.message);
        return;
      }
    }
    this.#watch();
  }

  #stop() {
    this.#microphone.stop();
    this.#realtime?.close();
    this.#realtime = null;
    this.#show(false);
    byId("likelihood-now").textContent = "Full bars count as speech.";
    this.#say("Press “Try it” and say something. The bar moves as you speak.");
  }

  #show(listening) {
    this.#idle?.forEach((asBefore) => asBefore());
    this.#idle = listening ? [byId("listen"), byId("watch")].map((button) => asStop(button)) : null;
  }

  #say(text) {
    byId("listen-line").textContent = text;
  }

  async #found(label) {
    this.#say(`Listening with ${label || "the default microphone"}.`);
    await this.#listBrowser();
  }

  #block({ samples, peak }) {
    this.#peak = Math.max(this.#peak, peak);
    this.#realtime?.send("input_audio_buffer.append", { audio: encode(samples) });
  }

  /** A conversation that only listens: the client controls the turns, so nothing is answered. */
  #watch() {
    if (this.#realtime) return;
    const realtime = new Realtime();
    this.#realtime = realtime;
    realtime.addEventListener("session.created", () => {
      const session = { type: "realtime", audio: { input: { turn_detection: null } } };
      realtime.send("session.update", { session });
      if (!this.#inBrowser) realtime.send("parley.soundcard.start");
    });
    realtime.addEventListener("parley.level", ({ detail: { peak, speech_probability: probability } }) => {
      this.#likelihood.add(probability);
      byId("likelihood-now").textContent = `Now ${Math.round(probability * 100)}%.`;
      if (!this.#inBrowser) this.#peak = Math.max(this.#peak, peak);
    });
    realtime.addEventListener("parley.notice", ({ detail: { severity, text } }) => {
      if (severity !== "error") return;
      this.#stop();
      this.#say(text);
    });
    realtime.addEventListener("error", ({ detail: { error } }) => this.#say(error.message));
    realtime.connect();
  }

  async #test() {
    byId("output-line").textContent = "";
    try {
      const heard = await this.#player.toggle(byId("test-sound"), async (signal) => {
        if (this.#inBrowser) await playSample(chime(), chosenDevices().output, signal);
        else await call("POST", "/api/soundcard/test", {}, signal);
      });
      if (heard) byId("output-line").textContent = "You should have heard a chime. If you didn’t, choose another device and try again.";
    } catch (error) {
      byId("output-line").textContent = error.message;
    }
  }
}

/** Fill a select with devices; a chosen device that is missing stays in it, marked as missing. */
function fill(select, devices, chosen) {
  const options = [new Option("System default", "", false, chosen === "")];
  for (const [value, label] of devices) options.push(new Option(label, value, false, value === chosen));
  if (chosen && !devices.some(([value]) => value === chosen)) {
    options.push(new Option("Your chosen device (not connected)", chosen, false, true));
  }
  select.replaceChildren(...options);
}
