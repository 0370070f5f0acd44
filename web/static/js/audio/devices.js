// Which of this browser's devices the user chose. Device ids are the browser's own, so the choice is stored there.

const KEY = "parley.devices";

/** @returns {{input: string, output: string, volume: number}} device ids, "" for the system's choice; volume 0 to 1 */
export function chosenDevices() {
  try {
    return { input: "", output: "", volume: 1, ...JSON.parse(localStorage.getItem(KEY) ?? "{}") };
  } catch {
    return { input: "", output: "", volume: 1 };
  }
}

export function chooseDevices(change) {
  localStorage.setItem(KEY, JSON.stringify({ ...chosenDevices(), ...change }));
}

/**
 * The devices have names only once the microphone is allowed.
 * @returns {Promise<{inputs: MediaDeviceInfo[], outputs: MediaDeviceInfo[]}>}
 */
export async function listDevices() {
  const all = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
  const usable = all.filter((device) => device.deviceId && !["default", "communications"].includes(device.deviceId));
  return {
    inputs: usable.filter((device) => device.kind === "audioinput"),
    outputs: usable.filter((device) => device.kind === "audiooutput"),
  };
}
