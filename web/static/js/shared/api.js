// The HTTP API, with one kind of error: a sentence to show and, if it concerns a setting, that setting's field.

export class ApiError extends Error {
  /**
   * @param {string | null} field a dotted name, such as "turns.silence_ms"
   * @param {{stage: string, engine: string, model: string} | null} lacking a choice whose model must be fetched first
   */
  constructor(message, status = 0, field = null, lacking = null) {
    super(message);
    this.status = status;
    this.field = field;
    this.lacking = lacking;
  }
}

async function failure(response) {
  const text = await response.text();
  try {
    const { error } = JSON.parse(text);
    return new ApiError(error.message, response.status, error.field ?? null, error.lacking ?? null);
  } catch {
    const plain = (response.headers.get("Content-Type") ?? "").startsWith("text/plain") && text;
    return new ApiError(plain || `The server answered ${response.status} ${response.statusText}.`, response.status);
  }
}

/** Resolves to a successful answer. Throws ApiError. */
async function reach(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new ApiError("Can’t reach Parley. Check that it’s still running.");
  }
  if (!response.ok) throw await failure(response);
  return response;
}

/**
 * Call the API with a JSON body or a Blob of JSON lines; resolves to the answer's JSON or Blob. `signal` cancels it.
 * Throws ApiError.
 */
export async function call(method, path, body, signal) {
  const headers = {};
  if (method !== "GET") headers["Content-Type"] = body instanceof Blob ? "application/jsonl" : "application/json";
  const sent = body === undefined || body instanceof Blob ? body : JSON.stringify(body);
  const response = await reach(path, { method, headers, body: sent, signal });
  if (response.status === 204) return null;
  const [type] = (response.headers.get("Content-Type") ?? "").split(";");
  return type === "application/json" ? response.json() : response.blob();
}

/** Send fields and files as a form; resolves to the answer's JSON. Throws ApiError. */
export async function sendForm(path, fields) {
  const body = new FormData();
  for (const [name, value] of Object.entries(fields)) body.append(name, value);
  return (await reach(path, { method: "POST", body })).json();
}

/** Call the API and yield each of its JSON lines as it arrives; `signal` cancels it. Throws ApiError. */
export async function* callLines(method, path, signal) {
  const headers = { "Content-Type": "application/json" };
  const response = await reach(path, { method, headers, body: "{}", signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) yield JSON.parse(line);
  }
}
