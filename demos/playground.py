"""A playground: choose a surface and one or two optimizers, press Play, and watch the way they take.

``marimo run demos/playground.py`` opens it in the browser; no network is needed. As a script,
``python demos/playground.py [--quick]``, it prints what its first page says. What it shows is computed in `play/`.
"""

import marimo

app = marimo.App(width="full", app_title="microgradopt: playground", css_file="play/page.css")

with app.setup:
    import sys

    import marimo as mo
    import numpy as np
    from matplotlib.figure import Figure
    from play import clock, pictures, texts
    from play.controls import rate_and_memory, start_sliders, update_slider
    from play.formulas import formula_blocks
    from play.optimizers import Settings, optimizers
    from play.plane import handle_of, plane_of, selected
    from play.points import diagnosis_of, judge
    from play.surfaces import objective_of, surfaces
    from play.trajectory import walk


@app.function
def shown(figure: Figure, alt: str) -> mo.Html:
    """A picture that is no wider than the page."""
    return mo.image(pictures.address(figure), alt=alt, style={"max-width": "100%"})


# What is chosen -------------------------------------------------------------------------------------------------------


@app.cell
def _():
    get_t, set_t = mo.state(0)
    get_playing, set_playing = mo.state(False, allow_self_loops=True)
    get_moved, set_moved = mo.state(None)  # (surface, θ): where the start was dragged to
    get_click, set_click = mo.state(None)  # (canvas, (a, b)): where on which picture was clicked
    return get_click, get_moved, get_playing, get_t, set_click, set_moved, set_playing, set_t


@app.cell
def _():
    surface = mo.ui.dropdown(list(surfaces()), value="The lecture's net", label="surface", allow_select_none=False)
    optimizer = mo.ui.dropdown(list(optimizers()), value="Momentum", label="optimizer", allow_select_none=False)
    other = mo.ui.dropdown(["nothing", *optimizers()], value="nothing", label="compare with", allow_select_none=False)
    decay = mo.ui.checkbox(label=r"decay: $\eta / \sqrt{t + 1}$")
    warmup = mo.ui.slider(0, 50, step=5, value=0, label="warm-up, updates", show_value=True, debounce=True)
    diagnose = mo.ui.run_button(label="Diagnose: why is the loss where it is?")
    return decay, diagnose, optimizer, other, surface, warmup


@app.cell
def _(surface):
    place = surfaces()[surface.value]
    updates = update_slider(20 if "--quick" in sys.argv else place.updates)
    return place, updates


@app.cell
def _(get_moved, place, surface):
    moved = get_moved()
    start = start_sliders(place, moved[1] if moved is not None and moved[0] == surface.value else place.start)
    return (start,)


@app.cell
def _(optimizer, place):
    lr, hyper = rate_and_memory(optimizer.value, place)
    return hyper, lr


@app.cell
def _(other, place):
    other_lr, other_hyper = (None, None) if other.value == "nothing" else rate_and_memory(other.value, place)
    return other_hyper, other_lr


@app.cell
def _(decay, hyper, lr, optimizer, other, other_hyper, other_lr, start, surface, updates, warmup):
    def settings_of(name, rate, others):
        return Settings(
            surface=surface.value,
            optimizer=name,
            lr=float(rate.value),
            updates=int(updates.value),
            start=tuple(map(float, start.value)),
            hyper=tuple(sorted(others.value.items())),
            decay=decay.value,
            warmup=int(warmup.value),
        )

    chosen = (settings_of(optimizer.value, lr, hyper),)
    if other_lr is not None:
        chosen += (settings_of(other.value, other_lr, other_hyper),)
    runs = [walk(settings) for settings in chosen]
    plane = plane_of(chosen)
    last = max(len(run.steps) for run in runs)
    # On two parameters a click stays where it is when the optimizer changes; a net's plane turns with the trajectory.
    canvas = surface.value if runs[0].objective.n == 2 else chosen
    return canvas, chosen, last, plane, runs


# The clock ------------------------------------------------------------------------------------------------------------
# Its cells set t without reading it: a cell that reads t runs in every frame, and would make its buttons anew.


@app.cell
def _(get_playing, last, set_playing, set_t):
    def step(by):
        set_playing(False)
        set_t(lambda t: min(max(min(t, last) + by, 0), last))

    def play(_):
        set_t(lambda t: 0 if t >= last else t)
        set_playing(not get_playing())

    buttons = mo.hstack(
        [
            mo.ui.button(label="|◀", tooltip="back to the start", on_click=lambda _: step(-last)),
            mo.ui.button(label="◀ Step", on_click=lambda _: step(-1)),
            mo.ui.button(label="Pause" if get_playing() else "Play", kind="success", on_click=play),
            mo.ui.button(label="Step ▶", on_click=lambda _: step(1)),
        ],
        justify="start",
        gap=0.5,
    )
    return (buttons,)


@app.cell
def _(get_playing, last, set_t):
    def tick(_):
        set_t(lambda t: clock.forward(t, last))

    ticker = mo.ui.refresh(default_interval=clock.SECONDS, on_change=tick) if get_playing() else ""
    mo.Html(f'<div style="display: none">{ticker}</div>')
    return


