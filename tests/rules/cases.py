"""For every function that can be differentiated: calls of it, and points where it is smooth.

A case is a call of tensors (or arrays) and the arrays to call it on. The points are drawn once, from a fixed seed.
"""

import warnings

import numpy as np

import microgradopt as mg
from microgradopt.rules import elementwise, linalg, reductions

rng = np.random.default_rng(20)


def normal(*shape):
    return rng.normal(size=shape)


def positive(*shape):
    return rng.uniform(0.5, 2.0, size=shape)


def small(*shape):
    return rng.uniform(-0.8, 0.8, size=shape)


def apart(*shape):
    """Numbers that are far from each other and from the integers, so that nothing ties and no step is near."""
    n = int(np.prod(shape))
    return (rng.permutation(n) - n / 2 + 0.3).reshape(shape) * 0.9


def regular(*batch):
    return normal(*batch, 3, 3) + 3 * np.eye(3)


def definite(*batch):
    a = normal(*batch, 3, 3)
    return a @ np.swapaxes(a, -1, -2) + 3 * np.eye(3)


def named(*names):
    """NumPy's functions of these names, those that this version has."""
    return [getattr(np, name) for name in names if hasattr(np, name)]


def symmetric(function):
    """The decompositions of symmetric matrices read one triangle; this gives them a symmetric matrix to read."""
    return lambda a: function((a + np.swapaxes(a, -1, -2)) / 2)


CUBE = normal(2, 3, 4)
MASK = CUBE > 0
AXES = [None, 0, -1, (0, 2), (0, 1, 2)]

UNARY = {
    "negative": normal, "positive": normal, "conjugate": normal, "square": normal, "exp": normal, "expm1": normal,
    "exp2": normal, "sin": normal, "cos": normal, "tan": small, "sinh": normal, "cosh": normal, "tanh": normal,
    "arctan": normal, "arcsinh": normal, "deg2rad": normal, "rad2deg": normal, "radians": normal, "degrees": normal,
    "sinc": normal, "absolute": apart, "fabs": apart, "nan_to_num": normal, "sign": apart, "floor": apart,
    "ceil": apart, "trunc": apart, "rint": apart, "round": apart, "reciprocal": positive,
    "log": positive, "log1p": positive, "log2": positive, "log10": positive, "sqrt": positive, "cbrt": positive,
    "arcsin": small, "arccos": small, "arctanh": small, "arccosh": lambda *shape: 1 + positive(*shape),
}  # fmt: skip
BINARY = {
    "add": (normal, normal), "subtract": (normal, normal), "multiply": (normal, normal), "divide": (normal, positive),
    "remainder": (lambda *s: 2 + small(*s) / 4, lambda *s: 1.5 + small(*s) / 8),
    "fmod": (lambda *s: 2 + small(*s) / 4, lambda *s: 1.5 + small(*s) / 8),
    "floor_divide": (lambda *s: 2 + small(*s) / 4, lambda *s: 1.5 + small(*s) / 8),
    "power": (positive, normal), "float_power": (positive, normal), "logaddexp": (normal, normal),
    "logaddexp2": (normal, normal), "hypot": (positive, normal), "arctan2": (normal, positive),
    "maximum": (apart, small), "minimum": (apart, small), "fmax": (apart, small), "fmin": (apart, small),
    "copysign": (apart, positive), "heaviside": (apart, normal),
}  # fmt: skip

CASES = {
    name: [(getattr(np, name), (domain(3, 2),)), (getattr(np, name), (domain(),))] for name, domain in UNARY.items()
}
CASES |= {
    name: [(getattr(np, name), (left(3, 1), right(2))), (getattr(np, name), (left(), right(2, 2)))]
    for name, (left, right) in BINARY.items()
}
if hasattr(np, "fix"):  # which NumPy is about to drop, and warns of

    def fix(x):
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
            return np.fix(x)

    CASES["fix"] = [(fix, (apart(3),))]
