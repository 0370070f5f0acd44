// The conversation's socket: OpenAI's Realtime messages and the `parley.` family, and reconnecting if it is lost.

const FIRST_WAIT = 500; // ms
const LONGEST_WAIT = 8000;
const TAKEN_OVER = 4001; // the close code when the conversation continues in another window

/**
 * Events: every message of the server under its own `type`, and `open`, `closed` ({reason, taken}). The conversation
 * begins with `session.created`, once the engines have loaded.
 */
export class Realtime extends EventTarget {
  #socket = null;
  #wait = FIRST_WAIT;
  #timer = null;
  #ready = false;
  /** The id of the conversation to continue; without one, or if it is no longer known, a new one begins. */
  conversation = null;

  constructor() {
    super();
    window.addEventListener("online", () => this.#now());
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden) this.#now();
    });
    window.addEventListener("pagehide", () => this.#socket?.close());
  }

  get open() {
    return this.#socket?.readyState === WebSocket.OPEN;
  }

  /** Whether the conversation has begun. */
  get ready() {
    return this.open && this.#ready;
  }

  /** Bytes that were queued but have not been sent yet. */
  get backlog() {
    return this.#socket?.bufferedAmount ?? 0;
  }

  connect() {
    clearTimeout(this.#timer);
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const wanted = this.conversation ? `&conversation=${encodeURIComponent(this.conversation)}` : "";
    const socket = new WebSocket(`${scheme}://${location.host}/v1/realtime?parley=1${wanted}`);
    this.#socket = socket;
    socket.addEventListener("open", () => this.#emit("open"));
    socket.addEventListener("message", ({ data }) => {
      const message = JSON.parse(data);
      if (message.type === "session.created") {
        this.#wait = FIRST_WAIT;
        this.#ready = true;
      }
      this.#emit(message.type, message);
    });
    socket.addEventListener("close", ({ code, reason }) => {
      if (socket !== this.#socket) return;
      this.#ready = false;
      const taken = code === TAKEN_OVER;
      if (taken) this.#socket = null;
      this.#emit("closed", { reason, taken });
      if (taken) return; // reconnecting would take it back from the other window
      this.#timer = setTimeout(() => this.connect(), this.#wait);
      this.#wait = Math.min(LONGEST_WAIT, this.#wait * 2);
    });
  }

  /** Leave this conversation for a new one. */
  beginAnew() {
    this.conversation = null;
    this.close();
    this.#ready = false;
    this.connect();
  }

  /** Close for good, without reconnecting. */
  close() {
    clearTimeout(this.#timer);
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
  }

  /** @returns {boolean} whether there was a conversation to send it to */
  send(type, fields = {}) {
    if (!this.ready) return false;
    this.#socket.send(JSON.stringify({ type, ...fields }));
    return true;
  }

  #now() {
    if (this.#socket?.readyState === WebSocket.CLOSED) this.connect();
  }

  #emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
