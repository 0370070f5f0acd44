// Voices worth offering, by engine: the name that settings.voice.name takes, and what people call it.

export const VOICES = {
  espeak: [
    ["", "American English"],
    ["en-gb", "British English"],
    ["en-gb-x-rp", "British English, received pronunciation"],
    ["en-gb-scotland", "Scottish English"],
    ["en-gb-x-gbclan", "Lancashire English"],
    ["en-gb-x-gbcwmd", "West Midlands English"],
    ["en-029", "Caribbean English"],
  ],
};
