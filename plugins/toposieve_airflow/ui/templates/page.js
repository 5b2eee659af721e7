// Colours and font of the page around this one, which has the same origin and says whether the theme is dark.
const colours = { bg: "bg", fg: "fg", muted: "fg-muted", line: "border", link: "fg-info", hover: "bg-muted" };
const around = () => { try { return parent === window ? null : parent.document; } catch { return null; } };
const follow = () => {
  const outer = around(), root = document.documentElement;
  if (!outer) { root.classList.toggle("dark", matchMedia("(prefers-color-scheme: dark)").matches); return; }
  const style = parent.getComputedStyle(outer.documentElement);
  root.classList.toggle("dark", outer.documentElement.classList.contains("dark"));
  for (const [name, token] of Object.entries(colours)) {
    const value = style.getPropertyValue(`--chakra-colors-${token}`);
    if (value) root.style.setProperty(`--${name}`, value); else root.style.removeProperty(`--${name}`);
  }
  root.style.setProperty("--font", parent.getComputedStyle(outer.body).fontFamily);
};
follow();
if (around()) new MutationObserver(follow).observe(around().documentElement, { attributes: true, attributeFilter: ["class"] });

// Airflow's frame may neither leave its place nor open windows: the page around it has to.
addEventListener("click", (event) => {
  const link = event.target.closest("a[data-airflow], a[data-alone]");
  if (!link || !around() || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  if ("alone" in link.dataset) { parent.open(link.href); return; }
  parent.history.pushState(null, "", new URL(link.href).pathname);
  parent.dispatchEvent(new PopStateEvent("popstate", { state: null }));
});
