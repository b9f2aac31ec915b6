// Puts the page together, and keeps it up to date.
const topologiesElement = document.querySelector("#topologies");
const panels = new Map(); // topology → its panel
const phone = matchMedia("(max-width: 600px)");
const still = matchMedia("(prefers-reduced-motion: reduce)");
let colours = {};
let sent = present();

function readColours() {
  const style = getComputedStyle(document.documentElement);
  colours = Object.fromEntries(["ink", "bad", "card"].map((name) => [name, style.getPropertyValue(`--${name}`)]));
}
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", readColours);
readColours();

function panelOf(name) {
  const plan = store.drawing[name];
  const narrow = phone.matches || shown().length > 2;
  let panel = panels.get(name);
  if (panel?.plan === plan && panel.drawing.narrow === narrow) return panel;
  const drawing = new Drawing(plan, openUnit, narrow);
  const figures = new Map(FIGURES.map(([key]) => [key, html("dd", { "data-figure": key })]));
  const titles = new Map(FIGURES.map(([key, title]) => [key, html("dt", {}, title)]));
  const chips = html("span", { class: "head" });
  const swatch = html("span", { class: "swatch" });
  swatch.style.background = themed(plan.colour);
  const hit = html("p", { class: "hit" });
  const stage = html("div", { class: "stage" }, drawing.still, drawing.svg, drawing.canvas);
  stage.style.maxWidth = `max(${drawing.width}px, ${90 * drawing.width / drawing.height}vh)`; // a tall drawing fits the window
  stage.style.setProperty("--ratio", drawing.width / drawing.height);
  const element = html("article", { class: "card", "data-topology": name },
    html("div", { class: "head" }, html("h2", {}, swatch, name), chips),
    html("dl", {}, ...FIGURES.map(([key]) => html("div", {}, titles.get(key), figures.get(key)))),
    stage, hit);
  // Before a place hears of it: a dot lies on top.
  drawing.svg.addEventListener("click", (event) => {
    const id = event.detail ? drawing.requestAt(event) : null;
    if (id) { event.stopPropagation(); openRequest(id); }
  }, { capture: true });
  panel?.element.replaceWith(element);
  panel = { plan, drawing, figures, titles, chips, hit, element };
  panels.set(name, panel);
  return panel;
}

function renderPanel(name, now) {
  const { drawing, figures, titles, chips, hit } = panelOf(name);
  const sums = during(name, now);
  const seconds = WINDOW * TICK_MS / 1000;
  drawing.show(sums, seconds);
  drawing.showStage(stageAt());
  drawing.showUnits(unitStates(), isPresent() && store.lab?.up === false);
  drawing.find(wanted());
  const shown = figuresOf(name, sums, seconds);
  for (const [key, value] of Object.entries(shown)) {
    const figure = figures.get(key);
    write(figure, String(value));
    set(figure, "class", ["failed", "misrouted", "torn"].includes(key) && value > 0 ? "alarm" : "");
  }
  for (const key of ["p50", "p99"]) write(titles.get(key), `${key} ${when()}`);
  const [words_, alarm] = whomItHits(sums.w);
  write(hit, words_);
  set(hit, "class", alarm ? "hit alarm" : "hit quiet");
  const verdicts = runsOf(name).map((run) => run.verdict).filter(Boolean);
  const final = verdicts.every((each) => each.final);
  const claims = Object.keys(verdicts[0]?.claims ?? {});
  const words = claims.map((claim) => [claim, worst(verdicts.map((each) => each.claims[claim]))])
    .map(([claim, outcome]) => [claim, outcome, outcomeInWords(claim, outcome, final, shown.failed)]);
  const key = JSON.stringify(words);
  if (chips.dataset.shown !== key) {
    chips.dataset.shown = key;
    chips.replaceChildren(...words.map(([claim, outcome, text]) => html("span", { class: `chip ${text === outcome ? outcome : "none"}`, "data-claim": claim }, `${claim}: ${text}`)));
  }
}

// An outcome as the page says it: beside requests that fail, "valid" alone would be read as "none does".
function outcomeInWords(claim, outcome, final, failed) {
  if (outcome === "unknown" && !final) return "not yet";
  if (claim !== "availability" || outcome !== "valid" || !failed) return outcome;
  return faults().length ? "failures explained by your fault" : "failures explained";
}

// Which callers' requests fail, the worst first, and whether any does.
function whomItHits(callers) {
  const hit = Object.entries(callers).filter(([, [, failed]]) => failed)
    .map(([name, [ok, failed]]) => [name, failed / (ok + failed)]).sort((a, b) => b[1] - a[1]);
  if (!hit.length) return [Object.keys(callers).length ? `No request fails ${when()}` : "", false];
  const all = Object.keys(callers).length;
  if (hit.length > 1 && hit.every(([, share]) => share === 1)) return [`Fail ${when()}: 100 % of the requests of ${hit.length} of ${all} callers`, true];
  const named = hit.slice(0, 6).map(([name, share]) => `${Math.max(1, Math.round(share * 100))} % of ${name}'s requests`);
  const rest = hit.length > 6 ? `, and those of ${hit.length - 6} more callers` : "";
  return [`Fail ${when()}: ${named.join(", ")}${rest}`, true];
}

function render() {
  renderTimeline();
  const now = moment();
  const names = shown();
  names.forEach((name) => renderPanel(name, now));
  const elements = names.map((name) => panels.get(name).element);
  if (elements.some((each, place) => topologiesElement.children[place] !== each) || topologiesElement.children.length !== elements.length) {
    topologiesElement.replaceChildren(...elements);
  }
  const tall = names.some((name) => panels.get(name).drawing.height > 600); // it would be too small to read
  set(topologiesElement, "class", names.length > 2 ? "many" : tall ? "tall" : "");
  const lines = names.map((name) => ({ name, colour: store.drawing[name].colour }));
  document.querySelector("#charts").replaceChildren(latencyChart(lines, now - 1), rateChart(lines, now - 1));
  renderHeader();
  renderForms();
  renderTalk();
  renderUnit();
}

