// A rational resampler that keeps its state between blocks: a polyphase windowed sinc (Blackman) with an exact clock.

const HALF_WIDTH = 16; // zero crossings of the sinc on each side, at the lower of the two rates

const gcd = (a, b) => (b ? gcd(b, a % b) : a);

export class Resampler {
  /** @param {number} from Hz  @param {number} to Hz */
  constructor(from, to) {
    const common = gcd(Math.round(from), Math.round(to));
    this.phases = Math.round(to) / common;
    this.step = Math.round(from) / common;
    const cutoff = Math.min(1, to / from) * 0.95;
    this.half = Math.ceil(HALF_WIDTH / cutoff);
    this.filters = Array.from({ length: this.phases }, (_, phase) => this.#filter(phase / this.phases, cutoff));
    this.input = new Float32Array(2 * this.half); // starts in silence
    this.position = this.half * this.phases; // of the next output, in input samples times `phases`
  }

  #filter(fraction, cutoff) {
    const taps = new Float32Array(2 * this.half);
    let sum = 0;
    for (let i = 0; i < taps.length; i += 1) {
      const x = i - this.half + 1 - fraction;
      const sinc = x === 0 ? 1 : Math.sin(Math.PI * cutoff * x) / (Math.PI * cutoff * x);
      const t = x / this.half;
      const window = Math.abs(t) >= 1 ? 0 : 0.42 + 0.5 * Math.cos(Math.PI * t) + 0.08 * Math.cos(2 * Math.PI * t);
      taps[i] = sinc * window;
      sum += taps[i];
    }
    return taps.map((tap) => tap / sum);
  }

  /** @param {Float32Array} block of any length  @returns {Float32Array} the output available so far */
  process(block) {
    if (this.phases === 1 && this.step === 1) return block.slice();
    const input = new Float32Array(this.input.length + block.length);
    input.set(this.input);
    input.set(block, this.input.length);
    const output = [];
    let index = Math.floor(this.position / this.phases);
    while (index + this.half < input.length) {
      const taps = this.filters[this.position % this.phases];
      const start = index - this.half + 1;
      let sum = 0;
      for (let i = 0; i < taps.length; i += 1) sum += taps[i] * input[start + i];
      output.push(sum);
      this.position += this.step;
      index = Math.floor(this.position / this.phases);
    }
    const drop = Math.max(0, Math.min(index - this.half + 1, input.length));
    this.input = input.slice(drop);
    this.position -= drop * this.phases;
    return Float32Array.from(output);
  }
}
