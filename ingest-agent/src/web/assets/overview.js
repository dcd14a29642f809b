// Streams by state, totals, how full the maps are.

import { STATES, byId, element, stateMark, write } from "./dom.js";
import { bitrate, count, duration, percent } from "./format.js";

export class Overview {
  /// `choose(state)`: somebody wants to see the streams of a state.
  constructor(choose) {
    this.tiles = new Map();
    this.figures = new Map();
    this.fills = new Map();
    for (const state of STATES) {
      const number = element("span", { class: "number" });
      const tile = element("button", { type: "button", class: `tile ${state}`, "aria-pressed": "false" }, number, stateMark(state));
      tile.addEventListener("click", () => choose(tile.getAttribute("aria-pressed") === "true" ? "" : state));
      this.tiles.set(state, { tile, number });
      byId("states").append(tile);
    }
    this.drops = null;
  }

  choose(state) {
    for (const [word, { tile }] of this.tiles) tile.setAttribute("aria-pressed", String(word === state));
  }

  /// `at`: ms, when the answer was given.
  draw(overview, at) {
    const { streams, status } = overview;
    for (const [state, { tile, number }] of this.tiles) {
      write(number, count(streams.states[state] ?? 0));
      tile.classList.toggle("none", !streams.states[state]);
    }
    const up = status.backends.serving ?? 0;
    this.figure("Bitrate", bitrate(streams.bitrate), "of payload, all streams");
    this.figure("Sessions", count(streams.established), `${many(status.services, "service")}, ${many(status.routes, "route")}`);
    this.figure("Backends", count(up), backendWords(status));
    this.figure("Failovers", count(overview.failovers_last_hour), "in the last hour");
    this.figure("Dropped", count(overview.drops), `packets, ${this.rate(overview.drops, at)} a second now`);
    const ready = status.ready_seconds === null ? "not ready yet" : `ready for ${duration(status.ready_seconds)}`;
    this.figure("Agent", status.agent_version, ready);
    this.figure("Uplinks", status.uplinks.map((uplink) => uplink.name).join(", ") || "none", uplinkWords(status));
    for (const fill of overview.maps) this.fill(fill);
  }

  rate(drops, at) {
    const before = this.drops;
    this.drops = { drops, at };
    if (before === null || at <= before.at) return "0";
    return count(Math.max(0, (drops - before.drops) / ((at - before.at) / 1000)));
  }

  figure(title, value, note) {
    let parts = this.figures.get(title);
    if (!parts) {
      parts = { value: element("dd", { class: "value" }), note: element("dd", { class: "note" }) };
      byId("figures").append(element("div", {}, element("dt", {}, title), parts.value, parts.note));
      this.figures.set(title, parts);
    }
    write(parts.value, value);
    write(parts.note, note);
  }

  fill({ name, entries, capacity }) {
    let parts = this.fills.get(name);
    if (!parts) {
      const meter = element("meter", { min: "0", low: "0.7", high: "0.9", optimum: "0", max: "1", "aria-label": `${name} in use` });
      parts = { meter, words: element("span", { class: "fill-words" }) };
      byId("maps").append(element("li", {}, element("span", { class: "fill-name" }, name), meter, parts.words));
      this.fills.set(name, parts);
    }
    const share = capacity === 0 ? 0 : entries / capacity;
    parts.meter.value = share;
    write(parts.words, `${count(entries)} of ${count(capacity)}, ${percent(share)}`);
  }
}

function many(number, word) {
  return `${count(number)} ${word}${number === 1 ? "" : "s"}`;
}

function backendWords(status) {
  const parts = [`${count(status.backends_down)} down`];
  for (const state of ["draining", "gone"]) {
    if (status.backends[state]) parts.push(`${count(status.backends[state])} ${state}`);
  }
  return `serving; ${parts.join(", ")}`;
}

function uplinkWords(status) {
  const modes = [...new Set(status.uplinks.map((uplink) => uplink.xdp_mode))];
  return `${modes.join(", ") || "no"} XDP, tc by ${status.tc}`;
}
