// Figures of each topology, latencies over time, and the table of verdicts.
const FIGURES = [
  ["rate", "requests/s"], ["p50", "p50"], ["p99", "p99"], ["answered", "answered"], ["failed", "failed"],
  ["misrouted", "misrouted"], ["torn", "torn"],
];

function figuresOf(topology, sums, seconds) {
  const all = { ...totals.get(topology) };
  for (const [status, count] of Object.entries(older.get(topology) ?? {})) all[status] = (all[status] ?? 0) + count;
  const verdicts = runsOf(topology).map((run) => run.verdict).filter(Boolean);
  const judged = (name) => (verdicts.length ? verdicts.reduce((total, each) => total + each[name], 0) : null);
  const answered = all.OK ?? 0;
  return {
    rate: (sum(sums.s) / seconds).toFixed(0), p50: ms(percentile(sums.l, 0.5)), p99: ms(percentile(sums.l, 0.99)),
    answered, failed: sum(all) - answered, misrouted: judged("misrouted") ?? "–", torn: judged("torn") ?? "–",
  };
}

// Latencies by second, of all topologies in one picture, on a logarithmic axis.
const CHART = { width: 700, height: 170, left: 62, right: 100, top: 10, bottom: 24 };
const perSecond = 1000 / TICK_MS;

const LINES = 5; // most in a chart

// Those with the highest values now, where there are more lines than a reader tells apart.
function highest(lines) {
  const now = ({ points }) => points.findLast((each) => each !== null) ?? -1;
  return lines.length > LINES ? [...lines].sort((a, b) => now(b) - now(a)).slice(0, LINES) : lines;
}

function latencyChart(topologies, until, seconds = 60) {
  const few = topologies.length <= 2;
  const lines = highest(topologies.flatMap(({ name, colour }) => (few ? ["p50", "p99"] : ["p99"]).map((which) => ({
    name, which, colour,
    points: Array.from({ length: seconds }, (_, back) => {
      const at = until - (seconds - 1 - back) * perSecond;
      return percentile(during(name, at, perSecond, "l").l, which === "p50" ? 0.5 : 0.99);
    }),
  }))));
  const values = lines.flatMap((line) => line.points).filter((each) => each !== null);
  const low = 10 ** Math.floor(Math.log10(Math.min(1, ...values)));
  const high = 10 ** Math.ceil(Math.log10(Math.max(10, ...values)));
  const scale = (value) => Math.log(value / low) / Math.log(high / low);
  const grid = [];
  for (let value = low; value <= high * 1.01; value *= 10) grid.push([value, value < 1000 ? `${Number(value.toPrecision(2))} ms` : `${value / 1000} s`]);
  const which = few ? "p99 is dashed" : topologies.length > LINES ? `p99 of the ${LINES} slowest topologies` : "p99";
  return chart(`Latency of answered requests, from the time when each was due; ${which}`, lines, scale, grid);
}

// Requests by second: answered, and dashed those that failed.
function rateChart(topologies, until, seconds = 60) {
  const few = topologies.length <= 2;
  const all = topologies.flatMap(({ name, colour }) => (few ? ["ok", "failed"] : ["failed"]).map((which) => ({
    name, which, colour,
    points: Array.from({ length: seconds }, (_, back) => {
      const statuses = during(name, until - (seconds - 1 - back) * perSecond, perSecond, "s").s;
      const count = which === "ok" ? statuses.OK ?? 0 : sum(statuses) - (statuses.OK ?? 0);
      return which === "failed" && few && !count ? null : count;
    }),
  })));
  const lines = highest(all);
  const high = Math.max(4, ...lines.flatMap((line) => line.points));
  const step = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000].find((each) => high / each <= 4) ?? high;
  const top = Math.ceil(high / step) * step;
  const grid = Array.from({ length: top / step + 1 }, (_, number) => [number * step, `${number * step}/s`]);
  const which = few ? "Requests a second that ended; those that failed are dashed" : "Requests a second that failed";
  return chart(topologies.length > LINES ? `${which}, in the ${LINES} topologies with most` : which, lines, (value) => value / top, grid);
}

