// What is wrong with the page as it is shown now, as a list of sentences.
const wrong = [];
const shown = (node) => node.checkVisibility({ visibilityProperty: true }) && node.getClientRects().length > 0;

// Everything that can be used has a name.
const nameOf = (node) =>
  node.getAttribute("aria-label") ?? (node.labels?.length ? node.labels[0].textContent : node.textContent);
for (const node of document.querySelectorAll("a, button, input, select, meter, [role=region]")) {
  const by = node.getAttribute("aria-labelledby");
  const name = by ? document.getElementById(by)?.textContent : nameOf(node);
  if (shown(node) && !name?.trim()) wrong.push(`without a name: ${node.outerHTML.slice(0, 100)}`);
}
for (const node of document.querySelectorAll("[aria-labelledby], [aria-describedby]")) {
  const ids = `${node.getAttribute("aria-labelledby") ?? ""} ${node.getAttribute("aria-describedby") ?? ""}`;
  for (const id of ids.split(" ").filter(Boolean)) {
    if (!document.getElementById(id)) wrong.push(`nothing is called ${id}`);
  }
}
const ids = [...document.querySelectorAll("[id]")].map((node) => node.id);
if (new Set(ids).size !== ids.length) wrong.push("an id is there twice");
for (const tag of ["header", "main", "nav", "footer"]) {
  if (document.querySelectorAll(tag).length !== 1) wrong.push(`not one ${tag}`);
}
if (!document.documentElement.lang || !document.title) wrong.push("no language or title");

// Headings go down by one.
let level = 0;
for (const heading of document.querySelectorAll("h1, h2, h3, h4")) {
  const own = Number(heading.tagName[1]);
  if (own > level + 1) wrong.push(`h${own} after h${level}: ${heading.textContent}`);
  level = own;
}

// Nothing makes the window scroll sideways.
if (document.documentElement.scrollWidth > document.documentElement.clientWidth) {
  wrong.push(`${document.documentElement.scrollWidth} pixels wide`);
}

// Contrast of every text with what is behind it, WCAG AA.
const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
const rgba = (color) => {
  canvas.clearRect(0, 0, 1, 1);
  canvas.fillStyle = color;
  canvas.fillRect(0, 0, 1, 1);
  return [...canvas.getImageData(0, 0, 1, 1).data];
};
const behind = (node) => {
  for (let at = node; at; at = at.parentElement) {
    const color = rgba(getComputedStyle(at).backgroundColor);
    if (color[3] === 255) return color;
  }
  return matchMedia("(prefers-color-scheme: dark)").matches ? [0, 0, 0] : [255, 255, 255];
};
const light = (color) => {
  const [r, g, b] = color.slice(0, 3).map((part) => {
    const share = part / 255;
    return share <= 0.03928 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
const told = new Set();
while (walk.nextNode()) {
  const node = walk.currentNode.parentElement;
  if (!walk.currentNode.data.trim() || !shown(node) || node.closest(".unseen, noscript, script, option")) continue;
  const style = getComputedStyle(node);
  const front = rgba(node instanceof SVGElement ? style.fill : style.color);
  const [a, b] = [light(front), light(behind(node))].sort((x, y) => y - x);
  const ratio = (a + 0.05) / (b + 0.05);
  const large = parseFloat(style.fontSize) >= 24;
  const what = `${node.tagName}.${node.getAttribute("class") ?? ""}`;
  if (ratio < (large ? 3 : 4.5) && !told.has(what)) {
    told.add(what);
    wrong.push(`contrast ${ratio.toFixed(2)}: ${what} ${walk.currentNode.data.trim().slice(0, 40)}`);
  }
}
return wrong;
