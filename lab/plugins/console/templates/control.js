// Buttons: each runs a command, or, without --control, shows it to copy.
const BREAKS = { kill: "Kill", pause: "Pause", partition: "Cut off" };
const BREAKS_MODELS = { slow: "Slow", error: "Fail some" };
const unitDialog = document.querySelector("#unit");
const log = document.querySelector("#log");

const quoted = (value) => (/^[\w@%+=:,./-]+$/.test(value) ? value : `'${value.replaceAll("'", "'\\''")}'`);
const labOption = () => (["default", undefined].includes(store.lab?.name) ? "" : ` --name ${store.lab.name}`);

async function post(document_) {
  const answer = await fetch("/act", {
    method: "POST", headers: { "Content-Type": "application/json", "X-Lab-Console": "1" }, body: JSON.stringify(document_),
  });
  const { error } = await answer.json();
  if (error) notify(error, 10_000);
}

async function copy(text, button) {
  await navigator.clipboard.writeText(text);
  button.textContent = "Copied";
}

function copyButton(command) {
  const button = html("button", { type: "button", class: "copy", "aria-label": `Copy as command: ${command}` }, "Copy");
  button.addEventListener("click", () => copy(command, button));
  return button;
}

// A button for `lab` with these words; without --control it copies the command.
function actionButton(text, label, action, values, words) {
  const command = `lab ${words.map(quoted).join(" ")}${labOption()}`;
  const button = html("button", { type: "button", "aria-label": label, title: command }, text);
  button.addEventListener("click", () => (store.lab.control ? post({ action, values }) : copy(command, button)));
  return button;
}

function openUnit(place) {
  unitDialog.dataset.place = JSON.stringify(place);
  renderUnit();
  unitDialog.showModal();
}

function renderUnit() {
  if (!unitDialog.dataset.place) return;
  const place = JSON.parse(unitDialog.dataset.place);
  const key = JSON.stringify([place.name, place.units.map((name) => store.unit?.[name]?.state), store.lab.faults]);
  if (unitDialog.dataset.shown === key) return;
  unitDialog.dataset.shown = key;
  const state = (name) => store.unit?.[name]?.state ?? "";
  const breaks = Object.entries(place.role === "model" ? { ...BREAKS, ...BREAKS_MODELS } : BREAKS)
    .filter(([kind]) => store.lab.kinds?.includes(kind) ?? true);
  const row = (title, target, units) => html("div", { class: "row" },
    html("b", {}, title), html("span", { class: "quiet" }, [...new Set(units.map(state))].join(", ")),
    ...(units.every((name) => ["running", ""].includes(state(name))) ? breaks : []).map(([kind, text]) =>
      actionButton(text, `${text} ${target}`, "inject", { kind, target }, ["fault", "inject", kind, target])),
    ...healButtons(target));
  const rows = place.units.map((name) => row(name, name, [name]));
  if (rows.length > 1) rows.unshift(row(`all ${rows.length} ${place.role === "model" ? "replicas" : `${place.role}s`}`, place.name, place.units));
  unitDialog.querySelector("h2").textContent = place.role === place.name ? place.name : `${place.role} ${place.name}`;
  unitDialog.querySelector(".hint").textContent = store.lab.control
    ? "Each button runs a command, which is then listed under Control."
    : "The page only watches: each button copies its command. `lab console --control` lets it act.";
  unitDialog.querySelector(".rows").replaceChildren(...rows);
}

const healButton = (fault, what) =>
  actionButton("Heal", `Heal ${what} of ${fault.id}`, "heal", { fault: fault.id }, ["fault", "heal", fault.id]);

function healButtons(name) {
  const hits = (fault) => fault.target === name || fault.units.includes(name);
  return (store.lab.faults ?? []).filter(hits).map((fault) => healButton(fault, name));
}

