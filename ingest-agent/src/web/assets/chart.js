// Small and large lines over the last minute, as SVG.

import { element, shape, write } from "./dom.js";

const SECONDS = 60;

/// Points of a line through `values`, the newest at the right; what is not known breaks it.
function line(values, width, height, top, gap) {
  const step = width / (SECONDS - 1);
  const first = SECONDS - values.length;
  let path = "";
  let open = false;
  values.forEach((value, index) => {
    if (gap && value === 0) {
      open = false;
      return;
    }
    const x = (first + index) * step;
    const y = height - (Math.min(value, top) / top) * height;
    path += `${open ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`;
    open = true;
  });
  return path;
}

/// A line without axes for a cell of a table; the cell says the number. `floor`: the least that is full height.
export class Spark {
  constructor(kind) {
    this.kind = kind;
    this.path = shape("path", { class: "line" });
    this.node = shape(
      "svg",
      { class: `spark ${kind}`, viewBox: "0 -1 60 20", preserveAspectRatio: "none", "aria-hidden": "true" },
      this.path,
    );
  }

  draw(values = [], floor = 0) {
    const top = Math.max(floor, ...values) * 1.1 || 1;
    this.path.setAttribute("d", line(values, 60, 18, top, this.kind === "rtt"));
  }
}

const WIDTH = 560;
const HEIGHT = 120;
const LEFT = 76;
const BOTTOM = 24;

/// A chart with axes, units, a threshold, and its content in words.
export class Chart {
  constructor(kind, title, format) {
    this.kind = kind;
    this.format = format;
    this.marks = shape("g", { class: "axis" });
    this.path = shape("path", { class: "line" });
    this.limit = shape("path", { class: "limit" });
    this.words = element("p", { class: "words", id: `chart-${kind}-words` });
    const heading = element("h3", { id: `chart-${kind}-title` }, title);
    const plot = shape("g", { transform: `translate(${LEFT} 8)` }, this.marks, this.limit, this.path);
    const picture = shape(
      "svg",
      {
        class: `chart ${kind}`,
        viewBox: `0 0 ${LEFT + WIDTH + 14} ${HEIGHT + BOTTOM + 8}`,
        role: "img",
        "aria-labelledby": `chart-${kind}-title`,
        "aria-describedby": `chart-${kind}-words`,
      },
      plot,
    );
    this.node = element("figure", {}, heading, picture, element("figcaption", {}, this.words));
  }

  /// `limit`: the threshold, where there is one; `word`: what to be beyond it means; `floor`: the least that is full height.
  draw(values, { limit = null, word = "threshold", floor = 0 }) {
    const top = niceTop(Math.max(floor, limit ?? 0, ...values));
    this.axes(top);
    this.path.setAttribute("d", line(values, WIDTH, HEIGHT, top, this.kind === "rtt"));
    const y = limit === null ? null : (HEIGHT - (limit / top) * HEIGHT).toFixed(1);
    this.limit.setAttribute("d", y === null ? "" : `M0 ${y}H${WIDTH}`);
    const known = this.kind === "rtt" ? values.filter((value) => value > 0) : values;
    write(this.words, this.say(known, limit, word));
  }

  say(known, limit, word) {
    if (known.length === 0) return "Not measured yet.";
    const { format } = this;
    const now = known[known.length - 1];
    const parts = [`Now ${format(now)}`, `lowest ${format(Math.min(...known))}`, `highest ${format(Math.max(...known))}`];
    const end = limit === null ? "no threshold" : `${word} ${format(limit)} (dashed)`;
    return `${parts.join(", ")}; ${end}.`;
  }

  axes(top) {
    const text = (attributes, words) => shape("text", attributes, words);
    const rows = [0, 0.5, 1].flatMap((share) => {
      const y = HEIGHT - share * HEIGHT;
      return [
        shape("path", { d: `M0 ${y}H${WIDTH}` }),
        text({ x: -8, y: y + 4, "text-anchor": "end" }, share === 0 ? "0" : this.format(top * share)),
      ];
    });
    const columns = [60, 45, 30, 15, 0].map((ago) => {
      const x = WIDTH - (ago / 60) * WIDTH;
      return text({ x, y: HEIGHT + 18, "text-anchor": ago === 0 ? "end" : "middle" }, ago === 0 ? "now" : `−${ago} s`);
    });
    this.marks.replaceChildren(...rows, ...columns);
  }
}

/// The next 1, 2 or 5 of its size, so that the axis has round numbers and does not tremble.
function niceTop(value) {
  if (value <= 0) return 1;
  const size = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * size).find((step) => step >= value * 1.02) ?? 10 * size * 2;
}
