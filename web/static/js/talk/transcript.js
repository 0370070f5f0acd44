// What was said, laid out like a script: the speaker in the margin, the text beside it. It scrolls along with the
// conversation unless the reader has scrolled up.

import { capital, element, speakerName } from "../shared/dom.js";

// Why a reply ended, in the words of this page's user.
const CAUSES = {
  "the client cancelled": "You stopped it",
  "the user typed": "You interrupted by typing",
};
const cause = (why) => CAUSES[why] ?? (why.startsWith("the user") ? "You interrupted" : capital(why));
const ANNOUNCED = 3; // kept for screen readers: someone browsing the page would hear more of them twice
const TOGETHER = 400; // ms: simultaneous sentences are announced as one, as screen readers may reverse their order
const AT_END = 80; // px from the end that still count as the end

export class Transcript {
  #log;
  #opening;
  #turns = new Map(); // the user's item id → entry
  #replies = new Map(); // response id → {entry, text, made, heard}
  #tools = new Map(); // the call's id → {entry, said}
  #recalled = [];
  #announced;
  #unsaid = null; // {who, text}, to be announced shortly
  #followed = true; // whether it scrolls by itself, which stops when the reader scrolls away
  #top = 0; // the last position that it scrolled to by itself

  /** @param {HTMLElement} announced takes whole sentences for screen readers */
  constructor(log, opening, announced) {
    this.#log = log;
    this.#opening = opening;
    this.#announced = announced;
  }

  /** Whether it contains anything. */
  get begun() {
    return this.#opening.hidden;
  }

  /** Clear the transcript. */
  clear() {
    for (const entry of this.#log.querySelectorAll(".entry")) entry.remove();
    this.forgetIds();
    if (this.#unsaid) this.#unsaid.text = "";
    this.#announced.replaceChildren();
    this.#opening.hidden = false;
    this.#log.closest(".room").classList.remove("begun");
  }

  /** Show what was said before this page was opened: {role, text, interrupted}. */
  past(said) {
    for (const { role, text, interrupted } of said) {
      const mine = role === "user";
      const { entry, said: words } = this.#entry(mine ? "You" : "Parley", mine ? "you final" : "companion");
      words.textContent = text;
      if (interrupted) entry.append(element("p", { className: "aside", textContent: "You interrupted" }));
    }
  }

  #announce(who, text) {
    if (this.#unsaid?.who === who) {
      this.#unsaid.text += ` ${text}`;
      return;
    }
    const unsaid = { who, text };
    this.#unsaid = unsaid;
    setTimeout(() => {
      if (this.#unsaid === unsaid) this.#unsaid = null;
      if (!unsaid.text) return; // cleared meanwhile
      this.#announced.append(element("p", { textContent: `${who}: ${unsaid.text}`, dir: "auto" }));
      while (this.#announced.children.length > ANNOUNCED) this.#announced.firstChild.remove();
    }, TOGETHER);
  }

  #entry(who, kind) {
    this.#begin();
    const said = element("p", { className: "said", dir: "auto" });
    const entry = element(
      "div",
      { className: `entry ${kind}` },
      element("p", { className: "who", textContent: who }),
      said,
    );
    this.#keepEnd(() => this.#log.append(entry));
    return { entry, said };
  }

  #begin() {
    this.#opening.hidden = true;
    this.#log.closest(".room").classList.add("begun");
  }

  /**
   * Change the log, then scroll to its end if the end was in view.
   * @param {() => HTMLElement | null} focus what must stay in view even if the end then does not fit
   */
  #keepEnd(change, focus = () => null) {
    const scroller = this.#log.scrollHeight > this.#log.clientHeight + 1 ? this.#log : document.scrollingElement;
    const left = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight;
    this.#followed = left < AT_END || (this.#followed && Math.abs(scroller.scrollTop - this.#top) < 2);
    change();
    if (!this.#followed) return;
    requestAnimationFrame(() => {
      let top = scroller.scrollHeight - scroller.clientHeight;
      const [place] = focus()?.getClientRects() ?? [];
      if (place) {
        const frame = scroller === this.#log ? scroller.getBoundingClientRect().top : 0;
        top = Math.min(top, Math.max(0, scroller.scrollTop + place.top - frame - scroller.clientHeight / 3));
      }
      scroller.scrollTo({ top });
      this.#top = scroller.scrollTop;
    });
  }

  /** Show the transcript of the running turn; the letters after `stable` may still change. */
  partial(item, text, stable) {
    if (!text && !this.#turns.has(item)) return;
    const { said } = this.#user(item);
    this.#keepEnd(() => {
      said.replaceChildren(
        text.slice(0, stable),
        element("span", { className: "unsure", textContent: text.slice(stable) }),
      );
    });
  }

  /** Show whose voice it is. */
  speaker(item, speaker) {
    const { entry } = this.#user(item);
    entry.querySelector(".who").textContent = speakerName(speaker);
  }

