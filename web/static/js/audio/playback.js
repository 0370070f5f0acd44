// The headset: one audio context at 24 kHz, whose worklet queues a reply and reports how much of it was heard.

import { playerOnThePage } from "./playback-on-page.js";

const RATE = 24000;
const QUANTUM = 128;

/** Return the queue on the audio thread; on the page itself if an insecure page has no audio thread. */
async function player(context) {
  if (!context.audioWorklet) return playerOnThePage(context);
  await context.audioWorklet.addModule("/static/js/audio/playback-worklet.js");
  return new AudioWorkletNode(context, "playback", { numberOfInputs: 0, outputChannelCount: [1] });
}

/** Events: `progress` ({reply, played: samples heard so far, fresh, peak, queued}), about ten times a second. */
export class Playback extends EventTarget {
  #context = null;
  #starting = null;
  #node = null;
  #gain = null;
  #analyser = null;
  #carrier = null; // an <audio> element, in browsers where only those can choose their output
  #volume = 1;
  #output = "";
  #frame = new Float32Array(512);
  #early = []; // messages from before the audio thread existed

  /** Best called from a click or a key: browsers keep a page `asleep` until there has been one. */
  async start() {
    this.#starting ??= this.#open();
    await this.#starting;
    this.wake(); // not awaited: it may wait for that click
  }

  get asleep() {
    return this.#context?.state === "suspended";
  }

  async #open() {
    const context = new AudioContext({ sampleRate: RATE, latencyHint: "interactive" });
    const node = await player(context);
    this.#gain = new GainNode(context, { gain: this.#volume });
    this.#analyser = new AnalyserNode(context, { fftSize: 512 });
    node.connect(this.#gain).connect(this.#analyser);
    this.#context = context;
    await this.#connectOutput();
    this.#node = node;
    node.port.onmessage = ({ data }) => {
      this.#tellLatency();
      this.dispatchEvent(new CustomEvent("progress", { detail: data }));
    };
    this.#tellLatency();
    for (const message of this.#early.splice(0)) this.#post(message);
  }

  #post(message) {
    if (this.#node) this.#node.port.postMessage(message, message.samples ? [message.samples.buffer] : []);
    else if (this.#starting) this.#early.push(message);
  }

  async #connectOutput() {
    if ("setSinkId" in this.#context || !("setSinkId" in HTMLMediaElement.prototype)) {
      this.#analyser.connect(this.#context.destination);
    } else {
      const stream = new MediaStreamAudioDestinationNode(this.#context);
      this.#analyser.connect(stream);
      this.#carrier = new Audio();
      this.#carrier.srcObject = stream.stream;
      await this.#carrier.play();
    }
    await this.#useOutput();
  }

  /** Whether this browser lets a page choose its output device. */
  static get canChooseOutput() {
    return "setSinkId" in AudioContext.prototype || "setSinkId" in HTMLMediaElement.prototype;
  }

  /** @param {string} id a device's id, "" for the system's choice, which also replaces a missing device. */
  async chooseOutput(id) {
    this.#output = id;
    if (this.#context) await this.#useOutput();
  }

  async #useOutput() {
    const sink = this.#carrier ?? this.#context;
    if (!("setSinkId" in sink)) return;
    try {
      await sink.setSinkId(this.#output);
    } catch (error) {
      if (error.name !== "NotFoundError") throw error;
      await sink.setSinkId("");
    }
  }

  #tellLatency() {
    const latency = this.#context.outputLatency || this.#context.baseLatency || 0;
    this.#node.port.postMessage({ do: "latencyIs", quanta: Math.round((latency * RATE) / QUANTUM) });
  }

  set volume(value) {
    this.#volume = value;
    if (this.#gain) this.#gain.gain.setTargetAtTime(value, this.#context.currentTime, 0.02);
  }

  get volume() {
    return this.#volume;
  }

  /** Queue samples of a reply; a different reply replaces the previous one. */
  play(reply, samples) {
    this.#post({ do: "audio", reply, samples });
  }

  /** No more samples of this reply will come. */
  finish(reply) {
    this.#post({ do: "finish", reply });
  }

  pause(reply) {
    this.#post({ do: "pause", reply });
  }

  resume(reply) {
    this.#post({ do: "resume", reply });
  }

  drop(reply) {
    this.#post({ do: "drop", reply });
  }

  /** The peak of the sound being played, 0 to 1. */
  get level() {
    if (!this.#analyser) return 0;
    this.#analyser.getFloatTimeDomainData(this.#frame);
    let peak = 0;
    for (const sample of this.#frame) peak = Math.max(peak, Math.abs(sample));
    return peak;
  }

  async wake() {
    if (this.#context?.state === "suspended" || this.#context?.state === "interrupted") await this.#context.resume();
  }
}
