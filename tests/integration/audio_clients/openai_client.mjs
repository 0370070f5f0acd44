// OpenAI's JavaScript client, told Parley's address: a sentence is spoken, and what was heard is printed.
import OpenAI, { toFile } from "openai";

const [url, text] = process.argv.slice(2);
const client = new OpenAI({ baseURL: url, apiKey: "none", maxRetries: 0 });
const spoken = await client.audio.speech.create({ model: "tts-1", voice: "alloy", input: text, response_format: "mp3" });
const file = await toFile(Buffer.from(await spoken.arrayBuffer()), "speech.mp3");
const heard = await client.audio.transcriptions.create({ file, model: "whisper-1", response_format: "verbose_json",
  timestamp_granularities: ["word", "segment"] });
if (!heard.words.length || !heard.segments.length) throw new Error("no times");
let streamed = "";
for await (const event of await client.audio.transcriptions.create({ file, model: "gpt-4o-transcribe", stream: true }))
  if (event.type === "transcript.text.delta") streamed += event.delta;
if (streamed !== heard.text) throw new Error(`streamed ${streamed}`);
let answer = "";
for await (const chunk of await client.chat.completions.create({ model: "parley", stream: true,
  messages: [{ role: "user", content: "What is two plus two?" }] })) answer += chunk.choices[0]?.delta.content ?? "";
if (!answer) throw new Error("no answer");
console.log(heard.text);
