// Tool calls: each is a line of the transcript, and one that asks first is a card with two buttons.

import { byId, element } from "../shared/dom.js";

const STATES = {
  asking: "waits for your answer",
  running: "running…",
  done: "done",
  failed: "didn’t work",
  refused: "not allowed",
};

/** The tool's name in readable form. */
const named = (name) => name.replaceAll(/[_.-]+/g, " ").trim();

export class Tools {
  #transcript;
  #answer;
  #card = byId("asking");
  #asked = ""; // the call that the card asks about
  #running = new Set();

  /** @param {(call: string, allow: boolean) => void} answer sends the answer to the server */
  constructor(transcript, answer) {
    this.#transcript = transcript;
    this.#answer = answer;
    byId("allow").addEventListener("click", () => this.decide(true));
    byId("refuse").addEventListener("click", () => this.decide(false));
  }

  /** Whether a question is waiting for an answer. */
  get asking() {
    return !this.#card.hidden;
  }

  /** Whether a tool is running. */
  get running() {
    return this.#running.size > 0;
  }

  tell({ call_id: call, name, arguments: given, state, result, seconds }) {
    if (state === "running") this.#running.add(call);
    else this.#running.delete(call);
    const time = seconds >= 0.1 ? ` after ${seconds.toFixed(1)} s` : "";
    this.#transcript.tool(call, { name: named(name), given, state: `${STATES[state]}${time}`, result, failed: state === "failed" });
    if (state === "asking") this.#ask(call, named(name), given);
    else if (call === this.#asked) this.#close();
  }

  decide(allow) {
    if (!this.asking) return;
    this.#answer(this.#asked, allow);
    this.#close();
  }

  /** Forget all calls and close the card: the conversation has ended. */
  reset() {
    this.#running.clear();
    this.#close();
  }

  #ask(call, name, given) {
    this.#asked = call;
    byId("asking-title").textContent = `Allow “${name}”?`;
    byId("asking-what").textContent = given;
    byId("asking-what").hidden = !given;
    this.#card.hidden = false;
    byId("announced").append(
      element("p", { textContent: `Parley asks: allow “${name}”? ${given} Press Y to allow it or N to refuse, or say yes or no.` }),
    );
  }

  #close() {
    if (this.#card.contains(document.activeElement)) byId("talk").focus();
    this.#asked = "";
    this.#card.hidden = true;
  }
}
