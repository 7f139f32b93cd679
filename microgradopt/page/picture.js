// The picture: a box for each value, and a frame for each call of a module. A folded frame is a box with the result.

const MANY = 30;  // boxes that are seen well at once
const USES = 4;  // of a given value, that get an arrow from its box
const WIDE = 24;  // characters of a title
const [GAP, BETWEEN, PAD, HEAD] = [12, 34, 12, 26];  // pixels: below a box, between columns, inside of a frame, above that
const longest = nodes.map(() => 1);  // characters that a node shows at any step
for (const { values = {}, grads = {} } of steps) {
  for (const shown of [values, grads]) for (const i in shown) longest[i] = Math.max(longest[i], shown[i].box.length);
}

function drawn(element, name, sign, shows, rows = nodes[shows].rows) {
  element.append(make("span", "head", name, make("span", "sign", sign && ` ${sign}`)));
  const thing = { element, shows, rows: {} };
  for (const row of rows) {
    thing.rows[row] = make("span", row);
    element.append(make("span", "row", "", make("span", "label", row), thing.rows[row]));
  }
  const title = Math.min(WIDE, `${name} ${sign}`.trim().length);
  element.style.width = `calc(${Math.max(title, rows.length && longest[shows] + 6)}ch + 20px)`;
  at("canvas").append(element);
  thing.closed = { w: element.offsetWidth, h: element.offsetHeight };
  element.onmouseenter = element.onfocus = () => point(thing);
  element.onmouseleave = element.onblur = () => { at("tooltip").hidden = true; };
  return thing;
}

const frames = modules.map(({ title, call, result }) => ({ ...drawn(make("button", "module"), title, call, result), title, isFrame: true }));
const boxes = nodes.map(({ name, sign, call }, i) => ({ ...drawn(make("div", "node"), name, sign, i), isGiven: !call, first: call ? i : -1 }));
[...modules, ...nodes].forEach(({ parent }, i) => { [...frames, ...boxes][i].parent = frames[parent]; });
const around = thing => thing.parent ? [thing.parent, ...around(thing.parent)] : [];  // the innermost frame first
const seenOf = thing => around(thing).findLast(frame => !frame.isOpen) ?? thing;  // the frame that it is folded into, or itself

at("canvas").append(...new Set(boxes.flatMap(box => [...around(box).reverse(), box].map(({ element }) => element))));  // for the tab key
boxes.forEach((box, i) => {
  Object.assign(box.element, { id: `n${i}`, tabIndex: 0, role: "img" });
  for (const frame of around(box)) if (!box.isGiven) frame.first ??= i;
});
for (let depth = 0, level; (level = frames.filter(frame => around(frame).length === depth)).length; depth++) {
  const open = isOpen => level.forEach(frame => { frame.isOpen = isOpen; });
  open(true);
  open(new Set(boxes.map(seenOf)).size <= MANY);  // at first, as many levels as can be seen well
}
for (const frame of frames) frame.element.onclick = () => fold(frame, [frame]);

// Layout, after each folding: in columns from left to right, each box near those that it is connected to. What is in a
// frame is laid out first; then the frame is one box among others.

let [wires, chips, seen] = [[], [], []];

function connect() {
  const found = new Map();
  for (const [id, source, target] of edges) {
    const [from, to] = [seenOf(boxes[source]), seenOf(boxes[target])];
    const key = from.isFrame || to.isFrame ? `${from.isFrame} ${from.shows} ${to.isFrame} ${to.shows}` : id;
    if (from !== to && !found.has(key)) found.set(key, { from, to, ids: [], ways: [[], [], []] });
    found.get(key)?.ids.push(id);
  }
  wires = [...found.values()];
  for (const { element } of chips) element.remove();
  chips = [];
  for (const box of boxes.filter(({ isGiven }) => isGiven)) {
    // With many uses it stands by each later one as a chip: long arrows to all of them would hide the rest.
    const uses = wires.filter(({ from }) => from === box);
    for (const wire of uses.length > USES ? uses.slice(1) : []) {
      wire.from = { ...drawn(make("div", "chip"), nodes[box.shows].name, "", box.shows, []), isGiven: true, first: -1, parent: wire.to.parent };
      chips.push(wire.from);
    }
  }
}

