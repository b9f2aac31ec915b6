// Draws a topology: places as boxes in columns, edges between them, and requests as dots.
const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 800;
const NARROW = 380; // width of a drawing on a phone, or of one of many
const GAP = 46; // between the columns of a narrow one, for a word
const NUMBERED = 24; // edges with traffic up to which each has its number
const MANY = 40; // rows of a column from which on places are cells without a name
const FEW = 8; // callers from which on a resolver stands beside its caller, not below it
const LETTER = 7.4; // width of one, a generous mean
const NARROW_LETTER = 6.9; // in a narrow drawing, whose names are smaller
const SMALL = 6.3; // width of a small letter
const CLUSTER = 104; // width of a cluster in one
const SHARE = 38; // half the width of "100 % fail"
const NARROW_SHARE = 22; // half the width of "100 %"
const POINTS = 24;
const SLOWER = 10; // how many times slower requests move under the pointer, so that one can be clicked
const NEAR = 20; // a click belongs to a dot within this distance, in units of the drawing

function svg(tag, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, tag);
  Object.entries(attributes).forEach(([name, value]) => made.setAttribute(name, value));
  made.append(...children);
  return made;
}

function html(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  Object.entries(attributes).forEach(([name, value]) => made.setAttribute(name, value));
  made.append(...children);
  return made;
}

// A topology's colour, which is lighter on a dark page.
const themed = (colour) => `var(--c${colour.slice(1)}, ${colour})`;

