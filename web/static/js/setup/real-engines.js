// The first thing on the page: what Parley talks with now, what this computer could run instead, and one button that
// fetches what is lacking and puts it to use, stage by stage.

import { size } from "./download.js";
import { byId, element } from "../shared/dom.js";
import { RUNS, STAGES } from "./models.js";

export class RealEngines {
  #form;
  #models;
  #going = ""; // the stage that the button is changing
  #said = false; // once it was pressed, its end is shown, too
  #refused = {}; // by stage why the button could not change it

  constructor(form, models, engines, download) {
    this.#form = form;
    this.#models = models;
    models.addEventListener("told", () => this.#show());
    download.addEventListener("busy", () => this.#enable(download.busy));
    engines.addEventListener("reloading", ({ detail }) => this.#going && this.#say(detail));
    form.addEventListener("refused", ({ detail }) => this.#going && (this.#refused[this.#going] = detail.message));
    byId("use-real").addEventListener("click", () => this.#use());
  }

  get #choices() {
    return Object.values(this.#models.told.proposal.choices);
  }

  /** What the button would change now. */
  get #coming() {
    return this.#choices.filter((choice) => !choice.missing && !this.#models.inUse(choice));
  }

  #show() {
    const { proposal } = this.#models.told;
    const { settings, defaults } = this.#form;
    const least = Object.keys(STAGES).filter((stage) => settings[stage].engine === defaults[stage].engine);
    const small = least.length > 0;
    if (small && least.length < Object.keys(STAGES).length) {
      byId("real-now").textContent = "Some engines here are the small ones, with nothing downloaded. Others do better.";
    }
    byId("real").hidden = !small && !this.#said; // who has chosen otherwise is not asked again
    if (proposal.profile === "offline") return this.#tooSmall(proposal.why);
    byId("swaps").replaceChildren(...this.#choices.map((choice) => this.#row(choice)));
    byId("real-why").textContent = `${proposal.why} ${this.#price(proposal)}`;
    this.#enable(this.#going);
  }

  #tooSmall(why) {
    byId("swaps").parentElement.hidden = true;
    byId("use-real").hidden = true;
    byId("real-why").textContent = `${why} These small engines suit it best.`;
  }

  #price({ download_bytes: bytes, room, room_why: why }) {
    if (!bytes) return "Nothing more is to be downloaded.";
    return room ? `${size(bytes)} to download, once. What you have now goes on until each is ready.` : why;
  }

  #row(choice) {
    const { stage } = choice;
    const now = this.#models.told.models.find((row) => row.stage === stage && this.#models.inUse(row));
    const error = element("span", { className: "field-error", textContent: this.#refused[stage] ?? "" });
    const missing = choice.missing && element("a", { href: "#mind", textContent: choice.missing });
    return element(
      "li",
      {},
      element("h3", { textContent: STAGES[stage] }),
      side("Now:", now?.label ?? this.#form.settings[stage].engine, now?.line ?? ""),
      this.#models.inUse(choice)
        ? side("Instead:", choice.label, "In use.")
        : side("Instead:", choice.label, terms(choice), missing, error),
    );
  }

  #enable(busy) {
    const { room, download_bytes: bytes } = this.#models.told?.proposal ?? {};
    byId("use-real").disabled = busy || this.#going || !this.#coming.length || (bytes > 0 && !room);
  }

  async #use() {
    const wanted = this.#coming;
    const lacking = wanted.filter(({ download_bytes: bytes, here }) => bytes && !here);
    this.#refused = {};
    this.#say("");
    if (lacking.length && !(await this.#models.fetch(lacking, byId("real-download")))) return;
    for (const choice of wanted) {
      this.#going = choice.stage;
      this.#enable(true);
      this.#say(`${STAGES[choice.stage]}: loading ${choice.label} …`);
      await this.#models.use(choice);
    }
    this.#going = "";
    this.#show();
    await this.#tell();
  }

  async #tell() {
    const others = this.#choices.filter((choice) => !this.#models.inUse(choice)).map(({ label }) => label);
    if (others.length) return this.#say(`In use, but not: ${others.join(", ")}. There the old choice goes on.`);
    if (await this.#form.save("profile", this.#models.told.proposal.profile)) this.#say("All of them are in use.");
  }

  #say(text) {
    this.#said = true;
    byId("real-line").textContent = text;
  }
}

function terms({ download_bytes: bytes, here, runs, why }) {
  const price = bytes ? `${here ? "Is here" : size(bytes)}. ` : "";
  return `${price}${RUNS[runs]}. ${why}`;
}

function side(prefix, label, line, ...more) {
  return element(
    "div",
    {},
    element("span", { className: "for-readers", textContent: prefix }),
    element("b", { textContent: label }),
    element("span", { className: "small quiet", textContent: line }),
    ...more,
  );
}