// What the filter asks for; Enter goes to the first place that has it.
const filter = document.querySelector("#filter");
const wanted = () => filter.value.trim().toLowerCase();
filter.addEventListener("keydown", (event) => {
  if (event.key === "Enter") shown().map((name) => panels.get(name)?.drawing.find(wanted())).find(Boolean)?.focus();
});

function renderHeader() {
  const lab = store.lab ?? {};
  const states = documents("run").map(([, run]) => run.state);
  const hint = lab.control && !lab.faults?.length ? ": click a unit to break it" : "";
  const doing = lab.up === false ? "the lab is down" : states.includes("driving") ? `load is running${hint}` : states.includes("collecting") ? "the load is over; its evidence is collected"
    : states.length ? "the load is over" : `no load is running: ${lab.control ? "Start load" : "`lab load` in another terminal"} starts one`;
  const off = lab.up === false ? [] : documents("unit").filter(([, unit]) => unit.state !== "running").map(([name, unit]) => `${name} ${unit.state}`);
  const words = lab.saved ? "a saved run" : [`${lab.runtime} runtime`, `revision ${lab.revision || "–"}`, doing, ...off].join(" · ");
  document.querySelector("#lab").textContent = lab.name ?? "";
  document.querySelector("h1").firstChild.data = lab.saved ? "Run " : "Lab ";
  const about = document.querySelector("#about");
  write(about, words);
  renderStage();
  trouble(notice || lab.trouble || "");
}

// Which revision is in force for which callers while one is staged, and what ends that.
function renderStage() {
  const element = document.querySelector("#staged");
  const stage = stageAt();
  const callers = Object.values(store.drawing)[0].columns[0].filter((each) => each.role === "caller").map((each) => each.name);
  const key = JSON.stringify([stage, callers, isPresent(), store.lab?.control]);
  if (element.dataset.shown === key) return;
  element.dataset.shown = key;
  element.hidden = !stage;
  if (!stage) return;
  const others = callers.filter((each) => !stage.callers.includes(each));
  const is = isPresent() ? "is" : "was";
  element.replaceChildren(html("b", {}, `Revision ${stage.revision}`), ` ${is} staged for ${listed(stage.callers)}`,
    others.length ? `; revision ${stage.forAll} ${is} in force for ${others.length > 3 ? `the other ${others.length} callers` : listed(others)}.` : ".");
  if (isPresent()) {
    element.append(" Publishing its table to all ends the stage; ", html("code", {}, `lab routes rollback${labOption()}`), " takes it back. ",
      actionButton(store.lab.control ? "Take back" : "Copy", `Take back revision ${stage.revision}`, "take back", {}, ["routes", "rollback"]));
  }
}

const listed = (names) => (names.length > 6 ? `${names.slice(0, 6).join(", ")} and ${names.length - 6} more` : names.join(", ").replace(/, ([^,]*)$/, " and $1"));

// Says what was refused, for a while, or that the console has ended.
let notice = "";
function notify(text, forMs) {
  notice = text;
  trouble(text);
  if (forMs) setTimeout(() => { if (notice === text) notice = ""; }, forMs);
}

function trouble(text) {
  const element = document.querySelector("#trouble");
  element.hidden = !text;
  write(element, text);
}

function renderVerdicts() {
  document.querySelector("#verdicts .scroll").replaceChildren(verdictTable(shown()));
  write(document.querySelector("#outcomes"), outcomesOf(shown()));
  const verdicts = documents("verdict").map(([, each]) => each);
  const judged = verdicts.reduce((total, each) => total + each.ok + each.failed, 0);
  const final = verdicts.length > 0 && verdicts.every((each) => each.final);
  document.querySelector("#judged").textContent = !verdicts.length ? "" : final ? `final: ${judged} requests, as \`lab check\` says`
    : `so far: the first ${judged === 1 ? "request" : `${judged} requests`}; what models received is read at the end`;
  document.querySelector("#verdicts").dataset.final = final;
}

function launch() {
  const until = moment();
  for (; sent < until; sent++) {
    for (const [name, panel] of panels) {
      if (panel.element.isConnected) traffic.get(name)?.get(sent - 1)?.x.forEach((each) => panel.drawing.send(each));
    }
  }
}

let painted = 0;
function frame(now) {
  if (!still.matches) {
    launch();
    panels.forEach((panel) => panel.element.isConnected && panel.drawing.paint(now - painted, colours));
  }
  painted = now;
  requestAnimationFrame(frame);
}

function hear(message) {
  take(message);
  if (message.clear.includes("traffic")) { cursor = null; playing = false; sent = present(); } // another load begins
  if (message.set.job) renderLog();
  if (message.set.verdict || message.set.run || message.clear.length) renderVerdicts();
}

const data = document.querySelector("#data");
if (data) { // its own file: what it shows is in it, and there is nobody to ask
  store.lab = {};
  hear(JSON.parse(data.textContent));
  store.lab = { ...store.lab, saved: true, control: false };
  document.querySelectorAll("#find, #export").forEach((each) => { each.hidden = true; });
} else {
  history.replaceState(null, "", "/"); // a form sent the token to another path
  const stream = new EventSource("/stream");
  stream.onopen = () => notify("");
  stream.onmessage = ({ data: text }) => hear(JSON.parse(text));
  stream.onerror = () => notify("the console has ended, or cannot be reached: run `lab console` again");
}
setInterval(() => store.drawing && render(), TICK_MS);
requestAnimationFrame(frame);
