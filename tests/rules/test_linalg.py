"""Linear algebra: products and contractions of any shapes, decompositions of batches, every norm, and degenerate matrices."""

import math

import numpy as np
import pytest
from cases import CUBE, definite, normal, positive, regular, symmetric
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import microgradopt as mg
from microgradopt import Tensor


def leaf(values):
    return Tensor(values, requires_grad=True)


def points(*shapes):
    rng = np.random.default_rng(3)
    return [rng.normal(size=shape) for shape in shapes]


def agrees(f, *arrays, rtol=1e-12):
    np.testing.assert_allclose(f(*[leaf(a) for a in arrays]).data, f(*arrays), rtol=rtol, atol=1e-13)
    mg.gradcheck(f, [leaf(a) for a in arrays], order=2)


# Products -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("f", [np.matmul, np.vecdot, np.linalg.vecdot], ids=["matmul", "vecdot", "linalg.vecdot"])
@settings(max_examples=40)
@given(data=st.data())
def test_products_over_batches(f, data):
    signature = "(m?,n),(n,p?)->(m?,p?)" if f is np.matmul else "(n),(n)->()"
    strategy = hnp.mutually_broadcastable_shapes(signature=signature, max_dims=2, min_side=0, max_side=3)
    agrees(f, *points(*data.draw(strategy).input_shapes))


@pytest.mark.parametrize("f", [np.vecdot, np.linalg.vecdot])
def test_the_axis_of_vecdot_is_that_of_each_operand(f):
    """Not of what they broadcast to: the columns of a matrix times a vector."""
    agrees(lambda a, b: f(a, b, axis=0), *points((3, 2), (3,)))
    agrees(lambda a, b: f(a, b, axis=0), *points((3, 3), (3,)))
    agrees(lambda a, b: f(a, b, axis=-2), *points((4, 3, 2), (3, 2)))


@pytest.mark.parametrize("f", [np.dot, np.inner, np.outer, np.kron, np.tensordot, np.vdot])
@settings(max_examples=40)
@given(data=st.data())
def test_products_of_any_shapes(f, data):
    left = data.draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
    right = list(data.draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)))
    arguments = {}
    if f is np.tensordot:
        arguments["axes"] = n = data.draw(st.integers(0, min(len(left), len(right))))
        right[:n] = left[len(left) - n :]
    elif f is np.vdot:
        right = [math.prod(left)]
    elif f in (np.dot, np.inner) and left and right:
        right[max(len(right) - 2, 0) if f is np.dot else -1] = left[-1]
    agrees(lambda a, b: f(a, b, **arguments), *points(left, tuple(right)))


@pytest.mark.parametrize(
    "f", [np.dot, np.inner, np.outer, np.kron, np.vdot, np.cross, np.matmul, np.linalg.outer, np.vecdot]
)
def test_one_operand_spelled_as_a_list(f):
    values = [1.0, -2.0, 0.5]
    for g in (lambda x: f(x, values), lambda x: f(values, x)):
        agrees(g, np.array([0.3, 0.7, -1.1]))


@pytest.mark.parametrize("axes", [{"axisa": 0, "axisb": 1, "axisc": 0}, {"axisa": 0, "axisb": -1}])
def test_cross_products_along_axes(axes):
    agrees(lambda a, b: np.cross(a, b, **axes), *points((3, 2), (2, 3)))
    agrees(lambda a, b: np.cross(a, b, axisc=0), *points((4, 1, 3), (2, 3)))


@pytest.mark.parametrize("axes", [np.int64(1), ((1, 2), (0, 1)), (-1, -2), np.array([[1, 2], [0, 1]]), ([], [])])
def test_axes_of_tensordot(axes):
    agrees(lambda a, b: np.tensordot(a, b, axes=axes), *points((2, 2, 2), (2, 2, 2)))


@pytest.mark.parametrize("shapes", [((2, 3), (3, 2)), ((2,), (2, 3), (3, 2), (2,)), ((2, 3), (3,))])
def test_multi_dot(shapes):
    agrees(lambda *a: np.linalg.multi_dot(a), *points(*shapes))


