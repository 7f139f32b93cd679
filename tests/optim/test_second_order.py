"""Optimizers that evaluate the loss themselves: minima and counts against SciPy, formulas against transcriptions."""

import copy
import json

import numpy as np
import pytest
import scipy.optimize

import microgradopt as mg
from microgradopt import NonFiniteError, Objective, Tensor, nn, optim
from microgradopt.curvature.operator import HessianOperator
from microgradopt.training import load_checkpoint, save_checkpoint

SAMPLES = np.random.default_rng(0).normal(size=(30, 2))
TARGETS = np.sin(SAMPLES[:, 0])


def rosenbrock(x):
    return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def himmelblau(x):
    return (x[0] ** 2 + x[1] - 11) ** 2 + (x[0] + x[1] ** 2 - 7) ** 2


def beale(x):
    return sum((c - x[0] + x[0] * x[1] ** (k + 1)) ** 2 for k, c in enumerate([1.5, 2.25, 2.625]))


def powell(x):
    return (x[0] + 10 * x[1]) ** 2 + 5 * (x[2] - x[3]) ** 2 + (x[1] - 2 * x[2]) ** 4 + 10 * (x[0] - x[3]) ** 4


def net(x):
    """Two tanh units, 9 parameters, with weight decay."""
    hidden = np.tanh(SAMPLES @ x[:4].reshape(2, 2) + x[4:6])
    return np.mean((hidden @ x[6:8] + x[8] - TARGETS) ** 2) + 1e-3 * np.sum(x * x)


def saddle(x):
    """Minima of −1/4 at (0, ±√½); a strict saddle at 0."""
    return x[0] ** 2 - x[1] ** 2 + x[1] ** 4


PROBLEMS = {
    "rosenbrock 2": (rosenbrock, np.array([-1.2, 1.0])),
    "rosenbrock 10": (rosenbrock, np.tile([-1.2, 1.0], 5)),
    "himmelblau": (himmelblau, np.zeros(2)),
    "beale": (beale, np.zeros(2)),
    "powell": (powell, np.array([3.0, -1.0, 0.0, 1.0])),
    "net": (net, np.random.default_rng(3).normal(size=9) / 2),
}
on_all = pytest.mark.parametrize("problem", PROBLEMS)


class Run:
    """A loss with its tensor, and a closure that counts."""

    def __init__(self, f, start):
        self.x = Tensor(start, requires_grad=True)
        self.f, self.evaluations = f, 0

    def closure(self):
        self.evaluations += 1
        self.x.grad = None
        loss = self.f(self.x)
        loss.backward()
        return loss

    def minimise(self, optimizer, most=500, tol=1e-6):
        """Steps until the largest entry of the gradient is at most tol. Gives the steps; the loss never rises."""
        objective, losses = Objective(self.f, self.x.data), []
        while np.abs(objective.gradient(self.x.data)).max() > tol:
            losses.append(optimizer.step(self.closure).item())
            assert objective.value(self.x.data) <= losses[-1]
            assert len(losses) <= most, losses[-5:]
        return len(losses)


def scipys(problem, method, **options):
    f, start = PROBLEMS[problem]
    objective = Objective(f, start)
    more = {"hess": objective.hessian} if method == "trust-exact" else {}
    if method in ("trust-ncg", "trust-krylov"):
        more = {"hessp": lambda x, v: objective.hvp(v, x)}
    return scipy.optimize.minimize(
        objective.value_and_gradient, start, jac=True, method=method, options={"gtol": 1e-6, **options}, **more
    )


