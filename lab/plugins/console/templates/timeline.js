// The time line: revisions as bands, stages and faults as bars, and a scrubber that shows any moment again.
const scrubber = document.querySelector("#scrubber");
let cursor = null; // the interval that is shown; null for the present
let playing = false;

const TICK_NS = TICK_MS * 1e6;
const isPresent = () => cursor === null && !store.lab?.saved;
const when = () => (isPresent() ? "now" : "then");
const moment = () => cursor ?? (store.lab?.saved ? span()[1] : present());

// The first and last interval with traffic.
function span() {
  const numbers = [...traffic.values()].flatMap((intervals) => [...intervals.keys()]);
  return numbers.length ? [numbers.reduce((a, b) => Math.min(a, b)), numbers.reduce((a, b) => Math.max(a, b))] : null;
}

// When an event was undone, in intervals; Infinity if it was not.
function undone(event) {
  const later = documents("event").map(([, each]) => each)
    .filter((each) => each.kind === event.undone_by && each.target === event.target && each.from_ns >= event.from_ns);
  return Math.min(Infinity, ...later.map((each) => each.until_ns / TICK_NS));
}

const faults = () => documents("event").map(([, each]) => each).filter((each) => each.undone_by && !each.kind.startsWith("step"))
  .map((each) => ({ target: each.target, past: each.past, text: each.text, from: each.from_ns / TICK_NS, until: undone(each) }));

// Units' states at the moment shown: of the past, as far as events tell.
function unitStates() {
  if (isPresent()) return store.unit ?? {};
  const at = moment();
  const hit = new Map(faults().filter((each) => each.from <= at + 1 && at < each.until).map((each) => [each.target, each.past]));
  const names = Object.values(store.drawing ?? {}).flatMap((plan) => plan.columns.flat().flatMap((place) => place.units));
  return Object.fromEntries(names.map((name) => [name, { state: hit.get(name) ?? "running" }]));
}

// The revisions with the intervals from and until which they were in force; any later one ends a stage.
function revisions() {
  const found = documents("revision").map(([number, each]) => ({ number: Number(number), from: each.at_ns / TICK_NS, callers: each.callers ?? [] }))
    .sort((a, b) => a.number - b.number);
  return found.map((each, place) => ({ ...each, until: found.slice(place + 1).find((later) => each.callers.length || !later.callers.length)?.from ?? Infinity }));
}

// The revision that is staged at the moment shown, its callers, and the revision for all others; null without one.
function stageAt() {
  if (isPresent()) return store.lab?.stage ? { ...store.lab.stage, forAll: store.lab.revision } : null;
  const at = moment();
  const inForce = revisions().filter((each) => each.from <= at + 1 && at < each.until);
  const staged = inForce.find((each) => each.callers.length);
  return staged ? { revision: staged.number, callers: staged.callers, forAll: inForce.find((each) => !each.callers.length)?.number ?? "–" } : null;
}

function renderTimeline() {
  const found = span();
  document.querySelector("#timeline").hidden = !found;
  if (!found) return;
  const [first, seen] = found;
  const driving = documents("run").some(([, run]) => run.state === "driving");
  const last = driving ? Math.max(seen, present()) : seen;
  if (playing && cursor !== null) cursor = cursor >= last ? ((playing = false), cursor) : cursor + 1;
  if (cursor !== null) cursor = Math.max(cursor, first); // what is older is not kept
  set(scrubber, "min", String(first));
  set(scrubber, "max", String(last));
  if (document.activeElement !== scrubber || playing || cursor === null) scrubber.value = String(Math.min(last, moment()));
  const at = Math.min(last, Math.max(first, moment()));
  const clock = (tick) => new Date(tick * TICK_MS).toLocaleTimeString();
  const words = cursor === null && !store.lab?.saved ? "live" : `${clock(at)}, ${((at - first) * TICK_MS / 1000).toFixed(1)} s after the beginning`;
  document.querySelector("#moment").textContent = words;
  set(scrubber, "aria-valuetext", words);
  document.querySelector("#play").textContent = playing ? "Pause" : "Play";
  document.querySelector("#live").hidden = Boolean(store.lab?.saved);
  document.querySelector(".bands").replaceChildren(bandsOf(first, last, at));
}

function bandsOf(first, last, at) {
  // Its text is as large as that around it, in a window of any width.
  const wide = Math.max(600, Math.round(16 * scrubber.parentElement.clientWidth / parseFloat(getComputedStyle(document.documentElement).fontSize)));
  const x = (tick) => wide * Math.min(1, Math.max(0, (tick - first) / Math.max(1, last - first)));
  const stages = revisions().filter((each) => each.callers.length).map((each) => ({ ...each, text: `revision ${each.number} for ${listed(each.callers)}` }));
  const bars = [...stages, ...faults()].filter((each) => each.until > first && each.from < last);
  const picture = svg("svg", { viewBox: `0 0 ${wide} ${26 + 18 * bars.length}`, role: "img", "aria-label": "Revisions, stages and faults over time" });
  revisions().filter((each) => !each.callers.length && each.until >= first && each.from <= last).forEach(({ number, from, until }) => {
    picture.append(svg("rect", { class: `band ${number % 2 ? "odd" : ""}`, "data-revision": number, x: x(from), width: Math.max(1, x(until) - x(from)), y: 0, height: 20 }),
      svg("text", { class: "quiet", x: x(from) + 5, y: 14 }, `revision ${number}`));
  });
  bars.forEach((each, row) => {
    const y = 24 + 18 * row;
    picture.append(svg("rect", { ...(each.number ? { class: "staging" } : { class: "fault", "data-fault": each.text }), x: x(each.from), width: Math.max(2, x(each.until) - x(each.from)), y, height: 5 }),
      svg("text", { class: "quiet", y: y + 15, ...(x(each.from) < wide - 220 ? { x: x(each.from) } : { x: wide - 5, "text-anchor": "end" }) }, each.text));
  });
  picture.append(svg("line", { class: "cursor", x1: x(at), x2: x(at), y1: 0, y2: 22 + 18 * bars.length }));
  return picture;
}

function goTo(tick) {
  cursor = tick;
  sent = moment();
  if (store.drawing) render();
}

scrubber.addEventListener("input", () => { playing = false; goTo(Number(scrubber.value)); });
document.querySelector("#play").addEventListener("click", () => {
  playing = !playing;
  const [first, last] = span();
  if (playing && (cursor === null || cursor >= last)) goTo(first);
});
document.querySelector("#live").addEventListener("click", () => { playing = false; goTo(null); });