@pytest.mark.parametrize("n", [np.int64(3), -1, 0, 7])
def test_matrix_powers_of_batches(n):
    agrees(lambda a: np.linalg.matrix_power(a, n), regular(2) / 3, rtol=1e-11)


# Einsum ---------------------------------------------------------------------------------------------------------------


@st.composite
def contractions(draw):
    """Up to three operands of letters that may repeat, within an operand and among them; any of them in the result."""
    sizes = {letter: draw(st.integers(1, 3)) for letter in "ijkl"}
    terms = [
        "".join(draw(st.lists(st.sampled_from("ijkl"), min_size=0, max_size=3))) for _ in range(draw(st.integers(1, 3)))
    ]
    used = sorted(set("".join(terms)))
    subscripts = ",".join(terms)
    if draw(st.booleans()):
        subscripts += "->" + "".join(draw(st.permutations(used))[: draw(st.integers(0, len(used)))])
    return subscripts, [tuple(sizes[letter] for letter in term) for term in terms]


@settings(max_examples=80)
@given(contractions())
def test_any_einsum(case):
    subscripts, shapes = case
    agrees(lambda *a: np.einsum(subscripts, *a), *points(*shapes))


@pytest.mark.parametrize(
    ("subscripts", "shapes"),
    [
        ("...i,...i->...", [(2, 3, 4), (1, 4)]), ("...i,...i->...", [(4, 1, 3), (1, 2, 3)]), ("ij,jk->ik", [(3, 1), (4, 2)]),
        ("i,i->i", [(1,), (3,)]), ("i,i,i->", [(1,), (3,), (1,)]), ("...,...->...", [(2, 1), (3,)]), ("i,i", [(1,), (1,)]),
        ("i...,i...->i...", [(2, 3), (2, 1)]), ("...ij,...j->...i", [(2, 1, 2, 3), (4, 3)]), ("...ii->...i", [(2, 3, 3)]),
        ("i...k,k->i...", [(2, 3, 4), (4,)]), ("...j,...->...j", [(2, 3, 4), (2, 3)]), ("...->...", [(2, 3)]), ("...a,...b", [(2, 3), (2, 2)]),
        ("iji->j", [(2, 3, 2)]), ("iijj->ij", [(2, 2, 3, 3)]), ("ij,,j->i", [(2, 3), (), (3,)]), ("Ab,bA->A", [(2, 3), (3, 2)]),
        ("ij,jk,kl,lm->im", [(2, 2)] * 4), ("ij,ij,ij->j", [(2, 3)] * 3), ("ij,jk->ki", [(2, 0), (0, 3)]), ("i,i->", [(0,), (1,)]),
    ],
)  # fmt: skip
def test_ellipses_and_broadcasting_in_einsum(subscripts, shapes):
    agrees(lambda *a: np.einsum(subscripts, *a), *points(*shapes))


def test_other_spellings_of_einsum():
    agrees(lambda x: np.einsum("i,i", x, [1.0, 2.0, 3.0]), normal(3))
    agrees(lambda x: np.einsum("i,", x, 2.0), normal(3))
    agrees(lambda x: np.einsum("ij,ij->i", x, x, optimize="greedy"), normal(2, 3))
    agrees(lambda x: np.einsum("ij,jk,kl", x, x, x, optimize=True), normal(3, 3))


# Norms ----------------------------------------------------------------------------------------------------------------

VECTOR_ORDERS = [None, 1, 2, 3, 1.5, 0.5, -1, -2, np.inf, -np.inf]
MATRIX_ORDERS = [None, "fro", "nuc", 1, -1, 2, -2, np.inf, -np.inf]


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axis", [0, -1, (1,)])
@pytest.mark.parametrize("order", VECTOR_ORDERS)
def test_vector_norms(order, axis, keepdims):
    agrees(lambda x: np.linalg.norm(x, order, axis, keepdims), CUBE)
    if order is not None:
        agrees(lambda x: np.linalg.vector_norm(x, ord=order, axis=axis, keepdims=keepdims), CUBE)


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axis", [(0, 1), (2, 0), (-1, -2)])
@pytest.mark.parametrize("order", MATRIX_ORDERS)
def test_matrix_norms(order, axis, keepdims):
    agrees(lambda x: np.linalg.norm(x, order, axis, keepdims), CUBE)
    if order is not None and axis == (0, 1):
        agrees(lambda x: np.linalg.matrix_norm(x, ord=order, keepdims=keepdims), CUBE)


