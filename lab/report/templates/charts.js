// Draws a chart anew when it is first pointed at or reached by keyboard; then it shows its figures and, where it has
// lines, pans and zooms, by mouse or by keyboard.
const enliven = async ({target}) => {
  const chart = target.closest?.(".chart:not([data-live])");
  if (!chart) return;
  chart.dataset.live = "";
  const spec = JSON.parse(chart.querySelector("script").textContent);
  const drawn = chart.querySelector("svg");
  spec.width += Math.min(0, chart.clientWidth - drawn.getAttribute("width"));
  const actions = {export: {svg: true, png: false}, source: false, compiled: false, editor: false};
  const live = document.createElement("div");
  let {view} = await vegaEmbed(live, spec, {renderer: "svg", actions});
  const over = live.querySelector("svg").getAttribute("width") - chart.clientWidth;  // words beside bars take their room
  if (over > 0) ({view} = await vegaEmbed(live, {...spec, width: Math.max(40, spec.width - over)}, {renderer: "svg", actions}));
  const svg = live.querySelector("svg");
  for (const each of svg.querySelectorAll("*")) for (const name of ["role", "aria-roledescription"]) each.removeAttribute(name);
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", drawn.getAttribute("aria-label"));
  drawn.replaceWith(live);
  chart.addEventListener("keydown", event => event.target === chart && moved(view, event.key) && event.preventDefault());
};
// How far the ends of the axis move, as shares of its length.
const MOVES = {ArrowLeft: [-.1, -.1], ArrowRight: [.1, .1], "+": [.1, -.1], "=": [.1, -.1], "-": [-.125, .125]};
// The signal of the parameter `zoom`, which charts with lines have, and of its field.
const ZOOMED = "zoom_x";
const moved = (view, key) => {
  if (!(key in MOVES || key === "0") || !(ZOOMED in view.getState({signals: name => name === ZOOMED}).signals)) return false;
  const x = view.scale("x"), [left, right] = x.range();
  view.signal(ZOOMED, key === "0" ? null : [left, right].map((end, at) => x.invert(end + MOVES[key][at] * (right - left))));
  view.runAsync();
  return true;
};
document.addEventListener("pointerover", enliven);
document.addEventListener("focusin", enliven);
for (const chart of document.querySelectorAll(".chart")) {
  chart.tabIndex = 0;
  chart.setAttribute("role", "group");
  chart.setAttribute("aria-label", "Chart and its menu");
}
// In a narrow window a drawing that was made for a wide one could not be read: each is drawn anew as it comes into view.
if (innerWidth < 700) {
  const seen = new IntersectionObserver(entries => entries.forEach(each => each.isIntersecting && enliven(each)), {rootMargin: "200px"});
  document.querySelectorAll(".chart").forEach(chart => seen.observe(chart));
}
document.querySelector("#pointing")?.removeAttribute("hidden");
