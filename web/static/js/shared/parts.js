// The running parts as people call them, in the order in which they are listed.

export const PARTS = {
  ears: "Ears",
  mind: "Mind",
  voice: "Voice",
  memory: "Memory",
  vad: "Noticing speech",
  turns: "Turn-taking",
  speakers: "Telling voices apart",
};
