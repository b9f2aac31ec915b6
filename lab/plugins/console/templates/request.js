// One request: what it asked, which rule matched, who answered, and the proof.
const requestDialog = document.querySelector("#request");

let asking = false; // an answer that comes later must not replace what is being read

async function openRequest(id) {
  if (asking) return;
  asking = true;
  const story = await fetch(`/request?id=${encodeURIComponent(id)}`).then((answer) => answer.json()).finally(() => { asking = false; });
  if (story.error) return notify(story.error, 10_000);
  document.querySelector("#request-title").textContent = story.request ? `Request ${story.request.request_id}` : `Page ${story.tree.id}`;
  requestDialog.querySelector(".story").replaceChildren(...(story.request ? storyOf(story) : []), ...(story.tree ? treeOf(story.tree, id) : []));
  if (!requestDialog.open) requestDialog.showModal();
}

const inPairs = (values) => Object.entries(values).filter(([, value]) => value !== "" && value !== null && value !== 0)
  .map(([name, value]) => `${name.replaceAll("_", " ")} ${value}`).join(", ");

function storyOf({ request, context, command, decision, answer, times_ms, proof, hops }) {
  const { request_id, use_case, caller, topology, ...rest } = request;
  const words = `lab ${command.map(quoted).join(" ")}${labOption()}`;
  const rules = decision.rules.map((each) => html("li", { class: each.matched ? "matched" : "" }, `${each.matched ? "✓" : "✗"} ${each.rule}: ${each.reason}`));
  if (["default", "override"].includes(decision.rule)) rules.push(html("li", { class: "matched" }, `✓ ${decision.rule}`));
  const done = answer.status === "OK"
    ? `${answer.model}@${answer.version} on ${answer.cluster}, replica ${answer.replica}` : `${answer.status}: ${answer.message}`;
  return [
    html("p", {}, `${caller} asked for ${use_case} through ${topology}, for user ${rest.user_id}`, html("small", {}, `, with ${inPairs(context)}`)),
    html("h3", {}, "Decision"),
    decision.refused ? html("p", {}, decision.refused) : html("ol", { id: "rules" }, ...rules),
    html("p", {}, decision.routing_key ? `→ routing key ${decision.routing_key}, of revision ${decision.revision}` : ""),
    html("p", {}, ...leaseOf(decision)),
    html("p", {}, html("code", {}, ...words.split(" ").flatMap((word) => [html("span", { class: "word" }, word), " "])), copyButton(words)),
    html("h3", {}, "Answer"),
    html("p", { id: "answer" }, done, html("small", {}, ` ${inPairs({ source: answer.source, attempts: answer.attempts, "shadow copy to": answer.shadow })}`)),
    html("p", {}, !proof ? "" : proof.proved
      ? `Proof: item ${proof.item} scores ${proof.score} for this user, which only ${answer.model}@${answer.version} computes.`
      : `Not proved: item ${proof.item} came with ${proof.score}, and ${answer.model}@${answer.version} computes ${proof.expected}.`),
    html("h3", {}, "Times"),
    html("p", {}, Object.entries(times_ms).filter(([, value]) => value !== null).map(([name, value]) => `${name} ${value.toFixed(2)} ms`).join(" · ")),
    hopTable(hops, times_ms["done after it was due"]),
  ];
}

// The decision's lease: what requests must agree in to share it, and whether this one did.
function leaseOf({ asked, reads }) {
  const how = {
    yes: "the resolver was asked for it: its caller had no lease", no: "its caller had it: the resolver was not asked",
    unknown: "`lab up --log-requests` lets the resolver say whether it was asked",
  }[asked];
  return how ? [`Lease for ${inPairs(reads) || "all requests of this use case"} `, html("small", { id: "lease", "data-asked": asked }, how)] : [];
}

function hopTable(hops, whole) {
  if (!hops.length) return html("p", { class: "quiet" }, "No unit has logged it; `lab up --log-requests` lets all of them.");
  const rows = hops.map((hop) => {
    return html("tr", {}, html("th", { scope: "row" }, hop.unit), html("td", {}, `${hop.at_ms.toFixed(1)} ms`), html("td", {}, `${Number(hop.ms).toFixed(1)} ms`),
      html("td", {}, hop.status), html("td", { class: "track" }, barOf(hop.at_ms, hop.ms, whole)));
  });
  return html("table", {}, tableHead("unit", "began", "took", "status", ""), html("tbody", {}, ...rows));
}

// The page that a request is a part of, with all calls that were made for it; a star marks those that it waited for.
function treeOf(tree, id) {
  const by = tree.via.map((unit) => `, by ${unit}`).join("");
  const rows = [...stepsOf(tree.steps, 0)].map(([step, depth]) => {
    const name = `${tree.critical_path.includes(step.id) ? "* " : ""}${step.name}`;
    const link = html("button", { type: "button", "data-step": step.id }, name);
    link.style.marginLeft = `${depth}em`;
    link.disabled = Boolean(step.steps) || step.id === id; // a part of the page is not a request
    link.addEventListener("click", () => openRequest(step.id));
    const status = step.status === "OK" ? step.answered_by : `${step.status} ${step.answered_by}`;
    return html("tr", {}, html("th", { scope: "row" }, link), html("td", {}, `${step.began_ms.toFixed(1)} ms`), html("td", {}, `${step.took_ms.toFixed(1)} ms`),
      html("td", {}, status), html("td", { class: "track" }, barOf(step.began_ms, step.took_ms, tree.took_ms)));
  });
  return [html("h3", {}, "Page"), html("p", {}, `${tree.id} of ${tree.caller}${by}, for user ${tree.user_id}: ${tree.status}, ${tree.took_ms.toFixed(1)} ms`),
    html("table", { id: "tree" }, tableHead("call", "began", "took", "answered by", ""), html("tbody", {}, ...rows)),
    html("p", {}, "* the page waited for these")];
}

function* stepsOf(steps, depth) {
  for (const step of steps) {
    yield [step, depth];
    yield* stepsOf(step.steps ?? [], depth + 1);
  }
}

function barOf(at, took, whole) {
  const bar = html("div", { class: "bar" });
  bar.style.marginLeft = `${Math.min(97, Math.max(0, 100 * at / whole))}%`;
  bar.style.width = `${Math.min(100, 100 * took / whole)}%`;
  return bar;
}

const tableHead = (...heads) => html("thead", {}, html("tr", {}, ...heads.map((text) => html("th", { scope: "col" }, text))));

document.querySelector("#find").addEventListener("submit", (event) => {
  event.preventDefault();
  openRequest(new FormData(event.target).get("id").trim());
});
// Of the requests that have just ended, those that failed first.
document.querySelector("#find input").addEventListener("focus", () => {
  const until = present();
  const recent = [...traffic.values()].flatMap((intervals) =>
    Array.from({ length: 40 }, (_, back) => intervals.get(until - back)?.x ?? []).flat());
  recent.sort((a, b) => a[1] - b[1]);
  document.querySelector("#recent").replaceChildren(...recent.slice(0, 30).map(([id, answered]) => new Option(answered ? "answered" : "failed", id)));
});