@app.cell
def _(get_t, last, set_playing, set_t):
    if get_t() >= last:
        set_playing(False)
    time = mo.ui.slider(0, max(last, 1), value=min(get_t(), last), label="update t", show_value=True, on_change=set_t)
    return (time,)


# The mouse ------------------------------------------------------------------------------------------------------------


@app.cell
def _(canvas, chosen, get_click, plane, surface):
    clicked = get_click()
    verdict = None
    if clicked is not None and clicked[0] == canvas:
        verdict = judge(objective_of(surface.value, chosen[0].start), plane.point(*clicked[1]))
    return (verdict,)


@app.cell
def _(get_playing, place, plane, runs, time, verdict):
    now = time.value
    axes = pictures.draw_surface(runs, plane, now, verdict)
    # A picture that takes clicks is made anew when it changes, which flickers: while it plays, a plain one is shown.
    handle = handle_of(plane, runs[0].thetas[0]) if place.net is None else None
    if get_playing():
        chart = shown(axes.figure, "the error surface and the trajectories on it")
    else:
        chart = mo.ui.matplotlib(axes, value=handle, debounce=True)  # a selection arrives when the button is released
    return chart, handle, now


@app.cell
def _(canvas, chart, handle, plane, runs, set_click, set_moved, surface):
    box = getattr(chart, "value", None)
    if box:
        done, found = selected(plane, box, handle)
        if done == "dragged":
            set_moved((surface.value, tuple(np.round(runs[0].thetas[0] + found, 2))))
        elif done == "clicked":
            set_click((canvas, found))
    return


# The page -------------------------------------------------------------------------------------------------------------


@app.cell
def _(place):
    by_hand = "" if place.net is not None else "drag the small blue square to move its start, or "
    mo.md(f"""
    **Playground.** Press *Play*: an optimizer walks down the error surface, update by update. Pause, and {by_hand}click
    on the surface: what kind of point is there, and where is the way out?
    """)
    return


@app.cell
def _(
    buttons,
    chart,
    decay,
    hyper,
    lr,
    now,
    optimizer,
    other,
    other_hyper,
    other_lr,
    place,
    plane,
    runs,
    start,
    surface,
    time,
    updates,
    warmup,
):
    def group(*parts):
        return mo.vstack(parts, gap=0.4)

    of_other = [] if other_lr is None else [other_lr, *other_hyper.elements.values()]
    # Each group has its place, whatever is in it: the browser confuses sliders that move to another's place.
    controls = group(
        group(surface, mo.md(f"${place.formula}$"), updates),
        group(*start.elements),
        group(optimizer, group(lr, *hyper.elements.values())),
        group(other, group(*of_other)),
        group(decay, warmup),
    )
    is_net = place.net is not None and place.net.is_plane
    beside = [shown(pictures.draw_history(runs, now, 2.6 if is_net else 3.4), "loss and gradient norm by update")]
    if is_net:
        beside.append(shown(pictures.draw_boundaries(runs, now), "the decision boundary and the samples"))
    under = "White is the rest of the trajectory."
    if place.net is not None:
        under += f" The plane of the picture holds {plane.share:.1%} of its movement."
    told = [mo.callout(mo.md(texts.outcome(run)), kind="danger" if run.stopped else "neutral") for run in runs]
    columns = {
        "controls": controls,
        "stage": group(mo.hstack([buttons, time], justify="start", wrap=True), chart, mo.md(under)),
        "beside": group(*beside, *told),
    }
    row = "".join(f'<div class="playground-{name}">{column}</div>' for name, column in columns.items())
    mo.Html(f'<div class="playground-row">{row}</div>')
    return


@app.cell
def _(runs):
    if mo.app_meta().mode == "script":
        print(*(texts.outcome(run) for run in runs), sep="\n")
    return


@app.cell
def _(verdict):
    mo.callout(mo.md("Click on the surface to classify a point." if verdict is None else texts.verdict_text(verdict)))
    return


@app.cell
def _(diagnose):
    diagnose  # noqa: B018  (marimo shows a cell's last expression)
    return


@app.cell
def _(chosen, diagnose, runs):
    def answer(run, found):
        picture = [] if run.stopped else [shown(pictures.draw_diagnosis(found), "the loss in every experiment")]
        tried = mo.accordion({"What was tried": mo.vstack([mo.md(texts.tried_text(found)), *picture])})
        return mo.callout(mo.vstack([mo.md(texts.diagnosis_text(run, found)), tried]), kind="info")

    mo.stop(not diagnose.value)
    mo.vstack([answer(run, diagnosis_of(settings)) for run, settings in zip(runs, chosen, strict=True)])
    return


@app.cell
def _(now, runs):
    def formulas(run):
        t = max(min(now, len(run.steps) - 1), 0)
        symbols, *numbers = formula_blocks(run, t)
        columns = [mo.vstack([mo.md(block)]).style({"max-width": "94vw", "overflow-x": "auto"}) for block in numbers]
        return [
            mo.md(f"**Update {t}, {run.settings.optimizer}**\n\n{symbols}"),
            mo.hstack(columns, justify="space-around", align="start", wrap=True, gap=2),
        ]

    mo.vstack([block for run in runs for block in formulas(run)])
    return


if __name__ == "__main__":
    app.run()
