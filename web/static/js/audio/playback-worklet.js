// The headset's side of the audio thread: a queue of one reply's samples, played without gaps. Pausing, dropping and
// running dry fade out within one render quantum (128 samples, 5 ms), so nothing clicks. After a pause, whatever was
// faded out is played again, faded in.

const CUSHION = 1440; // samples (60 ms) to gather before playing, against network jitter
const REPORT = 2400; // samples (100 ms) between reports

class Playback extends AudioWorkletProcessor {
  constructor() {
    super();
    this.latency = 0; // quanta from here to the ear
    this.journey = []; // sound on its way to the ear: {reply, played}
    this.sinceReport = 0;
    this.peak = 0;
    this.fresh = false; // more was heard than has been reported
    this.heard = null;
    this.dropped = null;
    this.tail = null; // the end of dropped sound, still to fade out
    this.sounding = false; // the last quantum had sound
    this.#begin(null);
    this.port.onmessage = ({ data }) => this[data.do](data);
  }

  #begin(reply) {
    this.reply = reply;
    this.queue = [];
    this.offset = 0; // position in the first block
    this.queued = 0; // samples
    this.played = 0; // samples
    this.complete = false; // no more will come
    this.flowing = false; // the cushion has been gathered
    this.paused = false;
  }

  latencyIs({ quanta }) {
    this.latency = quanta;
  }

  audio({ reply, samples }) {
    if (reply === this.dropped) return;
    if (reply !== this.reply) {
      this.#cut();
      this.#begin(reply);
    }
    this.queue.push(samples);
    this.queued += samples.length;
  }

  finish({ reply }) {
    if (reply === this.reply) this.complete = true;
  }

  pause({ reply }) {
    if (reply === this.reply) this.paused = true;
  }

  resume({ reply }) {
    if (reply === this.reply) this.paused = false;
  }

  drop({ reply }) {
    if (reply !== this.reply) return;
    this.#cut();
    const { played } = this;
    this.#begin(reply);
    this.played = played;
    this.dropped = reply;
  }

  #cut() {
    if (this.sounding) this.tail = this.#peek(128);
    this.sounding = false;
  }

  process(_, [[output, ...copies]]) {
    this.#fill(output);
    for (const copy of copies) copy.set(output);
    for (const sample of output) this.peak = Math.max(this.peak, Math.abs(sample));
    this.journey.push({ reply: this.reply, played: this.played });
    while (this.journey.length > this.latency) {
      const arrived = this.journey.shift();
      const before = arrived.reply === this.heard?.reply ? this.heard.played : 0;
      if (before !== arrived.played) this.fresh = true;
      if (before === 0 && arrived.played > 0) this.sinceReport = REPORT; // the first sound is reported at once
      this.heard = arrived;
    }
    this.sinceReport += output.length;
    if (this.sinceReport >= REPORT) this.#report();
    return true;
  }

  #fill(output) {
    if (this.tail) {
      this.#fade(output, this.tail, 1, 0);
      this.tail = null;
      return;
    }
    const ready = this.complete ? this.queued > 0 : this.queued >= (this.flowing ? 1 : CUSHION);
    if (this.paused || !ready) {
      if (this.sounding) this.#fade(output, this.#peek(output.length), 1, 0);
      this.sounding = false;
      if (!ready) this.flowing = false;
      return;
    }
    const samples = this.#take(output.length);
    const last = samples.length < output.length || (this.queued === 0 && !this.complete);
    this.#fade(output, samples, this.sounding ? 1 : 0, last ? 0 : 1);
    this.sounding = !last;
    this.flowing = !last;
  }

  /** Copy samples into the output while the gain goes from one value to another. */
  #fade(output, samples, from, to) {
    for (let i = 0; i < samples.length; i += 1) output[i] = samples[i] * (from + ((to - from) * i) / samples.length);
  }

  #peek(count) {
    const samples = new Float32Array(Math.min(count, this.queued));
    let offset = this.offset;
    let filled = 0;
    for (const block of this.queue) {
      if (filled === samples.length) break;
      const part = block.subarray(offset, offset + samples.length - filled);
      samples.set(part, filled);
      filled += part.length;
      offset = 0;
    }
    return samples;
  }

  #take(count) {
    const samples = this.#peek(count);
    let left = samples.length;
    while (left > 0) {
      const rest = this.queue[0].length - this.offset;
      if (left < rest) {
        this.offset += left;
        break;
      }
      left -= rest;
      this.queue.shift();
      this.offset = 0;
    }
    this.queued -= samples.length;
    this.played += samples.length;
    return samples;
  }

  #report() {
    const { reply, played } = this.heard ?? { reply: null, played: 0 };
    this.port.postMessage({ reply, played, fresh: this.fresh, peak: this.peak, queued: this.queued });
    this.fresh = false;
    this.sinceReport = 0;
    this.peak = 0;
  }
}

registerProcessor("playback", Playback);