def assert_same_minimum(problem, x, theirs):
    """At a singular minimum (Powell's) θ is known to the fourth root of the loss only."""
    f, _ = PROBLEMS[problem]
    np.testing.assert_allclose(f(x), theirs.fun, rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(x, theirs.x, atol=3e-2 if problem == "powell" else 1e-3)


# SciPy's minima, in as many evaluations ----------------------------------------------------------------------------------


@on_all
def test_lbfgs_as_scipys(problem):
    theirs = scipys(problem, "L-BFGS-B", ftol=0)
    run = Run(*PROBLEMS[problem])
    run.minimise(optim.LBFGS([run.x], max_iter=500, tolerance_grad=1e-6, tolerance_change=0), most=1)
    assert_same_minimum(problem, run.x.data, theirs)
    assert run.evaluations <= 1.5 * theirs.nfev


@on_all
def test_newton_as_scipys(problem, monkeypatch):
    """SciPy keeps what it knows of the last point. A step here asks for the loss and gradient at its start again."""
    theirs = scipys(problem, "trust-exact")
    run = Run(*PROBLEMS[problem])
    steps = run.minimise(optim.Newton([run.x]))
    assert_same_minimum(problem, run.x.data, theirs)
    assert steps <= 1.5 * theirs.nhev
    assert run.evaluations - steps <= 1.5 * theirs.nfev


@on_all
@pytest.mark.parametrize("method", ["trust-ncg", "trust-krylov"])
def test_newton_cg_as_scipys(problem, method, monkeypatch):
    products, multiply = [], HessianOperator.__matmul__
    monkeypatch.setattr(HessianOperator, "__matmul__", lambda H, v: (products.append(1), multiply(H, v))[1])
    theirs = scipys(problem, method)
    run = Run(*PROBLEMS[problem])
    steps = run.minimise(optim.NewtonCG([run.x]))
    assert_same_minimum(problem, run.x.data, theirs)
    assert run.evaluations - steps <= 1.5 * theirs.nfev
    assert len(products) <= 1.5 * theirs.nhev


@on_all
def test_saddle_free_newton_finds_minima(problem):
    """SciPy's; of the net's, which come with either sign of a unit, the one with the same absolute values."""
    theirs = scipys(problem, "trust-exact")
    for rank in (None, 10):
        run = Run(*PROBLEMS[problem])
        run.minimise(optim.SaddleFreeNewton([run.x], damping=1e-4, rank=rank))
        if problem == "net":
            np.testing.assert_allclose(np.abs(run.x.data), np.abs(theirs.x), atol=1e-3)
        else:
            assert_same_minimum(problem, run.x.data, theirs)


@pytest.mark.parity
@on_all
def test_lbfgs_as_torchs(problem):
    torch = pytest.importorskip("torch")
    f, start = PROBLEMS[problem]
    objective, theta = Objective(f, start), torch.tensor(start, requires_grad=True)
    settings = {"max_iter": 500, "history_size": 10, "tolerance_grad": 1e-6, "tolerance_change": 0}
    other = torch.optim.LBFGS([theta], max_eval=5000, line_search_fn="strong_wolfe", **settings)
    asked = []

    def closure():
        value, g = objective.value_and_gradient(theta.detach().numpy())
        asked.append(value)
        theta.grad = torch.tensor(g)
        return torch.tensor(value)

    other.step(closure)
    run = Run(f, start)
    optim.LBFGS([run.x], **settings).step(run.closure)
    np.testing.assert_allclose(run.x.data, theta.detach().numpy(), atol=3e-2 if problem == "powell" else 1e-3)
    assert run.evaluations <= 1.5 * len(asked)


@pytest.mark.parity
def test_lbfgs_has_torchs_defaults():
    torch = pytest.importorskip("torch")
    ours = optim.LBFGS([Tensor([1.0], requires_grad=True)]).param_groups[0]
    theirs = torch.optim.LBFGS([torch.ones(1)]).param_groups[0]
    assert {key for key in ours.keys() - {"params"} if ours[key] != theirs[key]} == {"history_size"}


def curve(w, x):
    return w[0] * np.exp(w[1] * x) + w[2]


@pytest.mark.parametrize("name", ["GaussNewton", "LevenbergMarquardt"])
@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_least_squares_as_scipys(name, noise):
    x = np.linspace(0, 3, 20)
    y = curve([2.0, -1.5, 0.5], x) + noise * np.random.default_rng(0).normal(size=20)
    start = np.array([1.0, -0.5, 0.0])
    objective = Objective(lambda w: np.sum((curve(w, x) - y) ** 2) / 2, start)
    calls = []

    def residuals(w):
        calls.append(w)
        return curve(w, x) - y

    theirs = scipy.optimize.least_squares(
        residuals,
        start,
        jac=lambda w: mg.jacobian(curve(v := Tensor(w, requires_grad=True), x), v)[0],
        method="lm",
        gtol=1e-9,
    )
    w = Tensor(start, requires_grad=True)
    optimizer, steps, calls[:] = getattr(optim, name)([w]), 0, []
    while np.abs(objective.gradient(w.data)).max() > 1e-8:
        loss = optimizer.step(lambda: residuals(w))
        assert objective.value(w.data) <= loss.item()
        steps += 1
        assert steps < 50
    np.testing.assert_allclose(w.data, theirs.x, atol=1e-6)
    assert len(calls) - steps <= 1.5 * theirs.nfev


# The formulas --------------------------------------------------------------------------------------------------------------


def test_newton_on_a_quadratic_takes_one_step():
    run = Run(lambda x: 3 * x[0] ** 2 + x[0] * x[1] + x[1] ** 2 - x[1], np.array([0.3, 0.2]))
    optim.Newton([run.x], radius=10.0).step(run.closure)
    np.testing.assert_allclose(run.x.data, np.linalg.solve([[6, 1], [1, 2]], [0, 1]), atol=1e-14)


def test_the_radius_follows_how_well_the_model_predicts():
    """Nocedal & Wright, algorithm 4.1: L = x⁴ from 1; the model is 1 + 4 p + 6 p²."""
    run = Run(lambda x: (x**4).sum(), [1.0])
    optimizer = optim.Newton([run.x], radius=0.1)
    optimizer.step(run.closure)  # on the boundary, ρ = (1 − 0.9⁴) / 0.34 = 1.01
    (state,) = optimizer.state_dict()["state"]
    assert (run.x.item(), state["radius"]) == (pytest.approx(0.9), 0.2)
    run = Run(lambda x: np.cos(x).sum(), [0.3])
    optimizer = optim.Newton([run.x], radius=16.0)
    optimizer.step(run.closure)  # ρ < ¼ at 16 (to cos 16.3 = −0.83, predicted −124); then at 4, cos 4.3 = −0.40; ρ < ¼
    x, radius, g = 0.3, 16.0, -np.sin(0.3)
    while True:
        p = radius
        ratio = (np.cos(x) - np.cos(x + p)) / -(g * p - np.cos(x) * p * p / 2)
        radius = p / 4 if ratio < 0.25 else radius
        if ratio > 1e-4:
            break
    assert run.x.item() == pytest.approx(x + p)
    assert optimizer.state_dict()["state"][0]["radius"] == pytest.approx(radius)


@pytest.mark.parametrize("cls", [optim.Newton, optim.NewtonCG])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_step_that_is_not_made_leaves_the_radius(cls, dtype):
    """Near 0 every log cosh is 0, so that no step lowers the loss: the radius shrank to 0, and stayed there for ever."""
    to, w = np.zeros(2, dtype), mg.Tensor(np.array([0.5, -0.3], dtype), requires_grad=True)
    optimizer = cls([w])

    def closure():
        optimizer.zero_grad()
        loss = np.log(np.cosh(w - to)).sum()
        loss.backward()
        return loss

    for _ in range(60):
        optimizer.step(closure)
    to += [2.0, 3.0]  # the data of another batch
    for _ in range(10):
        optimizer.step(closure)
    np.testing.assert_allclose(w.data, to, atol=1e-3)


def test_newton_cg_stops_at_its_tolerance(monkeypatch):
    """‖H p + g‖ ≤ min(½, √‖g‖) ‖g‖, and not before."""
    rng = np.random.default_rng(0)
    values = 10.0 ** rng.uniform(-2, 2, 30)
    for scale, wanted in ((1e3, 0.5), (1e-3, None)):
        run = Run(lambda x, scale=scale: scale * np.sum(values * x * x) / 2, rng.normal(size=30))
        g = scale * values * run.x.data
        tol = wanted or np.sqrt(np.linalg.norm(g))
        before = run.x.data.copy()
        optim.NewtonCG([run.x], radius=1e9).step(run.closure)
        residual = np.linalg.norm(scale * values * (run.x.data - before) + g)
        assert 0.02 * tol < residual / np.linalg.norm(g) <= tol


@pytest.mark.parametrize("rank", [None, 2, 4, 7])
def test_saddle_free_newton_is_its_formula(rank):
    """Dauphin et al. 2014: |H| from the eigenvalues; algorithm 1: of H in the Krylov space of the gradient."""
    rng = np.random.default_rng(1)
    A = rng.normal(size=(4, 4))
    A, b = A + A.T, rng.normal(size=4)
    run = Run(lambda x: x @ A @ x / 2 - b @ x, rng.normal(size=4))
    x = run.x.data.copy()
    g = A @ x - b
    Q = np.eye(4)
    if rank is not None:
        Q, _ = np.linalg.qr(np.column_stack([np.linalg.matrix_power(A, k) @ g for k in range(min(rank, 4))]))
    values, vectors = np.linalg.eigh(Q.T @ A @ Q)
    absolute = vectors @ np.diag(np.abs(values)) @ vectors.T
    x = x - 0.3 * Q @ np.linalg.solve(absolute + 0.1 * np.eye(len(absolute)), Q.T @ g)
    optim.SaddleFreeNewton([run.x], lr=0.3, damping=0.1, rank=rank).step(run.closure)
    np.testing.assert_allclose(run.x.data, x, rtol=1e-9)
    assert run.evaluations == 2


def test_saddle_free_newton_shortens_a_step_that_leads_up():
    run = Run(lambda x: np.sqrt(1 + x * x).sum(), [3.0])  # Newton's step from x leads to −x³
    loss = optim.SaddleFreeNewton([run.x], damping=1e-9).step(run.closure)
    assert run.f(run.x.data) < loss.item()
    assert run.evaluations > 2


def test_lbfgs_is_two_loops_and_wolfe():
    """The inverse Hessian of the pairs by the product form (Nocedal & Wright, equation 7.16), on steps that need no search."""
    H = np.diag([1.0, 2.0, 4.0])
    run = Run(lambda x: (x * (H @ x)).sum() / 2, [1.0, 1.0, 1.0])
    optimizer = optim.LBFGS([run.x], max_iter=1, history_size=2)
    pairs = []
    for k in range(5):
        before, g = run.x.data.copy(), H @ run.x.data
        B = np.eye(3)
        if pairs:
            s, y = pairs[-1]
            B = B * (s @ y) / (y @ y)
        for s, y in pairs:
            V = np.eye(3) - np.outer(y, s) / (y @ s)
            B = V.T @ B @ V + np.outer(s, s) / (y @ s)
        optimizer.step(run.closure)
        p, d = run.x.data - before, -B @ g
        np.testing.assert_allclose(p / np.linalg.norm(p), d / np.linalg.norm(d), rtol=1e-8, atol=1e-9, err_msg=str(k))
        g_after = H @ run.x.data
        assert abs(g_after @ d) <= 0.9 * abs(g @ d)
        pairs = [*pairs, (p, g_after - g)][-2:]


def test_lbfgs_ends_as_torch_does():
    run = Run(*PROBLEMS["rosenbrock 2"])
    optimizer = optim.LBFGS([run.x], tolerance_grad=1e3)
    optimizer.step(run.closure)
    assert (run.evaluations, run.x.data.tolist()) == (1, [-1.2, 1.0])
    optimizer = optim.LBFGS([run.x], tolerance_grad=0, tolerance_change=1e9)
    optimizer.step(run.closure)
    assert len(optimizer.state_dict()["state"][0]["pairs"]) == 1
    optimizer = optim.LBFGS([run.x], max_iter=3, tolerance_change=0)
    optimizer.step(run.closure)
    assert optimizer.state_dict()["state"][0]["pairs"].shape == (3, 2, 2)


def test_lbfgs_forgets_what_leads_nowhere():
    """Pairs of another function: no decrease along their direction; steepest descent then."""
    run = Run(rosenbrock, [-1.2, 1.0])
    optimizer = optim.LBFGS([run.x], max_iter=2)
    state = optimizer.state_dict()
    state["state"][0] |= {"t": 1, "pairs": np.array([[[1.0, 0.0], [-1.0, 0.0]]])}  # sᵀy < 0
    optimizer.load_state_dict(state)
    loss = optimizer.step(run.closure)
    assert rosenbrock(run.x.data) < loss.item()


def test_levenberg_marquardt_is_its_formula():
    """Moré 1978, algorithm 7.1, from the normal equations; μ by bisection."""
    x = np.linspace(0, 3, 20)
    y = curve([2.0, -1.5, 0.5], x)
    w = Tensor([0.1, 1.0, 3.0], requires_grad=True)  # so far that some steps are refused
    optimizer = optim.LevenbergMarquardt([w], radius=10.0)

    def r_and_jacobian(w):
        e = np.exp(w[1] * x)
        return w[0] * e + w[2] - y, np.column_stack([e, w[0] * x * e, np.ones_like(x)])

    def damped(J, r, D, mu):
        return -np.linalg.solve(J.T @ J + mu * np.diag(D**2), J.T @ r)

    def within(J, r, D, radius):
        if np.linalg.norm(D * damped(J, r, D, 0.0)) <= radius:
            return damped(J, r, D, 0.0)
        low, high = 0.0, 1e9
        for _ in range(200):
            mu = (low + high) / 2
            low, high = (mu, high) if np.linalg.norm(D * damped(J, r, D, mu)) > radius else (low, mu)
        return damped(J, r, D, high)

    theta, D, radius, kinds = w.data.copy(), np.zeros(3), None, []
    r, J = r_and_jacobian(theta)
    for _ in range(12):
        D = np.maximum(D, np.sqrt(np.diag(J.T @ J)))
        radius = radius or 10 * np.linalg.norm(D * theta)
        loss = optimizer.step(lambda: curve(w, x) - y)
        assert loss.item() == pytest.approx(r @ r / 2)
        ratio = 0.0
        while ratio <= 1e-4:
            p = within(J, r, D, radius)
            r_new, J_new = r_and_jacobian(theta + p)
            ratio = (r @ r - r_new @ r_new) / (r @ r - (r + J @ p) @ (r + J @ p))
            size = np.linalg.norm(D * p)
            radius = size / 2 if ratio < 0.25 else max(radius, 2 * size) if ratio > 0.75 else radius
            kinds.append((ratio > 1e-4, ratio < 0.25, ratio > 0.75))
        theta, r, J = theta + p, r_new, J_new
        np.testing.assert_allclose(w.data, theta, rtol=1e-7)
        (state,) = optimizer.state_dict()["state"]
        assert state["radius"] == pytest.approx(radius, rel=1e-6)
    assert {(False, True, False), (True, False, False), (True, False, True)} <= set(kinds)


def test_gauss_newton_on_what_is_linear_and_singular():
    """The shortest solution, in one step."""
    rng = np.random.default_rng(0)
    A, y = rng.normal(size=(6, 2)) @ rng.normal(size=(2, 4)), rng.normal(size=6)
    w = Tensor(np.zeros(4), requires_grad=True)
    optim.GaussNewton([w]).step(lambda: (A @ w - y).reshape(2, 3))
    np.testing.assert_allclose(w.data, np.linalg.pinv(A, 1e-12) @ y, atol=1e-13)


@pytest.mark.parametrize("adaptive", [False, True])
def test_sam_is_its_formula(adaptive):
    """Foret et al. 2021, equation 2, and Kwon et al. 2021, over all tensors together; the base is SGD with momentum."""
    rng = np.random.default_rng(0)
    A = rng.normal(size=(3, 3))
    A = A @ A.T
    p, q = (Tensor(rng.normal(size=shape), requires_grad=True) for shape in ((2,), ()))
    optimizer = optim.SAM(
        [{"params": [p], "lr": 0.05}, {"params": [q]}], optim.SGD, 0.3, adaptive, lr=0.1, momentum=0.9
    )

    def closure():
        optimizer.zero_grad()
        w = np.concatenate([p, q.reshape(1)])
        loss = w @ A @ w / 2
        loss.backward()
        return loss

    w, b = np.append(p.data, q.data), None
    for _ in range(10):
        g = A @ w
        T = np.abs(w) if adaptive else np.ones(3)
        e = 0.3 * T**2 * g / np.linalg.norm(T * g)
        loss = w @ A @ w / 2
        g = A @ (w + e)
        b = g if b is None else 0.9 * b + g
        w = w - np.array([0.05, 0.05, 0.1]) * b
        assert optimizer.step(closure).item() == pytest.approx(loss)
        np.testing.assert_allclose(np.append(p.data, q.data), w, rtol=1e-10)


def test_sam_with_nothing_to_climb_is_its_base():
    for rho, start in ((0.0, 1.0), (0.5, 0.0)):
        run, other = (Run(lambda x: (x * x).sum(), [start]) for _ in range(2))
        sam, adam = (
            optim.SAM([run.x], optim.Adam, rho, lr=0.1, betas=(0.8, 0.9)),
            optim.Adam([other.x], lr=0.1, betas=(0.8, 0.9)),
        )
        for _ in range(3):
            sam.step(run.closure)
            adam.step(other.closure)
        np.testing.assert_array_equal(run.x.data, other.x.data)


def test_perturbed_gd_is_its_formula():
    """Jin et al. 2017, algorithm 2, without its end."""
    run = Run(saddle, [0.0, 0.0])
    optimizer = optim.PerturbedGD([run.x], lr=0.05, radius=0.1, gradient_threshold=0.15, interval=6, rng=3)
    x, noise, noises = np.zeros(2), -7, []

    def gradient(x):
        return np.array([2 * x[0], -2 * x[1] + 4 * x[1] ** 3])

    for t in range(60):
        if np.linalg.norm(gradient(x)) <= 0.15 and t - noise > 6:
            rng = np.random.default_rng([3, t])
            z = rng.standard_normal(2)
            noises.append(0.1 * np.sqrt(rng.random()) * z / np.linalg.norm(z))
            x, noise = x + noises[-1], t
        x = x - 0.05 * gradient(x)
        optimizer.step(run.closure)
        np.testing.assert_allclose(run.x.data, x, atol=1e-13)
    assert len(noises) > 4
    assert max(map(np.linalg.norm, noises)) <= 0.1
    assert run.evaluations == 60 + len(noises)


def test_the_noise_is_uniform_in_the_ball():
    """In the ball of R³, P(‖ξ‖ ≤ r/2) = 1/8; every direction alike."""
    run = Run(lambda x: 0 * x.sum(), np.zeros(3))
    optimizer = optim.PerturbedGD([run.x], radius=2.0, interval=1)
    points = []
    for _ in range(4000):
        before = run.x.data.copy()
        optimizer.step(run.closure)
        points.append(run.x.data - before)
    points = np.array([p for p in points if p.any()])
    assert len(points) == 2000
    sizes = np.linalg.norm(points, axis=1)
    assert sizes.max() <= 2
    assert np.mean(sizes <= 1) == pytest.approx(1 / 8, abs=0.03)
    np.testing.assert_allclose(points.T @ points / len(points), np.eye(3) * 4 / 5, atol=0.06)


# Saddles -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Newton", "NewtonCG", "SaddleFreeNewton", "LBFGS"])
def test_leaves_the_neighbourhood_of_a_saddle(name):
    run = Run(saddle, [1.0, 1e-3])
    assert run.minimise(getattr(optim, name)([run.x]), most=30) <= 15
    np.testing.assert_allclose(np.abs(run.x.data), [0, 0.5**0.5], atol=1e-5)


@pytest.mark.parametrize(
    ("name", "leaves"), [("Newton", True), ("NewtonCG", False), ("SaddleFreeNewton", False), ("LBFGS", False)]
)
def test_on_the_saddle_itself(name, leaves):
    run = Run(saddle, [0.0, 0.0])
    optimizer = getattr(optim, name)([run.x], **({"rank": 2} if name == "SaddleFreeNewton" else {}))
    for _ in range(10):
        optimizer.step(run.closure)
    assert bool(run.x.data.any()) == leaves
    assert leaves or run.evaluations == 10
    if leaves:
        np.testing.assert_allclose(np.abs(run.x.data), [0, 0.5**0.5], atol=1e-6)


def test_where_there_is_no_step_older_graphs_stay_good():
    """As with the other optimizers, only what is moved is dated."""
    run = Run(lambda x: (x * x).sum(), [0.0, 0.0])
    older = run.f(run.x)
    optim.NewtonCG([run.x]).step(run.closure)
    older.backward()


@pytest.mark.parametrize("seed", range(5))
def test_perturbed_gd_leaves_the_saddle_itself(seed):
    run = Run(saddle, [0.0, 0.0])
    optimizer = optim.PerturbedGD([run.x], lr=0.1, radius=1e-3, interval=50, rng=np.random.default_rng(seed))
    for _ in range(150):
        optimizer.step(run.closure)
    np.testing.assert_allclose(np.abs(run.x.data), [0, 0.5**0.5], atol=2e-3)


def test_newton_stays_at_a_flat_minimum():
    """The lecture's net, (1 − w₁w₂)²: a whole curve of minima. Rounding does not make it wander along."""
    run = Run(lambda w: (1 - w[0] * w[1]) ** 2, [0.7, 1.9])
    optimizer = optim.Newton([run.x])
    for _ in range(10):
        optimizer.step(run.closure)
    reached = run.x.data.copy()
    for _ in range(20):
        optimizer.step(run.closure)
    np.testing.assert_allclose(run.x.data, reached, atol=1e-7)
    assert run.f(reached) < 1e-25


# What all share ---------------------------------------------------------------------------------------------------------

ALL = {
    "Newton": {"radius": 0.5},
    "NewtonCG": {"radius": 0.5},
    "SaddleFreeNewton": {"rank": 3, "lr": 0.5},
    "LBFGS": {"max_iter": 2, "history_size": 3},
    "GaussNewton": {"lr": 0.5},
    "LevenbergMarquardt": {"radius": 0.5},
    "SAM": {"lr": 0.01, "momentum": 0.9},
    "PerturbedGD": {"lr": 0.01, "gradient_threshold": 1e3, "interval": 2, "rng": 5},
}
every = pytest.mark.parametrize("name", ALL)
SECOND_ORDER = [name for name in ALL if name != "SAM"]


class Model:
    """A small net as a list of tensors, with the closure that an optimizer of this name wants."""

    def __init__(self, name, dtype=np.float64, **settings):
        rng = np.random.default_rng(7)
        self.net = nn.MLP([2, 3, 1], activation=nn.Tanh, rng=1)
        self.params = list(self.net.parameters())
        for p in self.params:
            p.data = p.data + 0.1 * rng.normal(size=p.shape)
        if dtype != np.float64:
            self.params = [Tensor(p.data.astype(dtype), requires_grad=True) for p in self.params]
        self.optimizer = getattr(optim, name)(self.params, **{**ALL[name], **settings})
        self.least_squares = name in ("GaussNewton", "LevenbergMarquardt")
        self.damaged, self.calls = {}, 0
        self.X, self.y = SAMPLES.astype(dtype), TARGETS.astype(dtype)

    def residuals(self):
        W1, b1, W2, b2 = self.params
        r = (np.tanh(self.X @ W1.T + b1) @ W2.T + b2)[:, 0] - self.y
        return r * self.damaged.get(self.calls, 1.0)

    def closure(self):
        self.calls += 1
        if self.least_squares:
            return self.residuals()
        self.optimizer.zero_grad()
        loss = (self.residuals() ** 2).sum() / 2
        loss.backward()
        return loss

    def take(self, steps):
        for _ in range(steps):
            self.optimizer.step(self.closure)
        return self

    def values(self):
        return [p.data.copy() for p in self.params]


def assert_equal(arrays, others):
    for a, b in zip(arrays, others, strict=True):
        np.testing.assert_array_equal(a, b)


@every
def test_lowers_the_loss_and_returns_it_as_it_was(name):
    model = Model(name)
    before = (model.residuals().data ** 2).sum() / 2
    loss = model.optimizer.step(model.closure)
    assert loss.item() == pytest.approx(before)
    model.take(20)
    assert (model.residuals().data ** 2).sum() / 2 < 0.7 * before


@every
@pytest.mark.parametrize("schedule", [False, True])
def test_resumed_equals_uninterrupted(name, schedule, tmp_path):
    """By a state_dict, by one that went through JSON where it can, and by a checkpoint."""
    more = {"lr": lambda t: 0.1 / (1 + t)} if schedule and "lr" in ALL[name] else {}
    model = Model(name, **more).take(5)
    saved, values = copy.deepcopy(model.optimizer.state_dict()), model.values()
    save_checkpoint(tmp_path / "file.npz", model.net, model.optimizer)
    model.take(5)
    assert repr(saved) != repr(model.optimizer.state_dict())
    json.dumps(saved["param_groups"])
    resumed, loaded = Model(name, **more), Model(name, **more)
    for p, value in zip(resumed.params, values, strict=True):
        p.data = value
    resumed.optimizer.load_state_dict(saved)
    load_checkpoint(tmp_path / "file.npz", loaded.net, loaded.optimizer)
    for other in (resumed, loaded):
        other.take(5)
        assert_equal(model.values(), other.values())
        assert repr(model.optimizer.state_dict()) == repr(other.optimizer.state_dict())


def test_a_schedule_is_asked_for_the_step():
    run = Run(lambda x: (x * x).sum(), [1.0])
    asked = []
    optimizer = optim.SaddleFreeNewton([run.x], lr=lambda t: asked.append(t) or [0.5, 0.0, 0.25][t], damping=1e-12)
    losses = [optimizer.step(run.closure).item() for _ in range(3)]
    np.testing.assert_allclose([*losses, run.f(run.x.data)], [1, 1 / 4, 1 / 4, 9 / 64])
    assert asked == [0, 1, 2]


@pytest.mark.parametrize("name", ["GaussNewton", "SaddleFreeNewton", "LBFGS", "PerturbedGD", "SAM"])
def test_a_learning_rate_of_zero(name):
    model = Model(name, lr=0.0, **({"gradient_threshold": 0.0} if name == "PerturbedGD" else {}))
    before = model.values()
    model.take(2)
    assert_equal(model.values(), before)


@every
def test_a_state_that_does_not_fit_is_refused(name):
    model = Model(name).take(3)
    saved, values = model.optimizer.state_dict(), model.values()
    before = repr(saved)
    for key, value in (("unknown", 1.0), ("t", -1), ("radius", np.zeros((2, 2))), ("pairs", np.zeros((3, 2, 5)))):
        bad = copy.deepcopy(saved)
        bad["state"][0][key] = value
        with pytest.raises(ValueError, match="nothing loaded"):
            model.optimizer.load_state_dict(bad)
    assert repr(model.optimizer.state_dict()) == before
    assert_equal(model.values(), values)


@every
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_changes_nothing(name, bad):
    model = Model(name).take(3)
    values, state = model.values(), repr(model.optimizer.state_dict())
    model.damaged = {model.calls + 1: bad}
    with np.errstate(all="ignore"), pytest.raises(NonFiniteError, match=f"{name}.*stay as they were"):
        model.optimizer.step(model.closure)
    assert_equal(model.values(), values)
    assert repr(model.optimizer.state_dict()) == state
    model.take(2)


@every
@pytest.mark.parametrize("bad", [np.nan, 1e200])
def test_a_trial_that_is_not_finite_is_a_step_too_long(name, bad):
    """The second evaluation: a shorter step is made, or, where only one length is possible, none and an error."""
    model = Model(name)
    values, before = model.values(), (model.residuals().data ** 2).sum() / 2
    model.damaged = {2: bad}
    if name in ("SAM", "PerturbedGD"):
        with np.errstate(all="ignore"), pytest.raises(NonFiniteError, match=name):
            model.optimizer.step(model.closure)
        assert_equal(model.values(), values)
        assert model.optimizer.state_dict()["state"][0] == {"params": [0, 1, 2, 3], "step": 0, "t": 0}
        return
    model.take(1)
    assert (model.residuals().data ** 2).sum() / 2 < before


@every
def test_all_trials_not_finite_leave_theta(name):
    model = Model(name)
    values = model.values()
    model.damaged = dict.fromkeys(range(2, 1000), np.nan)
    if name in ("SAM", "PerturbedGD"):
        with pytest.raises(NonFiniteError):
            model.take(1)
    else:
        model.take(1)
    assert_equal(model.values(), values)


@every
def test_a_closure_that_raises_changes_nothing(name):
    model = Model(name).take(3)
    values, state, first = model.values(), repr(model.optimizer.state_dict()), model.calls

    def closure():
        if model.calls == first + 1:
            raise KeyboardInterrupt
        return model.closure()

    with pytest.raises(KeyboardInterrupt):
        model.optimizer.step(closure)
    assert_equal(model.values(), values)
    assert repr(model.optimizer.state_dict()) == state


@every
def test_frozen_tensors_stay(name):
    """Also where they are frozen in mid-run, and free again later."""
    model = Model(name).take(2)
    model.params[0].requires_grad = False
    model.params[3].requires_grad = False
    before = model.values()
    model.take(3)
    after = model.values()
    assert_equal(before[::3], after[::3])
    assert not np.array_equal(before[1], after[1])
    state = model.optimizer.state_dict()
    assert [entry["params"] for entry in state["state"]] == [[1, 2], [0, 3]]
    model.optimizer.load_state_dict(state)
    model.params[0].requires_grad = True
    model.take(1)
    assert not np.array_equal(after[0], model.values()[0])
    assert_equal(after[3:], model.values()[3:])


@every
def test_tensors_that_the_loss_does_not_depend_on_stay(name):
    model = Model(name)
    unused = Tensor([1.0, 2.0], requires_grad=True)
    model.optimizer = getattr(optim, name)([unused, *model.params], **ALL[name])
    model.take(3)
    assert unused.data.tolist() == [1, 2]
    assert [entry["params"] for entry in model.optimizer.state_dict()["state"]] == [[1, 2, 3, 4], [0]]


def test_a_frozen_tensor_with_an_old_gradient_stays():
    for cls in (optim.Newton, optim.SAM):
        x, frozen = Tensor([1.0], requires_grad=True), Tensor([2.0], requires_grad=True)
        frozen.requires_grad, frozen.grad = False, np.array([5.0])

        def closure(x=x, frozen=frozen):
            x.grad = None
            loss = (x * x * frozen).sum()
            loss.backward()
            return loss

        cls([x, frozen]).step(closure)
        assert x.item() != 1
        assert frozen.item() == 2


@every
def test_float32_stays(name):
    model = Model(name, np.float32).take(4)
    assert {p.dtype for p in model.params} == {np.dtype(np.float32)}
    for entry in model.optimizer.state_dict()["state"]:
        assert all(value.dtype == np.float32 for value in entry.values() if isinstance(value, np.ndarray))
        assert not any(isinstance(value, np.generic) for value in entry.values())


@every
def test_two_dtypes(name):
    model = Model(name)
    model.params[1] = Tensor(model.params[1].data, np.float32, requires_grad=True)
    model.optimizer = getattr(optim, name)(model.params, **ALL[name])
    before = (model.residuals().data ** 2).sum() / 2
    model.take(5)
    assert [p.dtype.itemsize for p in model.params] == [8, 4, 8, 8]
    assert (model.residuals().data ** 2).sum() / 2 < before


@pytest.mark.parametrize("name", SECOND_ORDER)
def test_one_group_only(name):
    params = [Tensor([1.0], requires_grad=True) for _ in range(2)]
    with pytest.raises(ValueError, match=f"{name}: one parameter group"):
        getattr(optim, name)([{"params": [p]} for p in params])
    optimizer = getattr(optim, name)(params[:1])
    with pytest.raises(ValueError, match=f"{name}: one parameter group"):
        optimizer.add_param_group({"params": params[1:]})
    assert len(optimizer.param_groups) == 1


@every
def test_a_step_without_a_closure_or_with_a_wrong_one(name):
    model = Model(name)
    with pytest.raises(TypeError, match=f"{name}.*closure"):
        model.optimizer.step()
    for p in model.params:
        p.requires_grad = False
    with pytest.raises(RuntimeError, match=r"backward|no graph"):
        model.optimizer.step(lambda: model.residuals() if model.least_squares else model.residuals().sum())
    if name != "SAM":
        with pytest.raises(TypeError, match=f"{name}.*return"):
            model.optimizer.step(lambda: None)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("Newton", {"radius": 0.0}),
        ("Newton", {"radius": -1.0}),
        ("Newton", {"radius": np.nan}),
        ("Newton", {"radius": "far"}),
        ("NewtonCG", {"radius": np.inf}),
        ("NewtonCG", {"max_iter": 0}),
        ("NewtonCG", {"max_iter": 2.5}),
        ("SaddleFreeNewton", {"lr": -1.0}),
        ("SaddleFreeNewton", {"damping": 0.0}),
        ("SaddleFreeNewton", {"rank": 0}),
        ("LBFGS", {"lr": -1.0}),
        ("LBFGS", {"history_size": 0}),
        ("LBFGS", {"max_iter": None}),
        ("LBFGS", {"tolerance_grad": -1.0}),
        ("LBFGS", {"tolerance_change": np.nan}),
        ("GaussNewton", {"lr": np.nan}),
        ("LevenbergMarquardt", {"radius": 0.0}),
        ("SAM", {"rho": -0.1}),
        ("SAM", {"rho": "far"}),
        ("SAM", {"momentum": -1.0}),
        ("SAM", {"nesterov": True}),
        ("SAM", {"maximize": True}),
        ("SAM", {"base": optim.Adadelta}),
        ("SAM", {"base": optim.LBFGS}),
        ("SAM", {"base": optim.SAM}),
        ("PerturbedGD", {"radius": 0.0}),
        ("PerturbedGD", {"gradient_threshold": -1.0}),
        ("PerturbedGD", {"interval": 0}),
        ("PerturbedGD", {"rng": -1}),
        ("PerturbedGD", {"rng": None}),
    ],
)
def test_bad_hyperparameters(name, settings):
    with pytest.raises(ValueError, match=name if name != "SAM" or "rho" in settings else "SAM|SGD"):
        getattr(optim, name)([Tensor([1.0], requires_grad=True)], **settings)


