// Many items, one tab stop: Tab reaches the current item and its controls, the arrow keys move between items.

const STEPS = { ArrowDown: 1, ArrowUp: -1 };

/** @param {HTMLElement} container of the items  @param {string} selector of the items in it */
export function roving(container, selector) {
  const items = () => [...container.querySelectorAll(selector)];
  const inside = (item) => item.querySelectorAll("a, button, input, textarea");

  function choose(current) {
    for (const item of items()) {
      const order = item === current ? 0 : -1;
      item.tabIndex = order;
      for (const control of inside(item)) control.tabIndex = order;
    }
  }

  new MutationObserver(() => {
    const all = items();
    choose(all.find((item) => item.tabIndex === 0 && item.hasAttribute("tabindex")) ?? all[0]);
  }).observe(container, { childList: true, subtree: true });

  container.addEventListener("focusin", ({ target }) => {
    const item = target.closest(selector);
    if (item && item.tabIndex !== 0) choose(item);
  });

  container.addEventListener("keydown", (event) => {
    const item = event.target.closest(selector);
    if (!item || event.target.matches("input, textarea") || event.ctrlKey || event.altKey || event.metaKey) return;
    const all = items();
    const at = all.indexOf(item);
    const to = { Home: 0, End: all.length - 1 }[event.key] ?? (STEPS[event.key] ? at + STEPS[event.key] : -1);
    if (!all[to]) return;
    event.preventDefault();
    choose(all[to]);
    all[to].focus();
  });
}
