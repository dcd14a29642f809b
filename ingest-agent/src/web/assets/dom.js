// Elements. Texts become text nodes, never markup: what strangers sent is among them.

const SVG = "http://www.w3.org/2000/svg";

/// An element with attributes and children (elements, texts; nothing for null).
export function element(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/// The same in SVG.
export function shape(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

export function byId(id) {
  return document.getElementById(id);
}

/// Writes a text where it differs: what did not change is not told again to who listens.
export function write(target, text) {
  if (target.textContent !== text) target.textContent = text;
}

/// Shapes and words of the states; colour alone tells nobody anything.
const SHAPES = {
  active: "M8 2.5a5.5 5.5 0 1 1 0 11a5.5 5.5 0 1 1 0-11z",
  warning: "M8 1.5l7 12.5h-14z",
  draining: "M2 3h12l-6 11z",
  stalled: "M2.5 2.5h11v11h-11z",
  ending: "M8 1.5a6.5 6.5 0 1 1 0 13a6.5 6.5 0 1 1 0-13zm0 2.6a3.9 3.9 0 1 0 0 7.8a3.9 3.9 0 1 0 0-7.8z",
};

export const STATES = ["stalled", "warning", "draining", "active", "ending"];

/// A state: shape, colour and word.
export function stateMark(state) {
  const path = shape("path", { d: SHAPES[state] ?? SHAPES.active, "fill-rule": "evenodd" });
  const icon = shape("svg", { class: "shape", viewBox: "0 0 16 16", "aria-hidden": "true" }, path);
  return element("span", { class: `mark-of ${state}` }, icon, element("span", {}, state));
}

/// Words of reasons, short.
const REASONS = {
  low_bitrate: "low bitrate",
  loss: "loss",
  rtt: "round trip",
  pod_buffer: "pod does not read",
  pod_silent: "pod silent",
  encoder_stopped: "encoder stopped",
  encoder_unreachable: "encoder unreachable",
};

export function reasonWords(reasons) {
  return reasons.map((reason) => REASONS[reason] ?? reason).join(", ");
}
