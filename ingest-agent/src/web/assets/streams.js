// The table of streams: only the rows in sight are asked for and drawn, so that ten thousand are as light as ten.

import { Spark } from "./chart.js";
import { byId, element, reasonWords, stateMark, write } from "./dom.js";
import { bitrate, count, duration, milliseconds, name, none, percent } from "./format.js";

/// As in the style sheet.
const ROW = 46;
/// Rows drawn above and below those in sight.
const SPARE = 12;

const COLUMNS = [
  { title: "State", sort: "state", first: "asc", css: "c-state" },
  { title: "Stream", sort: "stream_id", first: "asc", css: "c-stream" },
  { title: "Service", sort: "service", first: "asc", css: "c-service" },
  { title: "Pod", sort: "backend", first: "asc", css: "c-pod" },
  { title: "Bitrate", sort: "bitrate", first: "desc", css: "c-bitrate number" },
  { title: "Loss", sort: "loss", first: "desc", css: "c-loss number" },
  { title: "RTT", sort: "rtt", first: "desc", css: "c-rtt number" },
  { title: "Returns", sort: "returns", first: "desc", css: "c-returns number" },
  { title: "Age", sort: "age", first: "desc", css: "c-age number" },
];

export class Streams {
  /// `ask()`: rows are needed soon. `open(row)`: somebody wants to see one.
  constructor(ask, open) {
    this.ask = ask;
    this.open = open;
    this.filter = { q: "", state: "" };
    this.sort = "state";
    this.order = "asc";
    this.total = 0;
    this.offset = 0;
    this.rows = [];
    this.drawn = [];
    /// Where the keyboard is: its row among all, and which stream that was.
    this.cursor = { index: 0, key: null };
    this.scroll = byId("streams-scroll");
    this.body = byId("streams-body");
    this.table = byId("streams-table");
    this.above = spacer();
    this.below = spacer();
    this.body.append(this.above, this.below);
    this.head();
    this.scroll.addEventListener("scroll", () => this.scrolled(), { passive: true });
    this.body.addEventListener("keydown", (event) => this.key(event));
    this.body.addEventListener("click", (event) => this.clicked(event));
    byId("filter").addEventListener("input", (event) => this.narrow({ q: event.target.value.trim() }));
    byId("state").addEventListener("change", (event) => this.narrow({ state: event.target.value }));
  }

  head() {
    this.heads = COLUMNS.map((column) => {
      const button = element("button", { type: "button" }, column.title, element("span", { class: "arrow", "aria-hidden": "true" }));
      const cell = element("th", { scope: "col", class: column.css }, button);
      button.addEventListener("click", () => this.sortBy(column));
      byId("streams-head").append(cell);
      return { column, cell };
    });
    this.showSort();
  }

  sortBy(column) {
    const again = this.sort === column.sort;
    this.order = again ? (this.order === "asc" ? "desc" : "asc") : column.first;
    this.sort = column.sort;
    this.showSort();
    this.top();
  }

  showSort() {
    const words = { asc: "ascending", desc: "descending" };
    for (const { column, cell } of this.heads) {
      cell.setAttribute("aria-sort", column.sort === this.sort ? words[this.order] : "none");
    }
  }

  narrow(filter) {
    this.filter = { ...this.filter, ...filter };
    byId("state").value = this.filter.state;
    this.top();
  }

  top() {
    this.scroll.scrollTop = 0;
    this.cursor = { index: 0, key: null };
    this.ask();
  }

  /// Rows that should be drawn: those in sight and some more.
  wanted() {
    const first = Math.max(0, Math.floor(this.scroll.scrollTop / ROW) - SPARE);
    const seen = Math.ceil(this.scroll.clientHeight / ROW);
    return { first, many: seen + 2 * SPARE };
  }

  query() {
    const { first, many } = this.wanted();
    return { ...this.filter, sort: this.sort, order: this.order, offset: first, limit: many, history: true };
  }

  scrolled() {
    if (this.waits) return;
    this.waits = true;
    requestAnimationFrame(() => {
      this.waits = false;
      const { first, many } = this.wanted();
      const last = Math.min(this.total, first + many - SPARE);
      const covered = first + SPARE / 2 >= this.offset && last <= this.offset + this.rows.length;
      if (!covered && this.total > 0) this.ask();
    });
  }

  /// Shows an answer of `/streams`.
  draw(list) {
    const held = this.body.contains(document.activeElement);
    this.total = list.total;
    this.offset = list.offset;
    this.rows = list.streams;
    this.follow(held);
    const after = Math.max(0, this.total - this.offset - this.rows.length);
    this.above.firstChild.style.height = `${this.offset * ROW}px`;
    this.below.firstChild.style.height = `${after * ROW}px`;
    while (this.drawn.length > this.rows.length) this.drawn.pop().node.remove();
    while (this.drawn.length < this.rows.length) {
      const row = new Row();
      this.drawn.push(row);
      this.below.before(row.node);
    }
    this.rows.forEach((row, at) => this.drawn[at].draw(row, this.offset + at, this.offset + at === this.cursor.index));
    this.table.setAttribute("aria-rowcount", String(this.total + 1));
    this.empty();
    write(byId("streams-count"), this.total === 1 ? "1 stream" : `${count(this.total)} streams`);
    if (held) this.focus();
  }

  empty() {
    const narrowed = this.filter.q !== "" || this.filter.state !== "";
    const note = byId("streams-empty");
    note.hidden = this.total > 0;
    this.table.hidden = this.total === 0;
    write(note, narrowed ? "No stream matches the filter." : "No streams. An encoder that connects to a VIP of this node appears here within a second.");
  }

