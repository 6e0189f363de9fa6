"""Optimisers, clipping and schedules: step by step against PyTorch, as properties, and on bad input."""
import json
import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from seqbook import optim
from seqbook.backend import DeviceArray, asnumpy, device, leaves, to, tree_map
from seqbook.optim import (SGD, Adagrad, Adam, AdamW, RMSprop, check_finite, clip_norm, clip_scale, clip_value, constant, cosine,
                           exponential, global_norm, one_cycle, optimizer_from, schedule_from, step_decay, warmup)

settings.register_profile("seqbook", deadline=None)
settings.load_profile("seqbook")

STEPS = 50
TOLERANCE = {"float64": 1e-12, "float32": 1e-6}


class Params(NamedTuple):
    W: np.ndarray
    b: np.ndarray
    peephole: np.ndarray | None = None


def fresh(dtype=np.float64, seed=0):
    "Parameters: a matrix, a vector, a leaf that is None, and an array of shape ()."
    rng = np.random.default_rng(seed)
    return {"layer": Params(rng.normal(size=(5, 4)).astype(dtype), rng.normal(size=5).astype(dtype)),
            "scale": np.array(rng.normal(), dtype)}


def gradients(step, dtype=np.float64):
    "Gradients whose size varies over four orders of magnitude, with exact zeros among them."
    rng = np.random.default_rng(1000 + step)

    def draw(p):
        return np.array(rng.normal(size=p.shape) * 10.0 ** rng.integers(-3, 2) * (rng.random(p.shape) < 0.9), dtype)
    return tree_map(draw, fresh())


def same_bits(a, b):
    return all(x.tobytes() == y.tobytes() for x, y in zip(leaves(a).values(), leaves(b).values(), strict=True))


