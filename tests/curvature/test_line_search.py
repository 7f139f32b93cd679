"""Line searches: the conditions they promise, on functions that are known to be hard for them."""

import math

import numpy as np
import pytest

from microgradopt.curvature.line_search import LineSearch, backtracking, strong_wolfe

C1, C2 = 1e-4, 0.9


def quadratic(t):
    return (t - 3) ** 2, 2 * (t - 3)


def more_1(t):
    """Moré & Thuente 1994, their functions 1, 2 and 3."""
    return -t / (t * t + 2), (t * t - 2) / (t * t + 2) ** 2


def more_2(t):
    u = t + 0.004
    return u**5 - 2 * u**4, 5 * u**4 - 8 * u**3


def more_3(t):
    """Many small waves on a valley."""
    beta, k = 0.01, 39
    if t <= 1 - beta:
        value, slope = 1 - t, -1.0
    elif t >= 1 + beta:
        value, slope = t - 1, 1.0
    else:
        value, slope = (t - 1) ** 2 / (2 * beta) + beta / 2, (t - 1) / beta
    w = k * math.pi / 2
    return value + 2 * (1 - beta) / (k * math.pi) * math.sin(w * t), slope + (1 - beta) * math.cos(w * t)


def waves(t):
    return math.cos(t) - 0.1 * t, -math.sin(t) - 0.1


def steep(t):
    return math.exp(min(50 * t, 700)) - 60 * t, 50 * math.exp(min(50 * t, 700)) - 60


def kinked(t):
    return abs(t - 1), 1.0 if t > 1 else -1.0


SMOOTH = [quadratic, more_1, more_2, more_3, waves, steep]


def counted(phi):
    def call(t):
        call.asked.append(t)
        return phi(t)

    call.asked = []
    return call


@pytest.mark.parametrize("first", [1e-3, 1e-1, 1.0, 10.0, 1e3])
@pytest.mark.parametrize("c2", [0.9, 0.1, 0.01])
@pytest.mark.parametrize("phi", SMOOTH, ids=lambda phi: phi.__name__)
def test_strong_wolfe_holds(phi, c2, first):
    value, slope = phi(0.0)
    call = counted(phi)
    found = strong_wolfe(call, value, slope, first, c2=c2)
    assert found.success
    assert (found.value, found.slope) == phi(found.step)
    assert found.value <= value + C1 * found.step * slope
    assert abs(found.slope) <= c2 * abs(slope)
    assert found.evaluations == len(call.asked) <= 25


@pytest.mark.parametrize("most", range(1, 9))
@pytest.mark.parametrize("first", [1e-3, 1.0, 10.0, 1e3])
@pytest.mark.parametrize("phi", [*SMOOTH, kinked], ids=lambda phi: phi.__name__)
def test_without_success_the_lowest_step_is_given(phi, first, most):
    value, slope = phi(0.0)
    call = counted(phi)
    found = strong_wolfe(call, value, slope, first, c2=1e-6, max_evaluations=most)
    if not found.success:
        lower = [phi(t)[0] for t in call.asked if phi(t)[0] <= value + C1 * t * slope]
        assert found.value == min([value, *lower])
        assert found.evaluations == len(call.asked) == most


def test_a_point_behind_a_hill_is_not_the_end():
    """It is low enough, and its slope leads down, but before the hill it was lower."""

    def phi(t):
        return (-5 * t, -5.0) if t < 1.5 else (-3.0, -1.0)

    found = strong_wolfe(phi, 0.0, -5.0, 1.0, c2=0.1, max_evaluations=2)
    assert (found.step, found.value, found.success) == (1.0, -5.0, False)


def test_a_slope_that_falls_ever_quicker_is_followed_quickly():
    """A cubic through two points of −t − t² has no minimum ahead."""

    def phi(t):
        return (-t - t * t, -1 - 2 * t) if t < 1e4 else (math.inf, math.nan)

    def valley(t):
        return (
            (-t - t * t, -1 - 2 * t) if t < 90 else (-8190 + 100 * (t - 90) ** 2 - 181 * (t - 90), 200 * (t - 90) - 181)
        )

    found = strong_wolfe(valley, 0.0, -1.0, 1e-3)
    assert found.success
    assert found.evaluations <= 12
    assert strong_wolfe(phi, 0.0, -1.0, 1e-3, max_evaluations=10).step > 100


@pytest.mark.parametrize("phi", SMOOTH, ids=lambda phi: phi.__name__)
def test_the_first_step_that_will_do_is_taken(phi):
    value, slope = phi(0.0)
    first = strong_wolfe(phi, value, slope, 0.5).step
    call = counted(phi)
    assert strong_wolfe(call, value, slope, first).step == first
    assert call.asked == [first]


