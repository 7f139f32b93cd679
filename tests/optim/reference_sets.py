"""Two published sets of least-squares problems, with their minima: NIST's regressions, and Moré, Garbow & Hillstrom's.

A problem is its residuals r(x), for an array or a Tensor, its starts, and what is published of its minimum.

Sources: NIST Statistical Reference Datasets, nonlinear regression (https://www.itl.nist.gov/div898/strd/), 27 problems in
``nist.json``; Moré, Garbow & Hillstrom 1981, "Testing unconstrained optimization software", ACM TOMS 7 (1), 17-41, 35
functions, numbered as there. In Gulf (11) the paper's "y_i m i x_2" is a misprint for y_i − x_2 (so in CUTEst).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

Residuals = Callable[[Any], Any]


class Regression(NamedTuple):
    """One of NIST's: two starts, the second nearer; the certified parameters, and the sum of squares there."""

    name: str
    residuals: Residuals
    starts: list[list[float]]
    certified: np.ndarray
    rss: float

    def reached(self, b: np.ndarray) -> bool:
        """Whether each parameter has four of its certified digits."""
        return bool(np.all(np.abs(b - self.certified) <= 1e-4 * np.abs(self.certified)))


class Problem(NamedTuple):
    """One of Moré, Garbow & Hillstrom's. minima: of ‖r‖², those that the paper gives at finite points."""

    name: str
    residuals: Residuals
    start: np.ndarray
    minima: tuple[float, ...] = (0.0,)

    def reached(self, x: np.ndarray) -> bool:
        """Whether ‖r‖² is one of the minima, to 10⁻⁴ of it (the paper has six digits), or 10⁻¹⁰."""
        with np.errstate(all="ignore"):
            value = float(np.sum(self.residuals(x) ** 2))
        return any(abs(value - least) <= max(1e-4 * least, 1e-10 * (least == 0)) for least in self.minima)


def regressions() -> list[Regression]:
    """NIST's 27. Their models are given as NumPy expressions in b and x."""
    found = []
    for name, data in json.loads(Path(__file__).with_name("nist.json").read_text()).items():
        model = eval(f"lambda b, x: {data['model']}", {"np": np})
        x, y = np.array(data["x"]), np.array(data["y"])
        residuals = partial(lambda model, x, y, b: model(b, x) - y, model, x, y)
        found.append(Regression(name, residuals, data["starts"], np.array(data["certified"]), data["rss"]))
    return found


# Moré, Garbow & Hillstrom: the functions -------------------------------------------------------------------------------


def joined(*parts):
    """Numbers and vectors as one vector."""
    return np.concatenate([np.reshape(part, -1) for part in parts])


def upto(m, start=1):
    """i = 1, …, m."""
    return np.arange(start, m + 1.0)


def rosenbrock(x):  # 1, and 21, the extended one
    return joined(10 * (x[1::2] - x[::2] ** 2), 1 - x[::2])


def freudenstein_roth(x):  # 2
    return joined(-13 + x[0] + ((5 - x[1]) * x[1] - 2) * x[1], -29 + x[0] + ((x[1] + 1) * x[1] - 14) * x[1])


def powell_badly_scaled(x):  # 3
    return joined(1e4 * x[0] * x[1] - 1, np.exp(-x[0]) + np.exp(-x[1]) - 1.0001)


def brown_badly_scaled(x):  # 4
    return joined(x[0] - 1e6, x[1] - 2e-6, x[0] * x[1] - 2)


def beale(x):  # 5
    return np.array([1.5, 2.25, 2.625]) - x[0] * (1 - x[1] ** upto(3))


def jennrich_sampson(x):  # 6
    i = upto(10)
    return 2 + 2 * i - (np.exp(i * x[0]) + np.exp(i * x[1]))


def helical_valley(x):  # 7
    turns = np.arctan(x[1] / x[0]) / (2 * np.pi) + np.where(x[0] > 0, 0.0, 0.5)
    return joined(10 * (x[2] - 10 * turns), 10 * (np.sqrt(x[0] ** 2 + x[1] ** 2) - 1), x[2])


BARD = np.array([0.14, 0.18, 0.22, 0.25, 0.29, 0.32, 0.35, 0.39, 0.37, 0.58, 0.73, 0.96, 1.34, 2.10, 4.39])