@pytest.mark.parametrize("order", [1, 2, 3, np.inf, -np.inf])
@pytest.mark.parametrize("axis", [None, (0, 2), (2, 1, 0)])
def test_vector_norms_over_several_axes(order, axis):
    agrees(lambda x: np.linalg.vector_norm(x, ord=order, axis=axis, keepdims=True), CUBE)
    agrees(lambda x: np.linalg.vector_norm(x, ord=order, axis=axis), CUBE)


def test_norms_of_everything():
    for x in (normal(), normal(4), normal(2, 3), CUBE):
        agrees(np.linalg.norm, x)
    agrees(lambda x: np.linalg.norm(x, 2), normal(4))
    agrees(lambda x: np.linalg.norm(x, 2), normal(3, 4))


@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
@pytest.mark.parametrize("order", VECTOR_ORDERS)
def test_norms_of_zero_have_subgradient_zero(order):
    x = leaf(np.array([[0.0, 0.0], [3.0, 4.0]]))
    (g,) = mg.grad(np.linalg.norm(x, order, axis=1), x, np.ones(2))
    np.testing.assert_array_equal(g[0], [0.0, 0.0])
    assert np.isfinite(g[1]).all()
    assert np.any(g[1])
    np.testing.assert_array_equal(mg.grad(np.sum(np.linalg.norm(x, axis=1) ** 2), x)[0], 2 * x.data)


# Decompositions -------------------------------------------------------------------------------------------------------


def lower(a):
    """A lower triangle made from any matrix, with a positive diagonal."""
    return np.tril(a, -1) + np.eye(3) * np.exp(a / 10)


DECOMPOSITIONS = {
    "inv": np.linalg.inv, "det": np.linalg.det, "slogdet": lambda a: np.linalg.slogdet(a)[1],
    "sign of det": lambda a: np.linalg.slogdet(a)[0][..., None, None] * a, "named": lambda a: np.linalg.slogdet(a).logabsdet,
    "cholesky": symmetric(np.linalg.cholesky), "upper": symmetric(lambda a: np.linalg.cholesky(a, upper=True)),
    "cholesky of L Lᵀ": lambda a: np.linalg.cholesky(lower(a) @ lower(a).mT),
    "eigenvalues": symmetric(lambda a: np.linalg.eigh(a)[0]), "upper eigenvalues": symmetric(lambda a: np.linalg.eigh(a, UPLO="U")[0]),
    "projections": symmetric(lambda a: np.einsum("...ik,...jk->...kij", np.linalg.eigh(a)[1], np.linalg.eigh(a)[1])),
    "function of a matrix": symmetric(lambda a: (np.linalg.eigh(a)[1] * np.sqrt(np.linalg.eigh(a)[0])[..., None, :]) @ np.linalg.eigh(a)[1].mT),
    "eigvalsh": symmetric(np.linalg.eigvalsh), "eigvalsh U": symmetric(lambda a: np.linalg.eigvalsh(a, "U")),
    "singular values": lambda a: np.linalg.svd(a, compute_uv=False), "svdvals": np.linalg.svdvals,
    "full": lambda a: np.linalg.svd(a)[0][..., :, :1] * np.linalg.svd(a).Vh[..., :1, :],
}  # fmt: skip


@pytest.mark.parametrize("batch", [(), (2,), (2, 1), (0,)])
@pytest.mark.parametrize("f", list(DECOMPOSITIONS.values()), ids=list(DECOMPOSITIONS))
def test_decompositions_of_batches(f, batch):
    agrees(f, definite(*batch), rtol=1e-10)


