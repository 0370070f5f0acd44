// A classic script in the head, so that the chosen theme is applied before the first paint.
(() => {
  const names = ["auto", "light", "dark"];
  const words = { auto: "same as system", light: "light", dark: "dark" };
  const read = () => {
    const kept = localStorage.getItem("parley.theme");
    return names.includes(kept) ? kept : "auto";
  };
  const apply = (theme) => {
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
  };
  apply(read());

  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    const show = () => {
      const theme = read();
      button.querySelector("use").setAttribute("href", `#icon-theme-${theme}`);
      button.querySelector("span").textContent = `Theme: ${words[theme]}`;
      button.title = `Theme: ${words[theme]}`;
    };
    button.addEventListener("click", () => {
      localStorage.setItem("parley.theme", names[(names.indexOf(read()) + 1) % names.length]);
      apply(read());
      show();
      document.dispatchEvent(new CustomEvent("themechange"));
    });
    show();
  });
})();