def bard(x):  # 8
    u = upto(15)
    v = 16 - u
    return BARD - (x[0] + u / (v * x[1] + np.minimum(u, v) * x[2]))


GAUSSIAN = np.array([0.0009, 0.0044, 0.0175, 0.0540, 0.1295, 0.2420, 0.3521])
GAUSSIAN = np.concatenate([GAUSSIAN, [0.3989], GAUSSIAN[::-1]])


def gaussian(x):  # 9
    t = (8 - upto(15)) / 2
    return x[0] * np.exp(-x[1] * (t - x[2]) ** 2 / 2) - GAUSSIAN


MEYER = np.array(
    [34780, 28610, 23650, 19630, 16370, 13720, 11540, 9744, 8261, 7030, 6005, 5147, 4427, 3820, 3307, 2872]
)


def meyer(x):  # 10
    t = 45 + 5 * upto(16)
    return x[0] * np.exp(x[1] / (t + x[2])) - MEYER


def gulf(x, m=99):  # 11
    t = upto(m) / 100
    y = 25 + (-50 * np.log(t)) ** (2 / 3)
    return np.exp(-(np.abs(y - x[1]) ** x[2]) / x[0]) - t


def box(x):  # 12
    t = upto(10) / 10
    return np.exp(-t * x[0]) - np.exp(-t * x[1]) - x[2] * (np.exp(-t) - np.exp(-10 * t))


def powell_singular(x):  # 13, and 22, the extended one
    a, b, c, d = (x[k::4] for k in range(4))
    return joined(a + 10 * b, np.sqrt(5) * (c - d), (b - 2 * c) ** 2, np.sqrt(10) * (a - d) ** 2)


def wood(x):  # 14
    a, b, c, d = (x[k] for k in range(4))
    valleys = joined(10 * (b - a**2), 1 - a, np.sqrt(90) * (d - c**2), 1 - c)
    return joined(valleys, np.sqrt(10) * (b + d - 2), (b - d) / np.sqrt(10))


KOWALIK_Y = np.array([0.1957, 0.1947, 0.1735, 0.1600, 0.0844, 0.0627, 0.0456, 0.0342, 0.0323, 0.0235, 0.0246])
KOWALIK_U = np.array([4.0, 2.0, 1.0, 0.5, 0.25, 0.167, 0.125, 0.1, 0.0833, 0.0714, 0.0625])


def kowalik_osborne(x):  # 15
    u = KOWALIK_U
    return KOWALIK_Y - x[0] * (u**2 + u * x[1]) / (u**2 + u * x[2] + x[3])


def brown_dennis(x):  # 16
    t = upto(20) / 5
    return (x[0] + t * x[1] - np.exp(t)) ** 2 + (x[2] + x[3] * np.sin(t) - np.cos(t)) ** 2


OSBORNE_1 = np.array([
    844, 908, 932, 936, 925, 908, 881, 850, 818, 784, 751, 718, 685, 658, 628, 603, 580, 558, 538, 522, 506, 490, 478,
    467, 457, 448, 438, 431, 424, 420, 414, 411, 406,
]) / 1000  # fmt: skip


def osborne_1(x):  # 17
    t = 10 * upto(32, start=0)
    return OSBORNE_1 - (x[0] + x[1] * np.exp(-t * x[3]) + x[2] * np.exp(-t * x[4]))


def biggs(x):  # 18
    t = upto(13) / 10
    y = np.exp(-t) - 5 * np.exp(-10 * t) + 3 * np.exp(-4 * t)
    return x[2] * np.exp(-t * x[0]) - x[3] * np.exp(-t * x[1]) + x[5] * np.exp(-t * x[4]) - y


OSBORNE_2 = np.array([
    1366, 1191, 1112, 1013, 991, 885, 831, 847, 786, 725, 746, 679, 608, 655, 616, 606, 602, 626, 651, 724, 649, 649,
    694, 644, 624, 661, 612, 558, 533, 495, 500, 423, 395, 375, 372, 391, 396, 405, 428, 429, 523, 562, 607, 653, 672,
    708, 633, 668, 645, 632, 591, 559, 597, 625, 739, 710, 729, 720, 636, 581, 428, 292, 162, 98, 54,
]) / 1000  # fmt: skip


