// The address that other programs are given.

import { byId } from "../shared/dom.js";

export function otherPrograms(form) {
  const address = byId("api-address");
  address.value = `${location.origin}/v1`;
  address.addEventListener("focus", () => address.select());
  const copy = byId("copy-address");
  copy.hidden = !navigator.clipboard; // only pages that the browser trusts have one
  copy.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(address.value);
      form.confirm("Copied.");
    } catch {
      address.focus(); // selected, to be copied by hand
    }
  });
}