@every
def test_repr_and_learning_rate(name):
    model = Model(name)
    assert name in repr(model.optimizer)
    assert "n = 13" in repr(model.optimizer)
    assert model.optimizer.lr == ALL[name].get("lr", 1.0)


@pytest.mark.parametrize(
    "name", ["Newton", "NewtonCG", "LBFGS", "SaddleFreeNewton", "GaussNewton", "LevenbergMarquardt"]
)
def test_a_wall_of_nan_is_kept_away_from(name):
    """log x for x > 0 alone: a full step leads beyond, to NaN."""
    if name in ("GaussNewton", "LevenbergMarquardt"):
        x = Tensor([10.0], requires_grad=True)
        optimizer, closure = getattr(optim, name)([x]), lambda: np.log(x)
    else:
        run = Run(lambda x: (x - np.log(x)).sum(), [3.0])
        x, optimizer, closure = run.x, getattr(optim, name)([run.x]), run.closure
        for group in optimizer.param_groups:
            group |= {"radius": 100.0} if "radius" in group else {}
    for _ in range(20):
        optimizer.step(closure)
        assert x.item() > 0
    assert x.item() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("name", [*SECOND_ORDER[:4], "PerturbedGD", "SAM"])
def test_a_loss_or_a_gradient_alone_that_is_not_finite(name):
    """√x at 0 is finite, its gradient is not; x + ∞ is the other way round. At the start, and after noise."""
    for f, start in ((lambda x: np.sqrt(x).sum(), [0.0]), (lambda x: (x + np.inf).sum(), [1.0])):
        run = Run(f, start)
        with np.errstate(all="ignore"), pytest.raises(NonFiniteError, match=name):
            getattr(optim, name)([run.x]).step(run.closure)
        assert run.x.data.tolist() == start
    if name in ("PerturbedGD", "SAM"):
        run = Run(lambda x: (x + (np.inf if run.evaluations == 2 else 0.0)).sum(), [1.0])
        with pytest.raises(NonFiniteError, match=name):
            getattr(optim, name)([run.x], **({"gradient_threshold": 2.0} if name == "PerturbedGD" else {})).step(
                run.closure
            )
        assert run.x.data.tolist() == [1]