# rule, its arguments here, the name in torch.optim, its arguments there
RULES = [
    (SGD, {}, "SGD", {}),
    (SGD, {"weight_decay": 0.1}, "SGD", {"weight_decay": 0.1}),
    (SGD, {"momentum": 0.9}, "SGD", {"momentum": 0.9}),
    (SGD, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01}, "SGD", {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
    (RMSprop, {}, "RMSprop", {}),
    (RMSprop, {"alpha": 0.9, "weight_decay": 0.1}, "RMSprop", {"alpha": 0.9, "weight_decay": 0.1}),
    (RMSprop, {"momentum": 0.8}, "RMSprop", {"momentum": 0.8}),
    (RMSprop, {"centered": True, "eps": 1e-2}, "RMSprop", {"centered": True, "eps": 1e-2}),
    (RMSprop, {"centered": True, "momentum": 0.5, "eps": 1e-2}, "RMSprop", {"centered": True, "momentum": 0.5, "eps": 1e-2}),
    (Adagrad, {}, "Adagrad", {}),
    (Adagrad, {"lr_decay": 0.1, "weight_decay": 0.1, "initial_accumulator_value": 0.5}, "Adagrad",
     {"lr_decay": 0.1, "weight_decay": 0.1, "initial_accumulator_value": 0.5}),
    (Adam, {}, "Adam", {}),
    (Adam, {"betas": (0.5, 0.9), "eps": 1e-4, "weight_decay": 0.1}, "Adam", {"betas": (0.5, 0.9), "eps": 1e-4, "weight_decay": 0.1}),
    (AdamW, {}, "AdamW", {}),
    (AdamW, {"weight_decay": 0.3}, "AdamW", {"weight_decay": 0.3}),
]
NAMES = [f"{rule.__name__}-{'-'.join(f'{k}={v}' for k, v in ours.items()) or 'defaults'}" for rule, ours, _, _ in RULES]

# schedule, PyTorch's for an optimiser made with learning rate 0.01
SCHEDULES = {
    "default": (None, None),
    "constant": (constant(0.01), lambda s, o: s.LambdaLR(o, lambda k: 1.0)),
    "step_decay": (step_decay(0.01, 7, 0.5), lambda s, o: s.StepLR(o, 7, 0.5)),
    "exponential": (exponential(0.01, 0.95), lambda s, o: s.ExponentialLR(o, 0.95)),
    "cosine": (cosine(0.01, STEPS, 0.001), lambda s, o: s.CosineAnnealingLR(o, STEPS, 0.001)),
    "one_cycle": (one_cycle(0.01, STEPS), lambda s, o: s.OneCycleLR(o, 0.01, STEPS, cycle_momentum=False)),
    "warmup": (warmup(cosine(0.01, 40), 10), lambda s, o: s.SequentialLR(
        o, [s.LinearLR(o, 1 / 11, total_iters=10), s.CosineAnnealingLR(o, 40)], [10])),
}


def beside_pytorch(rule, ours, name, theirs, schedule, dtype):
    "The largest difference of any parameter at any step; relative where the parameter is larger than 1."
    torch = pytest.importorskip("torch")
    plan, torch_plan = SCHEDULES[schedule]
    params = fresh(dtype)
    tensors = {k: torch.tensor(p, requires_grad=True) for k, p in leaves(params).items()}
    opt = rule(**ours) if plan is None else rule(plan, **ours)
    other = getattr(torch.optim, name)(tensors.values(), **theirs, **({} if plan is None else {"lr": 0.01}))
    scheduler = torch_plan and torch_plan(torch.optim.lr_scheduler, other)
    worst = 0.0
    for step in range(STEPS):
        grads = gradients(step, dtype)
        for k, g in leaves(grads).items():
            tensors[k].grad = torch.tensor(g)
        assert math.isclose(opt.rate(), other.param_groups[0]["lr"], rel_tol=1e-12, abs_tol=1e-18)
        opt.step(params, grads)
        other.step()
        if scheduler:
            scheduler.step()
        for k, p in leaves(params).items():
            q = tensors[k].detach().numpy()
            worst = max(worst, float(np.max(np.abs(p - q) / np.maximum(1, np.abs(q)))))
            assert p.dtype == dtype and q.dtype == dtype
    return worst


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step:UserWarning")
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("schedule", ["default", "warmup"])
@pytest.mark.parametrize("case", RULES, ids=NAMES)
def test_rules_follow_pytorch(case, schedule, dtype):
    worst = beside_pytorch(*case, schedule, dtype)
    assert worst < TOLERANCE[dtype], f"differs by {worst:.1e}"


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("schedule", [s for s in SCHEDULES if s != "default"])
def test_schedules_follow_pytorch(schedule):
    assert beside_pytorch(*RULES[-1], schedule, "float64") < 1e-12


def test_defaults_are_pytorchs():
    torch = pytest.importorskip("torch")
    for rule in (SGD, RMSprop, Adagrad, Adam, AdamW):
        theirs = getattr(torch.optim, rule.__name__)([torch.zeros(1)]).defaults
        for key, value in rule().config().items():
            if key != "name":
                assert tuple(np.atleast_1d(value)) == tuple(np.atleast_1d(theirs[key])), (rule.__name__, key)


@pytest.mark.parametrize("max_norm", [0.5, 3.0, 1e6])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_clipping_follows_pytorch(dtype, max_norm):
    torch = pytest.importorskip("torch")
    grads = gradients(3, dtype)
    tensors = [torch.zeros(g.shape, dtype=getattr(torch, dtype), requires_grad=True) for g in leaves(grads).values()]
    for tensor, g in zip(tensors, leaves(grads).values(), strict=True):
        tensor.grad = torch.tensor(g)
    total = torch.nn.utils.clip_grad_norm_(tensors, max_norm)
    clipped, norm = clip_norm(grads, max_norm, eps=1e-6)
    assert np.allclose(norm, total.item(), rtol=TOLERANCE[dtype])
    for tensor, g in zip(tensors, leaves(clipped).values(), strict=True):
        assert g.dtype == dtype and np.allclose(g, tensor.grad.numpy(), rtol=TOLERANCE[dtype], atol=0)
    torch.nn.utils.clip_grad_value_(tensors, 0.1)
    for tensor, g in zip(tensors, leaves(clip_value(clipped, 0.1)).values(), strict=True):
        assert np.allclose(g, tensor.grad.numpy(), rtol=TOLERANCE[dtype], atol=0)


# ---- going on from a state

@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("rule, options", [(r, o) for r, o, _, _ in RULES], ids=NAMES)
def test_continues_to_the_last_bit(rule, options, dtype):
    plan = warmup(cosine(0.02, 15, 0.001), 4)
    whole, halves = fresh(dtype), fresh(dtype)
    one, two = rule(plan, **options), rule(plan, **options)
    for step in range(20):
        one.step(whole, gradients(step, dtype))
    for step in range(11):
        two.step(halves, gradients(step, dtype))
    arrays, scalars = two.state()
    three = optimizer_from(json.loads(json.dumps(two.config())))
    three.load_state((leaves(arrays), json.loads(json.dumps(scalars))))    # flat, as a file holds it
    four = optimizer_from(two.config())
    four.load_state(two.state())                                           # nested, as it came
    again = tree_map(np.copy, halves)
    for step in range(11, 20):
        three.step(halves, gradients(step, dtype))
        four.step(again, gradients(step, dtype))
    assert same_bits(whole, halves) and same_bits(whole, again) and three.t == four.t == 20
    assert all(same_bits(one.state()[0][slot], three.state()[0][slot]) for slot in one.slots())


def test_a_state_is_a_copy_both_ways():
    opt, params = Adam(0.1), fresh()
    opt.step(params, gradients(0))
    kept = opt.state()
    before = {k: a.copy() for k, a in leaves(kept[0]).items()}
    other = Adam(0.1)
    other.load_state(kept)
    opt.step(params, gradients(1))
    other.step(params, gradients(1))
    assert same_bits(kept[0], before) and kept[1] == {"t": 1}


def test_a_state_before_the_first_step_can_be_loaded():
    opt = Adam()
    opt.load_state(Adam().state())
    opt.step(params := fresh(), gradients(0))
    Adam().step(other := fresh(), gradients(0))
    assert same_bits(params, other)


def test_a_bare_array_is_a_tree():
    opt, p = Adam(0.1), np.ones(3)
    opt.step(p, np.ones(3))
    again = Adam(0.1)
    again.load_state((leaves(opt.state()[0]), {"t": 1}))
    q = p.copy()
    opt.step(p, np.full(3, 2.0))
    again.step(q, np.full(3, 2.0))
    assert p.tobytes() == q.tobytes()


@pytest.mark.parametrize("state, message", [
    ({"t": 3}, "state: expected (arrays, {'t': steps})"),
    (({}, {}), "state: expected (arrays, {'t': steps})"),
    (({}, {"t": 3}), "state: Adam keeps the arrays m, v; got none"),
    (({"m": {"W": np.ones(3)}}, {"t": 3}), "state: Adam keeps the arrays m, v; got m"),
    (({"m": {"W": np.ones(3)}, "v": {"W": np.ones(3)}}, {"t": -1}), "state: t: expected a whole number >= 0, got -1"),
])
def test_a_wrong_state_is_refused(state, message):
    with pytest.raises(ValueError) as e:
        Adam().load_state(state)
    assert str(e.value).startswith(message)


@pytest.mark.parametrize("kept, error, message", [
    ({"W": np.ones((3, 1))}, ValueError, "state.m.W: expected shape (3,), got (3, 1)"),
    ({"W": np.ones(3, np.float32)}, TypeError, "state.m.W: expected float64, got float32"),
    ({"V": np.ones(3)}, ValueError, "params: 'W' is new; the optimiser remembers 'V'"),
    ({"W": np.ones(3), "V": np.ones(3)}, ValueError, "params: 'V' is gone; the optimiser remembers 'W', 'V'"),
])
def test_a_state_of_other_parameters_is_refused_and_nothing_is_written(kept, error, message):
    opt, p = Adam(), np.ones(3)
    opt.load_state(({"m": kept, "v": kept}, {"t": 3}))
    with pytest.raises(error) as e:
        opt.step({"W": p}, {"W": np.ones(3)})
    assert str(e.value).startswith(message)
    assert (p == 1).all() and opt.t == 3


# ---- what a step touches

@pytest.mark.parametrize("rule, options", [(r, o) for r, o, _, _ in RULES], ids=NAMES)
def test_changes_parameters_in_place_and_gradients_not_at_all(rule, options):
    params, grads = fresh(), gradients(0)
    held, before = leaves(params), tree_map(np.copy, grads)
    opt = rule(**options)
    opt.step(params, grads, scale=0.5)
    opt.step(params, grads)
    assert all(held[k] is p for k, p in leaves(params).items()) and same_bits(grads, before)
    assert not same_bits(params, fresh())


def test_strided_parameters_are_written_through():
    base, plain = np.ones((4, 6)), np.ones((4, 3))
    g = np.arange(12.0).reshape(4, 3)
    Adam(0.1).step(base[:, ::2], g)
    Adam(0.1).step(plain, g)
    assert np.array_equal(base[:, ::2], plain) and (base[:, 1::2] == 1).all()


def test_scale_is_a_number_or_an_array_of_no_axes():
    results = []
    for scale in (0.25, np.float64(0.25), np.float32(0.25), np.array(0.25)):
        params = fresh(np.float32)
        AdamW(0.1).step(params, gradients(0, np.float32), scale=scale)
        results.append(params)
    assert all(same_bits(results[0], r) for r in results)
    with pytest.raises(ValueError, match=r"scale: expected a number or an array of shape \(\), got shape \(5,\)"):
        Adam().step(fresh(), gradients(0), scale=np.ones(5))


def test_a_centered_constant_gradient_stays_finite():
    "The variance is zero; rounding may leave it negative."
    p, opt = np.ones(1000), RMSprop(1e-9, centered=True)
    g = np.random.default_rng(0).normal(size=1000)
    for _ in range(3000):
        opt.step(p, g)
    assert np.isfinite(p).all()


def test_a_subclass_brings_its_own_rule():
    @dataclass(eq=False)
    class Sign(optim.Optimizer):
        lr: float = 0.1

        def update(self, xp, p, g, kept, work, lr):
            xp.subtract(p, xp.multiply(xp.sign(g, out=work), lr, out=work), out=p)

    opt, p = Sign(), np.zeros(2)
    opt.step(p, np.array([3.0, -0.1]))
    assert p.tolist() == [-0.1, 0.1]
    with pytest.raises(NotImplementedError, match="has to define update"):
        optim.Optimizer.update(opt, np, p, p, {}, p, 0.1)


# ---- the device

@pytest.mark.parametrize("rule, options", [(r, o) for r, o, _, _ in RULES], ids=NAMES)
def test_never_waits_for_the_device_and_gives_the_same_bits(rule, options):
    here, there = fresh(np.float32), tree_map(device.asarray, fresh(np.float32))
    one, two = rule(**options), rule(**options)
    DeviceArray.synchronisations.clear()
    for step in range(3):
        grads = gradients(step, np.float32)
        grads_there = tree_map(device.asarray, grads)
        one.step(here, clip_norm(grads, 2.0)[0])
        two.step(there, grads_there, scale=clip_scale(global_norm(grads_there), 2.0))
        one.step(here, clip_value(grads, 0.3))
        two.step(there, clip_value(clip_norm(grads_there, 1e9)[0], 0.3))
    assert not DeviceArray.synchronisations
    assert same_bits(here, tree_map(asnumpy, there))


def test_a_state_from_the_host_moves_to_the_device_once():
    here, there = fresh(), tree_map(device.asarray, fresh())
    one = Adam()
    one.step(here, gradients(0))
    two = Adam()
    two.load_state(one.state())
    there = tree_map(device.asarray, here)
    one.step(here, gradients(1))
    two.step(there, tree_map(device.asarray, gradients(1)))
    assert same_bits(here, tree_map(asnumpy, there))
    assert all(isinstance(a, DeviceArray) for a in leaves(two.state()[0]).values())


def test_mixing_host_and_device_is_refused():
    with pytest.raises(TypeError, match="bring them to one side first"):
        Adam().step({"W": np.ones(3)}, {"W": device.asarray(np.ones(3))})
    with pytest.raises(TypeError, match="bring them to one side first"):
        global_norm({"W": np.ones(3), "b": device.asarray(np.ones(3))})


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("rule, options", [(r, o) for r, o, _, _ in RULES], ids=NAMES)
def test_cupy_follows_numpy(rule, options, dtype):
    here, there = fresh(dtype), to(fresh(dtype), "cupy")
    one, two = rule(**options), rule(**options)
    for step in range(10):
        grads = gradients(step, dtype)
        one.step(here, clip_norm(grads, 2.0)[0])
        two.step(there, to(grads, "cupy"), scale=clip_scale(global_norm(to(grads, "cupy")), 2.0))
        if step == 5:                                            # through the host and back
            state = to(two.state()[0], "numpy"), two.state()[1]
            two = optimizer_from(two.config())
            two.load_state(state)
    for p, q in zip(leaves(here).values(), leaves(to(there, "numpy")).values(), strict=True):
        assert p.dtype == q.dtype and np.allclose(p, q, rtol=10 * TOLERANCE[dtype], atol=TOLERANCE[dtype])


# ---- clipping as properties

sizes = st.floats(-1e6, 1e6, allow_subnormal=False)
arrays = hnp.arrays(np.float64, hnp.array_shapes(max_dims=3, max_side=5), elements=sizes)
trees = st.dictionaries(st.sampled_from("abc"), arrays, min_size=1)
limits = st.floats(1e-3, 1e4)


@given(trees, limits)
def test_clip_norm_bounds_the_length_and_keeps_the_direction(grads, limit):
    clipped, norm = clip_norm(grads, limit)
    assert global_norm(clipped) <= limit * (1 + 1e-12)
    flat, cut = (np.concatenate([a.ravel() for a in t.values()]) for t in (grads, clipped))
    assert np.isclose(norm, np.linalg.norm(flat), rtol=1e-12, atol=1e-150)
    assert np.allclose(cut * max(norm, limit), flat * limit, rtol=1e-12, atol=1e-300)
    if norm <= limit:
        assert same_bits(grads, clipped)


@given(trees, limits)
def test_clip_value_bounds_every_entry_and_leaves_short_ones(grads, limit):
    clipped = clip_value(grads, limit)
    for k, g in grads.items():
        assert (np.abs(clipped[k]) <= limit).all()
        assert np.array_equal(clipped[k][np.abs(g) <= limit], g[np.abs(g) <= limit])
        assert np.array_equal(np.sign(clipped[k]), np.sign(g))
    assert same_bits(clip_value(clipped, limit), clipped)


@given(trees, st.floats(1e-6, 1e6))
def test_the_norm_is_homogeneous(grads, factor):
    assert np.isclose(global_norm(tree_map(lambda g: g * factor, grads)), factor * global_norm(grads), rtol=1e-9, atol=1e-150)


def test_the_norm_of_large_float32_gradients_is_finite():
    clipped, norm = clip_norm({"W": np.full((10, 10), 3e38, np.float32)}, 1.0)
    assert np.isclose(norm, 3e39) and np.allclose(clipped["W"], 0.1) and clipped["W"].dtype == np.float32


def test_nan_passes_through_clipping_and_is_named_on_request():
    grads = {"layer": Params(np.ones((2, 3)), np.array([1.0, np.nan, -np.inf]))}
    assert np.isnan(clip_norm(grads, 1.0)[0]["layer"].W).all()
    for where in (lambda g: g, device.asarray):
        with pytest.raises(FloatingPointError) as e:
            check_finite(tree_map(where, grads))
        assert str(e.value) == "grads.layer.b: 2 of 3 entries are not finite, the first at (1,): nan"
    DeviceArray.synchronisations.clear()
    check_finite(tree_map(device.asarray, gradients(0)))
    assert sum(DeviceArray.synchronisations.values()) == 1
    with pytest.raises(FloatingPointError, match=r"^weights: 1 of 1 entries are not finite, the first at \(\): inf"):
        check_finite(np.array(np.inf), "weights")


# ---- schedules as properties

rates = st.floats(0, 10)
counts = st.integers(1, 300)
simple = st.one_of(
    st.builds(constant, rates), st.builds(step_decay, rates, counts, st.floats(0.1, 1)), st.builds(exponential, rates, st.floats(0.5, 1)),
    st.builds(cosine, rates, counts, rates), st.builds(one_cycle, rates, st.integers(5, 300), st.floats(0.25, 0.9)))
schedules = st.one_of(simple, st.builds(warmup, simple, counts))


@given(schedules, st.integers(0, 1000))
def test_one_step_and_many_steps_agree(schedule, n):
    many = schedule(np.arange(n, n + 3))
    assert many.shape == (3,) and many.dtype == np.float64
    assert np.allclose([schedule(n + i) for i in range(3)], many, rtol=1e-12, atol=1e-14)
    assert type(schedule(n)) is float and schedule(np.int64(n)) == schedule(n)
    assert np.isfinite(many).all() and (many >= 0).all()


@given(schedules)
def test_a_schedule_survives_json(schedule):
    again = schedule_from(json.loads(json.dumps(schedule.config())))
    assert again == schedule and hash(again) == hash(schedule)
    opt = optimizer_from(json.loads(json.dumps(AdamW(schedule, betas=(0.8, 0.95)).config())))
    assert opt.lr == schedule and opt.betas == (0.8, 0.95)


@given(simple, counts)
def test_warmup_climbs_evenly_and_hands_over(schedule, n):
    plan, k = warmup(schedule, n), np.arange(n + 20)
    assert np.allclose(np.diff(plan(k[: n + 1])), schedule(0) / (n + 1), rtol=1e-9, atol=1e-12)
    assert np.allclose(plan(k[n:]), schedule(k[n:] - n), rtol=1e-12, atol=1e-14)


@given(rates, counts, st.floats(0, 1))
def test_cosine_falls_from_top_to_final_and_stays(lr, steps, share):
    schedule = cosine(lr, steps, lr * share)
    values = schedule(np.arange(steps + 5))
    assert math.isclose(values[0], lr) and np.allclose(values[steps:], lr * share, rtol=1e-12, atol=1e-300)
    assert (np.diff(values) <= 1e-12).all()


@given(st.integers(5, 300), st.floats(0.25, 0.9))
def test_one_cycle_rises_once_and_falls_once(steps, pct_start):
    schedule = one_cycle(1.0, steps, pct_start)
    values = schedule(np.arange(steps + 3))
    assert math.isclose(values[0], 1 / 25) and np.allclose(values[steps - 1:], 1 / 25e4)
    signs = np.sign(np.diff(values[:steps]).round(15))
    assert (np.diff(signs) <= 0).all() and values.max() <= 1


# ---- bad input

@pytest.mark.parametrize("make, error, message", [
    (lambda: Adam(-0.1), ValueError, "lr: expected a number in [0, inf), got -0.1"),
    (lambda: Adam(math.nan), ValueError, "lr: expected a number in [0, inf), got nan"),
    (lambda: Adam(math.inf), ValueError, "lr: expected a number in [0, inf), got inf"),
    (lambda: Adam("0.1"), TypeError, "lr: expected a number in [0, inf), got '0.1' (str)"),
    (lambda: Adam(True), TypeError, "lr: expected a number in [0, inf), got True (bool)"),
    (lambda: Adam(betas=(0.9, 1.0)), ValueError, "betas[1]: expected a number in [0, 1), got 1.0"),
    (lambda: Adam(betas=0.9), TypeError, "betas: expected two numbers (beta1, beta2), got 0.9"),
    (lambda: Adam(eps=0), ValueError, "eps: expected a number in (0, inf), got 0"),
    (lambda: AdamW(weight_decay=-1), ValueError, "weight_decay: expected a number in [0, inf), got -1"),
    (lambda: SGD(momentum=9), ValueError, "momentum: expected a number in [0, 1), got 9"),
    (lambda: SGD(nesterov=True), ValueError, "nesterov: expected a momentum in (0, 1) with it, got momentum=0.0"),
    (lambda: SGD(nesterov="yes", momentum=0.9), ValueError, "nesterov: expected True or False, got 'yes'"),
    (lambda: RMSprop(alpha=1.5), ValueError, "alpha: expected a number in [0, 1), got 1.5"),
    (lambda: Adagrad(initial_accumulator_value=-1), ValueError, "initial_accumulator_value: expected a number in [0, inf), got -1"),
    (lambda: setattr(Adam(), "eps", -1), ValueError, "eps: expected a number in (0, inf), got -1"),
    (lambda: Adam(lambda t: -1.0).step(np.ones(1), np.ones(1)), ValueError, "lr(0): expected a number in [0, inf), got -1.0"),
    (lambda: Adam(lambda t: 0.1).config(), TypeError, "lr: a function cannot be written down"),
    (lambda: constant(-1), ValueError, "lr: expected a number in [0, inf), got -1"),
    (lambda: cosine(0.1, 0), ValueError, "steps: expected a whole number >= 1, got 0"),
    (lambda: cosine(0.1, 10.5), TypeError, "steps: expected a whole number >= 1, got 10.5 (float)"),
    (lambda: step_decay(0.1, 10, 0), ValueError, "factor: expected a number in (0, inf), got 0"),
    (lambda: warmup(0.1, 10), TypeError, "schedule: expected a schedule such as constant(0.1), got 0.1 (float)"),
    (lambda: one_cycle(0.1, 3), ValueError, "steps: expected more than 1 / pct_start = 3.33333, got 3"),
    (lambda: one_cycle(0.1, 30, 1.0), ValueError, "pct_start: expected a number in (0, 1), got 1.0"),
    (lambda: constant(0.1)(-1), ValueError, "step: expected whole numbers >= 0, got -1"),
    (lambda: constant(0.1)(np.array([3, -2])), ValueError, "step: expected whole numbers >= 0, got -2"),
    (lambda: constant(0.1)(0.5), TypeError, "step: expected whole numbers >= 0, got 0.5"),
    (lambda: schedule_from({"name": "linear"}), ValueError, "schedule_from: expected a config whose name is one of constant, step_decay"),
    (lambda: optimizer_from({"name": "Adam", "beta": 1}), ValueError, "optimizer_from: Adam has no 'beta'; it has lr, betas, eps"),
    (lambda: optimizer_from("Adam"), ValueError, "optimizer_from: expected a config whose name is one of SGD"),
    (lambda: clip_norm(np.ones(3), 0), ValueError, "max_norm: expected a number in (0, inf), got 0"),
    (lambda: clip_norm(np.ones(3), 1, eps=-1), ValueError, "eps: expected a number in [0, inf), got -1"),
    (lambda: clip_value(np.ones(3), -1), ValueError, "max_abs: expected a number in (0, inf), got -1"),
    (lambda: clip_value({}, 1), ValueError, "grads: expected at least one array, got a tree without any"),
    (lambda: global_norm({"W": None}), ValueError, "grads: expected at least one array, got a tree without any"),
    (lambda: global_norm({"ids": np.ones(3, int)}), TypeError, "grads.ids: expected float32 or float64, got int64"),
    (lambda: global_norm([1.0]), TypeError, "grads.0: expected a NumPy or CuPy array, got float"),
])
def test_bad_input_is_named(make, error, message):
    with pytest.raises(error) as e:
        make()
    assert str(e.value).startswith(message)


def read_only():
    p = np.ones(3)
    p.flags.writeable = False
    return p


@pytest.mark.parametrize("params, grads, error, message", [
    ({}, {}, ValueError, "params: expected at least one array"),
    ({"W": np.ones(3)}, {}, ValueError, "grads: 'W' is missing; expected the leaves of params: 'W'"),
    ({"W": np.ones(3)}, {"W": None}, ValueError, "grads: 'W' is missing"),
    ({"W": np.ones(3)}, {"W": np.ones(3), "b": np.ones(1)}, ValueError, "grads: 'b' belongs to no parameter"),
    ({"W": np.ones(3)}, {"W": np.ones((3, 1))}, ValueError, "grads.W: expected shape (3,), got (3, 1)"),
    ({"W": np.ones(3)}, {"W": np.ones(1)}, ValueError, "grads.W: expected shape (3,), got (1,)"),
    ({"W": np.ones(3, np.float32)}, {"W": np.ones(3)}, TypeError, "grads.W: expected float32, got float64"),
    ({"W": np.ones(3, int)}, {"W": np.ones(3, int)}, TypeError, "params.W: expected float32 or float64, got int64"),
    ({"W": np.ones(3, np.float16)}, {"W": np.ones(3, np.float16)}, TypeError, "params.W: expected float32 or float64, got float16"),
    ({"W": 1.0}, {"W": 1.0}, TypeError, "params.W: expected a NumPy or CuPy array, got float"),
    ({"W": np.float64(1.0)}, {"W": np.float64(1.0)}, ValueError, "params.W: expected an array that can be written to, got a read-only one"),
    ({"W": read_only()}, {"W": np.ones(3)}, ValueError, "params.W: expected an array that can be written to, got a read-only one"),
    (np.ones(3), np.ones(4), ValueError, "grads: expected shape (3,), got (4,)"),
])
def test_gradients_that_do_not_fit_are_refused(params, grads, error, message):
    other = np.ones(2)
    if isinstance(params, dict) and "W" in params:                 # a good leaf comes first: it must not have moved
        params, grads = {"A": other} | params, {"A": np.ones(2)} | grads
        message = message.replace("params: 'W'", "params: 'A', 'W'")
    opt = SGD(0.1, momentum=0.9)
    with pytest.raises(error) as e:
        opt.step(params, grads)
    assert str(e.value).startswith(message)
    assert (other == 1).all() and opt.t == 0


def test_an_array_under_two_names_is_refused():
    W = np.ones(3)
    with pytest.raises(ValueError, match="params: 'in' and 'out' are one array"):
        Adam().step({"in": W, "out": W}, {"in": np.ones(3), "out": np.ones(3)})


def test_the_leaves_stay_the_same_from_step_to_step():
    opt = Adam()
    opt.step({"W": np.ones(3)}, {"W": np.ones(3)})
    with pytest.raises(ValueError, match="params: 'b' is new; the optimiser remembers 'W'"):
        opt.step({"W": np.ones(3), "b": np.ones(1)}, {"W": np.ones(3), "b": np.ones(1)})
    with pytest.raises(ValueError, match="params: 'b' is new"):
        opt.step({"b": np.ones(1)}, {"b": np.ones(1)})
    assert opt.t == 1