CASES["power"] += [
    (lambda x: x**3, (normal(3),)),
    (lambda x: 2.0**x, (normal(3),)),
    (lambda x: x**-1.5, (positive(3),)),
]
CASES |= {
    f: [
        (lambda x, f=f, axis=axis, keepdims=keepdims: getattr(np, f)(x, axis=axis, keepdims=keepdims), (CUBE,))
        for axis in AXES
        for keepdims in (False, True)
    ]
    for f in ("sum", "mean", "prod", "max", "min", "amax", "amin", "var", "std", "ptp")
}
HALF = np.arange(24).reshape(2, 3, 4) % 3 > 0
for f in ("sum", "mean", "prod", "var", "std"):  # told more than an axis
    CASES[f] += [
        (lambda x, f=f: getattr(np, f)(x, axis=1, where=HALF), (CUBE,)),
        (lambda x, f=f: getattr(np, f)(x, 1, x.dtype, where=HALF, keepdims=True), (CUBE,)),
        (lambda x, f=f: getattr(x, f)(axis=(0, 2), where=HALF), (CUBE,)),
        (lambda x, f=f: getattr(x, f)(0, x.dtype), (CUBE,)),
    ]
CASES["sum"] += [(lambda x: np.sum(x, initial=2.5), (CUBE,))]
CASES["prod"] += [(lambda x: np.prod(x, axis=1, initial=2.5, where=HALF), (CUBE,))]
for f in ("max", "min"):
    CASES[f] += [
        (lambda x, f=f: getattr(np, f)(x, axis=1, initial=0.1), (CUBE,)),
        (lambda x, f=f: getattr(x, f)(axis=1, initial=0.1, where=HALF), (CUBE,)),
    ]
CASES |= {
    "logsumexp": [
        (lambda x, axis=axis, keepdims=keepdims: mg.logsumexp(x, axis, keepdims=keepdims), (CUBE,))
        for axis in AXES
        for keepdims in (False, True)
    ],
    "softmax": [(lambda x, axis=axis: mg.softmax(x, axis), (CUBE,)) for axis in (-1, 0, 1)],
    "log_softmax": [(lambda x, axis=axis: mg.log_softmax(x, axis), (CUBE,)) for axis in (-1, 0, 1)],
    "cumsum": [(lambda x, axis=axis: np.cumsum(x, axis=axis), (CUBE,)) for axis in (None, 0, 1, -1)],
    "cumprod": [(lambda x, axis=axis: np.cumprod(x, axis=axis), (CUBE,)) for axis in (None, 0, 1, -1)],
    "average": [
        (np.average, (CUBE,)),
        (lambda x, w: np.average(x, axis=1, weights=w), (CUBE, positive(3))),
        (lambda x, w: np.average(x, weights=w), (CUBE, positive(2, 3, 4))),
    ],
    "trace": [(np.trace, (normal(3, 4),)), (lambda x: np.trace(x, 1, 2, 0), (CUBE,))],
    "divmod": [(lambda x, y: np.divmod(x, y)[1], (2 + small(3) / 4, 1.5 + small(3) / 8))],
    "modf": [(lambda x: np.modf(x)[0], (apart(3),))],
    "ldexp": [(lambda x: np.ldexp(x, [1, 2, -3]), (normal(3),))],
    "around": [(np.around, (apart(3),)), (lambda x: np.around(x, 1), (apart(3) + 0.02,))],
    "sinc_derivative": [(lambda x: np.sinc(x) ** 2, (normal(4),))],
    "clip": [
        (lambda x: np.clip(x, -0.5, 0.5), (apart(4),)),
        (np.clip, (apart(4), np.array(-1.2), np.array(1.1))),
        (lambda x: np.clip(x, min=0.0), (apart(4),)),
        (lambda x: np.clip(x, None, 1.0), (apart(4),)),
    ],
    "where": [(lambda x, y: np.where([True, False, True], x, y), (normal(3), normal(2, 1)))],
    "select": [(lambda x, y: np.select([x > 0.5, x < -0.5], [x**2, y], 1.0), (apart(4), normal(4)))],
}