def test_a_step_that_overflows_changes_nothing():
    run = Run(lambda x: (1e200 * x).sum(), [1.0])
    with np.errstate(all="ignore"), pytest.raises(NonFiniteError, match=r"PerturbedGD.*not finite"):
        optim.PerturbedGD([run.x], lr=1e200).step(run.closure)
    assert run.x.data.tolist() == [1]


def test_a_hessian_that_is_not_finite_changes_nothing():
    """x^1.5 at 0: the gradient is 0, the curvature infinite."""
    for name in ("Newton", "SaddleFreeNewton"):
        run = Run(lambda x: (x**1.5).sum() + x[1], [0.0, 1.0])
        with np.errstate(all="ignore"), pytest.raises(NonFiniteError, match="Hessian"):
            getattr(optim, name)([run.x]).step(run.closure)
        assert run.x.data.tolist() == [0, 1]


@pytest.mark.parametrize("name", ["Newton", "NewtonCG", "LBFGS", "SaddleFreeNewton"])
@pytest.mark.parametrize("scale", [1e-9, 1e9])
def test_a_minimum_far_from_zero_is_kept(name, scale):
    """Where rounding hides every decrease, θ is not moved to where the loss is higher, and the radius is not lost."""
    run = Run(lambda x: scale * (1e4 + ((x - 1) ** 2).sum() + (x**4).sum()), [0.3, 0.4])
    settings = {
        "SaddleFreeNewton": {"damping": 1e-12 * scale},
        "LBFGS": {"tolerance_grad": 0.0, "tolerance_change": 0.0},
    }
    optimizer = getattr(optim, name)([run.x], **settings.get(name, {}))
    losses = [optimizer.step(run.closure).item() for _ in range(40)]
    assert np.all(np.diff(losses) <= 0)
    np.testing.assert_allclose(run.x.data, 0.5897545, atol=1e-5)  # 4x³ + 2x = 2
    assert optimizer.state_dict()["state"][0].get("radius", 1.0) > 1e-3


