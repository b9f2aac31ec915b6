// Draws a chart anew when it is first pointed at; then it shows its figures and, where it has lines, pans and zooms.
document.addEventListener("pointerover", async ({target}) => {
  const chart = target.closest?.(".chart:not([data-live])");
  if (!chart) return;
  chart.dataset.live = "";
  const spec = JSON.parse(chart.querySelector("script").textContent);
  const drawn = chart.querySelector("svg");
  spec.width += Math.min(0, chart.clientWidth - drawn.getAttribute("width"));
  const actions = {export: {svg: true, png: false}, source: false, compiled: false, editor: false};
  const live = document.createElement("div");
  await vegaEmbed(live, spec, {renderer: "svg", actions});
  drawn.replaceWith(live);
});
document.querySelector("#pointing")?.removeAttribute("hidden");
