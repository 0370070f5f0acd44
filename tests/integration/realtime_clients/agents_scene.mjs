// agents-realtime's scene: in Node and in a browser, over whatever carries its session.
export async function scene({ RealtimeAgent, RealtimeSession, tool }, transport, connection, speak) {
  const told = {};
  const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
  const parameters = {
    type: "object", properties: { city: { type: "string" } }, required: ["city"], additionalProperties: false,
  };
  const weather = tool({
    name: "get_weather", description: "The weather in a city.", parameters, strict: true,
    execute: async ({ city }) => (told.tool = `22 degrees in ${city}`),
  });
  const agent = new RealtimeAgent({ name: "Parley", instructions: "Be brief.", tools: [weather] });
  const session = new RealtimeSession(agent, { transport, model: "gpt-realtime" });
  session.on("error", (error) => { told.error ??= JSON.stringify(error.error ?? error); });
  const said = (role) => session.history
    .filter((item) => item.type === "message" && item.role === role)
    .flatMap((item) => item.content.map((part) => part.transcript ?? part.text ?? "")).filter(Boolean);
  const until = async (true_) => {
    for (let waited = 0; !true_(); waited += 20) {
      if (waited > 30000) throw new Error(`waited in vain: ${true_} ${JSON.stringify(told)} ${JSON.stringify(session.history)}`);
      await sleep(20);
    }
  };
  let interrupted = false, playing = false;
  session.on("audio_interrupted", () => { interrupted = true; });
  session.transport.on("*", ({ type }) => {
    if (type === "output_audio_buffer.started" || type === "response.output_audio.delta") playing = true;
    if (type === "output_audio_buffer.cleared") interrupted = true;
  });
  await session.connect(connection);
  session.sendMessage("Hello");
  await until(() => said("assistant").length);
  told.typed = said("assistant").at(-1);
  await sleep(700);
  await speak(session);
  await until(() => said("assistant").some((words) => words.includes("degrees")));
  told.spoken = said("user").at(-1);
  told.answer = said("assistant").at(-1);
  await sleep(700);
  interrupted = playing = false;
  session.sendMessage("Tell me a story");
  await until(() => playing);
  await sleep(700);
  await speak(session);
  await until(() => interrupted);
  told.interrupted = true;
  session.close();
  return told;
}
