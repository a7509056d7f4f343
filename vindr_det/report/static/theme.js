// Light or dark: as the system has it, until the button says otherwise.

const root = document.documentElement;
const isDark = () => root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;

function remembered(value) {
  try {  // pages that are opened from a disk may have no storage
    if (value) localStorage.setItem("vindr-report-theme", value);
    return localStorage.getItem("vindr-report-theme");
  } catch {
    return null;
  }
}

if (["dark", "light"].includes(remembered())) root.dataset.theme = remembered();
byId("theme").addEventListener("click", () => {
  root.dataset.theme = isDark() ? "light" : "dark";
  remembered(root.dataset.theme);
});
addEventListener("beforeprint", () => { root.dataset.screenTheme = root.dataset.theme ?? ""; root.dataset.theme = "light"; });
addEventListener("afterprint", () => {
  if (root.dataset.screenTheme) root.dataset.theme = root.dataset.screenTheme; else delete root.dataset.theme;
});