@pytest.mark.parametrize("shape", [(4, 2), (2, 4), (3, 3), (2, 4, 3), (2, 3, 4), (1, 3), (3, 1)])
def test_thin_svd_of_tall_and_wide_matrices(shape):
    """The signs of singular vectors are free; what they span, and the products that are functions of the matrix, are not."""
    a = normal(*shape)
    svd = lambda a: np.linalg.svd(a, full_matrices=False)  # noqa: E731
    agrees(lambda a: svd(a)[0] ** 2, a)
    agrees(lambda a: svd(a)[2] ** 2, a)
    agrees(lambda a: svd(a).S ** 3, a)
    agrees(lambda a: svd(a)[0] @ svd(a)[2], a)  # the nearest orthogonal matrix
    u, s, vt = svd(leaf(a))
    np.testing.assert_allclose(((u * s[..., None, :]) @ vt).data, a, atol=1e-14)
    jacobian = mg.jacobian((u * s[..., None, :]) @ vt, [x := u.inputs[0].inputs[0]])[0]
    np.testing.assert_allclose(jacobian.reshape(x.size, x.size), np.eye(x.size), atol=1e-12)


@pytest.mark.parametrize("b", [(3,), (3, 1), (3, 2), (2, 3, 2), (1, 3, 1), (0, 3, 2), (3, 0)])
@pytest.mark.parametrize("batch", [(), (2,), (1,)])
def test_solve_of_vectors_and_matrices(batch, b):
    if batch == (2,) and b[0] == 0:
        b = (1, 3, 0)
    agrees(np.linalg.solve, regular(*batch), normal(*b), rtol=1e-11)


# Degenerate matrices --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rank", [1, 2])
def test_determinants_of_singular_matrices(rank):
    """By the cofactors: differences of a determinant that is 0 are rounding."""
    a = normal(3, rank) @ normal(rank, 3)
    rest = [[k for k in range(3) if k != i] for i in range(3)]
    cofactors = np.array(
        [[(-1) ** (i + j) * np.linalg.det(a[np.ix_(rest[i], rest[j])]) for j in range(3)] for i in range(3)]
    )
    for x in (a, np.stack([a, regular()])):
        t = leaf(x)
        (g,) = mg.grad(np.linalg.det(t).sum(), t)
        np.testing.assert_allclose(g.reshape(-1, 3, 3)[0], cofactors, atol=1e-12)


def test_eigenvalues_that_repeat():
    """Symmetric functions of them are smooth: the trace, the logarithm of the determinant, the square of the norm."""
    a = np.diag([2.0, 2.0, 5.0])
    for f, gradient in [
        (np.sum, np.eye(3)),
        (lambda w: np.sum(np.log(w)), np.linalg.inv(a)),
        (lambda w: np.sum(w**2), 2 * a),
    ]:
        np.testing.assert_allclose(mg.grad(f(np.linalg.eigvalsh(x := leaf(a))), x)[0], gradient, atol=1e-14)
        np.testing.assert_allclose(mg.grad(f(np.linalg.svdvals(x := leaf(a))), x)[0], gradient, atol=1e-14)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("f", [np.linalg.eigvalsh, np.linalg.svdvals])
def test_curvature_where_values_repeat_is_never_a_wrong_number(f):
    """Σ w² = ‖A‖² has Hessian 2·I; through vectors that are not determined it comes out as NaN, and not as 0."""
    (product,) = mg.hvp(np.sum(f(x := leaf(np.eye(2))) ** 2), x, np.array([[0.0, 1.0], [1.0, 0.0]]))
    assert not np.isfinite(product).any() or np.allclose(product, [[0.0, 2.0], [2.0, 0.0]])


@pytest.mark.parametrize("f", [np.linalg.inv, np.linalg.cholesky, lambda a: np.linalg.solve(a, np.ones(3))])
def test_what_has_no_value_has_numpys_error(f):
    with pytest.raises(np.linalg.LinAlgError):
        f(leaf(-np.ones((3, 3)) * np.array([[0.0], [0.0], [1.0]])))


