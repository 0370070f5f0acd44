// Records on this page: a button starts it and is its Stop meanwhile; it ends by itself at the maximum length.

import { Microphone } from "./capture.js";
import { chosenDevices } from "./devices.js";
import { joined } from "./sample.js";
import { asStop } from "../shared/dom.js";

const RATE = 24000;

/**
 * Events: `second` ({seconds}) at each whole second; `silent` ({message}) if there is no microphone or it is lost;
 * `made` ({samples: Int16Array at 24 kHz}) at its end, unless nothing was heard.
 */
export class Recorder extends EventTarget {
  #button;
  #longest;
  #microphone = new Microphone();
  #blocks = [];
  #length = 0; // samples
  #idle = null; // while it records: restores the button

  /** @param {number} longest seconds */
  constructor(button, longest) {
    super();
    this.#button = button;
    this.#longest = longest;
    this.#microphone.addEventListener("block", ({ detail: { samples } }) => this.#heard(samples));
    this.#microphone.addEventListener("lost", ({ detail: { message } }) => this.#tell("silent", { message }));
  }

  get running() {
    return this.#idle !== null;
  }

  async toggle() {
    if (this.running) this.#stop();
    else await this.#start();
  }

  async #start() {
    [this.#blocks, this.#length] = [[], 0];
    this.#idle = asStop(this.#button, "Stop recording");
    try {
      await this.#microphone.start(chosenDevices().input || null);
    } catch ({ message }) {
      this.#stop();
      this.#tell("silent", { message });
    }
  }

  #stop() {
    this.#microphone.stop();
    this.#idle?.();
    this.#idle = null;
    const samples = joined(this.#blocks);
    this.#blocks = [];
    if (samples.length) this.#tell("made", { samples });
  }

  #heard(samples) {
    if (!this.running) return;
    const before = this.#seconds;
    this.#blocks.push(samples);
    this.#length += samples.length;
    if (this.#seconds > before || this.#blocks.length === 1) this.#tell("second", { seconds: this.#seconds });
    if (this.#seconds >= this.#longest) this.#stop();
  }

  get #seconds() {
    return Math.floor(this.#length / RATE);
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
