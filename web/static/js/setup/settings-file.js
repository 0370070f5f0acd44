// The settings as a file, and the models that a language model's server offers.

import { call } from "../shared/api.js";
import { byId } from "../shared/dom.js";
import { tell } from "../shared/notices.js";

export function settingsFile(form) {
  byId("with-key").addEventListener("change", ({ target }) => {
    byId("export-settings").href = `/api/settings/export${target.checked ? "?key=true" : ""}`;
  });
  byId("import-settings").addEventListener("click", () => byId("settings-file").click());
  byId("settings-file").addEventListener("change", async ({ target }) => {
    const [file] = target.files;
    target.value = "";
    if (!file) return;
    byId("file-error").textContent = "";
    try {
      const answer = await call("POST", "/api/settings/import", parsed(await file.text()));
      await form.refresh();
      const missing = answer.missing_recordings;
      tell(
        missing.length
          ? `Settings imported. These recordings aren’t on this computer: ${missing.join(", ")}.`
          : "Settings imported.",
        { key: "settings" },
      );
    } catch (error) {
      byId("file-error").textContent = error.message;
    }
  });
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    throw new Error("This isn’t a Parley settings file. Choose one that was exported from this page.");
  }
}

/** "List the server's models": adds them to the list of the model field. */
export function askingForModels() {
  byId("ask-models").addEventListener("click", async ({ currentTarget: button }) => {
    button.disabled = true;
    byId("ask-line").textContent = "";
    try {
      const server = { url: byId("mind.url").value.trim(), api_key: byId("mind.api_key").value };
      const { models } = await call("POST", "/api/mind/models", server);
      byId("mind-models").replaceChildren(...models.map((name) => new Option(name, name)));
      byId("ask-line").textContent = models.length
        ? `The server has ${models.slice(0, 5).join(", ")}${models.length > 5 ? " and more" : ""}.`
        : "The server has no model loaded. Load one there first.";
    } catch (error) {
      byId("ask-line").textContent = error.message;
    } finally {
      button.disabled = false;
    }
  });
}
