// The address to give to other programs.

import { byId } from "../shared/dom.js";

export function otherPrograms(form) {
  const address = byId("api-address");
  address.value = `${location.origin}/v1`;
  address.addEventListener("focus", () => address.select());
  const copy = byId("copy-address");
  copy.hidden = !navigator.clipboard; // only secure pages have one
  copy.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(address.value);
      form.confirm("Copied.");
    } catch {
      address.focus(); // selected, so that it can be copied by hand
    }
  });
}