@pytest.mark.parametrize("f", [np.linalg.det, np.linalg.inv, np.linalg.svdvals, symmetric(np.linalg.eigvalsh)])
def test_known_derivatives(f):
    """Of a diagonal matrix, in closed form: det = abc, inv = 1/a, and a, b, c are its own eigenvalues."""
    d = positive(3) + np.arange(3.0)
    x = leaf(d)
    result = f(x * np.eye(3))
    (jacobian,) = mg.jacobian(result, x)
    expected = {
        np.linalg.det: d.prod() / d,
        np.linalg.inv: np.einsum("ij,jk->ijk", -np.eye(3) / d**2, np.eye(3)),
        np.linalg.svdvals: np.eye(3)[np.argsort(-d)],
    }.get(f, np.eye(3)[np.argsort(d)])
    np.testing.assert_allclose(jacobian, expected, atol=1e-13)


@pytest.mark.parametrize("shape", [(3, 3), (5, 3), (3, 5), (2, 4, 3)])
def test_pseudoinverses_are_jaxs(shape):
    jax = pytest.importorskip("jax")
    a = np.random.default_rng(3).normal(size=shape)
    with jax.enable_x64(True):
        theirs = jax.grad(lambda a: jax.numpy.sum(jax.numpy.sin(jax.numpy.linalg.pinv(a))))(a)
    x = Tensor(a, requires_grad=True)
    np.testing.assert_allclose(mg.grad(np.sum(np.sin(np.linalg.pinv(x))), x)[0], theirs, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("options", [{"rcond": 0.1}, {"rtol": 0.1}, {"rtol": None}, {"rcond": np.array(0.1)}])
def test_a_pseudoinverse_of_lower_rank(options):
    """Its derivative is that among matrices of this rank: along A(t) = B(t) C(t), by central differences."""
    rng = np.random.default_rng(4)
    b, c, db, dc = rng.normal(size=(4, 2)), rng.normal(size=(2, 3)), rng.normal(size=(4, 2)), rng.normal(size=(2, 3))
    weight = rng.normal(size=(3, 4))

    def value(t):
        return np.sum(weight * np.linalg.pinv((b + t * db) @ (c + t * dc), rcond=1e-9))

    x = Tensor(b @ c, requires_grad=True)
    result = np.linalg.pinv(x, **options)
    np.testing.assert_allclose(result.data, np.linalg.pinv(b @ c, **options), rtol=1e-10, atol=1e-12)
    along = np.sum(mg.grad(np.sum(weight * result), x)[0] * (db @ c + b @ dc))
    assert along == pytest.approx((value(1e-6) - value(-1e-6)) / 2e-6, rel=1e-5)


def test_a_hermitian_pseudoinverse_reads_one_triangle():
    a = np.array([[2.0, 9.0, 9.0], [1.0, 3.0, 9.0], [0.5, -1.0, 4.0]])
    lower = np.tril(a) + np.tril(a, -1).T
    one, other = Tensor(a, requires_grad=True), Tensor(lower, requires_grad=True)
    np.testing.assert_allclose(np.linalg.pinv(one, hermitian=True).data, np.linalg.inv(lower), rtol=1e-12)
    ours = mg.grad(np.sum(np.linalg.pinv(one, None, True) ** 3), one)[0]
    np.testing.assert_allclose(ours, mg.grad(np.sum(np.linalg.inv(other) ** 3), other)[0], rtol=1e-10)


def test_how_near_the_rank_of_a_pseudoinverse_is_to_a_jump():
    distance = mg.rules.KNOWN[np.linalg.pinv].breaks[0].distance
    a = np.diag([4.0, 1.0])
    assert distance(None, a) == pytest.approx(1.0)
    assert distance(None, a, 0.2) == pytest.approx(0.2)
    assert distance(None, a, rtol=0.2) == pytest.approx(0.2)
    assert distance(None, a, rtol=None) == pytest.approx(1.0)
    assert distance(None, np.stack([a, a]), hermitian=True).shape == (2,)
