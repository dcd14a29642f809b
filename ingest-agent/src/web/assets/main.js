// Puts the page together: asks once a second, shows what comes, says when nothing comes.

import { get } from "./api.js";
import { Detail } from "./detail.js";
import { byId, write } from "./dom.js";
import { clock, count } from "./format.js";
import { Overview } from "./overview.js";
import { Streams } from "./streams.js";
import { Backends, Drops, Failovers } from "./tables.js";

const EVERY = 1000;
const EVERY_HIDDEN = 2000;
/// Without an answer for this long the agent is lost: two questions in a row, with some slack.
const LOST = 3000;
/// Streams not read for this long though the agent answers.
const STUCK = 5000;
/// Changes are told to who listens no more often than this.
const TELL = 5000;

const state = { paused: false, answered: null, lost: false, stuck: false, told: 0, summary: "" };

const streams = new Streams(
  () => ask(),
  (row) => detail.open(row),
);
const detail = new Detail(() => askDetail());
const overview = new Overview((word) => choose(word));
const backends = new Backends();
const drops = new Drops();
const failovers = new Failovers();

function choose(word) {
  streams.narrow({ state: word });
}

/// One question at a time; one that comes meanwhile is asked afterwards, once.
function single(question) {
  let running = false;
  let again = false;
  return async function run() {
    if (running) {
      again = true;
      return;
    }
    running = true;
    try {
      do {
        again = false;
        await question();
      } while (again);
    } catch (error) {
      if (error.status !== undefined) console.error(error);
    } finally {
      running = false;
    }
  };
}

const ask = single(async () => {
  const list = await get("streams", streams.query());
  streams.draw(list);
  overview.choose(streams.filter.state);
});

const askDetail = single(async () => {
  const { id } = detail;
  if (id === null) return;
  try {
    const found = await get(`streams/${encodeURIComponent(id)}`);
    if (detail.id === id) detail.draw(found);
  } catch (error) {
    if (error.status === 404) detail.gone();
    else throw error;
  }
});

const askNode = single(async () => {
  const seen = await get("overview");
  const at = Date.parse(seen.at);
  answered(seen);
  overview.draw(seen, at);
  tell(seen.streams);
  const answers = await Promise.all(["backends", "drops", "failovers"].map((path) => get(path)));
  backends.draw(answers[0].backends);
  drops.draw(answers[1].drops, Date.parse(answers[1].at));
  failovers.draw(answers[2].failovers, Date.parse(answers[2].at));
});

function answered(seen) {
  state.answered = new Date();
  state.stuck = seen.viewed_ms === null || seen.viewed_ms > STUCK;
  state.viewed = seen.viewed_ms;
  if (seen.node && byId("node").textContent !== seen.node) {
    write(byId("node"), seen.node);
    document.title = `${seen.node} – ingest`;
  }
  const shows = seen.shows === "full" ? "Stream IDs and clients in full." : "Stream IDs are redacted, of clients the network is shown.";
  write(byId("about"), `ingest-agent ${seen.status.agent_version}. ${shows}`);
}

/// The state of all streams in a sentence, for who cannot see the tiles; only when it differs, and not all the time.
function tell(seen) {
  const bad = ["stalled", "warning", "draining"].filter((word) => seen.states[word] > 0);
  const parts = bad.map((word) => `${count(seen.states[word])} ${word}`);
  const summary = `${count(seen.total)} streams, ${parts.join(", ") || "all well"}.`;
  const now = Date.now();
  if (summary === state.summary || now - state.told < TELL) return;
  state.summary = summary;
  state.told = now;
  write(byId("status"), summary);
}

function showAge() {
  const dot = byId("age");
  if (state.answered === null) {
    const never = Date.now() - begun > LOST;
    write(byId("age-text"), never ? "no answer" : "connecting…");
    setLost(never);
    return;
  }
  const since = Date.now() - state.answered.getTime();
  setLost(!state.paused && since > LOST);
  const word = state.paused ? "paused" : state.lost ? "lost" : "live";
  write(byId("age-text"), `${word}, ${since < 2000 ? "now" : `${Math.round(since / 1000)} s ago`}`);
  dot.dataset.state = word;
}

function setLost(lost) {
  const was = state.lost;
  state.lost = lost;
  const since = state.answered;
  let text = "";
  if (lost && since === null) {
    text = "The agent does not answer. Streams are steered by the kernel all the same.";
  } else if (lost) {
    text = `Agent lost since ${clock(since)}. What is shown is from then. The kernel goes on steering streams; changes of pods and services wait for the agent.`;
  } else if (state.stuck) {
    text = "The agent answers but has not read the streams for a while: their figures are old.";
  }
  document.body.classList.toggle("lost", lost);
  byId("alert").classList.toggle("shown", text !== "");
  write(byId("alert"), text);
  if (was && !lost) write(byId("status"), "The agent is back.");
}

let timer = 0;

function turn() {
  clearTimeout(timer);
  if (!state.paused) {
    askNode();
    ask();
    askDetail();
  }
  timer = setTimeout(turn, document.hidden ? EVERY_HIDDEN : EVERY);
}

byId("pause").addEventListener("click", (event) => {
  state.paused = !state.paused;
  event.target.setAttribute("aria-pressed", String(state.paused));
  showAge();
  turn();
});

document.addEventListener("visibilitychange", () => {
  if (!document.hidden) turn();
});

/// A link to one stream: `#stream=<id>`.
async function linked() {
  const id = new URLSearchParams(location.hash.slice(1)).get("stream");
  if (!id) return;
  const found = await get(`streams/${encodeURIComponent(id)}`).catch(() => null);
  if (found) detail.open(found.sessions[0]);
}

const begun = Date.now();
turn();
linked();
setInterval(showAge, 250);
