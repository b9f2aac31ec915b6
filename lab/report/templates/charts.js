// Draws a chart anew when it is first pointed at or reached by keyboard; then it shows its figures and, where it has
// lines, pans and zooms.
const enliven = async ({target}) => {
  const chart = target.closest?.(".chart:not([data-live])");
  if (!chart) return;
  chart.dataset.live = "";
  const spec = JSON.parse(chart.querySelector("script").textContent);
  const drawn = chart.querySelector("svg");
  spec.width += Math.min(0, chart.clientWidth - drawn.getAttribute("width"));
  const actions = {export: {svg: true, png: false}, source: false, compiled: false, editor: false};
  const live = document.createElement("div");
  await vegaEmbed(live, spec, {renderer: "svg", actions});
  const svg = live.querySelector("svg");
  for (const each of svg.querySelectorAll("*")) for (const name of ["role", "aria-roledescription"]) each.removeAttribute(name);
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", drawn.getAttribute("aria-label"));
  drawn.replaceWith(live);
};
document.addEventListener("pointerover", enliven);
document.addEventListener("focusin", enliven);
for (const chart of document.querySelectorAll(".chart")) {
  chart.tabIndex = 0;
  chart.setAttribute("role", "group");
  chart.setAttribute("aria-label", "Chart and its menu");
}
document.querySelector("#pointing")?.removeAttribute("hidden");
