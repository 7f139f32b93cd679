// Elements of a live figure: canvas, curves, sliders, a player, what is dragged; and its address.

function element(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

function short(x) {
  if (Array.isArray(x)) return `(${x.map(short).join(", ")})`;
  if (typeof x !== "number" || !Number.isFinite(x)) return String(x);
  const size = Math.abs(x);
  const text = size !== 0 && (size < 1e-3 || size >= 1e5) ? x.toExponential(2) : String(Number(x.toPrecision(4)));
  return text.replace("-", "\u2212").replace("e\u2212", "e-").replace("e-", "e\u2212").replace("e+", "e");
}

const length = x => Math.hypot(...x);
const clipped = (x, low, high) => Math.min(Math.max(x, low), high);
function eigenvalues([[a, b], [, d]]) {
  const half = (a + d) / 2, apart = Math.hypot((a - d) / 2, b);
  return [half - apart, half + apart];
}
const still = matchMedia("(prefers-reduced-motion: reduce)");

// Random numbers that are the same in every browser (mulberry32).
function randomFrom(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

// A canvas that fills its box, and draws itself anew when that changes, or the colours do.
function canvas(attributes, draw) {
  const node = element("canvas", attributes);
  const view = { node, width: 0, height: 0, context: node.getContext("2d") };
  view.draw = () => {
    const box = node.getBoundingClientRect(), ratio = window.devicePixelRatio || 1;
    if (!box.width) return;
    if (node.width !== Math.round(box.width * ratio) || node.height !== Math.round(box.height * ratio)) {
      node.width = Math.round(box.width * ratio);
      node.height = Math.round(box.height * ratio);
    }
    [view.width, view.height] = [box.width, box.height];
    view.context.setTransform(ratio, 0, 0, ratio, 0, 0);
    view.context.clearRect(0, 0, box.width, box.height);
    draw(view, getComputedStyle(node));
  };
  new ResizeObserver(view.draw).observe(node);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", view.draw);
  new MutationObserver(view.draw).observe(document.body, { attributes: true, attributeFilter: ["data-theme"] });
  return view;
}

function line(context, points, colour, width = 2, dashes = []) {
  context.strokeStyle = colour;
  context.lineWidth = width;
  context.setLineDash(dashes);
  context.beginPath();
  points.forEach(([x, y], i) => (i ? context.lineTo(x, y) : context.moveTo(x, y)));
  context.stroke();
  context.setLineDash([]);
}

function dot(context, [x, y], radius, fill, edge) {
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  context.fillStyle = fill;
  context.fill();
  if (edge) {
    context.strokeStyle = edge;
    context.lineWidth = 2;
    context.stroke();
  }
}

function ring(context, [x, y], [wide, high], colour, width) {
  context.strokeStyle = colour;
  context.lineWidth = width;
  context.beginPath();
  context.ellipse(x, y, wide, high, 0, 0, 2 * Math.PI);
  context.stroke();
}

// Curves against the update, on a logarithmic axis where all values are positive.
function curves(title, series) {
  return canvas({ class: "live-curve", role: "img", "aria-label": title }, (view, style) => {
    const { context, width, height } = view, ink = style.color;
    const all = series().filter(one => one.values.length);
    const values = all.flatMap(one => one.values).filter(Number.isFinite);
    context.font = "12px system-ui, sans-serif";
    context.fillStyle = ink;
    context.fillText(title, 4, 13);
    if (!values.length) return;
    const isLog = Math.min(...values) > 0;
    const scaled = isLog ? Math.log10 : x => x;
    let [low, high] = [scaled(Math.min(...values)), scaled(Math.max(...values))];
    if (high - low < 1e-12) [low, high] = [low - 1, high + 1];
    const longest = Math.max(2, ...all.map(one => one.values.length));
    const x = i => 8 + (i / (longest - 1)) * (width - 16);
    const y = value => height - 18 - ((scaled(value) - low) / (high - low)) * (height - 42);
    const told = value => short(isLog ? 10 ** value : value);
    context.fillText(told(high), 8, 28);
    context.fillText(told(low), 8, height - 22);
    const count = `${longest} updates`;
    context.fillText(count, width - 8 - context.measureText(count).width, height - 4);
    for (const one of all) {
      line(context, one.values.map((value, i) => [x(i), clipped(y(value), 18, height)]), one.colour);
      for (const i of one.marked || []) dot(context, [x(i), clipped(y(one.values[i]), 18, height)], 4, ink);
    }
  });
}

let sliderCount = 0;
function slider(label, { low, high, value, log, whole }, changed) {
  const place = x => (log ? Math.log(x / low) / Math.log(high / low) : (x - low) / (high - low));
  const at = p => (log ? low * (high / low) ** p : low + (high - low) * p);
  const output = element("output"), ticks = element("datalist", { id: `live-ticks-${sliderCount++}` });
  const input = element("input", { type: "range", min: 0, max: 1000, step: 1, list: ticks.id, "aria-label": label });
  const node = element("label", { class: "live-slider" }, element("span", {}, label), input, ticks, output);
  const put = x => {
    input.value = Math.round(1000 * clipped(place(x), 0, 1));
    output.textContent = short(x);
    input.setAttribute("aria-valuetext", short(x));
  };
  input.addEventListener("input", () => {
    let x = Number(at(input.value / 1000).toPrecision(3));
    if (whole) x = Math.round(x);
    put(x);
    changed(x);
  });
  const mark = x => ticks.replaceChildren(element("option", { value: Math.round(1000 * place(x)) }));
  put(value);
  return { node, put, mark };
}

// Play, step, restart: calls `step` until it says that all is done.
function player(step, restart, changed) {
  let timer = 0;
  const play = element("button", { type: "button", class: "live-play", onclick: toggled }, "Play");
  const node = element("span", { class: "live-player" }, play,
    element("button", { type: "button", onclick: once }, "Step"),
    element("button", { type: "button", onclick: begin }, "Restart"));
  function stop() {
    clearTimeout(timer);
    timer = 0;
    play.textContent = "Play";
    changed();
  }
  function tick() {
    const more = step();
    changed();
    if (more) timer = setTimeout(tick, 60);
    else stop();
  }
  function toggled() {
    if (timer) return stop();
    play.textContent = "Pause";
    if (!still.matches) return tick();
    while (step());  // who wants no motion gets the end
    stop();
  }
  function once() {
    if (timer) stop();
    step();
    changed();
  }
  function begin() {
    if (timer) stop();
    restart();
    changed();
  }
  return { node, toggled, once, begin, stop };
}

// A start that is dragged, or moved by keys; a click that is no drag, or Enter, asks.
const KEYS = "Arrow keys move the start, space plays, s steps, r restarts";
function handled(view, play, { grabs, move, nudge, ask, save }) {
  const node = view.node, arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
  const keys = { " ": play.toggled, s: play.once, r: play.begin, Enter: ask && (() => ask()) };
  let held = null;
  const place = event => {
    const box = node.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  node.addEventListener("pointerdown", event => {
    const from = place(event);
    held = { from, grabbed: grabs(from), moved: false };
    node.setPointerCapture(event.pointerId);
  });
  node.addEventListener("pointermove", event => {
    if (!held) return;
    const p = place(event);
    held.moved = held.moved || length(p.map((x, i) => x - held.from[i])) > 4;
    if (held.grabbed && held.moved) move(p);
  });
  node.addEventListener("pointerup", event => {
    if (held && !held.moved && !held.grabbed && ask) ask(place(event));
    if (held && held.grabbed && save) save();
    held = null;
  });
  node.addEventListener("pointercancel", () => (held = null));
  node.addEventListener("touchstart", event => {  // elsewhere a finger scrolls the page
    if (grabs(place(event.touches[0]))) event.preventDefault();
  }, { passive: false });
  node.addEventListener("keydown", event => {
    if (arrows[event.key]) nudge(arrows[event.key].map(x => x * (event.shiftKey ? 0.1 : 0.01)));
    else if (keys[event.key]) keys[event.key]();
    else return;
    event.preventDefault();
  });
}

// The settings of a figure stand in the address, so that they can be sent.
function address(name) {
  const [own, query] = location.hash.slice(1).split("?");
  const given = new URLSearchParams(own === name ? query : "");
  const read = key => given.get(key);
  const numbers = (key, otherwise) => {
    const told = (read(key) || "").split(",").map(parseFloat);
    return told.length === otherwise.length && told.every(Number.isFinite) ? told : otherwise;
  };
  return {
    read,
    numbers,
    number: (key, otherwise) => numbers(key, [otherwise])[0],
    write: settings => history.replaceState(null, "", `#${name}?${new URLSearchParams(settings)}`),
  };
}

function folded(title, ...parts) {
  return element("details", {}, element("summary", {}, title), ...parts);
}

function programs(figure, walkers) {
  const parts = [], steps = walkers.map(walker => [`A step of ${walker.name}`, walker.programs.at(-1).text]);
  if (figure.numpy) parts.push(element("p", {}, "Value, gradient and Hessian, in NumPy:"), element("pre", {}, figure.numpy));
  for (const [title, f] of [["The loss", figure.value.text], ...steps]) parts.push(element("p", {}, `${title}, in JavaScript:`), element("pre", {}, String(f)));
  const origin = figure.origin || "the user's own functions";
  return folded("Show the program", element("p", {}, `Derived by microgradopt (mg.source) from ${origin}.`), ...parts);
}