// Faults in force, each with a button that heals it.
function renderFaults() {
  const active = store.lab.faults ?? [];
  const element = document.querySelector("#faults span");
  const key = JSON.stringify(active);
  if (element.dataset.shown === key) return;
  element.dataset.shown = key;
  element.replaceChildren(...active.map((fault) => html("span", {}, `${fault.kind} ${fault.target} `, healButton(fault, fault.target))));
  if (!active.length) element.append("none in force");
}

// The list of commands that ran, newest first.
function renderLog() {
  const jobs = documents("job").sort((a, b) => b[0] - a[0]);
  log.replaceChildren(...jobs.slice(0, 12).map(([number, job]) => {
    const row = html("li", { "data-state": job.state }, html("code", {}, job.command), " ", html("span", { class: "quiet" }, job.state), " ");
    if (job.state === "running") {
      const stop = html("button", { type: "button", "aria-label": `Stop ${job.command}` }, "Stop");
      stop.addEventListener("click", () => post({ stop: number }));
      row.append(stop, " ");
    }
    row.append(copyButton(job.command));
    if (job.output) row.append(html("details", {}, html("summary", {}, "Output"), html("pre", { tabindex: 0, role: "region", "aria-label": `Output of ${job.command}` }, job.output)));
    return row;
  }));
}

// Fills what the forms can choose from, once it is known.
function fill(id, choices, chosen) {
  const element = document.querySelector(id);
  const key = JSON.stringify(choices);
  if (element.dataset.choices === key) return;
  element.dataset.choices = key;
  element.replaceChildren(...choices.map((each) => new Option(each, each, false, each === chosen)));
}

function renderForms() {
  document.querySelector("#control").hidden = !store.lab?.control;
  if (!store.lab?.control || !store.drawing) return;
  const topologies = Object.keys(store.drawing).sort();
  const callers = Object.values(store.drawing)[0].columns[0].filter((each) => each.role === "caller").map((each) => each.name);
  const both = usual().length === 2 ? [usual().join(",")] : [];
  fill("#load-topology", [...both, ...topologies]);
  fill("#load-caller", ["all", ...callers], callers.length > FEW ? callers[0] : "all");
  const job = loadJob();
  write(document.querySelector("#start-load"), job ? "Restart with these" : "Start load");
  document.querySelector("#stop-load").hidden = !job;
  if (next && !job) { post({ action: "load", values: next }); next = null; }
  fill("#flood-topology", topologies);
  fill("#flood-caller", callers);
  fill("#tenants", store.lab.tenants ?? []);
  const tenant = document.querySelector("#flood-tenant");
  if (!tenant.dataset.filled) { tenant.dataset.filled = true; tenant.value = store.lab.tenants?.[0] ?? "noisy"; }
  renderFaults();
  const versions = Object.entries(store.lab.models ?? {}).flatMap(([model, each]) => each.map((version) => `${model}@${version}`));
  fill("#roll-version", versions);
  fill("#roll-topology", topologies, usual().at(-1));
  fill("#rollback-revision", documents("revision").map(([number]) => number).sort((a, b) => b - a));
  const file = document.querySelector("#publish-file");
  file.value ||= store.lab.routes ?? "";
}

// The load that runs, and the one that waits for it to end: a run keeps its rate, so another rate is another run.
const loadJob = () => documents("job").find(([, job]) => job.state === "running" && job.command.startsWith("lab load "))?.[0];
let next = null;

for (const form of document.querySelectorAll("#control form")) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const values = Object.fromEntries(new FormData(form));
    if (form.dataset.action === "roll") {
      [values.model, values.to] = values.version.split("@");
      delete values.version;
    }
    if (form.dataset.action === "load" && loadJob()) {
      next = values;
      post({ stop: loadJob() });
    } else post({ action: form.dataset.action, values });
  });
}
document.querySelector("#stop-load").addEventListener("click", () => { next = null; post({ stop: loadJob() }); });
document.querySelector("#heal-all").addEventListener("click", () => post({ action: "heal", values: { fault: "all" } }));
unitDialog.addEventListener("close", () => { delete unitDialog.dataset.place; delete unitDialog.dataset.shown; });