@pytest.mark.parametrize("start", [[0.3, 0.4], [0.9, 0.5], [0.1, 1.2], [2.0, -0.3]])
@pytest.mark.parametrize("name", ["Newton", "NewtonCG", "LevenbergMarquardt"])
def test_noise_in_the_loss_is_not_taken_for_a_bad_model(name, start):
    """Where the loss cannot tell, there is one trial a step, and the radius is not changed by a refusal."""

    def noisy(x):
        return np.sin(1e3 * x) ** 2 + np.cos(1e3 * x) ** 2  # 1, to rounding

    if name == "LevenbergMarquardt":
        x, calls = Tensor(start, requires_grad=True), []
        optimizer = optim.LevenbergMarquardt([x])

        def closure():
            calls.append(1)
            return np.concatenate([x - 1, x**2, 1e3 * np.sqrt(noisy(x))])
    else:
        run = Run(lambda x: 1e10 * noisy(x).sum() + ((x - 1) ** 2).sum() + (x**4).sum(), start)
        optimizer, closure = getattr(optim, name)([run.x]), run.closure
    for _ in range(8):
        optimizer.step(closure)
    before = run.evaluations if name != "LevenbergMarquardt" else len(calls)
    for _ in range(30):
        optimizer.step(closure)
    after = run.evaluations if name != "LevenbergMarquardt" else len(calls)
    assert after - before <= 60
    (state,) = optimizer.state_dict()["state"]
    assert state["radius"] > 1e-4
