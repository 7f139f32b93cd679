"""Modules: registration, state, repr; layers beside PyTorch; initial weights."""

import collections
import copy
import dataclasses
import math
import pickle
import types

import numpy as np
import pytest

import microgradopt as mg
from microgradopt import Tensor, nn, optim
from microgradopt.nn import init


class Net(nn.Module):
    def __init__(self, rng):
        self.first = nn.Linear(3, 4, rng=rng)
        self.blocks = [nn.Linear(4, 4, rng=rng), nn.Tanh(), nn.Linear(4, 4, bias=False, rng=rng)]
        self.scale = Tensor(np.ones(4), requires_grad=True)
        self.constant = Tensor(np.ones(4))
        self.size = 4

    def forward(self, x):
        x = self.first(x)
        for block in self.blocks:
            x = block(x)
        return x * self.scale + self.constant


NAMES = ["scale", "first.weight", "first.bias", "blocks.0.weight", "blocks.0.bias", "blocks.2.weight"]


class TestModule:
    def test_what_is_registered(self):
        net = Net(0)
        assert [name for name, _ in net.named_parameters()] == NAMES
        assert list(net.state_dict()) == NAMES
        assert [name for name, _ in net.named_modules()] == ["", "first", "blocks.0", "blocks.1", "blocks.2"]

    def test_frozen_stays_registered_and_results_are_not(self):
        net = Net(0)
        net.scale.requires_grad = False
        net.last = net.first.weight * 2
        assert [name for name, _ in net.named_parameters()] == NAMES
        net.scale = None
        assert "scale" not in net.state_dict()
        del net.first
        assert not any(name.startswith("first") for name in net.state_dict())

    def test_shared_parameters_count_once(self):
        net = Net(0)
        net.again = net.first
        assert len(list(net.parameters())) == 6
        assert "again.weight" in net.state_dict()

    def test_gradients_reach_all_and_are_cleared(self):
        net = Net(0)
        np.sum(net(np.ones((2, 3))) ** 2).backward()
        assert all(p.grad is not None for p in net.parameters())
        net.zero_grad()
        assert all(p.grad is None for p in net.parameters())

    def test_repr_has_shapes_and_counts(self):
        text = repr(nn.MLP((64, 32, 10), rng=0))
        for part in ("2,410 parameters", "(0): Linear(64, 32)", "weight (32, 64)", "bias (10,)", "ReLU()"):
            assert part in text
        assert "blocks.2" in repr(Net(0))

    def test_copies(self):
        net = Net(0)
        for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
            for p, q in zip(net.parameters(), other.parameters(), strict=True):
                assert p is not q
                np.testing.assert_array_equal(p.data, q.data)
                assert q.requires_grad

    def test_copies_keep_what_is_shared_frozen_and_accumulated(self):
        net = Net(0)
        net.again = net.first
        net.scale.requires_grad = False
        net.first.weight.grad = np.ones((4, 3))
        for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
            assert other.again.weight is other.first.weight
            assert [name for name, _ in other.named_parameters()] == NAMES
            assert not other.scale.requires_grad
            np.testing.assert_array_equal(other.first.weight.grad, np.ones((4, 3)))
            other.first.weight.data = np.zeros((4, 3))
            assert (net.first.weight.data != 0).all()

    def test_replacing_a_parameter_or_a_module(self):
        net = Net(0)
        net.scale = Tensor(np.zeros(4), requires_grad=True)
        assert dict(net.named_parameters())["scale"] is net.scale
        net.first = nn.Linear(3, 4, bias=False, rng=0)
        assert "first.bias" not in net.state_dict()
        net.blocks = [net.blocks[0]]
        assert [name for name in net.state_dict() if name.startswith("blocks")] == ["blocks.0.weight", "blocks.0.bias"]
        net.size = nn.Tanh()
        assert "size" in dict(net.named_children())

    def test_modules_in_tuples_and_modules_in_modules(self):
        net = nn.Module()
        net.pair = (nn.Linear(1, 2, rng=0), nn.Sequential(nn.Linear(2, 2, bias=False, rng=0), nn.Tanh()))
        assert list(net.state_dict()) == ["pair.0.weight", "pair.0.bias", "pair.1.0.weight"]

    def test_tensors_and_modules_anywhere_in_lists_and_dicts(self):
        net = nn.Module()
        net.ws = [Tensor([1.0], requires_grad=True), (Tensor([2.0]), Tensor([3.0], requires_grad=True))]
        net.heads = {"left": nn.Linear(1, 1, rng=0), "right": [{"deep": nn.Linear(1, 1, bias=False, rng=0)}]}
        names = ["ws.0", "ws.1.1", "heads.left.weight", "heads.left.bias", "heads.right.0.deep.weight"]
        assert list(net.state_dict()) == names
        other = copy.deepcopy(net)
        other.ws[0].data = np.array([7.0])
        net.load_state_dict(other.state_dict())
        assert net.ws[0].item() == 7.0
        net.ws[0].requires_grad = False
        net.ws.append(Tensor([4.0], requires_grad=True))
        assert list(net.state_dict()) == [*names[:2], "ws.2", *names[2:]]
        assert "ws.2 (1,)" in repr(net)

    def test_a_tensor_that_is_switched_on_later(self):
        net = nn.Module()
        net.w = Tensor([1.0])
        assert not list(net.parameters())
        net.w.requires_grad = True
        assert list(net.parameters()) == [net.w]
        net.w.requires_grad = False
        assert list(net.state_dict()) == ["w"]

    @pytest.mark.parametrize("other", [lambda w: w * 2, lambda w: Tensor(w.data)])
    def test_a_parameter_is_not_replaced_by_a_result(self, other):
        """``self.w = self.w - lr * g`` left a model without parameters."""
        net = Net(0)
        before = net.scale
        with pytest.raises(TypeError, match=r"Net\.scale: .*self\.scale\.data = "):
            net.scale = other(net.scale)
        assert net.scale is before
        assert "scale" in net.state_dict()
        del net.scale
        net.scale = other(before)
        assert "scale" not in net.state_dict()

    @pytest.mark.parametrize("kind", [set, frozenset, collections.deque])
    def test_parameters_without_a_place_are_refused(self, kind):
        net = nn.Module()
        with pytest.raises(TypeError, match=rf"{kind.__name__} have no names"):
            net.parts = kind([Tensor([1.0], requires_grad=True)])
        net.numbers = kind([1, 2])
        with pytest.raises(TypeError, match=r"parts\.a\.0: .* have no names"):
            net.parts = {"a": [kind([Tensor([1.0], requires_grad=True)])]}
        with pytest.raises(TypeError, match="dict_values have no names"):
            net.parts = {"a": net.numbers, "b": Tensor([1.0], requires_grad=True)}.values()

    def test_parameters_that_were_put_into_a_set_later_are_refused(self):
        net = nn.Module()
        net.parts = set()
        net.parts.add(Tensor([1.0], requires_grad=True))
        with pytest.raises(TypeError, match=r"parts: .* have no names"):
            list(net.parameters())

    def test_parameters_in_a_dataclass_and_in_any_mapping(self):
        @dataclasses.dataclass
        class Weights:
            w: Tensor
            layers: list

        net, w = nn.Module(), Tensor([1.0], requires_grad=True)
        net.weights = Weights(w, [nn.Linear(1, 1, rng=0)])
        net.more = types.MappingProxyType({"w": w * 1, "v": Tensor([2.0], requires_grad=True)})
        assert [name for name, _ in net.named_parameters()] == [
            "weights.w", "more.v", "weights.layers.0.weight", "weights.layers.0.bias"
        ]  # fmt: skip

    def test_a_module_that_contains_itself(self):
        net = nn.Module()
        net.again = {"and": [net]}
        with pytest.raises(ValueError, match=r"contains itself, as again\.and\.0"):
            list(net.parameters())

    def test_a_shared_layer_gets_both_gradients(self):
        layer = nn.Linear(2, 2, rng=0)
        x = np.ones((3, 2))
        nn.Sequential(layer, layer)(x).sum().backward()
        weight, bias = (Tensor(p.data, requires_grad=True) for p in (layer.weight, layer.bias))
        np.sum((x @ weight.T + bias) @ weight.T + bias).backward()
        np.testing.assert_allclose(layer.weight.grad, weight.grad, rtol=1e-14)
        np.testing.assert_allclose(layer.bias.grad, bias.grad, rtol=1e-14)

    def test_no_forward(self):
        with pytest.raises(NotImplementedError, match="Module has no forward"):
            nn.Module()(1)

    def test_sequential(self):
        layers = [nn.Linear(2, 3, rng=0), nn.Tanh(), nn.Linear(3, 1, rng=0)]
        net = nn.Sequential(*layers)
        assert list(net) == layers
        assert len(net) == 3
        assert net[1] is layers[1]
        x = np.ones((4, 2))
        np.testing.assert_array_equal(net(x).data, layers[2](np.tanh(layers[0](x))).data)

    def test_a_subclass_of_sequential_has_more_than_its_layers(self):
        class Headed(nn.MLP):
            def __init__(self):
                super().__init__((2, 3, 1), rng=0)
                self.head = nn.Linear(1, 1, rng=1)
                self.scale = Tensor(2.0, requires_grad=True)

            def forward(self, x):
                return self.head(super().forward(x)) * self.scale

        net, names = Headed(), ["0.weight", "0.bias", "2.weight", "2.bias", "head.weight", "head.bias"]
        assert {name for name, _ in net.named_parameters()} == {*names, "scale"}
        before = net(np.ones((4, 2))).data
        net(np.ones((4, 2))).sum().backward()
        assert all(p.grad is not None for p in net.parameters())
        other = Headed()
        other.head, other.scale = nn.Linear(1, 1, rng=7), Tensor(5.0, requires_grad=True)
        other.load_state_dict(net.state_dict())
        np.testing.assert_array_equal(other(np.ones((4, 2))).data, before)

    def test_mlp_wants_two_sizes(self):
        with pytest.raises(ValueError, match="sizes"):
            nn.MLP((3,))

    def test_float32(self):
        net = nn.MLP((2, 3, 1), rng=0, dtype=np.float32)
        out = net(np.ones((4, 2), np.float32))
        assert out.dtype == np.float32
        out.sum().backward()
        assert all(p.grad.dtype == np.float32 for p in net.parameters())

    def test_constant_inputs_are_not_differentiated(self):
        net = nn.MLP((2, 3, 1), rng=0)
        x = Tensor(np.ones((4, 2)))
        net(x).sum().backward()
        assert x.grad is None

    @pytest.mark.parametrize("shape", [(5,), (4, 5), (2, 4, 5)])
    def test_linear_with_any_leading_axes(self, shape):
        rng = np.random.default_rng(0)
        inputs = [Tensor(rng.normal(size=s), requires_grad=True) for s in (shape, (3, 5), (3,))]
        np.testing.assert_allclose(
            nn.functional.linear(*inputs).data, inputs[0].data @ inputs[1].data.T + inputs[2].data, rtol=1e-14
        )
        mg.gradcheck(nn.functional.linear, inputs, order=2)
        mg.gradcheck(nn.functional.linear, inputs[:2], order=2)

    def test_wrong_width_names_the_shapes(self):
        with pytest.raises(ValueError, match=r"linear: .*\(4, 5\).*\(2, 3\)"):
            nn.Linear(3, 2, rng=0)(np.ones((4, 5)))
        with pytest.raises(ValueError, match=r"LayerNorm.*\(4, 5\)"):
            nn.LayerNorm(3)(Tensor(np.ones((4, 5))))


