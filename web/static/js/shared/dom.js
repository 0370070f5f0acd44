// Builds the page. Text is inserted as text: neither this file nor its users parse markup from a string.

const SVG = "http://www.w3.org/2000/svg";

export const byId = (id) => document.getElementById(id);

/** Create an element with properties (attributes if the name has a dash or is "role") and children: nodes or text. */
export function element(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-") || name === "role" || name === "for") node.setAttribute(name, value);
    else node[name] = value;
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

/** Return one of the drawings that every page includes. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#icon-${name}`);
  svg.append(use);
  return svg;
}

/** Change the drawing within `node`. */
export function setIcon(node, name) {
  node.querySelector("use").setAttribute("href", `#icon-${name}`);
}

/** Turn a button into a Stop of the same width; returns a function that restores it. */
export function asStop(button, words = "Stop") {
  const name = button.getAttribute("aria-label");
  const drawing = button.querySelector("use");
  const text = drawing ? button.querySelector("span") : button;
  const before = [drawing?.getAttribute("href"), text?.textContent];
  button.style.minWidth = `${button.offsetWidth}px`;
  button.classList.add("running");
  if (drawing) setIcon(button, "stop");
  if (text) text.textContent = words;
  if (name) button.setAttribute("aria-label", name.replace(/^Hear( it)?/, words)); // “Hear clip 3”
  return () => {
    button.style.minWidth = "";
    button.classList.remove("running");
    if (drawing) drawing.setAttribute("href", before[0]);
    if (text) text.textContent = before[1];
    if (name) button.setAttribute("aria-label", name);
  };
}

/** Show a level of 0 to 1 on a `.meter`, on a scale like the ear's: 0 is -50 dB or less. */
export function showLevel(meter, peak) {
  const share = loudness(peak);
  meter.style.setProperty("--level", share.toFixed(3));
  meter.setAttribute("aria-valuenow", Math.round(share * 100));
}

/** Convert a peak amplitude of 0 to 1 to the displayed loudness, 0 to 1. */
export function loudness(peak) {
  if (!(peak > 0)) return 0;
  return Math.min(1, Math.max(0, 1 + (20 * Math.log10(peak)) / 50));
}

const SPEAKERS = { user: "You", assistant: "Parley", guest: "Guest" };

/** Return the speaker's name on the page. */
export const speakerName = (speaker) => (Object.hasOwn(SPEAKERS, speaker) ? SPEAKERS[speaker] : speaker);

/** Text in backticks is for the terminal and is shown as code. */
export const withCommands = (text) =>
  text.split("`").map((part, number) => (number % 2 ? element("code", { textContent: part }) : part));

/** Capitalize the first letter, as in a sentence or a name. */
export const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

/** "0.42 s" */
export const seconds = (value) => `${value.toFixed(2)} s`;

/** Ask in a dialog; resolves to whether the answer was yes. */
export function confirmDialog({ title, text, yes }) {
  return new Promise((resolve) => {
    const titleId = "confirm-title";
    const cancel = element("button", { type: "submit", value: "no", textContent: "Cancel", autofocus: true });
    const agree = element("button", { type: "submit", value: "yes", className: "danger primary", textContent: yes });
    const dialog = element(
      "dialog",
      { "aria-labelledby": titleId },
      element("h2", { id: titleId, textContent: title }),
      element("p", { className: "quiet", textContent: text }),
      element("form", { method: "dialog", className: "actions" }, cancel, agree),
    );
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}
