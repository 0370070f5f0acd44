// A finished sound, played once through the chosen headphones.

const RATE = 24000;
const NOTES = [392, 494, 587]; // Hz: G4, B4, D5
const NOTE = 0.28; // seconds from one note to the next
const RING = 0.9; // seconds until the last note has died away

/** Three notes that ring out, as a WAV file. */
export function chime() {
  const samples = new Int16Array(Math.round(RATE * (NOTE * (NOTES.length - 1) + RING)));
  NOTES.forEach((pitch, i) => {
    const begin = Math.round(i * NOTE * RATE);
    for (let n = 0; n < RING * RATE; n += 1) {
      const time = n / RATE;
      const shape = Math.min(1, time / 0.01) * Math.exp(-5 * time);
      samples[begin + n] += 7000 * shape * Math.sin(2 * Math.PI * pitch * time);
    }
  });
  return wav(samples);
}

/** Concatenate blocks of Int16Array. */
export function joined(blocks) {
  const samples = new Int16Array(blocks.reduce((sum, block) => sum + block.length, 0));
  let at = 0;
  for (const block of blocks) {
    samples.set(block, at);
    at += block.length;
  }
  return samples;
}

/** @param {Int16Array} samples mono at 24 kHz */
export function wav(samples) {
  const header = new DataView(new ArrayBuffer(44));
  const text = (at, letters) => [...letters].forEach((letter, i) => header.setUint8(at + i, letter.charCodeAt(0)));
  text(0, "RIFF");
  header.setUint32(4, 36 + samples.byteLength, true);
  text(8, "WAVEfmt ");
  header.setUint32(16, 16, true);
  header.setUint16(20, 1, true); // PCM
  header.setUint16(22, 1, true); // mono
  header.setUint32(24, RATE, true);
  header.setUint32(28, RATE * 2, true);
  header.setUint16(32, 2, true);
  header.setUint16(34, 16, true);
  text(36, "data");
  header.setUint32(40, samples.byteLength, true);
  return new Blob([header, samples], { type: "audio/wav" });
}

/**
 * @param {Blob} wav  @param {string} output a device's id, "" for the system's choice  @param {AbortSignal} signal ends it
 * @returns {Promise<void>} resolves when it has been played or stopped. Throws if it cannot be played.
 */
export async function playSample(wav, output, signal) {
  const address = URL.createObjectURL(wav);
  const audio = new Audio(address);
  try {
    if (output && "setSinkId" in audio) {
      try {
        await audio.setSinkId(output);
      } catch (error) {
        if (error.name !== "NotFoundError") throw error; // unplugged since: use the system's choice
      }
    }
    const ended = new Promise((resolve, reject) => {
      audio.addEventListener("ended", resolve, { once: true });
      audio.addEventListener("error", () => reject(new Error("The sound could not be played.")), { once: true });
      signal.addEventListener("abort", resolve, { once: true });
    });
    signal.throwIfAborted();
    await audio.play();
    await ended;
  } finally {
    audio.pause();
    URL.revokeObjectURL(address);
  }
}

/** Return the content of a file or blob in base64, for JSON. */
export async function base64(file) {
  const url = await new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.addEventListener("load", () => resolve(reader.result));
    reader.addEventListener("error", () => reject(new Error("The file can’t be read.")));
    reader.readAsDataURL(file);
  });
  return url.slice(url.indexOf(",") + 1);
}