class TestStateDict:
    def test_round_trip(self):
        one, other = Net(0), Net(1)
        other.load_state_dict(one.state_dict())
        x = np.ones((2, 3))
        np.testing.assert_array_equal(one(x).data, other(x).data)

    def test_is_a_copy(self):
        net = Net(0)
        net.state_dict()["scale"][:] = 7.0
        assert (net.scale.data == 1.0).all()

    @pytest.mark.parametrize(
        ("spoil", "error"),
        [
            (lambda s: s.pop("scale"), KeyError),
            (lambda s: s.update(more=np.ones(2)), KeyError),
            (lambda s: s.update(scale=np.ones(5)), ValueError),
            (lambda s: s.update(scale=np.ones(4, complex)), ValueError),
            (lambda s: s.update(scale=np.array(["a"] * 4)), ValueError),
            (lambda s: s.update(scale=[{}] * 4), ValueError),
            (lambda s: s.update({"blocks.2.weight": np.ones((4, 5))}), ValueError),
            (lambda s: s.update({"blocks.2.weight": np.ones(16)}), ValueError),
            (lambda s: s.update({"blocks.2.weight": np.ones((4, 4), bool)}), ValueError),
        ],
    )
    def test_a_bad_one_changes_nothing(self, spoil, error):
        net, before = Net(0), Net(0).state_dict()
        bad = Net(1).state_dict()
        spoil(bad)
        with pytest.raises(error, match="nothing was loaded"):
            net.load_state_dict(bad)
        assert all(np.array_equal(before[name], array) for name, array in net.state_dict().items())

    @pytest.mark.parametrize("parts", [{"1": [1.0], 1: [2.0]}, {"a.b": [1.0], "a": {"b": [2.0]}}])
    def test_two_parameters_of_one_name_are_refused(self, parts):
        """One of them would not be saved."""
        net = nn.Module()
        net.parts = mg.tree.mapped(lambda x: Tensor(x, requires_grad=True), parts)
        assert len(list(net.parameters())) == 2
        with pytest.raises(ValueError, match="a name is there twice"):
            net.state_dict()

    @pytest.mark.parametrize("count", [np.nan, np.inf, 2.7, 1e30, np.uint64(2**64 - 1)])
    def test_a_count_that_is_no_whole_number_of_its_dtype(self, count):
        layer = nn.BatchNorm1d(2)
        with pytest.raises(ValueError, match=r"num_batches_tracked is not of int64; nothing was loaded"):
            layer.load_state_dict({**layer.state_dict(), "num_batches_tracked": np.array(count)})
        assert layer.num_batches_tracked == 0
        layer.load_state_dict({**layer.state_dict(), "num_batches_tracked": np.array(3.0)})
        assert layer.num_batches_tracked.dtype == np.int64

    def test_a_masked_array_would_lose_its_mask(self):
        net = nn.Linear(2, 2, rng=0)
        bias = np.ma.array([1.0, 2.0], mask=[True, False])
        with pytest.raises(TypeError, match=r"load_state_dict: bias: a masked array would lose its mask"):
            net.load_state_dict({**net.state_dict(), "bias": bias})

    def test_not_strict_takes_what_fits_by_name(self):
        net, before = Net(0), Net(0).state_dict()
        net.load_state_dict({"scale": np.full(4, 2.0), "unknown": np.ones(1)}, strict=False)
        assert (net.scale.data == 2.0).all()
        assert all(np.array_equal(before[name], array) for name, array in net.state_dict().items() if name != "scale")

    def test_not_strict_still_wants_the_shapes(self):
        net, before = Net(0), Net(0).state_dict()
        with pytest.raises(ValueError, match=r"first.bias.*nothing was loaded"):
            net.load_state_dict({"scale": np.full(4, 2.0), "first.bias": np.ones(5)}, strict=False)
        assert all(np.array_equal(before[name], array) for name, array in net.state_dict().items())

    def test_numbers_too_large_for_float32(self):
        net = nn.MLP((2, 2), rng=0, dtype=np.float32)
        before = net.state_dict()
        with pytest.raises(ValueError, match=r"0.bias is too large for float32; nothing was loaded"):
            net.load_state_dict({"0.weight": np.zeros((2, 2)), "0.bias": np.full(2, 1e300)})
        assert all(np.array_equal(before[name], array) for name, array in net.state_dict().items())

    def test_the_dtype_stays(self):
        for dtype, other in ((np.float32, np.float64), (np.float64, np.float32)):
            net = nn.MLP((2, 2), rng=0, dtype=dtype)
            net.load_state_dict({"0.weight": np.full((2, 2), 0.1, other), "0.bias": np.array([1, 2])})
            assert {p.dtype for p in net.parameters()} == {np.dtype(dtype)}
            np.testing.assert_array_equal(net[0].bias.data, [1, 2])

    def test_what_is_loaded_is_a_copy_and_dated(self):
        net = nn.Sequential(nn.Linear(1, 1, rng=0), nn.Linear(1, 1, rng=0))
        given = {name: np.ones_like(array) for name, array in net.state_dict().items()}
        loss = np.sum(net(np.ones((1, 1))))
        net.load_state_dict(given)
        given["1.weight"][:] = 7.0
        assert net[1].weight.item() == 1.0
        with pytest.raises(mg.OverwrittenError):
            loss.backward()


