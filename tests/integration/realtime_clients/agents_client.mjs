// agents-realtime in Node, over its WebSocket.
import * as agents from "@openai/agents-realtime";
import { scene } from "./agents_scene.mjs";

const loud = new Int16Array(48000).map((_, at) => (at < 24000 ? Math.sin(at / 10) * 8000 : 0));
const url = `${process.argv[2].replace("http", "ws")}/realtime?model=gpt-realtime`;
const transport = new agents.OpenAIRealtimeWebSocket({ url });
const told = await scene(agents, transport, { apiKey: "none", url }, (session) => session.sendAudio(loud.buffer));
console.log(JSON.stringify(told));
process.exit(0);