  /// Where rows change places, the keyboard stays with its stream.
  follow(held) {
    if (held && this.cursor.key !== null) {
      const at = this.rows.findIndex((row) => keyOf(row) === this.cursor.key);
      if (at >= 0) this.cursor.index = this.offset + at;
    }
    this.cursor.index = Math.min(this.cursor.index, Math.max(0, this.total - 1));
    // The one row that Tab leads to is among those drawn, but while the keyboard is on its way to one that is not yet.
    const last = this.offset + this.rows.length - 1;
    const isDrawn = this.cursor.index >= this.offset && this.cursor.index <= last;
    const onItsWay = held && this.cursor.key === null;
    if (this.rows.length > 0 && !isDrawn && !onItsWay) this.cursor.index = Math.min(last, this.offset + SPARE);
    const row = this.rows[this.cursor.index - this.offset];
    if (row) this.cursor.key = keyOf(row);
  }

  key(event) {
    const page = Math.max(1, Math.floor(this.scroll.clientHeight / ROW) - 1);
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -this.total, End: this.total };
    const step = steps[event.key];
    if (step === undefined || !event.target.closest("tbody button")) return;
    event.preventDefault();
    this.move(this.cursor.index + step);
  }

  move(to) {
    const index = Math.min(Math.max(0, to), Math.max(0, this.total - 1));
    const from = this.drawn[this.cursor.index - this.offset];
    if (from) from.button.tabIndex = -1;
    const row = this.rows[index - this.offset];
    this.cursor = { index, key: row ? keyOf(row) : null };
    this.bring(index);
    if (row) this.focus();
    // Beyond what is drawn: focus follows when the rows are there. It must not fall out of the table meanwhile.
    else this.ask();
  }

  bring(index) {
    const head = this.table.tHead.offsetHeight;
    const top = index * ROW;
    const bottom = top + ROW - (this.scroll.clientHeight - head);
    if (this.scroll.scrollTop > top) this.scroll.scrollTop = top;
    else if (this.scroll.scrollTop < bottom) this.scroll.scrollTop = bottom;
  }

  focus() {
    const row = this.drawn[this.cursor.index - this.offset];
    if (!row) return;
    row.button.tabIndex = 0;
    row.button.focus({ preventScroll: true });
  }

  clicked(event) {
    const node = event.target.closest("tr");
    const at = this.drawn.findIndex((row) => row.node === node);
    if (at < 0) return;
    this.drawn.forEach((row) => {
      row.button.tabIndex = -1;
    });
    this.cursor = { index: this.offset + at, key: keyOf(this.rows[at]) };
    this.focus();
    this.open(this.rows[at]);
  }
}

/// Bonded links share an id.
function keyOf(row) {
  return `${row.id}-${row.caller_id}`;
}

/// Room of the rows that are not drawn. One cell: more columns than a narrow window shows would take room there.
function spacer() {
  const cell = element("td", { class: "spacer" });
  return element("tr", { "aria-hidden": "true", class: "spacer" }, cell);
}

/// A row; it stays and shows one stream after another.
class Row {
  constructor() {
    this.stateWord = null;
    this.state = element("td", { class: "c-state" });
    this.title = element("span", { class: "title" });
    this.button = element("button", { type: "button", tabindex: "-1" }, this.title);
    this.note = element("span", { class: "note" });
    this.service = element("td", { class: "c-service" });
    this.pod = element("td", { class: "c-pod" });
    this.returns = element("td", { class: "c-returns number" });
    this.age = element("td", { class: "c-age number" });
    this.values = {};
    this.sparks = {};
    const measured = ["bitrate", "loss", "rtt"].map((kind) => {
      this.values[kind] = element("span", { class: "value" });
      this.sparks[kind] = new Spark(kind);
      const inside = element("div", { class: "measured" }, this.sparks[kind].node, this.values[kind]);
      return element("td", { class: `c-${kind} number` }, inside);
    });
    const stream = element("th", { scope: "row", class: "c-stream" }, this.button, this.note);
    this.node = element("tr", {}, this.state, stream, this.service, this.pod, ...measured, this.returns, this.age);
  }

  draw(row, index, isCursor) {
    this.node.setAttribute("aria-rowindex", String(index + 2));
    this.button.tabIndex = isCursor ? 0 : -1;
    if (this.stateWord !== row.state) {
      this.stateWord = row.state;
      this.state.replaceChildren(stateMark(row.state));
      this.node.dataset.state = row.state;
    }
    write(this.title, name(row));
    this.title.title = name(row);
    write(this.note, noteOf(row));
    write(this.service, row.service);
    write(this.pod, row.backend ?? none);
    write(this.values.bitrate, bitrate(row.bitrate));
    write(this.values.loss, percent(row.loss));
    write(this.values.rtt, milliseconds(row.rtt_ms));
    const history = row.history ?? {};
    this.sparks.bitrate.draw(history.bitrate, 1000);
    this.sparks.loss.draw(history.loss, 0.02);
    this.sparks.rtt.draw(history.rtt_ms, 1);
    const returns = row.reconnects;
    write(this.returns, returns === 0 ? none : count(returns));
    write(this.age, duration(row.age_seconds));
  }
}

/// The second line: what is not well, or where it comes from.
function noteOf(row) {
  if (row.cut_reason) return `cut: ${row.cut_reason.replaceAll("_", " ")}`;
  if (row.reasons.length > 0) return reasonWords(row.reasons);
  const again = row.failovers > 0 ? `, failed over ${row.failovers === 1 ? "once" : `${count(row.failovers)} times`}` : "";
  return `from ${row.client}${again}`;
}