// Only what changes is written, as each change costs a paint.
function set(element, name, value) {
  if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

class Drawing {
  // Calls `open` with the place that was clicked, or chosen by keyboard.
  constructor(plan, open, narrow = false) {
    this.plan = plan;
    this.open = open;
    this.narrow = narrow;
    this.width = narrow ? NARROW : WIDTH;
    this.half = narrow ? NARROW_SHARE : SHARE; // of a word's width
    this.boxes = new Map();
    this.edges = new Map();
    this.shares = new Map();
    this.shown = [];
    this.layout();
    this.lines = svg("g", { "aria-hidden": "true" });
    this.places = svg("g");
    this.words = svg("g", { "aria-hidden": "true" });
    this.svg = svg("svg", { viewBox: `0 0 ${this.width} ${this.height}`, class: narrow ? "narrow" : "", role: "group", "aria-label": `Topology ${plan.name}` },
      this.lines, this.places, this.words);
    // All edges without traffic are two paths in their own layer: there may be thousands, which are painted once.
    this.still = svg("svg", { viewBox: `0 0 ${this.width} ${this.height}`, class: "still", "aria-hidden": "true" });
    for (const [kind, style] of [["payload", "edge"], ["asks", "edge asks"]]) {
      const paths = Object.keys(plan.edges).filter((name) => plan.edges[name] === kind).map((name) => this.edge(name, kind)?.path ?? "");
      this.still.append(svg("path", { class: style, d: paths.join("") }));
    }
    plan.columns.flat().forEach((place) => this.place(place));
    this.canvas = html("canvas", { "aria-hidden": "true" });
    this.dots = [];
    this.clock = 0; // of the dots, ms
  }

  layout() {
    const { columns } = this.plan;
    const callers = columns[0].filter((place) => !place.asked);
    const beside = this.beside = callers.length > FEW;
    const rows = columns.map((column, number) => (number || !beside ? column : callers));
    const tall = Math.max(...rows.map((column) => Math.min(column.length, MANY)));
    this.height = Math.max(180, tall * (tall > 2 * FEW ? 24 : 46) + 24);
    rows.forEach((column, number) => {
      const left = 8 + number * ((this.width - 16) / columns.length);
      if (column.length <= MANY) this.layoutBoxes(column, number, columns.length);
      else this.layoutCells(column, left, (this.width - 16) / columns.length - 60, number);
    });
    if (beside) this.layoutBeside(columns[0].filter((place) => place.asked));
  }

  // Each resolver as a small box left of its caller's; one that all share at the upper edge.
  layoutBeside(places) {
    for (const place of places) {
      const asking = Object.keys(this.plan.edges).find((edge) => edge.endsWith(`>${place.name}`)).split(">")[0];
      const { x, y, height } = this.boxes.get(asking);
      this.boxes.set(place.name, { x, y: y + height / 2 - 5, width: 16, height: 10, named: false });
    }
    for (const place of this.plan.columns[0].filter((each) => !each.asked && places.length)) {
      const box = this.boxes.get(place.name);
      Object.assign(box, { x: box.x + 26, width: box.width - 26 });
    }
  }

  layoutBoxes(column, number, count) {
    const isLast = number === count - 1;
    const width = this.narrow ? this.narrowWidth(isLast, count) : count > 3 ? 150 : 198;
    const stride = this.narrow ? width + this.gap(count) : (this.width - width - 16) / (count - 1);
    const x = isLast ? this.width - width - 8 : 8 + number * stride;
    const step = (this.height - 24) / column.length;
    column.forEach((place, row) => {
      const height = Math.min(this.narrow ? 40 : 36, step - (step > 30 ? 6 : 3));
      const inset = place.asked ? 14 : 0;
      this.boxes.set(place.name, { x: x + inset, y: 12 + row * step + (step - height) / 2, width: width - inset, height, named: true });
    });
  }

  // Where names need the room, words lie on boxes.
  gap(count) { return count > 3 || this.beside ? GAP / 2 : GAP; }

  // Clusters have their whole names, and the other columns what remains.
  narrowWidth(isLast, count) {
    const room = this.width - 16 - this.gap(count) * (count - 1);
    const last = this.gap(count) < GAP ? room / count : CLUSTER;
    return isLast ? last : (room - last) / (count - 1);
  }

  // Fills lines of cells, and at most the column's room.
  layoutCells(column, left, room, number) {
    const ratio = room / (this.height - 24);
    const across = Math.max(1, Math.ceil(Math.sqrt(column.length * ratio / 1.6)));
    const width = room / across;
    const height = (this.height - 24) / Math.ceil(column.length / across);
    const shift = number === 0 ? 0 : 60;
    column.forEach((place, order) => this.boxes.set(place.name, {
      x: left + shift + (order % across) * width, y: 12 + Math.floor(order / across) * height,
      width: width - 3, height: height - 3, named: false,
    }));
  }

  place(place) {
    const box = this.boxes.get(place.name);
    const group = svg("g", { class: place.asked ? "place asked" : "place", role: "button", tabindex: this.boxes.get(this.plan.columns[0][0].name) === box ? 0 : -1 },
      svg("rect", { class: "box", x: box.x, y: box.y, width: box.width, height: box.height, rx: box.named ? 6 : 2 }));
    const below = this.narrow && box.height > 30; // the marks, as the name takes the whole width
    const units = place.units.map((name, number) => {
      const cy = below ? box.y + box.height - 9 : box.y + Math.min(12, box.height / 2);
      const mark = svg("circle", { class: "unit", r: 4.5, cx: box.x + box.width - 11 - number * 13, cy });
      if (box.named && number < 6) group.append(mark);
      return [name, mark];
    });
    if (box.named) {
      const tall = box.height > 30 && (below || (place.versions?.length ?? 0) > 0);
      const marks = 13 * Math.min(6, units.length);
      const room = box.width - 14 - (below ? 0 : marks); // beside the marks
      const name = short(below ? shortName(place) : place.name, below ? Math.floor((room - 4) / NARROW_LETTER) : Math.max(12, Math.floor(room / LETTER)));
      group.append(svg("text", { x: box.x + 9, y: box.y + (tall ? 15 : box.height / 2 + 4.5) }, name));
      const versions = short(byModel(place.versions ?? []), below ? Math.floor((room - marks) / SMALL) : 25);
      if (versions && tall) group.append(svg("text", { class: "quiet", x: box.x + 9, y: box.y + 30 }, versions));
    }
    group.append(svg("title", {}, [place.name, ...(place.versions ?? [])].join("\n")));
    group.addEventListener("click", () => this.open(place));
    group.addEventListener("keydown", (event) => this.key(event, box));
    this.places.append(group);
    Object.assign(box, { place, group, units });
  }

  // Enter opens a place; arrows go to the next one in that direction, as there may be hundreds.
  key(event, box) {
    if (["Enter", " "].includes(event.key)) { event.preventDefault(); this.open(box.place); }
    const towards = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!towards) return;
    event.preventDefault();
    const away = (each) => {
      const by = [each.x - box.x, each.y + each.height / 2 - box.y - box.height / 2];
      const along = by[0] * towards[0] + by[1] * towards[1];
      const across = Math.abs(by[0] * towards[1]) + Math.abs(by[1] * towards[0]);
      return along > 1 ? along + 2 * across : Infinity;
    };
    const next = [...this.boxes.values()].reduce((best, each) => (away(each) < away(best) ? each : best), box);
    box.group.setAttribute("tabindex", -1);
    next.group.setAttribute("tabindex", 0);
    next.group.focus();
  }

  // Where an edge runs; its line is made with its first request.
  edge(name, kind = "payload") {
    if (this.edges.has(name)) return this.edges.get(name);
    const [one, other] = name.split(">").map((each) => this.boxes.get(each));
    if (!one || !other) return null;
    const asks = kind === "asks";
    const left = asks && other.x < one.x;
    const from = left ? [one.x, one.y + one.height / 2] : asks ? [one.x + 6, one.y + one.height] : [one.x + one.width, one.y + one.height / 2];
    const to = [left ? other.x + other.width : other.x, other.y + other.height / 2];
    const bend = Math.max(20, (to[0] - from[0]) / 2);
    const control = asks ? [[from[0], to[1]], [from[0], to[1]]] : [[from[0] + bend, from[1]], [to[0] - bend, to[1]]];
    const made = { path: `M${from} C${control[0]} ${control[1]} ${to}`, curve: [from, ...control, to], line: null, points: null };
    // A resolver below its caller has no room for words before it.
    if (asks && !left) made.words = [other.x + other.width + this.half + (this.narrow ? 2 : 6), other.y + other.height / 2 + 4.5];
    this.edges.set(name, made);
    return made;
  }

  pointsOf(edge) {
    edge.points ??= Array.from({ length: POINTS + 1 }, (_, step) => bezier(...edge.curve, step / POINTS));
    return edge.points;
  }

  lineOf(name, edge) {
    if (!edge.line) {
      edge.line = svg("path", { class: "edge", d: edge.path, "data-edge": name });
      this.lines.append(edge.line);
    }
    return edge.line;
  }

  // Shows the sum of some intervals, `seconds` long.
  show(sums, seconds) {
    const seen = Object.keys({ ...sums.e, ...sums.c });
    const numbered = !this.narrow && seen.length <= NUMBERED;
    for (const name of new Set([...this.shown, ...seen])) {
      const edge = this.edge(name);
      if (!edge) continue;
      const [ok = 0, failed = 0, missed = 0] = sums.e[name] ?? [];
      const copies = sums.c[name] ?? 0;
      const share = failed / Math.max(1, ok + failed);
      const kind = failed ? (share >= 0.05 ? "bad" : "some") : ok ? "busy" : missed ? "missed" : copies ? "busy copy" : "idle";
      const line = this.lineOf(name, edge);
      set(line, "class", `edge ${kind}`);
      const rate = (ok + failed + missed + copies) / seconds;
      const width = rate ? Math.min(9, 1 + 1.15 * Math.log2(1 + rate)).toFixed(1) : "";
      if (edge.width !== width) line.style.strokeWidth = edge.width = width;
      const number = numbered && rate ? `${rate < 9.5 ? rate.toPrecision(1) : rate.toFixed(0)}/s` : "";
      this.share(name, edge, failed ? `${Math.max(1, Math.round(share * 100))} %${this.narrow ? "" : " fail"}` : number, failed ? "share" : "rate");
    }
    this.shown = seen;
  }

  // The share of failed requests in words, so that nobody needs to see colours; else requests a second.
  share(name, edge, text, kind) {
    if (!text && !this.shares.has(name)) return;
    if (!this.shares.has(name)) {
      const [x, y] = edge.words ?? this.wordsOf(edge, name);
      const word = svg("text", { class: "share", x, y });
      this.words.append(word);
      this.shares.set(name, word);
    }
    const word = this.shares.get(name);
    set(word, "class", kind);
    write(word, text);
  }

  // Above three quarters of an edge, or one quarter where several end, between its places and beside other words where
  // it fits.
  wordsOf(edge, name) {
    const [from, to] = name.split(">");
    const count = (end) => Object.keys(this.plan.edges).filter(end).length;
    const joins = count((each) => each.endsWith(`>${to}`)) > count((each) => each.startsWith(`${from}>`));
    const [left, right] = [edge.curve[0][0] + this.half, edge.curve[3][0] - this.half];
    const places = (joins ? [0.25, 0.4, 0.55] : [0.75, 0.6, 0.45]).map((share) => {
      const [x, y] = this.pointsOf(edge)[Math.round(POINTS * share)];
      return [left < right ? Math.min(Math.max(left, x), right) : Math.max(44, x), y - 6];
    });
    const free = ([x, y]) => ![...this.shares.values()].some((word) => Math.abs(word.getAttribute("x") - x) < 28 && Math.abs(word.getAttribute("y") - y) < 12);
    return places.find(free) ?? places[0];
  }

  // Dims the places whose names and versions do not have a text; returns the first that has it.
  find(text) {
    const has = ({ place }) => [place.name, ...(place.versions ?? [])].some((each) => each.toLowerCase().includes(text));
    const boxes = [...this.boxes.values()];
    boxes.forEach((box) => { box.group.style.opacity = has(box) ? "" : "0.25"; });
    return text ? boxes.find(has)?.group : null;
  }

  // Marks the callers of a stage by their revision.
  showStage(stage) {
    for (const box of this.boxes.values()) {
      if (box.place.role !== "caller") continue;
      box.revision = stage?.callers.includes(box.place.name) ? stage.revision : null;
      if (!box.named || (!box.revision && !box.mark)) continue;
      if (!box.mark) {
        const below = this.narrow && box.height > 30;
        const at = below ? { x: box.x + 9, y: box.y + 30 }
          : { x: box.x + box.width - 11 - 13 * Math.min(6, box.units.length), y: box.y + box.height / 2 + 4, "text-anchor": "end" };
        box.mark = svg("text", { class: "revision", ...at });
        box.group.append(box.mark);
      }
      write(box.mark, box.revision ? `rev ${box.revision}` : "");
    }
  }

  showUnits(states, isDown = false) {
    for (const { place, group, units, revision } of this.boxes.values()) {
      const known = units.map(([name, mark]) => {
        const state = states[name]?.state ?? "";
        set(mark, "class", isDown ? "unit gone" : ["", "running"].includes(state) ? "unit" : state === "paused" ? "unit paused" : "unit off");
        return [name, state];
      });
      const off = known.filter(([, state]) => !["", "running"].includes(state));
      const how = isDown || off.length === 0 ? "" : off.length === units.length ? " down" : " part";
      set(group, "class", `place${place.asked ? " asked" : ""}${revision ? " staged" : ""}${how}`);
      const states_ = known.map(([name, state]) => `${name} ${state}`).join(", ");
      set(group, "aria-label", `${place.role} ${place.name}${revision ? `, by revision ${revision}` : ""}: ${states_}`);
    }
  }

  // Sends a dot along a request's edges.
  send([id, answered, edges]) {
    const known = edges.map((name) => this.edge(name)).filter(Boolean);
    if (known.length && this.dots.length < 160) {
      this.dots.push({ id, answered, points: known.flatMap((edge) => this.pointsOf(edge)), from: this.clock + Math.random() * TICK_MS, took: 420 * known.length });
    }
  }

  // The request whose dot is nearest to a click; null if none is near.
  requestAt(event) {
    const box = this.svg.getBoundingClientRect();
    const scale = this.width / box.width;
    const at = [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
    const near = this.dots.filter((dot) => this.clock >= dot.from).map((dot) => [Math.hypot(...this.where(dot).map((value, axis) => value - at[axis])), dot.id]);
    return near.reduce((best, each) => (each[0] < best[0] ? each : best), [NEAR, null])[1];
  }

  where(dot) {
    return dot.points[Math.min(dot.points.length - 1, Math.floor((this.clock - dot.from) / dot.took * dot.points.length))];
  }

  // Draws the dots some milliseconds later, on a canvas as they change with each frame.
  paint(later, colours) {
    this.clock += this.svg.matches(":hover") ? later / SLOWER : later;
    if (!this.dots.length && !this.painted) return;
    const { canvas } = this;
    const scale = canvas.clientWidth * devicePixelRatio / this.width;
    const width = Math.round(this.width * scale), height = Math.round(this.height * scale);
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const context = canvas.getContext("2d");
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.clearRect(0, 0, this.width, this.height);
    this.dots = this.dots.filter((dot) => this.clock < dot.from + dot.took + (dot.answered ? 0 : 350));
    for (const dot of this.dots) {
      if (this.clock < dot.from) continue;
      const [x, y] = this.where(dot);
      context.fillStyle = dot.answered ? colours.ink : colours.bad;
      context.strokeStyle = colours.card; // sets it off from its edge, which may have its colour
      context.beginPath();
      if (dot.answered) context.arc(x, y, 3.4, 0, 2 * Math.PI);
      else context.rect(x - 5, y - 5, 10, 10);
      context.fill();
      context.stroke();
    }
    this.painted = this.dots.length > 0;
  }
}

function bezier(a, b, c, d, t) {
  const u = 1 - t;
  return [0, 1].map((axis) => u ** 3 * a[axis] + 3 * u * u * t * b[axis] + 3 * u * t * t * c[axis] + t ** 3 * d[axis]);
}

// "ranker v1 v2" of ranker.v1 and ranker.v2.
function byModel(keys) {
  const models = new Map();
  keys.map((key) => key.split(/\.(?=[^.]*$)/)).forEach(([model, version]) => models.set(model, [...(models.get(model) ?? []), version]));
  return [...models].map(([model, versions]) => [model, ...versions].join(" ")).join(", ");
}

// Where there is little room, a unit beside a caller is named by its role: it stands in its caller's row.
const shortName = ({ name, role }) => (name.endsWith(`-${role}`) ? role : name);

// An ellipsis is as wide as two letters.
const short = (text, length) => (text.length > length ? `${text.slice(0, length - 2)}…` : text);
