// The running parts by the names shown to users, in the order in which they are listed.

export const PARTS = {
  ears: "Ears",
  mind: "Mind",
  voice: "Voice",
  memory: "Memory",
  vad: "Noticing speech",
  turns: "Turn-taking",
  speakers: "Telling voices apart",
};