def osborne_2(x):  # 19
    t = upto(64, start=0) / 10
    peaks = sum(x[k] * np.exp(-((t - x[k + 7]) ** 2) * x[k + 4]) for k in (1, 2, 3))
    return OSBORNE_2 - (x[0] * np.exp(-t * x[4]) + peaks)


def watson(x):  # 20
    t, j = upto(29)[:, None] / 29, upto(len(x) - 1, start=0)
    slope = (j[1:] * t ** j[:-1]) @ x[1:]
    return joined(slope - (t**j @ x) ** 2 - 1, x[0], x[1] - x[0] ** 2 - 1)


def penalty_1(x):  # 23
    return joined(np.sqrt(1e-5) * (x - 1), np.sum(x**2) - 0.25)


def penalty_2(x):  # 24
    n, e, y = len(x), np.exp(x / 10), np.exp(upto(len(x)) / 10)
    pairs = e[1:] + e[:-1] - (y[1:] + y[:-1])
    weighted = np.sum((n + 1 - upto(n)) * x**2) - 1
    return joined(x[0] - 0.2, np.sqrt(1e-5) * joined(pairs, e[1:] - np.exp(-0.1)), weighted)


def variably_dimensioned(x):  # 25
    s = np.sum(upto(len(x)) * (x - 1))
    return joined(x - 1, s, s**2)


def trigonometric(x):  # 26
    return len(x) - np.sum(np.cos(x)) + upto(len(x)) * (1 - np.cos(x)) - np.sin(x)


def brown_almost_linear(x):  # 27
    return joined(x[:-1] + np.sum(x) - (len(x) + 1), np.prod(x) - 1)


def grid(n):
    """h, and t_j = j h."""
    return 1 / (n + 1), upto(n) / (n + 1)


def discrete_boundary_value(x):  # 28
    h, t = grid(len(x))
    padded = joined(0.0, x, 0.0)
    return 2 * x - padded[:-2] - padded[2:] + h**2 * (x + t + 1) ** 3 / 2


def discrete_integral_equation(x):  # 29
    h, t = grid(len(x))
    kernel = np.where(t[None, :] <= t[:, None], (1 - t[:, None]) * t, t[:, None] * (1 - t))
    return x + h * (kernel @ (x + t + 1) ** 3) / 2


def broyden_tridiagonal(x):  # 30
    padded = joined(0.0, x, 0.0)
    return (3 - 2 * x) * x - padded[:-2] - 2 * padded[2:] + 1


def broyden_banded(x):  # 31
    away = upto(len(x))[None, :] - upto(len(x))[:, None]
    band = np.where((away >= -5) & (away <= 1) & (away != 0), 1.0, 0.0)
    return x * (2 + 5 * x**2) + 1 - band @ (x * (1 + x))


def linear_full_rank(x, m=10):  # 32
    return joined(x, np.zeros(m - len(x))) - 2 / m * np.sum(x) - 1


def linear_rank_1(x, m=10):  # 33
    return upto(m) * np.sum(upto(len(x)) * x) - 1


def linear_rank_1_with_zeros(x, m=10):  # 34
    inner = np.sum(upto(len(x) - 1, start=2) * x[1:-1])
    return joined(0.0, upto(m - 2) * inner, 0.0) - 1


def chebyquad(x):  # 35, m = n
    n, before, T, means = len(x), 1.0, 2 * x - 1, []
    for _ in range(n):
        means.append(np.mean(T))
        before, T = T, 2 * (2 * x - 1) * T - before
    i = upto(n)
    integrals = np.where(i % 2 == 0, -1 / np.where(i == 1, 2, i**2 - 1), 0.0)
    return joined(*means) - integrals


