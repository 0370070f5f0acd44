// The microphone's side of the audio thread: mono, 24 kHz, 16 bit, in blocks of 20 ms.

import { Resampler } from "./resampler.js";

const RATE = 24000;
const BLOCK = 480;

class Capture extends AudioWorkletProcessor {
  constructor() {
    super();
    this.resampler = new Resampler(sampleRate, RATE);
    this.block = new Int16Array(BLOCK);
    this.filled = 0;
    this.peak = 0;
  }

  process([channels]) {
    if (!channels.length) return true;
    const mono = channels[0].slice();
    for (const other of channels.slice(1)) for (let i = 0; i < mono.length; i += 1) mono[i] += other[i];
    for (const sample of this.resampler.process(mono)) {
      const value = Math.max(-1, Math.min(1, sample / channels.length));
      this.peak = Math.max(this.peak, Math.abs(value));
      this.block[this.filled] = Math.round(value * 32767);
      this.filled += 1;
      if (this.filled === BLOCK) this.#send();
    }
    return true;
  }

  #send() {
    this.port.postMessage({ samples: this.block, peak: this.peak }, [this.block.buffer]);
    this.block = new Int16Array(BLOCK);
    this.filled = 0;
    this.peak = 0;
  }
}

registerProcessor("capture", Capture);
