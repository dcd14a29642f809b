// Backends, drops and failovers: small tables, drawn whole.

import { byId, element, shape, write } from "./dom.js";
import { bytes, clock, count, duration, milliseconds, none } from "./format.js";

/// A table that keeps its rows and cells, so that a text selected or read aloud stays where it is.
class Table {
  constructor(id, columns, empty) {
    this.columns = columns;
    this.body = byId(`${id}-body`);
    this.count = byId(`${id}-count`);
    this.empty = empty;
    const heads = columns.map(([title, number]) => element("th", { scope: "col", class: number && "number" }, title));
    byId(`${id}-head`).append(element("tr", {}, ...heads));
  }

  /// Each row: a list of texts or of elements made anew.
  draw(rows) {
    if (rows.length === 0) {
      this.body.replaceChildren(element("tr", {}, element("td", { class: "empty", colspan: this.columns.length }, this.empty)));
      return;
    }
    if (this.body.querySelector(".empty")) this.body.replaceChildren();
    while (this.body.rows.length > rows.length) this.body.lastElementChild.remove();
    while (this.body.rows.length < rows.length) {
      const cells = this.columns.map(([, number], index) =>
        element(index === 0 ? "th" : "td", { scope: index === 0 && "row", class: number && "number" }),
      );
      this.body.append(element("tr", {}, ...cells));
    }
    rows.forEach((cells, at) => {
      cells.forEach((cell, index) => {
        const place = this.body.rows[at].cells[index];
        if (typeof cell === "string") write(place, cell);
        else if (place.dataset.shown !== cell.dataset.shown) {
          place.dataset.shown = cell.dataset.shown;
          place.replaceChildren(cell);
        }
      });
    });
  }
}

export class Backends {
  constructor() {
    const numbers = ["Sessions", "Accepted", "Cut", "Deaths", "Up", "Down", "Heard"];
    const columns = [["Pod"], ["Address"], ["State"], ["Delivery"], ...numbers.map((title) => [title, true])];
    this.table = new Table("backends", columns, "No backends: no service has a pod on this node.");
  }

  draw(backends) {
    write(this.table.count, count(backends.length));
    this.table.draw(
      backends.map((row) => [
        row.name,
        row.address,
        backendState(row),
        row.mode,
        count(row.flows),
        count(row.accepted),
        count(row.cut),
        count(row.deaths),
        bytes(row.up_bytes),
        bytes(row.down_bytes),
        row.heard_ms === null ? none : `${duration(row.heard_ms / 1000)} ago`,
      ]),
    );
  }
}

function backendState(row) {
  const ends = row.drain_ends_ms === null ? "" : `, sessions end in ${duration(row.drain_ends_ms / 1000)}`;
  const words = `${row.health ?? row.state}${ends}`;
  const kind = row.up ? "active" : row.state === "serving" && row.health !== "drained" ? "stalled" : "draining";
  const paths = { active: "M3 8.5l3.5 3.5l6.5-8", stalled: "M3.5 3.5l9 9m0-9l-9 9", draining: "M8 2.5v10m-4.5-4l4.5 4.5l4.5-4.5" };
  const icon = shape("svg", { class: "shape drawn", viewBox: "0 0 16 16", "aria-hidden": "true" }, shape("path", { d: paths[kind] }));
  const mark = element("span", { class: `mark-of ${kind}` }, icon, element("span", {}, words));
  mark.dataset.shown = `${kind} ${words}`;
  return mark;
}

export class Drops {
  constructor() {
    const columns = [["Reason"], ["Packets", true], ["A second", true], ["Meaning"]];
    this.table = new Table("drops", columns, "Nothing was dropped.");
    this.before = null;
  }

  /// `at`: ms, when the answer was given.
  draw(drops, at) {
    const packets = new Map(drops.map((row) => [row.reason, row.packets]));
    const rate = (row) => {
      const before = this.before?.packets.get(row.reason);
      if (before === undefined || at <= this.before.at) return 0;
      return Math.max(0, (row.packets - before) / ((at - this.before.at) / 1000));
    };
    const rows = drops.filter((row) => row.packets > 0).sort((a, b) => b.packets - a.packets);
    const total = rows.reduce((sum, row) => sum + row.packets, 0);
    write(this.table.count, total === 0 ? "" : `${count(total)} packets`);
    this.table.draw(rows.map((row) => [row.reason, count(row.packets), count(rate(row)), row.explained]));
    this.before = { packets, at };
  }
}

export class Failovers {
  constructor() {
    const columns = [["Time"], ["Stream"], ["Service"], ["From"], ["To"], ["Why"], ["Took", true]];
    this.table = new Table("failovers", columns, "No failover is remembered.");
  }

  /// `at`: ms, when the answer was given.
  draw(failovers, at) {
    write(this.table.count, failovers.length === 0 ? "" : count(failovers.length));
    this.table.draw(
      failovers.map((row) => [
        clock(new Date(at - row.ago_seconds * 1000)),
        row.stream_id ?? row.id,
        row.service,
        row.from ?? none,
        row.to ?? none,
        row.reason?.replaceAll("_", " ") ?? none,
        milliseconds(row.took_ms),
      ]),
    );
  }
}
