// Sounds that a button plays: while a sound plays, its button is a Stop, and another button's sound replaces it.

import { asStop } from "../shared/dom.js";

export class Player {
  #button = null; // the button whose sound is playing
  #stop = null; // ends it

  /**
   * Handle a click of `button`: play its sound, or stop it if it is playing.
   * @param {(signal: AbortSignal) => Promise<void>} play  resolves when it has been heard, or soon after the signal
   * Resolves to whether it was heard to its end. Throws what `play` throws, unless it was stopped.
   */
  async toggle(button, play) {
    const before = this.#button;
    this.#stop?.abort();
    if (before === button) return false;
    const stop = new AbortController();
    [this.#button, this.#stop] = [button, stop];
    const asBefore = asStop(button);
    try {
      await play(stop.signal);
      return !stop.signal.aborted;
    } catch (error) {
      if (!stop.signal.aborted) throw error;
      return false;
    } finally {
      asBefore();
      if (this.#stop === stop) this.#button = this.#stop = null;
    }
  }
}
