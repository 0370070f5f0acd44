// The playback worklet without an audio thread, which browsers deny to pages loaded over plain http from another
// computer. It uses the same queue with the older ScriptProcessor, which may stutter when the page is busy.

const QUANTUM = 128;
const BLOCK = 2048; // samples at a time: 85 ms

/** @returns {Promise<AudioNode & {port: MessagePort}>} like the AudioWorkletNode of playback-worklet.js */
export async function playerOnThePage(context) {
  const { port1: port, port2: inside } = new MessageChannel();
  let Processor = null;
  globalThis.sampleRate = context.sampleRate;
  globalThis.AudioWorkletProcessor = class {
    port = inside;
  };
  globalThis.registerProcessor = (_, made) => (Processor = made);
  await import("./playback-worklet.js");
  const processor = new Processor();
  const node = context.createScriptProcessor(BLOCK, 0, 1);
  node.addEventListener("audioprocess", ({ outputBuffer }) => {
    const block = outputBuffer.getChannelData(0);
    for (let at = 0; at < BLOCK; at += QUANTUM) processor.process([], [[block.subarray(at, at + QUANTUM)]]);
  });
  node.port = port;
  return node;
}
