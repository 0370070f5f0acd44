// The microphone: opened with echo cancellation, monitored, and reopened by itself when it comes back.

const SYSTEM_BLOCKS =
  "Your computer is keeping the microphone from the browser. Allow it in the system’s privacy settings (on a Mac: System " +
  "Settings, Privacy & Security, Microphone), then restart the browser.";

const ADDRESS_HINT = "Allow it with the icon next to the page’s address, then press Start talking again.";

export const INSECURE =
  "Browsers only allow the microphone on secure pages. Start Parley with --https, or open it on the computer it runs " +
  "on. You can still type.";

/** Why there is no microphone, in one sentence for the user. `lasting`: waiting will not help. */
export class MicrophoneError extends Error {
  constructor(message, lasting) {
    super(message);
    this.lasting = lasting;
  }
}

function explain(error) {
  switch (error.name) {
    case "NotAllowedError":
    case "SecurityError":
      // Chromium’s wording; other browsers do not distinguish the two.
      if (/denied by system/i.test(error.message)) return new MicrophoneError(SYSTEM_BLOCKS, true);
      return new MicrophoneError(`Your browser is blocking the microphone. ${ADDRESS_HINT}`, true);
    case "NotFoundError":
    case "OverconstrainedError":
      return new MicrophoneError("No microphone found. Plug one in, and Parley will carry on.", false);
    case "NotReadableError":
    case "AbortError":
      return new MicrophoneError(
        "Another program is using the microphone. Close it, and Parley will carry on.",
        false,
      );
    default:
      return new MicrophoneError(`The microphone couldn’t be opened (${error.message || error.name}).`, true);
  }
}

/** `exact`, since browsers may ignore an `ideal` device. If the device is missing, the system's choice is opened. */
async function open(constraints, id) {
  if (id) {
    try {
      return await navigator.mediaDevices.getUserMedia({ audio: { ...constraints, deviceId: { exact: id } } });
    } catch (error) {
      if (error.name !== "OverconstrainedError" && error.name !== "NotFoundError") throw error;
    }
  }
  return navigator.mediaDevices.getUserMedia({ audio: constraints });
}

/**
 * Events: `block` ({samples: Int16Array at 24 kHz, peak}), `lost` ({message}) and `found` ({label}).
 */
export class Microphone extends EventTarget {
  #stream = null;
  #context = null;
  #wanted = null; // {id, label} while open or waiting to be
  #muted = false;
  #onDevices = () => this.#retry();

  get open() {
    return this.#stream !== null;
  }

  get asleep() {
    return this.#context?.state === "suspended";
  }

  get muted() {
    return this.#muted;
  }

  /** While muted, the track sends silence: the conversation's clock goes on and nothing is heard. */
  set muted(value) {
    this.#muted = value;
    for (const track of this.#stream?.getAudioTracks() ?? []) track.enabled = !value;
  }

  /**
   * Open the device with this id (null: the system's choice). If it is missing, fires `lost` and waits for it.
   * Throws MicrophoneError if waiting will not help.
   */
  async start(id = null) {
    if (!navigator.mediaDevices?.getUserMedia) {
      throw new MicrophoneError(INSECURE, true);
    }
    this.#wanted = { id };
    navigator.mediaDevices.addEventListener("devicechange", this.#onDevices);
    try {
      await this.#open();
    } catch (error) {
      if (error.lasting) {
        this.stop();
        throw error;
      }
      this.#emit("lost", { message: error.message });
    }
  }

  stop() {
    this.#wanted = null;
    navigator.mediaDevices?.removeEventListener("devicechange", this.#onDevices);
    this.#close();
  }

  /** Resume the audio thread, which the browser may have suspended while the tab slept. */
  async wake() {
    if (this.#context?.state === "suspended") await this.#context.resume();
  }

  async #open() {
    const wanted = this.#wanted;
    const constraints = { echoCancellation: true, noiseSuppression: true, autoGainControl: true };
    let stream;
    try {
      stream = await open(constraints, wanted.id);
    } catch (error) {
      throw explain(error);
    }
    const context = new AudioContext({ latencyHint: "interactive" });
    await context.audioWorklet.addModule("/static/js/audio/capture-worklet.js");
    if (this.#wanted !== wanted) {
      // Stopped, or another device requested, while this one was being opened.
      for (const track of stream.getTracks()) track.stop();
      await context.close();
      return;
    }
    this.#close();
    this.#stream = stream;
    this.#context = context;
    this.muted = this.#muted;
    const [track] = stream.getAudioTracks();
    track.addEventListener("ended", () => this.#lose(stream));
    const node = new AudioWorkletNode(context, "capture", { numberOfOutputs: 0 });
    node.port.onmessage = ({ data }) => this.#emit("block", data);
    context.createMediaStreamSource(stream).connect(node);
    context.resume(); // not awaited: it waits for a click if the page started by itself
    this.#emit("found", { label: track.label });
  }

  #lose(stream) {
    if (stream !== this.#stream) return;
    this.#close();
    this.#emit("lost", { message: "The microphone was unplugged. Plug it back in, and Parley will carry on." });
    this.#retry();
  }

  async #retry() {
    if (!this.#wanted || this.#stream) return;
    try {
      await this.#open();
    } catch (error) {
      this.#emit("lost", { message: error.message });
    }
  }

  #close() {
    for (const track of this.#stream?.getTracks() ?? []) track.stop();
    this.#context?.close();
    this.#stream = null;
    this.#context = null;
  }

  #emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
