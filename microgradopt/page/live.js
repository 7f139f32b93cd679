// Figures that live. A figure is a <figure class="live" data-figure="name">, and what live.add(name, ...) says of it:
// numbers as JSON, and functions that were derived (explorable.py). Nothing here computes a loss, a gradient or an update.
const live = (() => {
"use strict";

// Elements, numbers -------------------------------------------------------------------------------------------------

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

// Who walks ---------------------------------------------------------------------------------------------------------

class Walker {
  constructor(told) {
    Object.assign(this, told);
    this.values = { ...told.settings };
    this.on = true;
  }

  begin(start, given) {
    this.memory = { ...this.state, ...this.values };
    this.w = [...start];
    [this.path, this.losses, this.gradients, this.lengths, this.steps] = [[this.w], [], [], [], []];
    [this.before, this.done, this.stopped, this.given] = [null, null, "", given];
  }

  // One update: by the last of its programs that has all that it reads, and for which what it checks holds.
  step() {
    if (this.stopped) return false;
    if (this.rates) this.memory.lr = this.rates[this.steps.length];
    const value = key => (key === "w" ? this.w : typeof key === "number" ? this.given[key] : this.memory[key]);
    let result = null;
    for (const { text, reads } of [...this.programs].reverse()) {
      const args = reads.map(value);
      if (args.includes(undefined)) continue;
      try {
        result = text(...args);
        break;
      } catch (error) {
        this.stopped = "it ends: too large numbers, or another formula";
      }
    }
    if (!result) return false;
    this.stopped = "";
    const [loss, done] = result;
    this.before = this.w;
    Object.assign(this.memory, done, this.values);
    [this.done, this.w] = [done, done.theta];
    if (!this.w.every(x => Math.abs(x) < 1e150)) this.stopped = "it has diverged";
    this.path.push(this.w);
    this.losses.push(loss);
    this.gradients.push(done["the gradient"]);
    this.lengths.push(length(done["the gradient"]));
    this.steps.push(length(this.w.map((x, i) => x - this.before[i])));
    return !this.stopped && this.steps.length < 1000;
  }

  // Updates that are more than five times as long as those around them.
  bursts() {
    return this.steps.flatMap((step, i) => {
      const around = this.steps.slice(Math.max(0, i - 20), i).sort((a, b) => a - b);
      return around.length === 20 && step > 5 * around[10] ? [i] : [];
    });
  }

  told() {
    if (!this.done) return "";
    const numbers = Object.entries(this.done).filter(([key]) => !["step", "theta"].includes(key));
    return [this.formula, ...numbers.map(([key, x]) => `${key.replace("the gradient", "g")} = ${short(x)}`),
      `\u03b8: ${short(this.before)} \u2192 ${short(this.w)}`].filter(Boolean).join("\n");
  }
}

// All walkers of a figure, with what the address says of them.
function walkersOf(figure, link) {
  const on = link.read("on");
  return figure.walkers.map(told => {
    const walker = new Walker(told);
    for (const [key, x] of Object.entries(walker.values)) walker.values[key] = link.number(`${walker.name}.${key}`, x);
    if (on !== null) walker.on = on.split(",").includes(walker.name);
    return walker;
  });
}

// What the address is to say of them: where they start, who walks, and what is not as it was at first.
function settingsOf(walkers, start) {
  const on = walkers.filter(walker => walker.on).map(walker => walker.name);
  const settings = { start: start.map(x => Number(x.toPrecision(4))).join(), on: on.join() };
  for (const walker of walkers) {
    for (const [key, x] of Object.entries(walker.values)) if (x !== walker.settings[key]) settings[`${walker.name}.${key}`] = x;
  }
  return settings;
}

// The numbers of the update that each has made last.
function numbersOf(walkers) {
  return walkers.filter(walker => walker.done).map(walker => element("div", { style: `border-color: ${walker.colour}` },
    element("strong", {}, `${walker.name}, update ${walker.steps.length}${walker.stopped ? `: ${walker.stopped}` : ""}`),
    element("pre", {}, walker.told())));
}

const NAMES = { lr: "\u03b7", momentum: "\u03bb", betas0: "\u03b2\u2081", betas1: "\u03b2\u2082", alpha: "\u03b1",
  weight_decay: "weight decay", rho: "\u03c1", eps: "\u03b5" };

function limits(name, value) {
  if (name === "lr") return { low: value / 100, high: value * 30, value, log: true };
  if (value > 0 && value < 1) return { low: 0, high: 0.999, value };
  return { low: value / 100, high: value * 100, value, log: true };
}

// A row with the sliders of a walker. changed: what to do after a change.
function row(walker, changed, ...box) {
  const sliders = Object.keys(walker.settings).filter(key => key !== "eps").map(key => {
    const made = slider(NAMES[key] || key, limits(key, walker.settings[key]), x => {
      walker.values[key] = x;
      changed();
    });
    made.put(walker.values[key]);
    if (key === "lr") walker.slider = made;
    return made.node;
  });
  return element("div", { class: "live-row" },
    element(box.length ? "label" : "span", { class: "live-name", style: `--live-colour: ${walker.colour}` }, ...box, walker.name),
    ...sliders);
}

// A surface ---------------------------------------------------------------------------------------------------------

const LEVELS = 14;

function surface(figure, name, host) {
  const link = address(name), walkers = walkersOf(figure, link), [[left, right], [bottom, top]] = figure.extent;
  const given = Object.entries(figure.given).map(([key, [, , first]]) => link.number(key, first));
  const listeners = [];
  let start = link.numbers("start", figure.start), asked = null, picture = null;

  const read = (f, w) => f.text(...f.reads.map(key => (key === "w" ? w : typeof key === "number" ? given[key] : f.data[key])));
  const value = w => read(figure.value, w);
  const curvature = w => read(figure.curvature, w);
  const active = () => walkers.filter(walker => walker.on);

  // The picture: bands of equal area, so that every valley is seen; in dots of two pixels.
  function bands(view, style) {
    const columns = Math.ceil(view.width / 2), rows = Math.ceil(view.height / 2);
    const key = [columns, rows, ...given, style.getPropertyValue("--live-low")].join();
    if (picture && picture.key === key) return picture;
    const values = new Float64Array(columns * rows);
    for (let j = 0; j < rows; j++) {
      for (let i = 0; i < columns; i++) values[j * columns + i] = value(from(view, [2 * i + 1, 2 * j + 1]));
    }
    const sorted = values.filter(Number.isFinite).sort();
    const steps = Array.from({ length: LEVELS }, (_, k) => sorted[Math.floor(((k + 1) * (sorted.length - 1)) / (LEVELS + 1))]);
    const ends = ["--live-low", "--live-high"].map(word => style.getPropertyValue(word).trim().split(" ").map(Number));
    picture = { key, steps, ends, shade: shading(steps, ends), image: element("canvas") };
    Object.assign(picture.image, { width: columns, height: rows });
    const context = picture.image.getContext("2d"), data = context.createImageData(columns, rows);
    const band = values.map(x => steps.filter(level => x > level).length);
    for (let k = 0; k < band.length; k++) {
      const isEdge = (k % columns && band[k] !== band[k - 1]) || (k >= columns && band[k] !== band[k - columns]);
      picture.shade(band[k], isEdge).forEach((part, c) => (data.data[4 * k + c] = part));
    }
    context.putImageData(data, 0, 0);
    return picture;
  }
  function shading(steps, [low, high]) {
    return (band, isEdge) => [...low.map((x, c) => {
      const mixed = x + (high[c] - x) * (band / LEVELS);
      return isEdge ? mixed + (high[c] - low[c]) * 0.12 : mixed;
    }), 255];
  }
  const to = (view, [x, y]) => [((x - left) / (right - left)) * view.width, ((top - y) / (top - bottom)) * view.height];
  const from = (view, [x, y]) => [left + (x / view.width) * (right - left), top - (y / view.height) * (top - bottom)];

  const map = canvas({ class: "live-map", tabindex: 0, role: "application",
    "aria-label": `${figure.title}. ${KEYS}, Enter asks what the start is.` },
  (view, style) => {
    const { context } = view, drawn = bands(view, style);
    context.drawImage(drawn.image, 0, 0, view.width, view.height);
    if (asked) model(view, drawn);
    for (const point of figure.points) mark(context, to(view, point.at), point.kind);
    for (const walker of active()) {
      const points = walker.path.map(w => to(view, w.map(x => clipped(x, -1e9, 1e9))));
      line(context, points, "#fff", 4.5);
      line(context, points, walker.colour, 2.5);
      if (walker.path.length < 200) for (const point of points.slice(1)) dot(context, point, 2.5, walker.colour);
      dot(context, points[points.length - 1], 5.5, walker.colour, "#fff");
      if (walker.sigma && walker.done) ellipse(view, walker);
      if (figure.bursts) for (const i of walker.bursts()) dot(context, points[i + 1], 4, "#fff", walker.colour);
    }
    dot(context, to(view, start), 8, "rgba(255,255,255,.6)", style.color);
    context.fillStyle = style.color;
    context.font = "12px system-ui, sans-serif";
    context.fillText(`${figure.names[0]}: ${short(left)} to ${short(right)}`, 8, view.height - 8);
    context.save();
    context.translate(14, view.height - 28);
    context.rotate(-Math.PI / 2);
    context.fillText(`${figure.names[1]}: ${short(bottom)} to ${short(top)}`, 0, 0);
    context.restore();
  });

  // A critical point: a dot for a minimum, a cross for a saddle, a ring for others.
  function mark(context, [x, y], kind) {
    if (kind === "saddle point") {
      for (const colour of ["#fff", "#000"]) {
        const width = colour === "#fff" ? 5 : 2.2;
        line(context, [[x - 5, y - 5], [x + 5, y + 5]], colour, width);
        line(context, [[x - 5, y + 5], [x + 5, y - 5]], colour, width);
      }
    } else dot(context, [x, y], 4, kind === "local minimum" ? "#000" : "#fff", kind === "local minimum" ? "#fff" : "#000");
  }

  // The quadratic model, in the same bands, within a circle; and the way out.
  function model(view, drawn) {
    const { context } = view, [cx, cy] = to(view, asked.at), radius = Math.min(view.width, view.height) * 0.17;
    for (let y = -radius; y < radius; y += 2) {
      for (let x = -radius; x < radius; x += 2) {
        if (x * x + y * y > radius * radius) continue;
        const w = from(view, [cx + x, cy + y]), d = w.map((one, i) => one - asked.at[i]);
        const bent = asked.H.map(column => column[0] * d[0] + column[1] * d[1]);
        const q = asked.value + asked.g[0] * d[0] + asked.g[1] * d[1] + 0.5 * (d[0] * bent[0] + d[1] * bent[1]);
        const [r, g, b] = drawn.shade(drawn.steps.filter(level => q > level).length, false);
        context.fillStyle = `rgb(${r},${g},${b})`;
        context.fillRect(cx + x, cy + y, 2, 2);
      }
    }
    ring(context, [cx, cy], [radius, radius], "#000", 1.5);
    if (!asked.way) return;
    for (const side of [1, -1]) {
      const end = to(view, asked.at.map((x, i) => x + side * asked.way[i] * (i ? top - bottom : right - left) * 0.12));
      line(context, [[cx, cy], end], "#fff", 5);
      line(context, [[cx, cy], end], "#c00", 2.5);
      dot(context, end, 4, "#c00", "#fff");
    }
  }

  // What an optimizer divides by: the step that a gradient of that size would make, along each parameter.
  function ellipse(view, walker) {
    const by = scale(), most = [view.width / 3, view.height / 3];
    const sigma = walker.sigma.text(...walker.sigma.reads.map(key => walker.memory[key]));
    const reach = sigma.map((s, i) => (walker.values.lr / s) * (figure.reach || 1) * by[i]);
    ring(view.context, to(view, walker.w), reach.map((x, i) => clipped(x, 2, most[i])), walker.colour, 2);
  }

  // What is this point?
  const verdict = element("p", { class: "live-verdict", "aria-live": "polite" }, "Click on the surface: what is this point?");
  function ask(w, near) {
    const known = figure.points.find(point => length(point.at.map((x, i) => (x - w[i]) * near[i])) < 14);
    const at = known ? known.at : w, [loss, g, H] = curvature(at);
    const values = known && known.eigenvalues.length && !given.length ? known.eigenvalues : eigenvalues(H);
    asked = { at, value: loss, g, H, way: known && known.kind === "saddle point" ? known.lowest : null };
    const where = `${short(at)}: L = ${short(loss)}, \u2016g\u2016 = ${short(length(g))}, eigenvalues ${values.map(short).join(" and ")}. `;
    verdict.textContent = where + (known
      ? `A ${known.kind}${known.certified ? " (certified)" : ""}.` + (asked.way ? " The way out, in red: along the eigenvector of the negative eigenvalue, on either side." : "")
      : "Not a critical point: the gradient is not 0.") + " In the circle: the quadratic model, in the same levels.";
    map.draw();
  }

  const scale = () => [map.width / (right - left), map.height / (top - bottom)];
  const inside = w => [clipped(w[0], left, right), clipped(w[1], bottom, top)];
  function moveStart(w) {
    start = w;
    play.begin();
  }

  // Curves, controls, numbers
  const series = key => () => active().map(walker => ({ values: walker[key], colour: walker.colour,
    marked: figure.bursts ? walker.bursts() : [] }));
  const loss = curves("loss", series("losses")), norm = curves("gradient norm \u2016g\u2016", series("lengths"));
  const numbers = element("div", { class: "live-numbers" });
  const rate = element("p", { class: "live-rate" });
  function begin() {
    for (const walker of walkers) walker.begin(start, given);
  }
  function step() {
    const going = active().map(walker => walker.step());
    return going.some(Boolean) && Math.max(...active().map(walker => walker.steps.length)) < (figure.updates || 200);
  }
  function changed() {
    map.draw();
    loss.draw();
    norm.draw();
    numbers.replaceChildren(...numbersOf(active()));
    if (figure.limit) limited();
    for (const listener of listeners) listener();
  }

  // On a quadratic: how the distance shrinks along each eigenvector, and the largest rate.
  function limited() {
    const values = eigenvalues(curvature(start)[2]), { lr } = walkers[0].values;
    const factors = values.map(x => Math.abs(1 - lr * x));
    for (const walker of walkers) walker.slider.mark(2 / values[1]);
    rate.textContent = `Eigenvalues ${values.map(short).join(" and ")}; 2/\u03bb_max = ${short(2 / values[1])}, marked below \u03b7. `
      + `With \u03b7 = ${short(lr)} each update of gradient descent multiplies the distance by ${factors.map(short).join(" and ")} along the two eigenvectors: `
      + (factors[1] > 1 ? "it diverges." : factors[1] === 1 ? "it goes to and fro." : "it converges.");
  }
  function save(more = {}) {
    const numbers = Object.fromEntries(Object.keys(figure.given).map((key, i) => [key, given[i]]));
    link.write({ ...more, ...settingsOf(walkers, start), ...numbers });
  }

  const play = player(step, begin, changed);
  handled(map, play, {
    grabs: p => length(to(map, start).map((x, i) => x - p[i])) < 18,
    move: p => moveStart(inside(from(map, p))),
    nudge: by => moveStart(inside(start.map((x, i) => x + by[i] * [right - left, top - bottom][i]))),
    ask: p => ask(p ? from(map, p) : start, scale()),
    save,
  });
  function again() {
    play.begin();
    save();
  }
  const rows = walkers.map(walker => {
    const box = element("input", { type: "checkbox", checked: walker.on, onchange: () => {
      walker.on = box.checked;
      again();
    } });
    return row(walker, again, box);
  });
  const more = Object.entries(figure.given).map(([key, [low, high]], i) => slider(key, { low, high, value: given[i], log: low > 0 && high / low > 20 }, x => {
    given[i] = x;
    asked = null;
    again();
  }).node);
  begin();
  host.replaceChildren(
    element("figcaption", {}, figure.title),
    element("div", { class: "live-views" }, map.node, element("div", { class: "live-side" }, loss.node, norm.node)),
    element("div", { class: "live-controls" }, play.node, ...more), ...rows, ...(figure.limit ? [rate] : []), verdict, numbers,
    programs(figure, walkers));
  changed();
  return { walkers, play, ask, given, listeners, moveStart, save, get start() { return start; } };
}

// Two surfaces, one start -------------------------------------------------------------------------------------------

function pair(figure, name, host) {
  const hosts = figure.figures.map(() => element("figure", { class: "live live-half" }));
  host.replaceChildren(element("figcaption", {}, figure.title), element("div", { class: "live-pair" }, ...hosts));
  const made = figure.figures.map((one, i) => surface(one, `${name}-${i}`, hosts[i]));
  made.forEach((one, i) => one.listeners.push(() => {
    const other = made[1 - i];
    if (other.start.some((x, k) => x !== one.start[k])) other.moveStart(one.start);
  }));
  const moved = made.find((one, i) => one.start !== figure.figures[i].start);  // by the address
  if (moved) moved.moveStart(moved.start);
  return made;
}

// Noise: the gradients of batches at one point -----------------------------------------------------------------------

function noise(figure, name, host) {
  const made = surface(figure, name, host), link = address(name), all = figure.samples;
  const mean = gradients => [0, 1].map(i => gradients.reduce((sum, g) => sum + g[i], 0) / gradients.length);
  let size = clipped(Math.round(link.number("batch", 4)), 1, all.length), cloud = [], spread = 0, law = 0;

  function drawn() {
    const each = all.map(sample => figure.gradient.text(...figure.gradient.reads.map(key => (key === "w" ? made.start : sample[key]))));
    const whole = mean(each), random = randomFrom(1), order = each.map((_, i) => i);
    const variance = each.reduce((sum, g) => sum + (g[0] - whole[0]) ** 2 + (g[1] - whole[1]) ** 2, 0) / each.length;
    cloud = Array.from({ length: 300 }, () => {
      for (let i = 0; i < size; i++) {  // a sample without replacement: the first places of a shuffled order
        const j = i + Math.floor(random() * (order.length - i));
        [order[i], order[j]] = [order[j], order[i]];
      }
      return mean(order.slice(0, size).map(i => each[i]));
    });
    spread = cloud.reduce((sum, g) => sum + (g[0] - whole[0]) ** 2 + (g[1] - whole[1]) ** 2, 0) / cloud.length;
    law = (variance / size) * ((each.length - size) / (each.length - 1));
    told.textContent = `Batches of ${size} of ${each.length}: \u2016g\u2016 of all = ${short(length(whole))}; `
      + `mean of \u2016g_batch \u2212 g\u2016\u00b2 over 300 batches = ${short(spread)}, by the law \u03c3\u00b2/B \u00b7 (N\u2212B)/(N\u22121) = ${short(law)}.`;
    view.whole = whole;
    view.reach = length(whole) + 2 * Math.sqrt(variance) + 1e-12;  // the same for all batch sizes
    view.draw();
  }
  const view = canvas({ class: "live-wide", role: "img", "aria-label": "Gradients of 300 batches, and that of all data" }, (view, style) => {
    if (!view.whole) return;
    const { context, width, height } = view, scale = height / 2 / view.reach;
    const at = g => [width / 2 + g[0] * scale, height / 2 - g[1] * scale];
    line(context, [[0, height / 2], [width, height / 2]], style.borderColor, 1);
    line(context, [[width / 2, 0], [width / 2, height]], style.borderColor, 1);
    for (const g of cloud) dot(context, at(g), 2.5, "#0072b2aa");
    line(context, [at([0, 0]), at(view.whole)], "#d55e00", 3);
    dot(context, at(view.whole), 5, "#d55e00", "#fff");
    const radius = Math.sqrt(law) * scale;
    ring(context, at(view.whole), [radius, radius], "#d55e00", 1.5);
  });
  const told = element("p", { "aria-live": "polite" });
  const chosen = slider("batch size B", { low: 1, high: all.length, value: size, log: true, whole: true }, x => {
    size = x;
    made.save({ batch: size });
    drawn();
  });
  host.insertBefore(element("div", {}, chosen.node, view.node, told), host.querySelector(".live-verdict"));
  made.listeners.push(drawn);
  drawn();
  return { ...made, get cloud() { return { spread, law, size }; }, set size(x) { size = x; chosen.put(x); drawn(); } };
}

// Momentum: a ball on a line, and the gradients that it remembers ----------------------------------------------------

function ball(figure, name, host) {
  const link = address(name), walkers = walkersOf(figure, link), [left, right] = figure.extent;
  let start = link.numbers("start", figure.start);
  const value = x => figure.value.text(...figure.value.reads.map(() => [x]));
  const begin = () => walkers.forEach(walker => walker.begin(start, []));
  const step = () => walkers.map(walker => walker.step()).some(Boolean) && walkers[0].steps.length < (figure.updates || 120);

  const line_ = canvas({ class: "live-wide", tabindex: 0, role: "application",
    "aria-label": `${figure.title}. ${KEYS}.` }, (view, style) => {
    const { context, width, height } = view, xs = Array.from({ length: 241 }, (_, i) => left + ((right - left) * i) / 240);
    const ys = xs.map(value), [low, high] = [Math.min(...ys), Math.max(...ys)];
    view.to = x => [((x - left) / (right - left)) * width, 14 + ((high - value(x)) / (high - low)) * (height - 34)];
    line(context, xs.map(view.to), style.color, 2);
    for (const walker of walkers) {
      const [x] = walker.w;
      walker.path.forEach(([past]) => dot(context, view.to(clipped(past, left, right)), 2, walker.colour));
      const [px, py] = view.to(clipped(x, left, right));
      dot(context, [px, py - 8], 8, walker.colour, "#fff");
    }
    dot(context, view.to(start[0]), 6, "rgba(128,128,128,.4)", style.color);
  });
  // Of the update that was made last: what each gradient has contributed, the latest on the right.
  const contributions = walker => {
    const { lr, momentum = 0 } = walker.values;
    return walker.gradients.map(([g], i) => -lr * momentum ** (walker.gradients.length - 1 - i) * g);
  };
  const bars = canvas({ class: "live-wide live-low", role: "img", "aria-label": "What each past gradient contributes to the movement" }, (view, style) => {
    const { context, width, height } = view, walker = walkers[walkers.length - 1], parts = contributions(walker).slice(-40);
    context.fillStyle = style.color;
    context.font = "12px system-ui, sans-serif";
    context.fillText("what each past gradient adds, the latest on the right", 6, 14);
    const most = Math.max(1e-12, ...parts.map(Math.abs)), half = (height - 24) / 2;
    line(context, [[0, 22 + half], [width, 22 + half]], style.borderColor, 1);
    parts.forEach((part, i) => {
      const x = width - (parts.length - i) * (width / 40), tall = (part / most) * half;
      context.fillStyle = walker.colour;
      context.fillRect(x + 1, 22 + half - Math.max(tall, 0), width / 40 - 2, Math.abs(tall));
    });
  });
  const told = element("p"), numbers = element("div", { class: "live-numbers" });
  function changed() {
    line_.draw();
    bars.draw();
    const walker = walkers[walkers.length - 1], sum = contributions(walker).reduce((a, b) => a + b, 0);
    const moved = walker.before ? walker.w[0] - walker.before[0] : 0;
    told.textContent = walker.before ? `Sum of the bars ${short(sum)}, movement ${short(moved)}.` : "Play: the ball with momentum rolls over the bump.";
    told.dataset.sum = sum;
    told.dataset.moved = moved;
    numbers.replaceChildren(...numbersOf(walkers));
  }
  const play = player(step, begin, changed);
  function again() {
    play.begin();
    link.write(settingsOf(walkers, start));
  }
  function moveStart(x) {
    start = [clipped(x, left, right)];
    again();
  }
  handled(line_, play, {
    grabs: () => true,
    move: ([x]) => moveStart(left + (x / line_.width) * (right - left)),
    nudge: ([dx]) => moveStart(start[0] + dx * (right - left)),
  });
  begin();
  host.replaceChildren(element("figcaption", {}, figure.title), line_.node, bars.node, told,
    element("div", { class: "live-controls" }, play.node), ...walkers.map(walker => row(walker, again)), numbers,
    programs(figure, walkers));
  changed();
  return { walkers, play, moveStart };
}

// Why is it stuck? Guess, then see what the diagnosis says ------------------------------------------------------------

function stuck(figure, name, host) {
  const link = address(name), cases = figure.cases;
  let at = clipped(Math.round(link.number("case", 0)), 0, cases.length - 1), guessed = "";
  const curve = curves("training loss", () => [{ values: cases[at].loss, colour: "#0072b2" }]);
  const norm = curves("gradient norm \u2016g\u2016", () => [{ values: cases[at].gradient_norm, colour: "#d55e00" }]);
  const about = element("p"), guesses = element("div", { class: "live-controls" }), answer = element("div", { "aria-live": "polite" });
  const choices = element("div", { class: "live-controls" }, ...cases.map((one, i) => element("button", { type: "button", onclick: () => {
    [at, guessed] = [i, ""];
    link.write({ case: i });
    changed();
  } }, `Run ${i + 1}`)));
  function changed() {
    const one = cases[at];
    [...choices.children].forEach((button, i) => button.setAttribute("aria-pressed", i === at));
    about.textContent = one.about;
    guesses.replaceChildren(...figure.causes.map(cause => element("button", { type: "button", "aria-pressed": cause === guessed, onclick: () => {
      guessed = cause;
      changed();
    } }, cause)));
    answer.replaceChildren(...(guessed ? [
      element("p", {}, element("strong", {}, guessed === one.cause ? `Yes: ${one.cause}. ` : `The diagnosis says: ${one.cause}. `), one.evidence),
      element("p", {}, element("strong", {}, "What to do: "), one.action),
      element("table", {}, element("thead", {}, element("tr", {}, ...figure.heads.map(head => element("th", {}, head)))),
        element("tbody", {}, ...one.rows.map(row => element("tr", {}, ...row.map(cell => element("td", {}, cell))))))]
      : [element("p", {}, "Look at the curves, and guess the cause.")]));
    curve.draw();
    norm.draw();
  }
  host.replaceChildren(element("figcaption", {}, figure.title), choices, about,
    element("div", { class: "live-views live-even" }, curve.node, norm.node), guesses, answer,
    folded("Where this is from", element("p", {}, `Each run was trained, and asked by critical.diagnose, in ${figure.origin}.`)));
  changed();
  return { guess: cause => { guessed = cause; changed(); }, choose: i => choices.children[i].click() };
}

// All figures -------------------------------------------------------------------------------------------------------

const kinds = { surface, pair, noise, ball, stuck }, shown = {};

// Functions stand in a list by themselves; where one belongs, there is its number.
function whole(x, functions) {
  if (Array.isArray(x)) return x.map(part => whole(part, functions));
  if (x === null || typeof x !== "object") return x;
  if ("function" in x) return functions[x.function];
  return Object.fromEntries(Object.entries(x).map(([key, part]) => [key, whole(part, functions)]));
}

function add(name, told, functions) {
  const show = () => {
    for (const host of document.querySelectorAll("figure.live")) {
      if (host.dataset.figure === name) shown[name] = kinds[told.kind](whole(told, functions), name, host);
    }
  };
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", show);
  else show();
}

return { add, shown };
})();