  /** Complete the user's turn. If nothing was understood, its line is removed. */
  user(item, text) {
    if (!text) {
      this.#turns.get(item)?.entry.remove();
      this.#turns.delete(item);
      return;
    }
    const { entry, said } = this.#user(item);
    this.#keepEnd(() => {
      said.textContent = text;
      entry.classList.add("final");
    });
    this.#announce(entry.querySelector(".who").textContent, text);
  }

  #user(item) {
    if (!this.#turns.has(item)) this.#turns.set(item, this.#entry("You", "you"));
    return this.#turns.get(item);
  }

  /** Keep the memories recalled for the turn being answered; they are shown under the reply. */
  recalled(items) {
    this.#recalled = items;
  }

  reply(id, more) {
    const reply = this.#reply(id);
    reply.text += more;
    this.#paint(reply);
    this.#announce("Parley", more.trim());
  }

  #reply(id) {
    if (!this.#replies.has(id)) {
      const reply = { ...this.#entry("Parley", "companion"), text: "", made: 0, played: 0, complete: false };
      if (this.#recalled.length) reply.entry.append(memories(this.#recalled));
      this.#recalled = [];
      this.#replies.set(id, reply);
    }
    return this.#replies.get(id);
  }

  /** Set how many samples of the reply have been received so far. */
  made(id, samples) {
    const reply = this.#replies.get(id);
    if (reply) reply.made = samples;
  }

  /** Show how far the voice has come: the rest is fainter. An estimate; the end of the reply corrects it. */
  played(id, samples) {
    const reply = this.#replies.get(id);
    if (!reply) return;
    reply.entry.dataset.played = samples;
    if (reply.done) return;
    reply.played = samples;
    this.#paint(reply);
  }

  #paint(reply) {
    const share = reply.made ? Math.min(1, reply.played / reply.made) : 0;
    let reached = Math.round(reply.text.length * share);
    while (reached < reply.text.length && reached > 0 && /\S/.test(reply.text[reached])) reached += 1;
    const ahead = element("span", { className: "ahead", textContent: reply.text.slice(reached) });
    this.#keepEnd(
      () => reply.said.replaceChildren(reply.text.slice(0, reached), ahead),
      () => ahead, // what is being said
    );
  }

  /** End the reply: what was not heard is struck through, and the cause is shown. */
  done(id, { outcome, text, heard, why }) {
    if (!text && !this.#replies.has(id)) return;
    const reply = this.#reply(id);
    reply.done = true;
    const full = text || reply.text;
    const reached = outcome === "completed" ? full.length : common(full, heard);
    this.#keepEnd(() => {
      reply.said.replaceChildren(full.slice(0, reached));
      if (reached < full.length) {
        const unheard = element("span", { className: "unheard", textContent: full.slice(reached) });
        reply.said.append(unheard, element("span", { className: "for-readers", textContent: " (not heard)" }));
      }
      if (outcome !== "completed") {
        const words = outcome === "failed" ? `This reply failed: ${why}` : cause(why);
        reply.entry.append(element("p", { className: "aside", textContent: words }));
      }
    });
  }

  /** Show a tool call: one line that changes with its state. Its result can be opened. */
  tool(call, { name, given, state, result, failed }) {
    if (!this.#tools.has(call)) {
      const { entry, said } = this.#entry("Tool", "tool");
      this.#tools.set(call, { entry, said });
    }
    const { entry, said } = this.#tools.get(call);
    this.#keepEnd(() => {
      entry.querySelector("details")?.remove();
      said.replaceChildren(
        element("b", { textContent: name }),
        given ? ` (${given})` : "",
        element("span", { className: "quiet", textContent: `: ${state}` }),
      );
      if (result)
        entry.append(
          element(
            "details",
            { className: "aside", open: failed },
            element("summary", { textContent: "Result" }),
            element("p", { textContent: result, dir: "auto" }),
          ),
        );
    });
  }

  /** Forget the ids of what is shown, which is complete: another connection may reuse them. */
  forgetIds() {
    this.#turns.clear();
    this.#replies.clear();
    this.#tools.clear();
    this.#recalled = [];
  }

  /** Add a line about the conversation itself. */
  remark(text) {
    this.#begin();
    const words = element("p", { className: "aside", textContent: text });
    this.#keepEnd(() => this.#log.append(element("div", { className: "entry" }, words)));
  }
}

/** Return how many letters of `text` were heard: `heard` is its beginning, perhaps ending in other white space. */
function common(text, heard) {
  const spoken = heard.trimEnd();
  let i = 0;
  while (i < spoken.length && spoken[i] === text[i]) i += 1;
  return i;
}

function memories(items) {
  const list = element("ul", { className: "memories" });
  for (const { text, at, speaker, why } of items) {
    list.append(
      element(
        "li",
        {},
        element("p", {}, element("q", { textContent: text })),
        element("p", { textContent: `${speakerName(speaker)}, ${day(at)} · found by ${why}` }),
      ),
    );
  }
  const count = items.length === 1 ? "one thing" : `${items.length} things`;
  const details = element(
    "details",
    { className: "aside" },
    element("summary", { textContent: `Remembered ${count}` }),
    list,
  );
  details.addEventListener("toggle", () => details.open && details.scrollIntoView({ block: "nearest" }));
  return details;
}

const DAY = new Intl.DateTimeFormat(undefined, { dateStyle: "long" });

function day(at) {
  const date = new Date(at);
  return Number.isNaN(date.valueOf()) ? at : DAY.format(date);
}