@pytest.mark.parametrize("first", [0.5, 1.0, 3.0])
def test_a_cubic_is_minimised_at_once(first):
    """Its interpolation is exact: from t = 2, or 0 < t < 2, the next is the minimum of t³/3 − t."""
    call = counted(lambda t: (t**3 / 3 - t, t * t - 1))
    found = strong_wolfe(call, 0.0, -1.0, first, c2=1e-8)
    assert found.step == pytest.approx(1.0, abs=1e-8)
    assert len(call.asked) <= 3


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("where", ["value", "slope", "both"])
@pytest.mark.parametrize("search", [strong_wolfe, backtracking])
def test_not_finite_means_too_long(search, where, bad):
    def phi(t):
        value, slope = quadratic(t)
        if t < 3.2:
            return value, slope
        return (value if where == "slope" else bad), (slope if where == "value" else bad)

    found = search(phi, 9.0, -6.0, 1e4)
    assert found.success
    assert 0 < found.step < 3.2
    assert found.value <= 9 - C1 * 6 * found.step


def test_a_minimum_beside_a_wall():
    """−log(1 − t) − 5 t: infinite from t = 1 on, with the minimum at 0.8."""

    def phi(t):
        return (-math.log(1 - t) - 5 * t, 1 / (1 - t) - 5) if t < 1 else (math.inf, math.nan)

    found = strong_wolfe(phi, 0.0, -4.0, 50.0, c2=1e-3)
    assert found.step == pytest.approx(0.8, abs=1e-3)


def test_everywhere_not_finite():
    for search in (strong_wolfe, backtracking):
        assert search(lambda t: (math.nan, math.nan), 2.0, -1.0)[:3] == (0.0, 2.0, -1.0)
        assert not search(lambda t: (math.nan, math.nan), 2.0, -1.0).success


def test_without_a_lowest_point_the_furthest_is_given():
    found = strong_wolfe(lambda t: (-t, -1.0), 0.0, -1.0, max_evaluations=8)
    assert (found.success, found.evaluations) == (False, 8)
    assert found.step > 1e6
    assert found.value == -found.step


def test_a_kink_cannot_be_flat():
    """|t − 1|: the decrease is found, the slope stays ±1. Then the lowest step with a decrease, and no success."""
    found = strong_wolfe(lambda t: (abs(t - 1), 1.0 if t > 1 else -1.0), 1.0, -1.0, 0.3)
    assert not found.success
    assert 0 <= found.value < 0.1


def test_a_wrong_slope_ends():
    """The function rises, whatever the slope says."""
    for search in (strong_wolfe, backtracking):
        found = search(lambda t: (1 + t, -1.0), 1.0, -1.0)
        assert (found.step < 1e-15, found.value) == (True, 1.0)
        assert found.evaluations <= 50


def test_noise_does_not_hang():
    rng = np.random.default_rng(0)
    for search in (strong_wolfe, backtracking):
        found = search(lambda t: (1 + 1e-16 * rng.normal(), -1e-20), 1.0, -1e-20)
        assert found.evaluations <= 50
        assert found.value <= 1


@pytest.mark.parametrize("first", [1e-3, 0.1, 1.0, 100.0])
@pytest.mark.parametrize("phi", SMOOTH, ids=lambda phi: phi.__name__)
def test_backtracking_takes_the_first_that_is_low_enough(phi, first):
    value, slope = phi(0.0)
    call = counted(phi)
    found = backtracking(call, value, slope, first)
    assert found.success
    low_enough = [phi(t)[0] <= value + C1 * t * slope for t in call.asked]
    assert low_enough == [False] * (len(call.asked) - 1) + [True]
    ratios = np.divide(call.asked[1:], call.asked[:-1])
    assert np.all((ratios >= 0.1 - 1e-12) & (ratios <= 0.5 + 1e-12))
    assert found == LineSearch(call.asked[-1], *phi(call.asked[-1]), len(call.asked), True)


def test_backtracking_goes_to_the_lowest_of_a_parabola_and_to_half_where_there_is_none():
    call = counted(lambda t: ((4 * t - 1) ** 2, 8 * (4 * t - 1)))
    assert backtracking(call, 1.0, -8.0).step == 0.25
    assert call.asked == [1.0, 0.25]
    call = counted(lambda t: quadratic(t) if t < 3 else (math.nan, math.nan))
    backtracking(call, 9.0, -6.0, 16.0)
    assert call.asked == [16.0, 8.0, 4.0, 2.0]


@pytest.mark.parametrize("search", [strong_wolfe, backtracking])
@pytest.mark.parametrize(
    ("value", "slope", "step"),
    [
        (1.0, 0.0, 1.0),
        (1.0, 1.0, 1.0),
        (math.nan, -1.0, 1.0),
        (1.0, math.nan, 1.0),
        (1.0, -math.inf, 1.0),
        (1.0, -1.0, 0.0),
        (1.0, -1.0, -1.0),
    ],
)
def test_refusals(search, value, slope, step):
    with pytest.raises(ValueError, match=search.__name__):
        search(quadratic, value, slope, step)
