// openai in JavaScript, over its WebSocket.
import OpenAI from "openai";
import { OpenAIRealtimeWS } from "openai/realtime/ws";

const loud = new Int16Array(48000).map((_, at) => (at < 24000 ? Math.sin(at / 10) * 8000 : 0));
const speech = Buffer.from(loud.buffer).toString("base64");
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
const told = {};

const client = new OpenAI({ baseURL: process.argv[2], apiKey: "none" });
const talk = new OpenAIRealtimeWS({ model: "gpt-realtime" }, client);
const waiting = [];
talk.on("event", (event) => {
  for (const each of [...waiting]) {
    each.seen.push(event);
    if (event.type === each.type) {
      waiting.splice(waiting.indexOf(each), 1);
      each.done(each.seen);
    }
  }
});
talk.on("error", (error) => { throw error; });
const until = (type) => new Promise((done) => waiting.push({ type, done, seen: [] }));
const words = (seen) => seen.find((event) => event.type === "response.output_audio_transcript.done").transcript;
const write = (text) => {
  const content = [{ type: "input_text", text }];
  talk.send({ type: "conversation.item.create", item: { type: "message", role: "user", content } });
  talk.send({ type: "response.create" });
};

await until("session.created");
const parameters = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
const tools = [{ type: "function", name: "get_weather", parameters }];
talk.send({ type: "session.update", session: { type: "realtime", instructions: "Be brief.", tools } });
let over = until("response.done");
write("Hello");
told.typed = words(await over);
over = until("response.done");
talk.send({ type: "input_audio_buffer.append", audio: speech });
const heard = await over;
told.spoken = heard.find(({ type }) => type.endsWith("transcription.completed")).transcript;
const call = heard.find(({ type }) => type === "response.function_call_arguments.done");
told.tool = `22 degrees in ${JSON.parse(call.arguments).city}`;
over = until("response.done");
const output = { type: "function_call_output", call_id: call.call_id, output: told.tool };
talk.send({ type: "conversation.item.create", item: output });
talk.send({ type: "response.create" });
told.answer = words(await over);
await sleep(500);
over = until("response.output_audio.delta");
write("Tell me a story");
await over;
await sleep(500);
over = until("input_audio_buffer.speech_started");
talk.send({ type: "input_audio_buffer.append", audio: speech });
await over;
told.interrupted = true;
console.log(JSON.stringify(told));
process.exit(0);