@pytest.mark.parity
class TestPyTorch:
    def test_mlp_from_a_state_dict(self):
        torch = pytest.importorskip("torch")
        torch.manual_seed(0)
        reference = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.GELU(), torch.nn.Linear(8, 3)).double()
        net = nn.MLP((4, 8, 3), activation=nn.GELU, rng=0)
        state = {name: value.numpy() for name, value in reference.state_dict().items()}
        assert list(net.state_dict()) == list(state)
        net.load_state_dict(state)
        x, y = np.random.default_rng(0).normal(size=(6, 4)), np.array([0, 1, 2, 0, 1, 2])
        loss = nn.cross_entropy(net(x), y)
        expected = torch.nn.functional.cross_entropy(reference(torch.tensor(x)), torch.tensor(y))
        loss.backward()
        expected.backward()
        assert loss.item() == pytest.approx(expected.item(), rel=1e-13)
        for p, q in zip(net.parameters(), reference.parameters(), strict=True):
            np.testing.assert_allclose(p.grad, q.grad.numpy(), rtol=1e-11, atol=1e-14)

    @pytest.mark.parametrize(
        "name", ["ReLU", "LeakyReLU", "ELU", "SELU", "GELU", "SiLU", "Tanh", "Sigmoid", "Softplus"]
    )
    @pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-11), ("float32", 1e-4)])
    def test_every_activation_in_a_network(self, name, dtype, tolerance):
        """The same names, the same outputs, and the same gradients of all parameters and of the input."""
        torch = pytest.importorskip("torch")
        torch.manual_seed(0)
        sizes, activation = (3, 5, 4, 2), getattr(torch.nn, name)
        layers = [torch.nn.Linear(3, 5), activation(), torch.nn.Linear(5, 4), activation(), torch.nn.Linear(4, 2)]
        reference = torch.nn.Sequential(*layers).to(getattr(torch, dtype))
        net = nn.MLP(sizes, activation=getattr(nn, name), rng=0, dtype=dtype)
        state = {name: value.numpy() for name, value in reference.state_dict().items()}
        assert list(net.state_dict()) == list(state)
        net.load_state_dict(state)
        x, y = np.random.default_rng(0).normal(size=(6, 3)).astype(dtype), np.array([0, 1, 1, 0, 1, 0])
        ours, theirs = Tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
        out, expected = net(ours), reference(theirs)
        np.testing.assert_allclose(out.data, expected.detach().numpy(), rtol=tolerance, atol=tolerance)
        nn.cross_entropy(out, y).backward()
        torch.nn.functional.cross_entropy(expected, torch.tensor(y)).backward()
        for p, q in zip([ours, *net.parameters()], [theirs, *reference.parameters()], strict=True):
            assert p.grad.dtype == dtype
            np.testing.assert_allclose(p.grad, q.grad.numpy(), rtol=tolerance, atol=tolerance)

    def test_far_out(self):
        """Logits of ±10,000: values and gradients of every activation and of the losses over logits."""
        torch = pytest.importorskip("torch")
        functional = torch.nn.functional
        x = np.array([[1e4, -1e4, 0.0], [-1e4, -1e4, 5.0], [1e4, 1e4, -3.0]])
        labels = np.array([1, 0, 2])
        pairs = [(getattr(nn.functional, name), getattr(functional, name)) for name in ("elu", "gelu", "silu", "selu")]
        pairs += [(lambda x: nn.functional.softmax(x, 1), lambda x: functional.softmax(x, 1))]
        for settings in ({}, {"label_smoothing": 0.1}):
            pairs.append(
                (
                    lambda x, s=settings: nn.cross_entropy(x, labels, "none", **s),
                    lambda x, s=settings: functional.cross_entropy(x, torch.tensor(labels), reduction="none", **s),
                )
            )
        for mine, reference in pairs:
            ours, theirs = Tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
            out, expected = mine(ours), reference(theirs)
            np.testing.assert_allclose(out.data, expected.detach().numpy(), rtol=1e-12, atol=1e-12)
            weight = np.arange(1.0, out.size + 1).reshape(out.shape)
            out.backward(weight)
            expected.backward(torch.tensor(weight))
            np.testing.assert_allclose(ours.grad, theirs.grad.numpy(), rtol=1e-12, atol=1e-12)

    def test_linear_without_bias(self):
        torch = pytest.importorskip("torch")
        reference = torch.nn.Linear(3, 2, bias=False, dtype=torch.float64)
        mine = nn.Linear(3, 2, bias=False, rng=0)
        mine.load_state_dict({name: value.numpy() for name, value in reference.state_dict().items()})
        x = np.random.default_rng(0).normal(size=(2, 4, 3))
        expected = reference(torch.tensor(x)).detach().numpy()
        np.testing.assert_allclose(mine(x).data, expected, rtol=1e-13)

    @pytest.mark.parametrize("shape", [4, (3, 4)])
    def test_layer_norm(self, shape):
        torch = pytest.importorskip("torch")
        rng = np.random.default_rng(0)
        x = rng.normal(size=(5, 3, 4))
        mine, reference = nn.LayerNorm(shape), torch.nn.LayerNorm(shape, dtype=torch.float64)
        weights = {"weight": rng.normal(size=mine.weight.shape), "bias": rng.normal(size=mine.bias.shape)}
        mine.load_state_dict(weights)
        reference.load_state_dict({name: torch.tensor(value) for name, value in weights.items()})
        ours, theirs = Tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
        out, expected = mine(ours), reference(theirs)
        np.testing.assert_allclose(out.data, expected.detach().numpy(), rtol=1e-12, atol=1e-13)
        np.sum(out**3).backward()
        (expected**3).sum().backward()
        np.testing.assert_allclose(ours.grad, theirs.grad.numpy(), rtol=1e-10, atol=1e-11)
        mg.gradcheck(lambda x: mine(x), Tensor(x[:1], requires_grad=True), order=2)

    def test_hundred_steps_of_training(self):
        torch = pytest.importorskip("torch")
        net = nn.MLP((4, 8, 3), activation=nn.Tanh, rng=0)
        reference = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3)).double()
        reference.load_state_dict({name: torch.tensor(array) for name, array in net.state_dict().items()})
        x, y = np.random.default_rng(0).normal(size=(30, 4)), np.random.default_rng(1).integers(0, 3, 30)
        mine, theirs = optim.Adam(net.parameters(), 0.01), torch.optim.Adam(reference.parameters(), 0.01)
        for _ in range(100):
            mine.zero_grad()
            theirs.zero_grad()
            nn.cross_entropy(net(x), y).backward()
            torch.nn.functional.cross_entropy(reference(torch.tensor(x)), torch.tensor(y)).backward()
            mine.step()
            theirs.step()
        for p, q in zip(net.parameters(), reference.parameters(), strict=True):
            np.testing.assert_allclose(p.data, q.detach().numpy(), rtol=1e-7, atol=1e-9)


