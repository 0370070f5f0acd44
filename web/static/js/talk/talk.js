// The talk page: the microphone, the socket, the headset, and how they are shown.

import { INSECURE, Microphone } from "../audio/capture.js";
import { chooseDevices, chosenDevices } from "../audio/devices.js";
import { decode, encode } from "../audio/pcm.js";
import { Playback } from "../audio/playback.js";
import { byId, loudness, setIcon, showLevel } from "../shared/dom.js";
import { tell, tellEngines, tellKept, tellOnce, withdraw } from "../shared/notices.js";
import { Orb } from "./orb.js";
import { Realtime } from "../shared/realtime.js";
import { Tools } from "./tools.js";
import { showTiming } from "./timing.js";
import { Transcript } from "./transcript.js";

const SETTLING = 1000; // ms after which a page that may play sound does so
const BACKLOG = 200_000; // bytes waiting to be sent: beyond this the connection is stuck and sound is dropped

// Kept per tab: a reload, or a visit to another page, ends neither the conversation nor the talking.
const CONVERSATION = "parley.conversation";
const TALKING = "parley.talking";

const realtime = new Realtime();
const microphone = new Microphone();
const playback = new Playback();
const transcript = new Transcript(byId("transcript"), byId("opening"), byId("announced"));

const tools = new Tools(transcript, (call, allow) => realtime.send("parley.tool.answer", { call_id: call, allow }));

let place = byId("room").dataset.place; // "browser" or "soundcard"
let talking = false; // the user pressed Start
let waitingFor = ""; // why the microphone sends no sound although it should
let phase = "listening"; // of the conversation, as reported by the server
let failed = false; // whether a stage has failed
let inPeak = 0;
let reply = null; // {id, made: samples received} of the reply under way
let asleep = false; // whether the browser blocks the page's sound until it is clicked
let elsewhere = false; // whether this conversation is open in another window
let broken = null; // why the last reply failed
let typed = []; // items that wait for the current reply to end

// --- what is shown -------------------------------------------------------------------------------------------------

/** Return [shape of the circle, its label, a further line] for the current state. */
function appearance() {
  if (elsewhere) return ["resting", "Open in another window", "Press the circle to bring it here"];
  if (!realtime.open) return ["waiting", "Connecting…", ""];
  if (!realtime.ready && failed) return ["waiting", "Not ready", "See the message at the top"];
  if (!realtime.ready) return ["waiting", "Getting ready…", ""];
  if (talking && asleep) return ["waiting", "Press the circle to continue", "Your browser needs a click before it plays sound"];
  if (phase === "speaking") return ["speaking", "Speaking", talking ? waitingFor || "Talk over it to interrupt" : ""];
  if (talking && place === "browser" && !microphone.open) {
    return ["waiting", waitingFor ? "Waiting for the microphone" : "Opening the microphone…", waitingFor];
  }
  if (phase === "thinking") return ["thinking", tools.running ? "Using a tool" : "Thinking", ""];
  if (talking && tools.asking) return ["listening", "Waiting for your answer", "Say yes or no"];
  if (!talking) return ["resting", "Ready when you are", ""];
  if (microphone.muted) return ["waiting", "Muted", "Parley can’t hear you"];
  return ["listening", "Listening", ""];
}

function show() {
  const [form, name, more] = appearance();
  orb.form = form;
  byId("talk").dataset.filled = String(form === "resting" || form === "speaking");
  if (byId("state").textContent !== name) byId("state").textContent = name;
  byId("state-more").textContent = more;
  byId("talk-label").textContent = !talking ? "Start talking" : asleep ? "Continue" : "End conversation";
  byId("new").hidden = talking || !transcript.begun;
  setIcon(byId("talk"), talking && !asleep ? "stop" : "mic");
  byId("mute").setAttribute("aria-pressed", String(microphone.muted));
  setIcon(byId("mute"), microphone.muted ? "mic-off" : "mic");
  const here = place === "browser"; // the sound card's headset has its own controls
  byId("mute").disabled = !here;
  byId("volume").disabled = !here;
  byId("stop").disabled = !reply && phase === "listening";
}

const orb = new Orb(byId("orb"), () => {
  if (orb.form === "speaking") return place === "soundcard" ? 0.4 : loudness(playback.level);
  if (orb.form !== "listening") return 0;
  return loudness(inPeak);
});

// --- talking -------------------------------------------------------------------------------------------------------

async function start() {
  if (elsewhere) realtime.connect();
  elsewhere = false;
  talking = true;
  sessionStorage.setItem(TALKING, "yes");
  show();
  try {
    await playback.start();
    if (place === "soundcard") realtime.send("parley.soundcard.start");
    else await microphone.start(chosenDevices().input || null);
    withdraw("microphone");
  } catch (error) {
    talking = false;
    sessionStorage.removeItem(TALKING);
    tell(error.message, { key: "microphone", severity: "error" });
  }
  show();
}

