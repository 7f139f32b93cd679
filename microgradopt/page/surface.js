// A surface: who walks on it, and what a point of it is.

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