def problems() -> list[Problem]:
    """All 35 functions, some in more than one dimension: (name, r, standard start, minima of ‖r‖²)."""
    m, ten = 10, np.ones(10)
    _, t = grid(10)
    table = [
        ("1 Rosenbrock", rosenbrock, [-1.2, 1]),
        ("2 Freudenstein and Roth", freudenstein_roth, [0.5, -2], (0.0, 48.9842)),
        ("3 Powell badly scaled", powell_badly_scaled, [0, 1]),
        ("4 Brown badly scaled", brown_badly_scaled, [1, 1]),
        ("5 Beale", beale, [1, 1]),
        ("6 Jennrich and Sampson", jennrich_sampson, [0.3, 0.4], (124.362,)),
        ("7 helical valley", helical_valley, [-1, 0, 0]),
        ("8 Bard", bard, [1, 1, 1], (8.21487e-3,)),
        ("9 Gaussian", gaussian, [0.4, 1, 0], (1.12793e-8,)),
        ("10 Meyer", meyer, [0.02, 4000, 250], (87.9458,)),
        ("11 Gulf research", gulf, [5, 2.5, 0.15]),
        ("12 Box, three dimensions", box, [0, 10, 20]),
        ("13 Powell singular", powell_singular, [3, -1, 0, 1]),
        ("14 Wood", wood, [-3, -1, -3, -1]),
        ("15 Kowalik and Osborne", kowalik_osborne, [0.25, 0.39, 0.415, 0.39], (3.07505e-4,)),
        ("16 Brown and Dennis", brown_dennis, [25, 5, -5, -1], (85822.2,)),
        ("17 Osborne 1", osborne_1, [0.5, 1.5, -1, 0.01, 0.02], (5.46489e-5,)),
        ("18 Biggs EXP6", biggs, [1, 2, 1, 1, 1, 1], (0.0, 5.65565e-3)),
        ("19 Osborne 2", osborne_2, [1.3, 0.65, 0.65, 0.7, 0.6, 3, 5, 7, 2, 4.5, 5.5], (4.01377e-2,)),
        ("20 Watson, n = 6", watson, np.zeros(6), (2.28767e-3,)),
        ("20 Watson, n = 9", watson, np.zeros(9), (1.39976e-6,)),
        ("20 Watson, n = 12", watson, np.zeros(12), (4.72238e-10,)),
        ("21 extended Rosenbrock, n = 10", rosenbrock, np.tile([-1.2, 1], 5)),
        ("22 extended Powell singular, n = 12", powell_singular, np.tile([3.0, -1, 0, 1], 3)),
        ("23 penalty I, n = 4", penalty_1, upto(4), (2.24997e-5,)),
        ("23 penalty I, n = 10", penalty_1, upto(10), (7.08765e-5,)),
        ("24 penalty II, n = 4", penalty_2, ten[:4] / 2, (9.37629e-6,)),
        ("24 penalty II, n = 10", penalty_2, ten / 2, (2.93660e-4,)),
        ("25 variably dimensioned, n = 10", variably_dimensioned, 1 - upto(10) / 10),
        ("26 trigonometric, n = 10", trigonometric, ten / 10),
        ("27 Brown almost linear, n = 10", brown_almost_linear, ten / 2, (0.0, 1.0)),
        ("28 discrete boundary value, n = 10", discrete_boundary_value, t * (t - 1)),
        ("29 discrete integral equation, n = 10", discrete_integral_equation, t * (t - 1)),
        ("30 Broyden tridiagonal, n = 10", broyden_tridiagonal, -ten),
        ("31 Broyden banded, n = 10", broyden_banded, -ten),
        ("32 linear, full rank, n = 5, m = 10", linear_full_rank, ten[:5], (m - 5.0,)),
        ("33 linear, rank 1, n = 5, m = 10", linear_rank_1, ten[:5], (m * (m - 1) / (2 * (2 * m + 1)),)),
        ("34 linear, rank 1 with zeros, n = 5, m = 10", linear_rank_1_with_zeros, ten[:5], ((m**2 + 3 * m - 6) / (2 * (2 * m - 3)),)),
        ("35 Chebyquad, n = 8", chebyquad, upto(8) / 9, (3.51687e-3,)),
        ("35 Chebyquad, n = 9", chebyquad, upto(9) / 10),
        ("35 Chebyquad, n = 10", chebyquad, upto(10) / 11, (6.50395e-3,)),
    ]  # fmt: skip
    return [Problem(name, r, np.array(start, float), *minima) for name, r, start, *minima in table]