CASES |= {
    "reshape": [(lambda x: np.reshape(x, (4, -1)), (CUBE,)), (lambda x: np.reshape(x, 24), (CUBE,))],
    "ravel": [(np.ravel, (CUBE,))],
    "copy": [(np.copy, (CUBE,))],
    "astype": [(lambda x: x.astype(np.float32 if x.dtype == np.float32 else np.float64) * 2, (CUBE,)), *[(lambda x, f=f: f(x, x.dtype) * 2, (CUBE,)) for f in named("astype")]],
    "transpose": [(f, (CUBE,)) for f in (np.transpose, lambda x: np.transpose(x, (1, 2, 0)), lambda x: x.T)],
    "matrix_transpose": [(np.matrix_transpose, (CUBE,)), (lambda x: x.mT, (CUBE,))],
    "linalg.matrix_transpose": [(np.linalg.matrix_transpose, (CUBE,))],
    "swapaxes": [(lambda x: np.swapaxes(x, 0, -1), (CUBE,))],
    "moveaxis": [(lambda x: np.moveaxis(x, 0, -1), (CUBE,)), (lambda x: np.moveaxis(x, (0, 1), (2, 0)), (CUBE,))],
    "rollaxis": [(lambda x, a=a: np.rollaxis(x, *a), (CUBE,)) for a in ((2,), (0, 3), (1, -1), (2, 1))],
    "expand_dims": [(lambda x: np.expand_dims(x, (0, 3)), (CUBE,))],
    "squeeze": [(lambda x: np.squeeze(x[:1, :, :1]), (CUBE,)), (lambda x: np.squeeze(x[:1], axis=0), (CUBE,))],
    "broadcast_to": [(lambda x: np.broadcast_to(x, (5, 2, 3, 4)), (CUBE,)), (lambda x: np.broadcast_to(x, (3, 2)), (normal(3, 1),))],
    "broadcast_arrays": [(lambda x, y: np.broadcast_arrays(x, y)[1], (CUBE, normal(3, 1)))],
    "meshgrid": [
        (lambda x, y, indexing=i, k=k: np.meshgrid(x, y, indexing=indexing)[k], (normal(3), normal(2)))
        for i in ("xy", "ij")
        for k in (0, 1)
    ],
    "repeat": [(lambda x: np.repeat(x, 2), (CUBE,)), (lambda x: np.repeat(x, [1, 2, 0], axis=1), (CUBE,))],
    "tile": [(lambda x, r=r: np.tile(x, r), (CUBE,)) for r in (2, (2, 1, 3, 1), (1, 2))],
    "roll": [(lambda x: np.roll(x, 2), (CUBE,)), (lambda x: np.roll(x, (1, 2), (0, 1)), (CUBE,))],
    "flip": [(np.flip, (CUBE,)), (lambda x: np.flip(x, (0, 2)), (CUBE,))],
    "fliplr": [(np.fliplr, (CUBE,))],
    "flipud": [(np.flipud, (CUBE,))],
    "rot90": [(lambda x, k=k: np.rot90(x, k, (0, 2)), (CUBE,)) for k in (-1, 0, 1, 2, 3)],
    "pad": [
        (lambda x: np.pad(x, 1), (CUBE,)),
        (lambda x: np.pad(x, 1, constant_values=3.0), (CUBE,)),
        *[(lambda x, m=m: np.pad(x, ((1, 0), (0, 2), (1, 1)), mode=m), (CUBE,)) for m in ("edge", "reflect", "symmetric", "wrap")],
    ],
    "atleast_1d": [(np.atleast_1d, (normal(),)), (lambda x, y: np.atleast_1d(x, y)[1], (CUBE, normal()))],
    "atleast_2d": [(np.atleast_2d, (normal(),)), (np.atleast_2d, (normal(3),)), (np.atleast_2d, (CUBE,))],
    "atleast_3d": [(np.atleast_3d, (normal(),)), (np.atleast_3d, (normal(3),)), (np.atleast_3d, (normal(3, 2),))],
    "append": [(np.append, (CUBE, normal(2))), (lambda x: np.append(x, x, axis=1), (CUBE,))],
    "concatenate": [
        (lambda x, y: np.concatenate([x, np.ones((2, 1, 4), np.float32), y], axis=1), (CUBE, normal(2, 2, 4))),
        (lambda x, y: np.concatenate((x, y), axis=None), (CUBE, normal(3, 1))),
        (lambda x: np.concatenate([x, x]), (CUBE,)),
    ],
    "stack": [(lambda x, y: np.stack([x, y], axis=-1), (CUBE, normal(2, 3, 4)))],
    "vstack": [
        (lambda x, y: np.vstack([x, y]), (normal(3), normal(2, 3))),
        (lambda x: np.vstack([x, x], dtype=x.dtype, casting="same_kind"), (normal(3),)),
    ],
    "hstack": [(lambda x, y: np.hstack([x, y]), (normal(3), normal(2))), (lambda x: np.hstack([x, x]), (CUBE,))],
    "dstack": [(lambda x, y: np.dstack([x, y]), (normal(2, 3), normal(2, 3)))],
    "column_stack": [(lambda x, y: np.column_stack([x, y]), (normal(3), normal(3, 2)))],
    "block": [(lambda x, y: np.block([[x, y], [np.ones((1, 5), np.float32)]]), (normal(2, 3), normal(2, 2))), (lambda x: np.block([x, x]), (normal(3),))],
    "split": [(lambda x: np.split(x, 2, axis=2)[1], (CUBE,)), (lambda x: np.split(x, [1, 3], axis=-1)[1], (CUBE,))],
    "array_split": [(lambda x, k=k: np.array_split(x, 2, axis=1)[k], (CUBE,)) for k in (0, 1)],
    "vsplit": [(lambda x: np.vsplit(x, 2)[0], (CUBE,))],
    "hsplit": [(lambda x: np.hsplit(x, 3)[1], (CUBE,)), (lambda x: np.hsplit(x, 2)[1], (normal(4),))],
    "dsplit": [(lambda x: np.dsplit(x, [1, 3])[1], (CUBE,))],
    "unstack": [(lambda x: np.unstack(x, axis=1)[2], (CUBE,))],
    "diagonal": [(lambda x, a=a: np.diagonal(x, *a), (CUBE,)) for a in ((0,), (1, 1, 2), (-1, 0, 1), (7,))],
    "linalg.diagonal": [(np.linalg.diagonal, (CUBE,)), (lambda x: np.linalg.diagonal(x, offset=1), (CUBE,))],
    "diag": [(lambda x, k=k: np.diag(x, k), (v,)) for v in (normal(3), normal(3, 4)) for k in (0, 1, -2)],
    "triu": [(lambda x: np.triu(x, 1), (CUBE,))],
    "tril": [(lambda x: np.tril(x, -1), (CUBE,))],
    "diff": [(np.diff, (CUBE,)), (lambda x: np.diff(x, 2, axis=1), (CUBE,))],
    "gradient": [
        (lambda x: np.gradient(x)[1], (CUBE,)),
        (lambda x: np.gradient(x, 0.5, axis=1), (CUBE,)),
        (lambda x: np.gradient(x, [0.0, 1.0, 3.0, 4.0], axis=2, edge_order=2), (CUBE,)),
        (lambda x: np.gradient(x, 2.0), (normal(4),)),
    ],
    "getitem": [
        (lambda x, i=i: x[i], (CUBE,))
        for i in (
            0, -1, (1, 2), (..., 1), slice(None, None, -2), (slice(None), slice(2, 0, -1)), None, (0, None, ..., None),
            [0, 0, 1], (slice(None), None, [0, 1, 1]), ([0, 0, 1], slice(None), [1, 1, 2]), ([[0], [1]], [0, 2, 2]),
            MASK, (0, MASK[0]), np.array(1), ([1, 0], ..., 0),
        )
    ],
    "take": [(lambda x: np.take(x, [[1, 1], [0, 2]], axis=1), (CUBE,)), (lambda x: np.take(x, 5), (CUBE,))],
    "take_along_axis": [
        (lambda x: np.take_along_axis(x, np.argsort(CUBE, axis=1), 1), (CUBE,)),
        (lambda x: np.take_along_axis(x, np.array([3, 3, 0]), None), (CUBE,)),
    ],
    "sort": [(lambda x, a=a: np.sort(x, axis=a), (CUBE,)) for a in (-1, 0, None)],
    # Only the first two are in a known order.
    "partition": [(lambda x, a=a: np.moveaxis(np.partition(x, 1, axis=a), a or 0, 0)[:2], (CUBE,)) for a in (-1, 1, None)],
    "compress": [(lambda x, a=a: np.compress([True, False, True], x, axis=a), (CUBE,)) for a in (None, 1)],
    "extract": [(lambda x: np.extract(MASK, x), (CUBE,))],
    "scatter": [(lambda x: x[[0, 0, 1]] ** 2, (CUBE,))],
    "real": [(np.real, (normal(3),)), (lambda x: x.real, (normal(3),)), (lambda x: x.conj() * x, (normal(3),))],
    "real_if_close": [(np.real_if_close, (normal(3),))],
    "imag": [(lambda x: np.imag(x) + x.imag + x, (normal(3),))],
    "angle": [(lambda x: np.angle(x) * x, (apart(4),))],
    "linspace": [
        (np.linspace, (normal(), normal())),
        (lambda a, b: np.linspace(a, b, 4, endpoint=False, axis=-1), (normal(2, 1), normal(3))),
        (lambda a: np.linspace(a, 2.0, 1), (normal(),)),
        (lambda a: np.linspace(0.0, a, 4), (normal(2),)),
    ],
    "full_like": [(lambda x, s: np.full_like(x, s) * s, (normal(2, 3), normal())), (lambda x, s: np.full_like(x, s, shape=(4, 3)), (normal(2), normal(3)))],
    "full": [(lambda x, s: np.full(x.shape, s, like=x) * x, (normal(2, 3), np.array(0.7)))],
    "trapezoid": [
        (np.trapezoid, (CUBE,)),
        (lambda y: np.trapezoid(y, dx=0.5, axis=1), (CUBE,)),
        (lambda y, x: np.trapezoid(y, x, axis=1), (CUBE, normal(3))),
        (lambda y, x: np.trapezoid(y, x), (normal(2, 3), normal(2, 3))),
    ],
    "interp": [
        (lambda x, fp: np.interp(x, np.array([-1.0, 0.0, 0.5, 1.0], np.float32), fp), (np.array([[-2.0, -0.7], [0.2, 0.6], [0.9, 3.0]]), normal(4))),
        (lambda x, xp, fp: np.interp(x, np.sort(xp), fp, left=np.float32(-1.0), right=np.float32(2.0)), (np.array([-9.0, 0.1, 0.3, 9.0]), apart(4), normal(4))),
    ],
    "polyval": [(np.polyval, (normal(4), normal(3))), (lambda p: np.polyval(p, np.float32(2.0)), (normal(3),)), (lambda x: np.polyval(np.array([1.0, 2.0, 3.0], np.float32), x), (normal(2, 2),))],
    "full_convolution": [(lambda a, v: np.convolve(a, v) ** 2, (normal(4), normal(3)))],
    "convolve": [(lambda a, v, m=m: np.convolve(a, v, m), (normal(n), normal(k))) for m in ("full", "same", "valid") for n, k in ((5, 3), (5, 2), (3, 5), (4, 4), (1, 3))],
    "correlate": [(lambda a, v, m=m: np.correlate(a, v, m), (normal(n), normal(k))) for m in ("full", "same", "valid") for n, k in ((5, 3), (5, 2), (3, 5), (2, 5), (4, 4))],
    "cumulative_sum": [(lambda x: np.cumulative_sum(x), (normal(4),)), (lambda x: np.cumulative_sum(x, axis=1, include_initial=True), (CUBE,))],
    "cumulative_prod": [(lambda x: np.cumulative_prod(x), (normal(4),)), (lambda x: np.cumulative_prod(x, axis=-1, include_initial=True), (CUBE,))],
    "quantile": [
        (lambda x, q=q, axis=axis, keepdims=keepdims: np.quantile(x, q, axis=axis, keepdims=keepdims), (apart(2, 3, 4),))
        for q in (0.3, 1.0, [0.1, 0.5]) for axis in (None, 1, (0, 2)) for keepdims in (False, True)
    ] + [
        (lambda x, m=m: np.quantile(x, [0.2, 0.55], method=m), (apart(7),))
        for m in ("inverted_cdf", "averaged_inverted_cdf", "closest_observation", "interpolated_inverted_cdf", "hazen", "weibull", "median_unbiased", "normal_unbiased", "lower", "higher", "midpoint", "nearest")
    ],
    "percentile": [(lambda x: np.percentile(x, [30, 75], axis=-1), (apart(3, 4),))],
    "median": [(np.median, (apart(5),)), (lambda x: np.median(x, axis=1, keepdims=True), (apart(3, 4),)), (np.median, (normal(1),))],
    "nanmedian": [(lambda x, k=k: np.nanmedian(np.where(HALF, x, np.nan), axis=(0, 2), keepdims=k), (apart(2, 3, 4),)) for k in (False, True)],
    "nansum": [(lambda x: np.nansum(np.where(HALF, x, np.nan), axis=1), (CUBE,))],
    "nanmean": [(lambda x, k=k: np.nanmean(np.where(HALF, x, np.nan), axis=2, keepdims=k), (CUBE,)) for k in (False, True)],
    "nanvar": [(lambda x: np.nanvar(np.where(HALF, x, np.nan), axis=(0, 2), ddof=1), (CUBE,))],
    "nanstd": [(lambda x: np.nanstd(np.where(HALF, x, np.nan), axis=(0, 2)), (CUBE,))],
    "nanmax": [(lambda x: np.nanmax(np.where(HALF, x, np.nan), axis=(0, 2)), (apart(2, 3, 4),))],
    "nanmin": [(lambda x: np.nanmin(np.where(HALF, x, np.nan), axis=(0, 2)), (apart(2, 3, 4),))],
    "cov": [
        (np.cov, (normal(3, 5),)), (lambda x, y: np.cov(x, y, bias=True), (normal(5), normal(5))),
        (lambda x: np.cov(x, rowvar=False, ddof=0), (normal(5, 2),)), (np.cov, (normal(5),)),
    ],
    "corrcoef": [(np.corrcoef, (normal(3, 5),)), (lambda x, y: np.corrcoef(x, y)[0, 1], (normal(5), normal(5)))],
    "only": [(lambda x: reductions.only(x, MASK, 2.0), (CUBE,)), (lambda x: reductions.only(x, np.array(True), 2.0), (normal(3),))],
    # What rules are made of: differentiated where their function is twice.
    "direction": [(elementwise.direction, (normal(3, 2), positive(2)))],
}  # fmt: skip