function chart(title, lines, scale, grid) {
  const { width, height, left, right, top, bottom } = CHART;
  const seconds = lines[0]?.points.length ?? 60;
  const x = (second) => left + (width - left - right) * second / (seconds - 1);
  const y = (value) => top + (height - top - bottom) * (1 - scale(value));
  const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": inWords(title, lines) });
  for (const [value, text] of grid) {
    picture.append(svg("line", { class: "grid", x1: left, x2: width - right, y1: y(value), y2: y(value) }),
      svg("text", { class: "quiet", x: left - 6, y: y(value) + 4, "text-anchor": "end" }, text));
  }
  for (const back of [60, 45, 30, 15, 0]) {
    picture.append(svg("text", { class: "quiet", x: x(seconds - 1 - Math.min(back, seconds - 1)), y: height - 6, "text-anchor": "middle" }, back ? `−${back} s` : when()));
  }
  const labels = [];
  for (const line of lines) {
    const path = line.points.map((value, second) => [value, second]).filter(([value]) => value !== null);
    const drawn = path.map(([value, second], number) => `${number && path[number - 1][1] === second - 1 ? "L" : "M"}${x(second).toFixed(1)} ${y(value).toFixed(1)}`);
    const made = svg("path", { class: `line ${line.which}`, d: drawn.join("") });
    made.style.stroke = themed(line.colour);
    picture.append(made);
    if (path.length) labels.push({ y: y(path.at(-1)[0]), text: `${short(line.name, 10)} ${line.which}` });
  }
  labels.sort((a, b) => a.y - b.y);
  labels.forEach((label, number) => { if (number) label.y = Math.max(label.y, labels[number - 1].y + 12); });
  const over = (labels.at(-1)?.y ?? 0) - (height - bottom);
  labels.forEach((label) => {
    if (over > 0) label.y -= over;
    picture.append(svg("text", { class: "quiet", x: width - right + 6, y: label.y + 4 }, label.text));
  });
  return html("figure", {}, html("figcaption", {}, title), picture);
}

const inWords = (title, lines) => `${title}. ${isPresent() ? "Now" : "Then"}: ${lines.map((line) => `${line.name} ${line.which} ${line.points.at(-1)?.toPrecision(2) ?? "none"}`).join(", ")}`;

// One row a checker, one column a topology; of several runs of a topology the worst.
function verdictTable(topologies) {
  const checkers = new Map();
  for (const topology of topologies) {
    for (const { verdict } of runsOf(topology)) {
      for (const one of verdict?.verdicts ?? []) {
        const row = checkers.get(one.checker) ?? checkers.set(one.checker, { claim: one.claim, by: {} }).get(one.checker);
        (row.by[topology] ??= []).push(one);
      }
    }
  }
  if (!checkers.size) return html("p", { class: "quiet" }, "No verdict yet: they begin with the first load.");
  const heads = ["claim", "checker", ...topologies].map((name) => html("th", { scope: "col" }, name));
  const rank = ([, { by }]) => WORST.indexOf(worst(Object.values(by).flat().map((each) => each.outcome)));
  const rows = [...checkers].sort((a, b) => rank(a) - rank(b) || a[1].claim.localeCompare(b[1].claim)).map(([name, { claim, by }]) =>
    html("tr", { "data-checker": name }, html("td", {}, claim), html("th", { scope: "row" }, name),
      ...topologies.map((topology) => html("td", { "data-of": topology }, ...verdictCell(by[topology] ?? [])))));
  return html("table", {}, html("thead", {}, html("tr", {}, ...heads)), html("tbody", {}, ...rows));
}

// Most checkers in a number, the others by name: "23 of 24 checkers valid; unknown: driver". Until the end many are open.
function outcomesOf(topologies) {
  const by = new Map();
  const runs = topologies.flatMap(runsOf);
  for (const { checker, outcome } of runs.flatMap(({ verdict }) => verdict?.verdicts ?? [])) {
    by.set(checker, worst([outcome, by.get(checker) ?? outcome]));
  }
  const of = (outcome) => [...by].filter(([, each]) => each === outcome).map(([name]) => name);
  if (!runs.every(({ verdict }) => verdict?.final)) return of("invalid").length ? `invalid: ${of("invalid").join(", ")}` : "no objection so far";
  const said = ["invalid", "unknown"].filter((each) => of(each).length).map((each) => `${each}: ${of(each).join(", ")}`);
  return by.size ? [`${of("valid").length} of ${by.size} checkers valid`, ...said].join("; ") : "";
}

function verdictCell(of) {
  if (!of.length) return ["–"];
  const outcome = worst(of.map((each) => each.outcome));
  const count = of.reduce((total, each) => total + each.violations.count, 0);
  const first = of.find((each) => each.outcome === outcome);
  const words = count ? `${outcome}, ${count} violations` : outcome;
  return [html("span", { class: `chip ${outcome}`, "data-violations": count }, words), html("small", {}, first.summary)];
}