/** Check whether a page that started by itself was denied sound. */
function lookWhetherAsleep() {
  asleep = talking && (playback.asleep || microphone.asleep);
  show();
}

function wake() {
  asleep = false;
  microphone.wake();
  playback.wake();
  show();
}

function stop() {
  talking = false;
  sessionStorage.removeItem(TALKING);
  waitingFor = "";
  withdraw("microphone");
  if (place === "soundcard") realtime.send("parley.soundcard.stop");
  microphone.stop();
  stopReply();
  realtime.send("input_audio_buffer.clear");
  inPeak = 0;
  show();
}

function beginAnew() {
  stop();
  reply = null;
  typed = [];
  phase = "listening";
  transcript.clear();
  sessionStorage.removeItem(CONVERSATION);
  realtime.beginAnew();
  show();
}

function press() {
  if (talking && asleep) wake();
  else if (talking) stop();
  else start();
}

function stopReply() {
  if (reply) {
    playback.drop(reply.id);
    realtime.send("response.cancel", { response_id: reply.id });
  } else if (phase === "thinking") {
    realtime.send("response.cancel");
  }
}

function mute() {
  microphone.muted = !microphone.muted;
  show();
}

function type(text) {
  const id = `item_${[...crypto.getRandomValues(new Uint8Array(10))].map(hex).join("")}`;
  if (!realtime.ready) {
    tell("Parley isn’t ready yet. Your message is still in the box: send it again in a moment.", { key: "words", severity: "warning" });
    return false;
  }
  withdraw("words");
  playback.start(); // sound that arrives before it has started waits in it
  if (reply || !tools.running) stopReply(); // typing does not cancel a running tool
  transcript.user(id, text);
  typed.push({ id, type: "message", role: "user", content: [{ type: "input_text", text }] });
  if (!reply) sendTyped();
  return true;
}

const hex = (byte) => byte.toString(16).padStart(2, "0");

/** One reply at a time: what was typed during a reply is sent when that reply has ended. */
function sendTyped() {
  if (!typed.length) return;
  for (const item of typed) realtime.send("conversation.item.create", { item });
  typed = [];
  realtime.send("response.create");
}

microphone.addEventListener("block", ({ detail: { samples, peak } }) => {
  inPeak = Math.max(inPeak, peak);
  if (realtime.backlog < BACKLOG) realtime.send("input_audio_buffer.append", { audio: encode(samples) });
});
microphone.addEventListener("lost", ({ detail: { message } }) => {
  waitingFor = message;
  inPeak = 0;
  show();
});
microphone.addEventListener("found", () => {
  waitingFor = "";
  show();
});

playback.addEventListener("progress", ({ detail: { reply: id, played, fresh, peak } }) => {
  showLevel(byId("out-level"), peak);
  if (!fresh || !id) return;
  realtime.send("parley.playback", { response_id: id, samples: played });
  transcript.played(id, played);
});

setInterval(() => {
  showLevel(byId("in-level"), inPeak);
  inPeak *= 0.5; // until the microphone's next block
}, 100);

// --- messages from the server --------------------------------------------------------------------------------------