// Lays out what is in a frame, or all of it; gives the size.
function place(frame) {
  const inside = seen.filter(({ parent }) => parent === frame).sort((a, b) => a.first - b.first);
  const here = thing => inside.includes(thing) ? thing : around(thing).find(({ parent }) => parent === frame);
  for (const thing of inside) {
    const { w, h } = thing.isOpen ? place(thing) : thing.closed;
    const size = thing.isOpen ? { w: Math.max(w + 2 * PAD, thing.closed.w), h: h + HEAD + PAD } : { w, h };
    Object.assign(thing, size, { column: 0, left: [], right: [], weight: thing.isGiven ? 1 : 16 });
  }
  const links = wires.map(wire => ({ from: here(wire.from), to: here(wire.to), wire })).filter(({ from, to }) => from !== to);
  const inner = links.filter(({ from, to }) => from && to);
  for (const thing of inside) {
    for (const { from, to } of inner) if (from === thing) to.column = Math.max(to.column, from.column + 1);
  }
  for (const { from } of inner) {
    if (from.isGiven) from.column = Math.min(...inner.filter(link => link.from === from).map(({ to }) => to.column)) - 1;
  }
  const columns = [];
  for (const thing of inside) (columns[thing.column] ??= []).push(thing);
  for (const { from, to, wire } of links) {  // a long arrow has a place in each column that it crosses
    const ways = [];
    for (let column = from ? from.column + 1 : 0; column < (to ? to.column : columns.length); column++) {
      ways.push({ parent: frame, isWay: true, w: 0, h: 4, left: [], right: [], weight: 4 });
      columns[column].push(ways.at(-1));
    }
    const stops = [from, ...ways, to].filter(Boolean);
    stops.slice(1).forEach((stop, i) => { stop.left.push(stops[i]), stops[i].right.push(stop); });
    const [out, over, into] = wire.ways;
    if (from && to) over.push(...ways);
    else if (from) out.push(...ways);
    else into.unshift(...ways);
  }
  for (const thing of columns.flat()) thing.want = 0;
  columns.forEach(settle);
  for (const sides of ["left", "right", "left", "right", "left", "right", "both", "both", "both"]) {
    for (const column of sides === "right" ? columns.toReversed() : columns) {
      for (const thing of column) {
        const near = sides === "both" ? [...thing.left, ...thing.right] : thing[sides];
        const total = near.reduce((sum, { weight }) => sum + weight, 0);
        thing.want = near.length ? near.reduce((sum, { y, h, weight }) => sum + weight * (y + h / 2), 0) / total : thing.y + thing.h / 2;
      }
      settle(column.sort((a, b) => a.want - b.want));
    }
  }
  const top = Math.min(...columns.flat().map(({ y }) => y));
  let x = 0;
  for (const column of columns) {
    const w = Math.max(...column.map(thing => thing.w));
    for (const thing of column) Object.assign(thing, { y: thing.y - top }, thing.isWay ? { x, w } : { x: x + (w - thing.w) / (thing.isGiven ? 1 : 2) });
    x += w + BETWEEN;
  }
  return { w: x - BETWEEN, h: Math.max(...columns.flat().map(({ y, h }) => y + h)) };
}

// Puts those of a column, in this order, as near to where they want to be as the others allow.
function settle(column) {
  const stacks = [];
  for (const thing of column) {
    let stack = { members: [thing], top: thing.want - thing.h / 2, height: thing.h + GAP, weight: thing.weight };
    for (let above; (above = stacks.at(-1)) && above.top + above.height > stack.top; stacks.pop()) {
      const weight = above.weight + stack.weight;
      const top = (above.weight * above.top + stack.weight * (stack.top - above.height)) / weight;
      stack = { members: [...above.members, ...stack.members], top, height: above.height + stack.height, weight };
    }
    stacks.push(stack);
  }
  for (const { members, top } of stacks) members.reduce((y, thing) => (thing.y = y) + thing.h + GAP, top);
}

// Where a box is on the whole canvas.
const xOf = ({ x, parent }) => parent ? xOf(parent) + PAD + x : x;
const yOf = ({ y, parent }) => parent ? yOf(parent) + HEAD + y : y;

