// The other figures, and all by their names.

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