LAYERS = {
    nn.ReLU(): "relu", nn.LeakyReLU(0.2): "leaky_relu", nn.ELU(0.5): "elu", nn.SELU(): "selu", nn.GELU(): "gelu",
    nn.SiLU(): "silu", nn.Tanh(): "tanh", nn.Sigmoid(): "sigmoid", nn.Softplus(2.0): "softplus", nn.Softmax(0): "softmax",
}  # fmt: skip


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: type(layer).__name__)
def test_activation_layers_are_their_functions(layer):
    x = np.random.default_rng(0).normal(size=(3, 2))
    settings = {"LeakyReLU": [0.2], "ELU": [0.5], "Softplus": [2.0], "Softmax": [0]}.get(type(layer).__name__, [])
    function = np.tanh if isinstance(layer, nn.Tanh) else getattr(nn.functional, LAYERS[layer])
    np.testing.assert_array_equal(layer(Tensor(x)).data, function(x, *settings))


class TestInit:
    SHAPE = (300, 200)

    @pytest.mark.parametrize(
        ("draw", "deviation"),
        [
            (init.xavier_uniform, math.sqrt(2 / 500)),
            (init.xavier_normal, math.sqrt(2 / 500)),
            (init.kaiming_uniform, math.sqrt(2 / 200)),
            (init.kaiming_normal, math.sqrt(2 / 200)),
        ],
    )
    def test_spread(self, draw, deviation):
        weights = draw(self.SHAPE, rng=0)
        assert weights.std() == pytest.approx(deviation, rel=0.01)
        assert abs(weights.mean()) < 4 * deviation / math.sqrt(weights.size)
        if "uniform" in draw.__name__:
            assert np.abs(weights).max() <= deviation * math.sqrt(3)

    @pytest.mark.parametrize(
        ("draw", "bound"),
        [
            (init.xavier_uniform, math.sqrt(6 / 500)),
            (init.kaiming_uniform, math.sqrt(6 / 200)),
            (lambda shape, rng: init.linear_default(shape, 200, rng), 1 / math.sqrt(200)),
        ],
    )
    def test_bounds_are_reached_and_kept(self, draw, bound):
        weights = draw(self.SHAPE, rng=0)
        assert 0.999 * bound < weights.max() <= bound
        assert -bound <= weights.min() < -0.999 * bound

    @pytest.mark.parametrize(
        "draw",
        [init.xavier_normal, init.xavier_uniform, init.kaiming_normal, init.kaiming_uniform, init.orthogonal],
    )
    def test_gain_seeds_and_generators(self, draw):
        one = draw((4, 3), gain=1.0, rng=0)
        assert one.shape == (4, 3)
        assert one.dtype == np.float64
        np.testing.assert_allclose(draw((4, 3), gain=2.0, rng=0), 2 * one)
        np.testing.assert_array_equal(draw((4, 3), gain=1.0, rng=np.random.default_rng(0)), one)
        generator = np.random.default_rng(0)
        assert (draw((4, 3), rng=generator) != draw((4, 3), rng=generator)).all()
        assert (draw((4, 3)) != draw((4, 3))).all()

    def test_networks(self):
        """The same seed gives the same bits, whatever NumPy's global state; no two layers start alike."""
        np.random.seed(0)
        one = nn.MLP((3, 3, 3), rng=5)
        np.random.seed(1)
        other = nn.MLP((3, 3, 3), rng=5)
        for p, q in zip(one.parameters(), other.parameters(), strict=True):
            np.testing.assert_array_equal(p.data, q.data)
        assert (one[0].weight.data != one[2].weight.data).all()
        single = nn.MLP((3, 3, 3), rng=5, dtype=np.float32)
        np.testing.assert_array_equal(single[0].weight.data, one[0].weight.data.astype(np.float32))

    @pytest.mark.parametrize("shape", [(5, 3), (3, 5), (4, 4)])
    def test_orthogonal(self, shape):
        q = init.orthogonal(shape, gain=2.0, rng=0) / 2
        small = q @ q.T if shape[0] <= shape[1] else q.T @ q
        np.testing.assert_allclose(small, np.eye(min(shape)), atol=1e-14)

    def test_orthogonal_is_uniform(self):
        """Householder's QR prefers one sign; uniform matrices have entries of mean 0, with variance 1/n."""
        corners = [init.orthogonal((4, 4), rng=seed)[0, 0] for seed in range(400)]
        assert abs(np.mean(corners)) < 4 * 0.5 / math.sqrt(400)

    def test_linear_default_is_pytorchs(self):
        layer = nn.Linear(100, 50, rng=0)
        for values in (layer.weight.data, layer.bias.data):
            assert np.abs(values).max() <= 0.1
            assert values.std() == pytest.approx(0.1 / math.sqrt(3), rel=0.15)

    def test_same_seed_same_bits_and_one_generator_goes_on(self):
        one, other = nn.Linear(3, 4, rng=7), nn.Linear(3, 4, rng=np.random.default_rng(7))
        np.testing.assert_array_equal(one.weight.data, other.weight.data)
        generator = np.random.default_rng(7)
        first, second = nn.Linear(3, 4, rng=generator), nn.Linear(3, 4, rng=generator)
        assert (first.weight.data != second.weight.data).all()

    def test_refusals(self):
        for draw in (
            init.xavier_uniform,
            init.xavier_normal,
            init.kaiming_uniform,
            init.kaiming_normal,
            init.orthogonal,
        ):
            for shape in ((3,), 3, (3, 0), (-1, 3)):
                with pytest.raises(ValueError, match=draw.__name__):
                    draw(shape)
