// The owner's tools: those included in Parley, and MCP servers. A server's own descriptions are shown as text.

import { call } from "../shared/api.js";
import { byId, confirmDialog, element } from "../shared/dom.js";
import { showBuiltins, toolRow } from "./tool-row.js";

const STATES = { off: "Off", starting: "Starting…", ready: "Ready", failed: "Not working" };
const SHOWN = 8; // tools of a server that are listed at first

export class OwnTools {
  #form;
  #open = new Set(); // servers whose tools are all listed

  constructor(form) {
    this.#form = form;
    byId("tool-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#add();
    });
    for (const radio of document.querySelectorAll("[name=tool-way]"))
      radio.addEventListener("change", () => this.#showWay());
    byId("tool-url").addEventListener("input", () => this.#showWay());
  }

  async load() {
    this.#showWay();
    this.#show(await call("GET", "/api/tools"));
  }

  #show(told) {
    const held = document.activeElement?.id;
    showBuiltins(this.#form, told);
    byId("tool-servers").replaceChildren(...told.servers.map((server) => this.#server(server)));
    if (held) byId(held)?.focus();
  }

  #server(server) {
    const { name, command, url, local, enabled, state, error, tools, listed } = server;
    const titleId = `server-${name}`;
    const way = element("p", { className: "small quiet where" }, element("code", { textContent: command || url }));
    const health = element("p", { className: `small state-of ${state}`, role: "status", textContent: STATES[state] });
    if (enabled && state === "off") health.textContent = "Starts with the first conversation";
    if (state === "ready") health.textContent = `Ready: ${tools.length === 1 ? "one tool" : `${tools.length} tools`}`;
    const item = element("li", { className: "server plain" }, element("h4", { id: titleId, textContent: name }), way, health);
    item.setAttribute("aria-labelledby", titleId);
    if (!local)
      item.append(element("p", { className: "small warn", textContent: "Not on this computer: whatever a tool is asked is sent there." }));
    if (error) item.append(element("p", { className: "field-error", role: "alert", textContent: error }));
    if (listed > tools.length)
      item.append(element("p", { className: "small quiet", textContent: `It lists ${listed} tools. Only the first ${tools.length} are used.` }));
    if (tools.some(({ offered, permission }) => !offered && permission !== "off"))
      item.append(
        element("p", {
          className: "small quiet",
          textContent: "There isn’t room for all of them in what the language model reads before each reply. Switch off the ones you don’t need.",
        }),
      );
    const all = this.#open.has(name) || tools.length <= SHOWN;
    const rows = (all ? tools : tools.slice(0, SHOWN)).map((tool) =>
      toolRow(name, tool, (permission) =>
        this.#put(item, "PUT", name, { permissions: { [tool.name]: permission } }),
      ),
    );
    if (rows.length) item.append(element("ul", { className: "tools" }, ...rows));
    const buttons = element("div", { className: "with-line" });
    const button = (text, act, options = {}) => {
      const made = element("button", { type: "button", "aria-label": `${text}: ${name}`, id: `${text.split(" ")[0]}-${name}`, ...options }, text);
      made.addEventListener("click", act);
      buttons.append(made);
    };
    if (!all) button(`Show all ${tools.length}`, () => (this.#open.add(name), this.load()));
    if (enabled) button("Test connection", () => this.#put(item, "POST", `${name}/test`));
    button(enabled ? "Switch off" : "Switch on", () => this.#put(item, "PUT", name, { enabled: !enabled }));
    button("Remove", () => this.#remove(item, name), { className: "bare danger" });
    item.append(buttons, element("p", { className: "field-error", role: "alert" }));
    return item;
  }

  async #put(item, method, path, body) {
    const wrong = item.querySelector(":scope > .field-error:last-child");
    item.classList.add("busy");
    wrong.textContent = "";
    try {
      this.#show(await call(method, `/api/tools/servers/${path}`, body ?? {}));
    } catch (error) {
      wrong.textContent = error.message;
    } finally {
      item.classList.remove("busy");
    }
  }

  async #remove(item, name) {
    const sure = await confirmDialog({
      title: `Remove ${name}?`,
      text: "Parley forgets its command or address, its keys, and what its tools may do.",
      yes: "Remove",
    });
    if (sure) await this.#put(item, "DELETE", name);
  }

  #showWay() {
    const byUrl = byId("tool-by-url").checked;
    byId("tool-command-field").hidden = byUrl;
    byId("tool-env-field").hidden = byUrl;
    byId("tool-url-field").hidden = !byUrl;
    byId("tool-key-field").hidden = !byUrl;
    let outside = false;
    try {
      outside = !["localhost", "127.0.0.1", "[::1]"].includes(new URL(byId("tool-url").value).hostname);
    } catch {
      // not an address yet
    }
    byId("tool-outside").hidden = !outside;
  }

  async #add() {
    const byUrl = byId("tool-by-url").checked;
    const asked = { name: byId("tool-name").value.trim() };
    if (byUrl) Object.assign(asked, { url: byId("tool-url").value.trim(), key: byId("tool-key").value });
    else Object.assign(asked, { command: byId("tool-command").value.trim(), env: variables(byId("tool-env").value) });
    const wrong = byId("tool-error");
    wrong.textContent = "";
    byId("tool-line").textContent = "Starting it…";
    byId("tool-add").disabled = true;
    try {
      const told = await call("POST", "/api/tools/servers", asked);
      this.#show(told);
      byId("tool-form").reset();
      this.#showWay();
      const { state } = told.servers.find(({ name }) => name === asked.name);
      byId("tool-line").textContent = state === "ready" ? `${asked.name} is ready.` : `${asked.name} was added, but doesn’t work yet.`;
    } catch (error) {
      wrong.textContent = error.message;
      byId("tool-line").textContent = "";
    } finally {
      byId("tool-add").disabled = false;
    }
  }
}

/** Parse NAME=value, one per line. */
function variables(text) {
  const lines = text.split("\n").filter((line) => line.includes("="));
  return Object.fromEntries(lines.map((line) => [line.slice(0, line.indexOf("=")).trim(), line.slice(line.indexOf("=") + 1).trim()]));
}
