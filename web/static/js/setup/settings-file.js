// The settings as a file, and what a language model's server offers.

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
          ? `The settings are back, without recordings that are not here: ${missing.join(", ")}.`
          : "The settings are back, and in use.",
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
    throw new Error("This is not a file of Parley’s settings: choose one that was taken along from here.");
  }
}

/** "Ask the server for its models": they come into the list of the model's field. */
export function askingForModels() {
  byId("ask-models").addEventListener("click", async ({ currentTarget: button }) => {
    button.disabled = true;
    byId("ask-line").textContent = "";
    try {
      const server = { url: byId("mind.url").value.trim(), api_key: byId("mind.api_key").value };
      const { models } = await call("POST", "/api/mind/models", server);
      byId("mind-models").replaceChildren(...models.map((name) => new Option(name, name)));
      byId("ask-line").textContent = models.length
        ? `It has ${models.slice(0, 5).join(", ")}${models.length > 5 ? " and more" : ""}.`
        : "It has no model loaded: load one there.";
    } catch (error) {
      byId("ask-line").textContent = error.message;
    } finally {
      button.disabled = false;
    }
  });
}
