// What the server has said: documents by kind and key; and sums over intervals of traffic.
const { bin, tickMs } = document.body.dataset;
const BIN = Number(bin);
const TICK_MS = Number(tickMs);
const WINDOW = 8; // intervals, that is 2 s: what "now" means

const store = {};
const traffic = new Map(); // topology → Map of interval number → document
const totals = new Map(); // topology → number of requests by status, of these intervals
const older = new Map(); // the same of earlier ones, which are not kept

function take({ clear, set }) {
  for (const kind of clear) {
    store[kind] = {};
    if (kind === "traffic") { traffic.clear(); totals.clear(); older.clear(); }
  }
  for (const [kind, documents] of Object.entries(set)) {
    if (kind === "traffic") Object.entries(documents).forEach(([key, each]) => takeInterval(key, each));
    else if (kind === "older") Object.entries(documents).forEach(([topology, each]) => takeOlder(topology, each));
    else store[kind] = { ...store[kind], ...documents };
  }
}

function takeInterval(key, interval) {
  const [topology, number] = key.split("/");
  if (!traffic.has(topology)) { traffic.set(topology, new Map()); totals.set(topology, {}); }
  const before = traffic.get(topology).get(Number(number));
  traffic.get(topology).set(Number(number), interval);
  const sums = totals.get(topology);
  for (const [status, count] of Object.entries(interval.s)) sums[status] = (sums[status] ?? 0) + count;
  for (const [status, count] of Object.entries(before?.s ?? {})) sums[status] -= count;
}

function takeOlder(topology, { until, s }) {
  older.set(topology, s);
  const intervals = traffic.get(topology) ?? new Map();
  for (const [number, interval] of intervals) {
    if (number > until) continue;
    for (const [status, count] of Object.entries(interval.s)) totals.get(topology)[status] -= count;
    intervals.delete(number);
  }
}

const documents = (kind) => Object.entries(store[kind] ?? {});
const present = () => Math.floor(Date.now() / TICK_MS) - 1; // the last whole interval
const sum = (values) => Object.values(values).reduce((total, each) => total + each, 0);

// The sum of the intervals of a topology up to this one: statuses, edges, copies, latencies, and whom failures hit.
// Charts add up a minute for each picture, and so ask only for the parts that they draw: edges may be hundreds.
function during(topology, until, length = WINDOW, parts = "seclw") {
  const found = { s: {}, e: {}, c: {}, l: {}, w: {} };
  for (let number = until - length + 1; number <= until; number++) {
    const one = traffic.get(topology)?.get(number);
    if (!one) continue;
    for (const part of parts) {
      for (const [key, counts] of Object.entries(one[part])) {
        if (typeof counts === "number") { found[part][key] = (found[part][key] ?? 0) + counts; continue; }
        const sums = (found[part][key] ??= counts.map(() => 0));
        counts.forEach((count, place) => { sums[place] += count; });
      }
    }
  }
  return found;
}

// A percentile of latencies by bin, in ms; null if there are none.
function percentile(latencies, share) {
  const bins = Object.entries(latencies).map(([each, count]) => [Number(each), count]).sort((a, b) => a[0] - b[0]);
  let left = Math.ceil(bins.reduce((total, each) => total + each[1], 0) * share);
  for (const [each, count] of bins) {
    left -= count;
    if (left <= 0) return 0.01 * BIN ** (each + 1);
  }
  return null;
}

const ms = (value) => (value === null ? "–" : `${value >= 99.5 ? value.toFixed(0) : value.toPrecision(2)} ms`);

// The runs of a topology, each with its verdict.
function runsOf(topology) {
  return documents("run").filter(([, run]) => run.topology === topology)
    .map(([name, run]) => ({ name, ...run, verdict: store.verdict?.[name] }));
}

// The central and the local topology that most people choose between, as far as the lab has them.
const usual = () => ["central", "local"]
  .map((part) => documents("drawing").sort().find(([, drawing]) => drawing.compared_as === part)?.[0])
  .filter(Boolean);

// The topologies to show: those with runs, else the usual ones, else the first two of the lab.
function shown() {
  const names = documents("drawing").map(([name]) => name).sort();
  const busy = names.filter((name) => runsOf(name).length > 0);
  return busy.length ? busy : usual().length ? usual() : names.slice(0, 2);
}

const WORST = ["invalid", "unknown", "valid"];
const worst = (outcomes) => WORST.find((each) => outcomes.includes(each)) ?? "";