MATMUL_SHAPES = [
    ((3,), (3,)), ((3,), (3, 2)), ((2, 3), (3,)), ((2, 3), (3, 2)), ((4, 2, 3), (3, 2)), ((2, 3), (4, 3, 2)),
    ((3,), (4, 3, 2)), ((4, 2, 3), (3,)), ((4, 1, 2, 3), (5, 3, 2)), ((1, 2, 3), (4, 3, 2)), ((0, 3), (3, 2)), ((2, 0), (0, 3)),
]  # fmt: skip
EINSUMS = [
    ("ij,jk->ik", (2, 3), (3, 4)), ("ij,jk", (2, 3), (3, 4)), ("ba", (2, 3)), ("ii->i", (3, 3)), ("ii", (3, 3)),
    ("...ij,...jk->...ik", (2, 2, 3), (2, 3, 2)), ("...ij,jk", (4, 2, 3), (3, 2)), ("ij,...", (2, 3), (4,)),
    ("ij,jk,kl->il", (2, 3), (3, 2), (2, 3)), ("i,ij,j", (2,), (2, 3), (3,)), ("ij->", (2, 3)), ("ij->ji", (2, 3)),
    ("i,j->ij", (2,), (3,)), ("ij,i->j", (2, 3), (2,)), ("iij,jk->ik", (2, 2, 3), (3, 2)), ("ij,kl->", (2, 2), (2, 3)),
    ("i->i", (3,)), ("iii->i", (2, 2, 2)), (" i j , j -> i ", (2, 3), (3,)),
]  # fmt: skip
CASES |= {
    "matmul": [(np.matmul, (normal(*x), normal(*y))) for x, y in MATMUL_SHAPES],
    "dot": [
        (np.dot, (normal(*x), normal(*y)))
        for x, y in [((), (3,)), ((3,), (3,)), ((2, 3), (3,)), ((2, 3), (3, 4)), ((2, 2, 3), (4, 3, 2)), ((3,), (4, 3, 2))]
    ],
    "inner": [(np.inner, (normal(2, 3), normal(4, 3))), (np.inner, (normal(), normal(3)))],
    "outer": [(np.outer, (normal(2, 2), normal(3)))],
    "linalg.outer": [(np.linalg.outer, (normal(2), normal(3)))],
    "vdot": [(np.vdot, (normal(2, 3), normal(3, 2)))],
    "vecdot": [(np.vecdot, (normal(2, 3), normal(3)))],
    "linalg.vecdot": [(lambda a, b: np.linalg.vecdot(a, b, axis=0), (normal(3, 2), normal(3, 2)))],
    "tensordot": [
        (np.tensordot, (normal(2, 3, 4), normal(3, 4, 2))),
        (lambda a, b: np.tensordot(a, b, axes=([0, 2], [2, -2])), (normal(2, 3, 4), normal(3, 4, 2))),
        (lambda a, b: np.tensordot(a, b, axes=0), (normal(2), normal(3))),
        (lambda a, b: np.tensordot(a, b, axes=(1, 0)), (normal(2, 3), normal(3, 2))),
    ],
    "linalg.tensordot": [(lambda a, b: np.linalg.tensordot(a, b, axes=1), (normal(2, 3), normal(3, 2)))],
    "linalg.matmul": [(np.linalg.matmul, (normal(2, 3), normal(3, 2)))],
    "matvec": [(lambda a, x: np.matvec(a, x), (normal(4, 2, 3), normal(3)))],
    "vecmat": [(lambda x, a: np.vecmat(x, a), (normal(3), normal(4, 3, 2)))],
    "linalg.pinv": [(np.linalg.pinv, (normal(*shape),)) for shape in ((3, 3), (4, 2), (2, 4), (2, 3, 2))] + [
        (symmetric(lambda a: np.linalg.pinv(a, hermitian=True)), (normal(2, 3, 3),)),
        (lambda a: np.linalg.pinv(a, 1e-6), (normal(3, 2),)),
        (lambda a: np.linalg.pinv(a, rtol=1e-6), (normal(3, 2),)),
    ],
    "gaps": [(linalg.gaps, (np.array([0.3, 1.1, 2.5]),))],
    "contract": [(lambda a, b: np.einsum("ij,jk->ik", a, b) ** 2, (normal(2, 3), normal(3, 2)))],
    "einsum": [(lambda *a, s=s: np.einsum(s, *a), tuple(normal(*shape) for shape in shapes)) for s, *shapes in EINSUMS] + [
        (lambda a, b: np.einsum(a, [0, 1], b, [1, 2], [0, 2]), (normal(2, 3), normal(3, 2))),
        (lambda a, b: np.einsum(a, [27, 3], b, [3, 5]), (normal(2, 3), normal(3, 2))),
        (lambda a, b: np.einsum(a, [..., 0, 1], b, [1], [..., 0]), (normal(2, 2, 3), normal(3))),
    ],
    "kron": [(np.kron, (normal(2, 3), normal(3, 2))), (np.kron, (normal(3), normal(2, 2)))],
    "cross": [(np.cross, (normal(2, 3), normal(3))), (lambda a, b: np.cross(a, b, axis=0), (normal(3, 2), normal(3, 2)))],
    "linalg.cross": [(np.linalg.cross, (normal(2, 3), normal(2, 3)))],
    "linalg.multi_dot": [(lambda a, b: np.linalg.multi_dot([a, b, a]), (normal(2, 3), normal(3, 2)))],
    "linalg.matrix_power": [(lambda a, n=n: np.linalg.matrix_power(a, n), (regular(2),)) for n in (-2, 0, 1, 2, 3, 5)],
    "linalg.inv": [(np.linalg.inv, (regular(),)), (np.linalg.inv, (regular(2),))],
    "linalg.det": [(np.linalg.det, (regular(),)), (np.linalg.det, (regular(2),))],
    "cofactors": [(lambda a: np.linalg.det(a) ** 2, (regular(),))],
    "linalg.slogdet": [(lambda a: np.linalg.slogdet(a).logabsdet, (regular(2),)), (lambda a: np.linalg.slogdet(-a)[1], (regular(),))],
    "linalg.solve": [
        (np.linalg.solve, (regular(), normal(3))), (np.linalg.solve, (regular(), normal(3, 2))),
        (np.linalg.solve, (regular(2), normal(3, 2))), (np.linalg.solve, (regular(), normal(2, 3, 1))),
        (np.linalg.solve, (regular(2), normal(3))),
    ],
    "linalg.cholesky": [
        (symmetric(np.linalg.cholesky), (definite(),)), (symmetric(np.linalg.cholesky), (definite(2),)),
        (symmetric(lambda a: np.linalg.cholesky(a, upper=True)), (definite(),)),
    ],
    # Eigenvectors and singular vectors are determined up to their signs: their squares are compared.
    "linalg.eigh": [
        (symmetric(lambda a: np.linalg.eigh(a).eigenvalues), (definite(2),)),
        (symmetric(lambda a: np.linalg.eigh(a)[1] ** 2), (definite(2),)),
        (symmetric(lambda a: np.linalg.eigh(a, "U")[0]), (definite(),)),
    ],
    "linalg.eigvalsh": [(symmetric(np.linalg.eigvalsh), (definite(2),))],
    "linalg.svd": [
        *[(lambda a, k=k: np.linalg.svd(a, full_matrices=False)[k] ** 2, (m,)) for k in (0, 1, 2) for m in (normal(2, 4, 3), normal(3, 4))],
        (lambda a: np.linalg.svd(a)[0] ** 2, (regular(),)), (lambda a: np.linalg.svd(a, compute_uv=False), (normal(3, 4),)),
    ],
    "thin_svd": [(lambda a: np.linalg.svd(a, full_matrices=False).S ** 3, (normal(4, 2),))],
    "linalg.svdvals": [(np.linalg.svdvals, (normal(3, 4),))],
    "linalg.trace": [(np.linalg.trace, (normal(2, 3, 3),)), (lambda a: np.linalg.trace(a, offset=1), (normal(3, 3),))],
    "linalg.norm": [
        (np.linalg.norm, (CUBE,)), (lambda x: np.linalg.norm(x, axis=1), (CUBE,)),
        (lambda x: np.linalg.norm(x, axis=(0, 2), keepdims=True), (CUBE,)),
        *[(lambda x, p=p: np.linalg.norm(x, p, axis=1, keepdims=True), (CUBE,)) for p in (1, 2, 3, 0.5, np.inf, -np.inf)],
        *[(lambda x, p=p: np.linalg.norm(x, p, axis=(2, 1)), (CUBE,)) for p in ("fro", "nuc", 1, -1, 2, -2, np.inf, -np.inf)],
    ],
    "linalg.vector_norm": [(np.linalg.vector_norm, (CUBE,)), (lambda x: np.linalg.vector_norm(x, axis=(0, 1), ord=3, keepdims=True), (CUBE,))],
    "linalg.matrix_norm": [(np.linalg.matrix_norm, (CUBE,)), (lambda x: np.linalg.matrix_norm(x, ord="nuc", keepdims=True), (CUBE,))],
    "euclidean_norm": [(lambda x: np.linalg.norm(x) ** 3, (normal(3),))],
    "pick": [(lambda a: np.linalg.eigh(a + a.mT)[0] ** 2, (definite(),))],
    "variance": [(lambda x: np.var(x, axis=1, ddof=1), (CUBE,)), (lambda x: np.var(x, axis=1, correction=1), (CUBE,))],
    "deviation": [(lambda x: np.std(x, ddof=1), (CUBE,))],
}  # fmt: skip

if np.lib.NumpyVersion(np.__version__) < "2.1.0":  # what NumPy itself does not have yet
    for name in ("unstack", "cumulative_sum", "cumulative_prod"):
        del CASES[name]
    CASES["clip"].pop(2)
if not hasattr(np, "matvec"):  # since NumPy 2.2
    del CASES["matvec"], CASES["vecmat"]