const messages = {
  open() {
    withdraw("socket");
  },
  "session.created"({ session }) {
    transcript.forgetIds();
    if (realtime.conversation && realtime.conversation !== session.id && transcript.begun) {
      transcript.remark("Parley no longer has the earlier conversation, so this is a new one.");
    }
    realtime.conversation = session.id;
    sessionStorage.setItem(CONVERSATION, session.id);
    if (talking && place === "soundcard") realtime.send("parley.soundcard.start");
    phase = "listening";
  },
  "parley.past"({ said }) {
    if (!transcript.begun) transcript.past(said);
  },
  closed({ reason, taken }) {
    if (reply) {
      playback.drop(reply.id);
      transcript.remark("The connection was lost during this reply.");
    }
    reply = null;
    typed = [];
    tools.reset();
    phase = "listening";
    if (taken) {
      elsewhere = true;
      stop();
      return;
    }
    const why = reason ? ` (${reason})` : "";
    tell(`Lost the connection to Parley${why}. Reconnecting…`, {
      key: "socket",
      severity: "warning",
      lasting: true,
    });
  },
  error({ error }) {
    if (error.code === "response_cancel_not_active") return; // it had just ended by itself
    if (error.code?.startsWith("soundcard")) talking = false;
    tell(error.message, { key: "error", severity: "error" });
  },
  "conversation.item.input_audio_transcription.completed"({ item_id: item, transcript: text }) {
    transcript.user(item, text);
  },
  "response.created"({ response }) {
    reply = { id: response.id, made: 0 };
  },
  "response.output_audio_transcript.delta"({ response_id: id, delta }) {
    transcript.reply(id, delta);
  },
  "response.output_audio.delta"({ response_id: id, delta }) {
    if (reply?.id !== id) return;
    const samples = decode(delta);
    reply.made += samples.length;
    transcript.made(id, reply.made);
    playback.play(id, samples);
  },
  "response.output_audio.done"({ response_id: id }) {
    playback.finish(id);
  },
  "response.done"({ response }) {
    if (broken && response.status === "completed") withdraw(broken);
    broken = response.status_details?.error?.message ?? null;
    if (broken) tell(broken, { severity: "error" });
  },
  "parley.state"({ state }) {
    phase = state;
  },
  "parley.level"({ peak }) {
    if (place === "soundcard") inPeak = peak;
  },
  "parley.transcript"({ item_id: item, text, stable }) {
    transcript.partial(item, text, stable);
  },
  "parley.speaker"({ item_id: item, speaker }) {
    transcript.speaker(item, speaker);
  },
  "parley.pause"({ response_id: id }) {
    playback.pause(id);
  },
  "parley.resume"({ response_id: id }) {
    playback.resume(id);
  },
  "parley.reply"(over) {
    if (over.outcome !== "completed") playback.drop(over.response_id);
    transcript.done(over.response_id, over);
    if (reply?.id !== over.response_id) return;
    reply = null;
    sendTyped();
  },
  "parley.recalled"({ items }) {
    transcript.recalled(items);
  },
  "parley.tool"(used) {
    tools.tell(used);
  },
  "parley.turn"({ record }) {
    showTiming(record);
  },
  "parley.notice"({ severity, text }) {
    tellOnce(text, severity);
  },
  "parley.engines"({ engines }) {
    tellEngines(engines);
    failed = Object.values(engines).some(({ state }) => state === "failed");
  },
  "parley.soundcard"({ running }) {
    if (place === "soundcard") talking = running;
  },
  "parley.settings"({ settings }) {
    if (settings.audio.place !== place && talking) stop();
    place = settings.audio.place;
    byId("mind").hidden = settings.mind.engine !== "builtin";
  },
};
for (const [name, handle] of Object.entries(messages)) {
  realtime.addEventListener(name, ({ detail }) => {
    handle(detail);
    show();
  });
}

// --- the user's actions --------------------------------------------------------------------------------------------

byId("talk").addEventListener("click", press);
byId("new").addEventListener("click", beginAnew);
byId("mute").addEventListener("click", mute);
byId("stop").addEventListener("click", stopReply);
byId("help").addEventListener("click", () => byId("help-dialog").showModal());
byId("volume").addEventListener("input", ({ target }) => {
  playback.volume = target.valueAsNumber / 100;
  chooseDevices({ volume: playback.volume });
});
byId("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = byId("words").value.trim();
  if (text && type(text)) byId("words").value = "";
});

const SINGLE_KEYS = "parley.keys"; // "off" if the user does not want single letters to act as keys
byId("single-keys").checked = localStorage.getItem(SINGLE_KEYS) !== "off";
byId("single-keys").addEventListener("change", ({ target }) =>
  localStorage.setItem(SINGLE_KEYS, target.checked ? "on" : "off"),
);

const keys = {
  " ": press,
  m: mute,
  Escape: stopReply,
  y: () => tools.decide(true),
  n: () => tools.decide(false),
  "/": () => byId("words").focus(),
  "?": () => byId("help-dialog").showModal(),
};
document.addEventListener("keydown", (event) => {
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const typing = event.target.closest("input[type=text], textarea");
  // A focused control handles its own keys first; only Escape always works.
  const taken = typing || (key === " " && event.target.closest("button, a, input, summary, select"));
  if (event.repeat || event.ctrlKey || event.metaKey || event.altKey || !Object.hasOwn(keys, key)) return;
  if (key !== "Escape" && !byId("single-keys").checked) return;
  if (document.querySelector("dialog[open]") || (taken && key !== "Escape")) return;
  event.preventDefault();
  keys[key]();
});

document.addEventListener("visibilitychange", () => document.hidden || wake());

// --- to begin with -------------------------------------------------------------------------------------------------

byId("timing").open = window.matchMedia("(min-width: 60.01rem) and (min-height: 55rem)").matches;
const { output, volume } = chosenDevices();
playback.volume = volume;
playback.chooseOutput(output);
byId("volume").value = String(volume * 100);
realtime.conversation = new URLSearchParams(location.search).get("conversation") ?? sessionStorage.getItem(CONVERSATION);
realtime.connect();
show();
if (!window.isSecureContext) tell(INSECURE, { key: "microphone", severity: "warning" });
const goOn = location.hash === "#start" || sessionStorage.getItem(TALKING);
history.replaceState(null, "", location.pathname); // a reload is not a new start
if (goOn) {
  start();
  setTimeout(lookWhetherAsleep, SETTLING);
}
tellKept().catch((error) => tell(error.message, { key: "socket", severity: "error" }));
