/** Whether the host is dark, and when that changes. Each host says it in its own way; without a word the system decides. */

export function hostIsDark(body: HTMLElement, root: HTMLElement, systemDark: boolean): boolean {
  const lab = body.dataset["jpThemeLight"];
  if (lab !== undefined) return lab === "false";
  const code = body.dataset["vscodeThemeKind"];
  if (code !== undefined) return code.includes("dark") || code === "vscode-high-contrast";
  if (body.classList.contains("vscode-dark") || body.classList.contains("vscode-high-contrast")) return true;
  if (body.classList.contains("vscode-light")) return false;
  for (const element of [body, root]) {
    // marimo: class and data-theme; Colab: the attribute theme.
    const said = element.dataset["theme"] ?? element.getAttribute("theme") ?? "";
    if (said === "dark" || element.classList.contains("dark") || element.classList.contains("dark-theme")) return true;
    if (said === "light" || element.classList.contains("light") || element.classList.contains("light-theme"))
      return false;
  }
  return systemDark;
}

export function watchTheme(signal: AbortSignal, tell: (dark: boolean) => void): void {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const look = (): void => tell(hostIsDark(document.body, document.documentElement, system.matches));
  const observer = new MutationObserver(look);
  for (const element of [document.body, document.documentElement]) {
    observer.observe(element, {
      attributes: true,
      attributeFilter: ["class", "theme", "data-theme", "data-jp-theme-light", "data-vscode-theme-kind"],
    });
  }
  system.addEventListener("change", look, { signal });
  signal.addEventListener("abort", () => observer.disconnect());
  look();
}