function path({ from, to, ways }, port) {
  const points = [[xOf(from) + from.w, yOf(from) + from.h / 2]];
  for (const way of ways.flat()) points.push([xOf(way), yOf(way) + 2], [xOf(way) + way.w, yOf(way) + 2]);
  points.push([xOf(to), yOf(to) + to.h * port]);
  const curves = points.slice(1).map(([x, y], i) => `C${(points[i][0] + x) / 2} ${points[i][1]} ${(points[i][0] + x) / 2} ${y} ${x} ${y}`);
  return `M${points[0]}${curves.join("")}m-6-4l6 4l-6 4`;
}

function inSvg(tag, attributes) {
  const element = document.createElementNS(at("wires").namespaceURI, tag);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

function layOut() {
  connect();
  seen = [...frames, ...boxes].filter(thing => seenOf(thing) === thing).concat(chips);
  for (const thing of [...frames, ...boxes]) thing.element.hidden = !seen.includes(thing);
  const { w, h } = place(undefined);
  Object.assign(at("canvas").style, { width: `${w}px`, height: `${h}px` });
  for (const thing of seen) {
    const [x, y, width, height] = [xOf(thing), yOf(thing), thing.w, thing.h];
    thing.mark = inSvg("rect", { x, y, width, height });
    thing.element.classList.toggle("open", Boolean(thing.isOpen));
    Object.assign(thing.element.style, { left: `${x}px`, top: `${y}px`, width: `${width}px`, height: `${height}px` });
    if (thing.isFrame) thing.element.ariaExpanded = thing.isOpen;
    const ends = wires.filter(({ to }) => to === thing).sort((a, b) => yOf(a.ways.flat().at(-1) ?? a.from) - yOf(b.ways.flat().at(-1) ?? b.from));
    ends.forEach((wire, i) => { wire.element = inSvg("path", { id: wire.ids[0], class: "edge", d: path(wire, (i + 1) / (ends.length + 1)) }); });
  }
  at("wires").replaceChildren(...wires.map(({ element }) => element));
  at("map").replaceChildren(...seen.filter(({ isOpen }) => !isOpen).map(({ mark }) => mark), inSvg("rect", { id: "window" }));
  at("fold").textContent = frames.some(({ isOpen }) => isOpen) ? "Fold" : "Unfold";
  drawMap();
}

// Folds or unfolds, and leaves on the screen where it is what was clicked on.
function fold({ element }, changed) {
  const before = element.getBoundingClientRect();
  for (const frame of changed) frame.isOpen = !frame.isOpen;
  layOut();
  drawGraph(steps[now]);
  const after = element.getBoundingClientRect();
  at("graph").scrollBy({ left: after.left - before.left, top: after.top - before.top, behavior: "instant" });
}

// The map of a picture that is larger than its panel: the part that is seen is marked, and moves where one points.

function drawMap() {
  const graph = at("graph");
  at("map").toggleAttribute("hidden", true);
  at("map").toggleAttribute("hidden", graph.scrollWidth <= graph.clientWidth && graph.scrollHeight <= graph.clientHeight);
  const { scrollWidth, scrollHeight, clientWidth } = graph;
  at("map").setAttribute("viewBox", `${-at("canvas").offsetLeft} ${-at("canvas").offsetTop} ${scrollWidth} ${scrollHeight}`);
  at("map").style.height = `${Math.min(72, Math.max(28, clientWidth * scrollHeight / scrollWidth))}px`;
  drawWindow();
}

function drawWindow() {
  const { scrollLeft, scrollTop, clientWidth, clientHeight } = at("graph");
  const place = { x: scrollLeft - at("canvas").offsetLeft, y: scrollTop - at("canvas").offsetTop, width: clientWidth, height: clientHeight };
  for (const [key, value] of Object.entries(place)) at("window").setAttribute(key, value);
}

at("map").onpointerdown = at("map").onpointermove = event => {
  if (!event.buttons) return;
  const [map, graph] = [at("map").getBoundingClientRect(), at("graph")];
  const left = (event.clientX - map.left) / map.width * graph.scrollWidth - graph.clientWidth / 2;
  const top = (event.clientY - map.top) / map.height * graph.scrollHeight - graph.clientHeight / 2;
  graph.scrollTo({ left, top, behavior: "instant" });
};
