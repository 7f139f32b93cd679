"""Where losses are not smooth: what the records and the observer of comparisons tell, and that nothing is certified."""

import numpy as np
import pytest
from scipy import special

import microgradopt as mg
from microgradopt import Objective, critical, nn
from microgradopt.rules.registry import KNOWN, Known, composite, derivative, question

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def bowl(w):
    return np.sum(w * w)


# Each jumps, kinks or is singular at w = 0, beside a bowl; its kind, and the name of the function that is to be named.
PLACES = {
    "heaviside": (lambda w: np.heaviside(w[0], 0.5), "jump"), "floor_divide": (lambda w: w[0] // 1.0, "jump"),
    "remainder": (lambda w: w[0] - w[0] % 1.0, "jump"), "round": (lambda w: -np.round(w[0] + 0.5), "jump"),
    "rint": (lambda w: -np.rint(w[0] + 0.5), "jump"), "copysign": (lambda w: np.copysign(w[0], w[1]), "jump"),
    "divmod": (lambda w: np.divmod(w[0], 1)[0], "jump"), "arctan2": (lambda w: np.arctan2(w[0], -1.0) + w[0], "jump"),
    "fmod": (lambda w: w[0] - np.fmod(w[0] + 3, 1), "jump"), "where": (lambda w: np.where(w[0] > 0, 0.0, 0.5), "jump"),
    "select": (lambda w: np.select([w[0] > 0], [0.0], 0.5), "jump"), "floor": (lambda w: np.floor(w[0]), "jump"),
    "trunc": (lambda w: np.trunc(w[0] + 1), "jump"), "sign": (lambda w: np.sign(w[0]), "jump"), "modf": (lambda w: np.modf(w[0] + 1)[0], "jump"),
    "abs": (lambda w: np.abs(w[0]), "kink"), "maximum": (lambda w: np.maximum(w[0], 0), "kink"), "max": (lambda w: np.max(w), "kink"),
    "clip": (lambda w: np.clip(w[0], 0, 1), "kink"), "norm": (np.linalg.norm, "kink"), "norm 1": (lambda w: np.linalg.norm(w, 1), "kink"),
    "hypot": (lambda w: np.hypot(w[0], w[1]), "kink"), "std": (np.std, "kink"), "relu": (lambda w: nn.functional.relu(w[0]), "kink"),
    "leaky": (lambda w: nn.functional.leaky_relu(w[0]), "kink"), "hinge": (lambda w: nn.hinge_loss(1 + w, np.ones(2)), "kink"),
    "l1": (lambda w: nn.l1_loss(w, np.zeros(2)), "kink"), "ptp": (np.ptp, "kink"),
    "log": (lambda w: np.exp(np.log(w[0] * w[0])), "singular point"), "reciprocal": (lambda w: 1 / (1 / w[0]), "singular point"),
    "sqrt": (lambda w: np.sqrt(w[0] * w[0]), "singular point"), "x^1.5": (lambda w: (w[0] * w[0]) ** 1.5, "singular point"),
    "geometric mean": (lambda w: -np.exp(np.mean(np.log(w * w))), "singular point"), "arccos": (lambda w: np.arccos(1 + w[0] * w[0] * 0), "singular point"),
    "svd": (lambda w: np.sum(np.linalg.svdvals(np.diag(w))), "kink"), "eigvalsh": (lambda w: np.linalg.eigvalsh(np.diag(w))[0], "kink"),
    "xlogy": (lambda w: special.xlogy(w[0] * w[0], w[0] * w[0]), "singular point"), "interp": (lambda w: np.interp(w[0], [-1.0, 0.0, 1.0], [1.0, 0.0, 1.0]), "jump"),
    # Python's own, which leave no node in the graph
    "if": (lambda w: w[0] if w[0] > 0 else 2 * w[0], "jump"), "min()": (lambda w: min(w[0], -w[0]), "jump"), "truth": (lambda w: w[1] if w[0] else w[0], "jump"),
    "mask": (lambda w: np.sum(w[w >= 0]), "jump"), "times a mask": (lambda w: np.sum(w * (2.0 * (w >= 0) - 1)), "jump"),
    "argmin": (lambda w: w[np.argmin(w)], "jump"), "sort": (lambda w: np.sort(w)[0], "jump"), "partition": (lambda w: np.partition(w, 0)[0], "jump"),
    "median": (lambda w: np.median(np.concatenate([w, [1.0]])), "jump"), "searchsorted": (lambda w: w[0] * np.searchsorted([-1.0, 0.0], w[0]), "jump"),
    "isclose": (lambda w: w[0] * np.isclose(w[0], 1e-8, rtol=0, atol=1e-8), "jump"), "equal": (lambda w: w[0] * (w[0] == 0), "jump"),
    "logical_not": (lambda w: np.sum(w * np.logical_not(w)), "jump"), "nonzero": (lambda w: np.sum(w[np.nonzero(w)]), "jump"),
    "any": (lambda w: w[0] * np.any(w), "jump"), "argmax by name": (lambda w: w[np.argmax(a=w)], "jump"), "argsort": (lambda w: w[np.argsort(w)][0], "jump"), "signbit": (lambda w: w[0] * np.signbit(w[0]), "jump"),
    "isin": (lambda w: np.sum(w * np.isin(w, [-7.0, 0.0, 5.0])), "jump"), "isclose, nan": (lambda w: w[0] * np.isclose(w[0], 0, 0, 0, equal_nan=True), "jump"),
    "array_equal": (lambda w: w[0] * np.array_equal(w, [0.0, 0.0]), "jump"), "array_equiv": (lambda w: w[0] * np.array_equiv(w, 0.0), "jump"),
    "max, initial": (lambda w: np.max(w[0], initial=0.0), "kink"), "std, where": (lambda w: np.std(w, where=[True, True]), "kink"),
    "nanmedian": (lambda w: np.nanmedian(np.concatenate([w, [1.0]])), "jump"), "nanstd": (np.nanstd, "kink"),
    "digitize": (lambda w: w[0] * np.digitize(w[0], [0.0]), "jump"), "in": (lambda w: w[0] * (0.0 in w), "jump"),
}  # fmt: skip


@pytest.mark.parametrize("name", PLACES)
def test_nothing_is_certified_there(name):
    f, kind = PLACES[name]
    objective = Objective(lambda w: f(w) + bowl(w), [0.0, 0.0])
    found = critical.kinks(objective, np.zeros(2))
    assert kind in {kink.kind for kink in found}, found
    if name in ("sqrt", "arccos", "xlogy"):
        assert critical.classify(objective).kind == "on a kink"
    else:
        assert not critical.classify(objective).certified


@pytest.mark.parametrize("name", sorted(PLACES.keys() - {"arccos"}))
def test_away_from_there_nothing_is_named(name):
    objective = Objective(lambda w: PLACES[name][0](w) + bowl(w), [0.31, 0.17])
    assert critical.kinks(objective, np.array([0.31, 0.17])) == []


SMOOTH = {
    "trunc at 0": lambda w: np.trunc(w[0]), "fmod at 0": lambda w: np.fmod(w[0], 1.0), "powers": lambda w: np.sum(w**2 + w**3 + w**0 + w**1),
    "huber": lambda w: nn.huber_loss(w, np.zeros(2)), "logsumexp of ties": lambda w: mg.logsumexp(w), "softmax of ties": lambda w: np.sum(mg.softmax(w) ** 2),
    "sigmoid": lambda w: np.sum(nn.functional.sigmoid(w)), "bce": lambda w: nn.binary_cross_entropy_with_logits(w, np.array([0.0, 1.0])),
    "cross entropy": lambda w: nn.cross_entropy(w[None], np.array([1])), "det at 0": lambda w: np.linalg.det(np.diag(w)), "var": np.var,
    "division by a large constant": lambda w: np.sum(w) * 1e20 / 100, "layer norm": lambda w: np.sum(nn.LayerNorm(2)(w)), "gelu": lambda w: np.sum(nn.functional.gelu(w)),
    "pad, tile, take": lambda w: np.sum(np.take(np.tile(np.pad(w, 1), 2), [1, 1, 2]) ** 2), "matmul": lambda w: w @ np.eye(2) @ w, "sinc": lambda w: np.sum(np.sinc(w)),
    "expit": lambda w: np.sum(special.expit(w)), "comparison far away": lambda w: w[0] * w[0] if w[0] < 1 else w[1],
    "shapes that differ": lambda w: w[0] if np.array_equal(w, np.zeros(3)) else w[1], "mean, where": lambda w: np.mean(w, where=[True, False]),
    "linspace": lambda w: np.sum(np.linspace(w[0], w[1], 3)), "polyval, convolve": lambda w: np.polyval(w, 2.0) + np.sum(np.convolve(w, w)),
    "nanmean": lambda w: np.nanmean(w), "var, where": lambda w: np.var(w, where=[True, True]), "prod, where": lambda w: np.prod(1 + w, where=[True, False]), "max, initial far away": lambda w: np.max(w[:1], initial=-9.0), "log_ndtr": lambda w: np.sum(special.log_ndtr(w)),
}  # fmt: skip


@pytest.mark.parametrize("name", SMOOTH)
def test_smooth_ones_have_no_place(name):
    assert critical.kinks(Objective(lambda w: SMOOTH[name](w) + bowl(w), [0.0, 0.0]), np.zeros(2)) == []


def test_a_comparison_near_but_not_at_the_point():
    """Farther than rounding reaches: certified. On the way of Newton's step: not."""
    f = lambda w: (w[0] - 1) ** 2 + bowl(w[1:]) if w[0] > 0.999 else 5.0 * w[0]  # noqa: E731
    assert critical.classify(Objective(f, [1.0, 0.0])).certified
    away = Objective(lambda w: (w[0] - 1) ** 2 + bowl(w[1:]) if w[0] > 1.0001 else (w[0] - 1) ** 2, [1.0003, 0.0])
    assert not critical.classify(away).certified


def test_where_the_hessian_is_not_finite_the_verdict_says_on_a_kink():
    for f in (
        np.linalg.norm,
        lambda w: np.linalg.norm(w) ** 2,
        np.std,
        lambda w: np.sum(np.linalg.svdvals(np.diag(w)) ** 2),
    ):
        point = critical.classify(Objective(f, [0.0, 0.0]))
        assert (point.kind, point.certified) == ("on a kink", False)
        assert "On a kink" in point.explanation
        assert "not smooth here" in str(point)
        assert "on a kink" in point._repr_html_()
        with pytest.raises(ValueError, match="escape"):
            point.escape()


def test_a_hessian_that_is_not_finite_elsewhere_is_an_error():
    @composite(lambda g, out, x: g * np.where(x == 0, np.nan, 2 * x), smooth=True)
    def broken(x):
        return x * x

    with pytest.raises(mg.NonFiniteError):
        critical.classify(Objective(lambda w: np.sum(broken(w)), [0.0, 1.0]))


def test_values_taken_out_are_not_seen():
    """What the docstring says it does not see."""
    f = lambda w: bowl(w) if w.data[0] > 0 else 2 * bowl(w)  # noqa: E731
    assert critical.kinks(Objective(f, [0.0, 0.0]), np.zeros(2)) == []


# The records ----------------------------------------------------------------------------------------------------------


def test_a_rule_that_says_nothing_is_refused():
    def unheard_of(x):
        return x

    with pytest.raises(TypeError, match="say whether it is smooth"):
        derivative(unheard_of, lambda g, out, x: g)
    with pytest.raises(TypeError, match="say jump="):
        question(unheard_of)
    with pytest.raises(TypeError, match="and yet not smooth"):
        derivative(unheard_of, lambda g, out, x: g, smooth=True, kink=lambda out, x: x)
    assert unheard_of not in KNOWN


def bodies():
    return [f for f, known in KNOWN.items() if known.rules and known.breaks is None]


@pytest.mark.parametrize("function", bodies(), ids=lambda f: f.__name__)
def test_a_composite_that_says_nothing_has_a_body_to_look_into(function):
    """It runs on tensors; one that writes into arrays has to say itself where it is not smooth."""
    arguments = {"mse_loss": 2, "l1_loss": 2, "hinge_loss": 2, "nll_loss": 2}.get(function.__name__, 1)
    x = mg.Tensor(np.linspace(-1, 1, 6).reshape(2, 3), requires_grad=True)
    second = np.array([0, 2]) if function.__name__ == "nll_loss" else np.ones((2, 3))
    more = [second] * (arguments - 1) + ([(0,), 1e-5] if function.__name__ == "standardize" else [])
    assert isinstance(KNOWN[function].call(x, *more), mg.Tensor)


def test_every_function_is_one_record():
    assert all(isinstance(known, Known) for known in KNOWN.values())
    for function, known in KNOWN.items():
        assert known.rules or known.body or known.breaks is not None, function


@pytest.mark.parametrize(
    "name", ["absolute", "floor", "rint", "trunc", "ceil", "sign", "sqrt", "log", "arcsin", "tan", "cbrt"]
)
@pytest.mark.parametrize("seed", range(5))
def test_distances_are_right(name, seed):
    """Within the distance that is said, the function is smooth: its slope does not jump, and is finite."""
    function = getattr(np, name)
    low, high = (-0.99, 0.99) if name == "arcsin" else (0.05, 3.0) if name in ("sqrt", "log") else (-3.0, 3.0)
    x = np.random.default_rng(seed).uniform(low, high, size=20)
    for _, distance in KNOWN[function].breaks:
        d = distance(function(x), x)
        near = x[:, None] + 0.98 * d[:, None] * np.linspace(-1, 1, 401)
        values = function(near)
        slopes = np.diff(values, axis=1) / np.diff(near, axis=1)
        assert np.isfinite(slopes).all()
        jumps = np.abs(np.diff(slopes, axis=1)).max(axis=1)
        assert (jumps <= 0.5 * (1 + np.abs(slopes).max(axis=1))).all()
        beyond = x[:, None] + 1.02 * d[:, None] * np.array([-1.0, 1.0])
        crossed = function(beyond)
        assert np.isfinite(d).all()
        if name in ("floor", "rint", "trunc", "ceil", "sign"):
            assert (crossed != function(x)[:, None]).any(axis=1).all()
