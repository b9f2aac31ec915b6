// The play of the talk: the act that is on with its sentence and figure, and the figures so far.
const talk = (part) => document.querySelector(`#talk-${part}`);
const PLAYED = { shown: "✓", "not shown": "✗", playing: "▶", waits: "·" };

const talkJob = () => documents("job").find(([, job]) => job.state === "running" && job.command.startsWith("lab play"))?.[0];

function renderTalk() {
  const play = store.play?.now ?? {};
  const job = talkJob();
  const goesOn = ["playing", "paused"].includes(play.state);
  talk("start").hidden = !store.lab?.control || Boolean(job) || goesOn;
  document.querySelector("#talk").hidden = !play.acts?.length;
  if (!play.acts?.length) return;
  const act = play.acts.find((each) => each.state === "playing") ?? play.acts.findLast((each) => each.figure) ?? play.acts[0];
  write(talk("title"), `${act.number}. ${act.title}`);
  write(talk("state"), play.state === "paused" ? "paused before the next act" : goesOn ? play.doing : `the play is over: ${play.state}`);
  write(talk("sentence"), act.sentence);
  write(talk("figure"), act.figure);
  set(talk("figure"), "data-state", act.state);
  talk("pause").hidden = !job || !goesOn;
  talk("stop").hidden = talk("pause").hidden;
  write(talk("pause"), play.state === "paused" ? "Go on" : "Pause");
  const key = JSON.stringify(play.acts);
  if (talk("acts").dataset.shown === key) return;
  talk("acts").dataset.shown = key;
  talk("acts").replaceChildren(...play.acts.map((each) => html("li", { value: each.number, "data-state": each.state },
    html("b", {}, `${PLAYED[each.state]} ${each.title}`), " ", html("span", { class: "quiet" }, each.figure),
    ...(each.doubt ? [html("span", { class: "quiet" }, ` in doubt: ${each.doubt}`)] : []))));
}

talk("start").addEventListener("click", () => post({ action: "play", values: {} }));
talk("pause").addEventListener("click", () => post({ pause: talkJob() }));
talk("stop").addEventListener("click", () => post({ stop: talkJob() }));
