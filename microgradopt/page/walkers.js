// Who walks on a surface: an optimizer, by its derived programs.

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
