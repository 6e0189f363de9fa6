"""Stacks: any units, sizes of their own, dropout and skip connections, against central differences, plain composition and PyTorch."""
import json
from itertools import pairwise

import numpy as np
import pytest
from agreement import agree, agree_with_differences
from hypothesis import given, settings
from hypothesis import strategies as st
from test_brnn import SOME, both_case, torch_call, torch_gradient, torch_stack
from test_units import ARRIVING, LENGTHS, run
from units import CASES, UNITS, case, label

from seqbook.backend import DeviceArray, asnumpy, device, leaves, like, to, tree_map
from seqbook.bptt import check_unit
from seqbook.brnn import Bidirectional, BidirectionalParams, bidirectional, fresh
from seqbook.deep_rnn import Deep, DeepMasks, deep, deep_step, dropout_masks
from seqbook.gru import GRU, gru
from seqbook.language_model import LanguageModel, layer_config, layer_from
from seqbook.lstm import LSTM, lstm
from seqbook.notation import Vocabulary
from seqbook.rnn import RNN, RNNParams, RNNState, rnn
from seqbook.sampling import beam_search, generate
from seqbook.training import load_tree, save_tree

pytestmark = pytest.mark.filterwarnings("error")
SIZES = {None: (5, 2, 4), "residual": (4, 4, 4), "input": (5, 2, 4), "output": (5, 2, 4), "both": (5, 2, 4)}
DROPOUT = {"no dropout": None, "per step": "step", "per sequence": "sequence"}
STACKS = [(u, o, skip) for u, o in SOME for skip in SIZES]
GRID = [(*stack, n, a, d) for stack in STACKS for n in LENGTHS for a in ARRIVING for d in DROPOUT
        if stack[0].name == "rnn" or (n, d) == ("ragged", "per step")]  # the whole of it over one unit, a slice over the others


def deep_case(unit, skip, seed=0, T=6, B=4, n_x=3, sizes=None, dtype=np.float64, dropout=None):
    "Parameters, input, initial states and masks of a stack."
    sizes, extra = sizes or SIZES[skip], n_x if skip in ("input", "both") else 0
    reads = [n_x, *(n + extra for n in sizes[:-1])]
    parts = [case(unit, seed + k, T, B, n, m, dtype) for k, (n, m) in enumerate(zip(reads, sizes, strict=True))]
    masks = None if dropout is None else dropout_masks(seed, B, sizes[:-1], 0.3, T if dropout == "step" else None, dtype)
    return tuple(p for p, _, _ in parts), parts[0][1], tuple(s for _, _, s in parts), masks


def stacked(unit, skip, L=3, form="table"):
    return deep([unit.forms[form]] * L, skip)


def by_hand(unit, options, skip, p, X, state, lengths, masks):
    "The table of the chapter, written out."
    Y, ends = [], []
    for k in range(len(p)):
        h = X if k == 0 else Y[-1] if masks is None else masks[k - 1] * Y[-1]
        h = np.concatenate([h, X], axis=-1) if k and skip in ("input", "both") else h
        out, end, _ = unit.forms["plain"](p[k], h, state[k], lengths, **options)
        Y.append(out + Y[-1] if k and skip == "residual" else out)
        ends.append(end)
    return np.concatenate(Y, axis=-1) if skip in ("output", "both") else Y[-1], tuple(ends)


@pytest.mark.parametrize("unit, options, skip, lengths, arriving, dropout", GRID, ids=label)
def test_gradients_equal_central_differences(unit, options, skip, lengths, arriving, dropout):
    p, X, state, masks = deep_case(unit, skip, dropout=DROPOUT[dropout])
    report = check_unit(stacked(unit, skip), p, X, state, LENGTHS[lengths], **ARRIVING[arriving], masks=masks, samples=8, **options)
    agree_with_differences(report, 1e-7, f"deep {unit.name}")


@pytest.mark.parametrize("unit, options, skip", STACKS, ids=label)
def test_gradients_without_initial_state(unit, options, skip):
    p, X, _, masks = deep_case(unit, skip, 1, dropout="step")
    samples = None if unit.name == "rnn" else 25
    check_unit(stacked(unit, skip), p, X, lengths=[6, 0, 2, 6], masks=masks, samples=samples, **options).check(1e-7)


@pytest.mark.parametrize("unit, options", CASES, ids=label)
def test_gradients_with_every_unit(unit, options):
    "Of every kind, all on one RNN below and one above."
    parts = [case(UNITS[0], 1, n_a=4), case(unit, 2, n_x=4), case(UNITS[0], 3, n_x=5, n_a=2)]
    bound = lambda *args: unit.forms["table"](*args, **options)
    masks = dropout_masks(0, 4, [4, 5], 0.3, 6, np.float64)
    p, _, state = zip(*parts)
    check_unit(deep([rnn, bound, rnn]), p, parts[0][1], state, LENGTHS["ragged"], masks=masks, samples=30).check(1e-7)


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("unit, options", SOME, ids=label)
def test_gradients_of_mixed_nestings(unit, options, lengths):
    "Bidirectional in deep, deep in bidirectional, deep in deep."
    f, make = unit.forms["table"], lambda n, m, seed: case(unit, seed, 6, 4, n, m)[0]
    X = case(unit)[1]
    both = lambda n, m, seed: BidirectionalParams(make(n, m, seed), make(n, m, seed + 50))
    nestings = [
        (deep([bidirectional(f), bidirectional(f, merge="product"), f]), (both(3, 2, 1), both(4, 3, 2), make(3, 2, 3))),
        (bidirectional(deep([f, f], "output"), deep([f]), "concat"), BidirectionalParams((make(3, 2, 1), make(2, 3, 2)), (make(3, 4, 3),))),
        (deep([f, deep([f, f], "residual")]), (make(3, 4, 1), (make(4, 4, 2), make(4, 4, 3)))),
    ]
    for network, p in nestings:
        check_unit(network, p, X, None, LENGTHS[lengths], samples=5, **options).check(1e-7)


@pytest.mark.parametrize("arriving", [("Y", "state"), ("Y",), ("state",), ()], ids="+".join)
@pytest.mark.parametrize("dtype, tol", [(np.float64, 1e-13), (np.float32, 3e-6)], ids=["float64", "float32"])
@pytest.mark.parametrize("unit, options, skip", STACKS, ids=label)
def test_over_the_fast_form_as_over_the_plain_one(unit, options, skip, dtype, tol, arriving):
    p, X, state, masks = deep_case(unit, skip, dtype=dtype, dropout="step")
    args, options = (p, X, state, [6, 3, 1, 4], arriving), {"masks": masks, **options}
    want, got = (run(stacked(unit, skip, form=form), *args, **options) for form in ("plain", "table"))
    agree(got, want, tol)


@pytest.mark.parametrize("dropout", DROPOUT)
@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("unit, options, skip", STACKS, ids=label)
def test_equal_to_the_composition_written_out(unit, options, skip, lengths, dropout):
    p, X, state, masks = deep_case(unit, skip, dropout=DROPOUT[dropout])
    Y, end, _ = stacked(unit, skip)(p, X, state, LENGTHS[lengths], masks=masks, **options)
    want, ends = by_hand(unit, options, skip, p, X, state, LENGTHS[lengths], masks)
    assert abs(Y - want).max() < 1e-13
    agree(leaves(end), leaves(ends), 1e-13)


@pytest.mark.parametrize("unit, options, skip", STACKS, ids=label)
def test_stepping_equals_unrolling(unit, options, skip):
    p, X, state, _ = deep_case(unit, skip)
    Y, end, _ = stacked(unit, skip)(p, X, state, **options)
    step = lambda q: lambda x, s: (lambda after: (after[0], after))(unit.step(q, x, s, **options)[0])
    for t, x in enumerate(X):
        y, state = deep_step([step(q) for q in p], skip, x, state)
        assert np.allclose(y, Y[t], atol=1e-14)
    agree(leaves(state), leaves(end), 1e-14)


@pytest.mark.parametrize("unit, options, skip", STACKS, ids=label)
def test_states_of_every_layer_go_on(unit, options, skip):
    "Read in windows as at once; a part of a state may be missing."
    p, X, state, _ = deep_case(unit, skip)
    f = stacked(unit, skip)
    Y, end, _ = f(p, X, state, **options)
    Y_1, half, _ = f(p, X[:2], state, **options)
    Y_2, end_2, _ = f(p, X[2:], list(half), **options)
    assert np.allclose(np.concatenate([Y_1, Y_2]), Y, atol=1e-13)
    agree(leaves(end_2), leaves(end), 1e-13)
    zeros = tree_map(np.zeros_like, state)
    assert (f(p, X, (state[0], None, state[2]), **options)[0] == f(p, X, (state[0], zeros[1], state[2]), **options)[0]).all()


@pytest.mark.parametrize("unit, options, skip", STACKS, ids=label)
def test_derivative_of_one_layers_state_alone(unit, options, skip):
    p, X, state, masks = deep_case(unit, skip, dropout="step")
    _, end, pullback = stacked(unit, skip)(p, X, state, [6, 3, 1, 4], masks=masks, **options)
    ones = tree_map(np.ones_like, end)
    zero = tree_map(np.zeros_like, end)
    for k in range(3):
        alone = tuple(ones[j] if j == k else None for j in range(3))
        filled = tuple(ones[j] if j == k else zero[j] for j in range(3))
        agree(leaves(pullback(None, alone)), leaves(pullback(None, filled)), 1e-15)
        assert all(not a.any() for a in leaves(pullback(None, alone)[1][k + 1:]).values())


@pytest.mark.parametrize("T, B, n_x", [(1, 1, 1), (1, 3, 2), (4, 0, 3), (0, 3, 2), (17, 9, 5)])
@pytest.mark.parametrize("L", [1, 2, 5])
@pytest.mark.parametrize("unit, options, skip", STACKS, ids=label)
def test_shapes_at_the_edges(unit, options, skip, L, T, B, n_x):
    p, X, state, masks = deep_case(unit, skip, T=T, B=B, n_x=n_x, sizes=(3,) * L, dropout="step")
    Y, end, pullback = stacked(unit, skip, L)(p, X, state, masks=masks, **options)
    assert Y.shape == (T, B, 3 * L if skip in ("output", "both") else 3)
    dX, grads, start = pullback(np.ones_like(Y), end)
    assert dX.shape == X.shape
    for a, b in ((grads, p), (start, state), (end, state)):
        assert {k: v.shape for k, v in leaves(a).items()} == {k: v.shape for k, v in leaves(b).items()}


@pytest.mark.parametrize("dropout", DROPOUT)
@pytest.mark.parametrize("unit, options, skip", STACKS, ids=label)
def test_padding_counts_for_nothing(unit, options, skip, dropout):
    p, X, state, masks = deep_case(unit, skip, dropout=DROPOUT[dropout])
    lengths, noisy, f = [6, 3, 1, 0], X.copy(), stacked(unit, skip)
    Y, end, pullback = f(p, X, state, lengths, masks=masks, **options)
    dY = np.random.default_rng(0).normal(size=Y.shape)
    loud = dY.copy()
    want = leaves({"Y": Y, "end": end, "back": pullback(dY, end)})
    for i, n in enumerate(lengths):
        noisy[n:, i], loud[n:, i] = 1e6, 1e6
    Y, end, pullback = f(p, noisy, state, lengths, masks=masks, **options)
    got = leaves({"Y": Y, "end": end, "back": pullback(loud, end)})
    assert all((got[k] == want[k]).all() for k in want)
    assert all((Y[n:, i] == 0).all() and (want["back.0"][n:, i] == 0).all() for i, n in enumerate(lengths))


@pytest.mark.parametrize("unit, options, skip", STACKS, ids=label)
def test_pure(unit, options, skip):
    p, X, state, masks = deep_case(unit, skip, dropout="step")
    everything = lambda: leaves({"p": p, "X": X, "state": state, "masks": masks})
    before = {k: a.copy() for k, a in everything().items()}
    Y, end, pullback = stacked(unit, skip)(p, X, state, [6, 3, 1, 4], masks=masks, **options)
    dY = np.ones_like(Y)
    first, second = (leaves(pullback(dY, end)) for _ in range(2))
    assert all((first[k] == second[k]).all() for k in first) and (dY == 1).all()
    assert all((before[k] == a).all() for k, a in everything().items())


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("unit, options, skip", STACKS, ids=label)
def test_on_the_device_without_a_single_wait(unit, options, skip, lengths, synchronisations):
    p, X, state, masks = deep_case(unit, skip, dropout="step")
    f = stacked(unit, skip)
    want = run(f, p, X, state, LENGTHS[lengths], masks=masks, **options)
    p, X, state, masks = tree_map(device.asarray, (p, X, state, masks))
    got = run(f, p, X, state, LENGTHS[lengths], masks=masks, **options)
    assert not synchronisations and all(isinstance(a, DeviceArray) for a in got.values())
    agree(tree_map(asnumpy, got), want, 1e-13)


@pytest.mark.gpu
@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("unit, options, skip", STACKS, ids=label)
def test_on_a_gpu(unit, options, skip, lengths):
    import cupy
    p, X, state, masks = deep_case(unit, skip, dropout="step")
    f = stacked(unit, skip)
    want = run(f, p, X, state, LENGTHS[lengths], ("Y",), masks=masks, **options)
    p, X, state, masks = to((p, X, state, masks), "cupy")
    Y, end, pullback = f(p, X, state, LENGTHS[lengths], masks=masks, **options)
    dX, grads, start = pullback(cupy.asarray(np.random.default_rng(3).normal(size=Y.shape)))
    agree(to(leaves({"Y": Y, "end": end, "dX": dX, "grads": grads, "dstate0": start}), "numpy"), want, 1e-10)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_sizes_any_lengths(data):
    unit, options, skip = data.draw(st.sampled_from(STACKS))
    T, B, n_x, L = (data.draw(st.integers(1, n)) for n in (7, 5, 4, 4))
    sizes = (data.draw(st.integers(1, 5)),) * L if skip == "residual" else tuple(data.draw(st.integers(1, 5)) for _ in range(L))
    lengths = data.draw(st.none() | st.lists(st.integers(0, T), min_size=B, max_size=B))
    seed, dropout = data.draw(st.integers(0, 99)), data.draw(st.sampled_from([None, "step"]))
    p, X, state, masks = deep_case(unit, skip, seed, T, B, n_x, sizes, dropout=dropout)
    Y, end, _ = stacked(unit, skip, L)(p, X, state, lengths, masks=masks, **options)
    want, ends = by_hand(unit, options, skip, p, X, state, lengths, masks)
    assert abs(Y - want).max() < 1e-12
    agree(leaves(end), leaves(ends), 1e-12)


# ---- PyTorch, computing in float64 from the same numbers: the rounding of our float32 is then measured against the truth, and not
# against another rounding. Its h_n is our states by name, in their order.
def double(tree):
    return tree_map(lambda a: a.astype(np.float64), tree)


@pytest.mark.parametrize("arriving", [("Y", "state"), ("Y",), ("state",)], ids="+".join)
@pytest.mark.parametrize("lengths", ["full", "ragged"])
@pytest.mark.parametrize("dtype, tol", [(np.float64, 1e-12), (np.float32, 2e-6)], ids=["float64", "float32"])
@pytest.mark.parametrize("both", [False, True], ids=["one way", "both ways"])
@pytest.mark.parametrize("L", [2, 3])
def test_pytorch(L, both, dtype, tol, lengths, arriving, rng):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'seqbook[peers]'")
    reads = [3] + [10 if both else 5] * (L - 1)
    parts = [(both_case if both else case)(UNITS[0], k, n_x=n, dtype=dtype) for k, n in enumerate(reads)]
    p, X, state = tuple(q for q, _, _ in parts), parts[0][1], tuple(s for _, _, s in parts)
    Y, end, pullback = deep([bidirectional(rnn) if both else rnn] * L)(p, X, state, LENGTHS[lengths])
    dY, dend = rng.normal(size=Y.shape).astype(dtype), tree_map(lambda s: rng.normal(size=s.shape).astype(dtype), end)
    dX, grads, start = pullback(dY if "Y" in arriving else None, dend if "state" in arriving else None)

    joined = lambda tree: np.stack(list(leaves(double(tree)).values()))
    h, tdend = torch.tensor(joined(state), requires_grad=True), torch.tensor(joined(dend))
    layer, tX = torch_stack(torch, double(p)), torch.tensor(double(X), requires_grad=True)
    tY, tend = torch_call(torch, layer, tX, h, LENGTHS[lengths])
    ((tY * torch.tensor(double(dY))).sum() * ("Y" in arriving) + (tend * tdend).sum() * ("state" in arriving)).backward()
    ours = {"Y": Y, "end": np.stack(list(leaves(end).values())), "dX": dX, "start": np.stack(list(leaves(start).values()))}
    theirs = {"Y": tY, "end": tend, "dX": tX.grad, "start": h.grad}
    for name, g in leaves(grads).items():
        k, *side, field = name.split(".")
        ours[name], theirs[name] = g, torch_gradient(layer, int(k), *(side or ["forward"]), field)
    agree(ours, theirs, tol, "PyTorch, its side in float64", dtypes=False)


@pytest.mark.parametrize("dtype, tol", [(np.float64, 1e-12), (np.float32, 2e-6)], ids=["float64", "float32"])
@pytest.mark.parametrize("per", ["step", "sequence"])
@pytest.mark.parametrize("skip", list(SIZES), ids=label)
def test_pytorch_with_the_same_masks_and_skips(skip, per, dtype, tol, rng):
    "Single layers of PyTorch, composed by its own operations, its autograd doing the way back."
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'seqbook[peers]'")
    p, X, _, masks = deep_case(UNITS[0], skip, dtype=dtype, dropout=per)
    Y, _, pullback = deep([rnn] * 3, skip)(p, X, masks=masks)
    dY = rng.normal(size=Y.shape).astype(dtype)
    dX, grads, _ = pullback(dY)
    layers, tX, outputs = [torch_stack(torch, [q]) for q in double(p)], torch.tensor(double(X), requires_grad=True), []
    for k, layer in enumerate(layers):
        h = outputs[-1] * torch.tensor(double(masks[k - 1])) if k else tX
        out, _ = layer(torch.cat([h, tX], dim=-1) if k and skip in ("input", "both") else h)
        outputs.append(out + outputs[-1] if k and skip == "residual" else out)
    tY = torch.cat(outputs, dim=-1) if skip in ("output", "both") else outputs[-1]
    (tY * torch.tensor(double(dY))).sum().backward()
    theirs = {name: torch_gradient(layers[int(name[0])], 0, "forward", name[2:]) for name in leaves(grads)}
    agree({"Y": Y, "dX": dX, **leaves(grads)}, {"Y": tY, "dX": tX.grad, **theirs}, tol, "PyTorch, its side in float64", dtypes=False)


# ---- dropout
def test_masks_are_zeros_and_the_inverse_share():
    masks = dropout_masks(0, 50, [7, 3], 0.2, T=200)
    assert [m.shape for m in masks] == [(200, 50, 7), (200, 50, 3)] and all(m.dtype == np.float32 for m in masks)
    assert set(np.unique(masks[0])) == {np.float32(0), np.float32(1.25)}
    for m in masks:  # five standard errors of a mean of independent draws
        assert abs(m.mean() - 1) < 5 * np.sqrt(0.25 / m.size)
    assert abs(np.corrcoef(masks[1][:-1].ravel(), masks[1][1:].ravel())[0, 1]) < 0.03  # steps are drawn apart
    assert dropout_masks(0, 2, [3, 5], 0, T=4) == (None, None) == dropout_masks(None, 2, [3, 5], 0.5)


def test_masks_repeat_with_their_seed_and_go_on_with_their_generator():
    same = dropout_masks(5, 4, [3], 0.5, 6), dropout_masks(np.random.default_rng(5), 4, [3], 0.5, 6)
    assert (same[0][0] == same[1][0]).all()
    rng = np.random.default_rng(5)
    assert not (dropout_masks(rng, 4, [3], 0.5, 6)[0] == dropout_masks(rng, 4, [3], 0.5, 6)[0]).all()


def test_one_seed_gives_the_same_units_in_both_dtypes():
    a, b = (dropout_masks(1, 4, [3], 0.3, 6, dtype)[0] for dtype in (np.float32, np.float64))
    assert b.dtype == np.float64 and ((a > 0) == (b > 0)).all()


def test_masks_of_ones_change_nothing_and_none_stands_for_them():
    p, X, state, _ = deep_case(UNITS[0], None)
    f, ones = deep([rnn] * 3), (np.ones((6, 4, 5)), np.ones((4, 2)))
    want = run(f, p, X, state, None)
    for masks in (ones, (ones[0], None), (None, None), [None, ones[1]], DeepMasks(ones), DeepMasks(None, None)):
        agree(run(f, p, X, state, None, masks=masks), want, 0)


def test_noise_inside_the_units_too():
    "Drawn by one call for any nesting, handed down by name, and none of it lost."
    o = {"dtype": np.float64}
    layer = Deep([
        Bidirectional(LSTM(3, 4, recurrent_dropout=0.3, **o)),
        RNN(8, 5, **o),
        Deep([LSTM(5, 3, zoneout_c=0.2, **o), GRU(3, 4, **o)], dropout=0.25),
    ], dropout=0.25)
    X, masks = np.random.default_rng(0).normal(size=(6, 4, 3)), layer.masks(3, 4, 6)
    assert list(leaves(masks)) == ["between.0", "between.1", "inside.0.forward.drop", "inside.0.backward.drop",
                                   "inside.2.between.0", "inside.2.inside.0.hold_c"]
    network = deep([bidirectional(lstm), rnn, deep([lstm, gru])])
    assert (network(layer.params, X, None, [6, 3, 1, 4], masks=masks)[0] == layer(X, None, [6, 3, 1, 4], masks)[0]).all()
    check_unit(network, layer.params, X, layer.initial_state(4), [6, 3, 1, 4], masks=masks, samples=12).check(1e-7)
    for name in leaves(masks):  # each of them has an effect
        less = like(masks, {k: m * 0.5 if k == name else m for k, m in leaves(masks).items()})
        assert not np.allclose(layer(X, masks=less)[0], layer(X, masks=masks)[0])
    assert (layer(X, masks=layer.masks(None, 4))[0] == layer(X)[0]).all()  # no generator: the means, as without masks


# ---- the layer
LAYERS = {
    "plain": lambda **o: Deep([RNN(3, 5, **o), RNN(5, 2, "relu", **o), RNN(2, 4, **o)]),
    "residual": lambda **o: Deep([RNN(3, 4, **o), RNN(4, 4, **o)], dropout=0.25, skip="residual"),
    "both": lambda **o: Deep([LSTM(3, 5, **o), GRU(8, 2, **o)], dropout=0.1, skip="both"),
    "nested": lambda **o: Deep([RNN(3, 5, **o), Deep([RNN(5, 5, **o), RNN(5, 5, **o)], skip="residual")], skip="output"),
    "directions": lambda **o: Deep([Bidirectional(RNN(3, 2, **o)), Bidirectional([RNN(4, 3, **o), RNN(4, 3, seed=2, **o)], "mean")]),
}
STEPPING = [name for name in LAYERS if name != "directions"]


@pytest.mark.parametrize("name", LAYERS)
def test_configuration_round_trip(name):
    layer = LAYERS[name]()
    again = layer_from(json.loads(json.dumps(layer_config(layer))))
    assert type(again) is Deep and again.config() == layer.config() and repr(again) == repr(layer) and again.n_a == layer.n_a
    assert list(leaves(again.params)) == list(leaves(layer.params))
    again.params, X = layer.params, np.random.default_rng(0).normal(size=(4, 2, 3)).astype(np.float32)
    assert (again(X)[0] == layer(X)[0]).all() and again(X)[0].shape == (4, 2, layer.n_a)


@pytest.mark.parametrize("name", LAYERS)
def test_layer_gradients(name):
    layer = LAYERS[name](dtype=np.float64)
    X, masks = np.random.default_rng(0).normal(size=(5, 3, 3)), layer.masks(4, 3, 5)
    p = tree_map(lambda a: a + 0.1, layer.params)

    def unit(p, X, state, lengths):
        layer.params = p
        return layer(X, state, lengths, masks)

    check_unit(unit, p, X, layer.initial_state(3), [5, 2, 0], samples=12).check(1e-7)


@pytest.mark.parametrize("name", STEPPING)
def test_layer_steps(name):
    layer, X = LAYERS[name](dtype=np.float64), np.random.default_rng(0).normal(size=(5, 3, 3))
    Y, end, _ = layer(X)
    state = None
    for x, y in zip(X, Y, strict=True):
        out, state = layer.step(x, state)
        assert np.allclose(out, y, atol=1e-14)
    agree(leaves(state), leaves(end), 1e-14)
    assert list(leaves(layer.initial_state(3))) == list(leaves(end))


def test_no_step_where_a_layer_has_none():
    layer = LAYERS["directions"]()
    assert not hasattr(layer, "step") and hasattr(LAYERS["plain"](), "step")
    with pytest.raises(AttributeError, match="its backward layer begins at the end of the sequence"):
        layer.step(np.zeros((1, 3), np.float32))
    with pytest.raises(TypeError, match="got Deep without step"):
        LanguageModel(Vocabulary.characters("abc"), layer)


def test_layer_draws_its_masks_and_uses_them_only_when_given():
    layer, X = LAYERS["residual"](), np.random.default_rng(0).normal(size=(6, 4, 3)).astype(np.float32)
    plain, other = layer(X)[0], layer(X, masks=layer.masks(0, 4, 6))[0]
    assert (layer(X)[0] == plain).all() and not np.allclose(other, plain)
    assert (layer(X, masks=layer.masks(0, 4, 6))[0] == other).all()
    assert LAYERS["plain"]().masks(0, 4, 6) is None
    masks = LAYERS["both"](dtype=np.float64).masks(0, 4)
    assert [m.shape for m in masks.between] == [(4, 5)] and masks.between[0].dtype == np.float64 and not leaves(masks.inside)


def test_fresh_layers_are_alike_and_different():
    for make in LAYERS.values():
        layer, other = make(dtype=np.float64), fresh(make(dtype=np.float64), 9)
        assert other.config() == layer.config() and list(leaves(other.params)) == list(leaves(layer.params))
        assert not np.allclose(leaves(other.params)["0.Wax" if "0.Wax" in leaves(layer.params) else "0.forward.Wax"],
                               next(iter(leaves(layer.params).values())))
        assert next(iter(leaves(other.params).values())).dtype == np.float64


def test_bidirectional_over_a_stack():
    layer = Bidirectional(Deep([RNN(3, 5, seed=1), RNN(5, 4, seed=2)]))
    assert layer.n_a == 8 and list(leaves(layer.params))[:2] == ["forward.0.Wax", "forward.0.Waa"]
    again = layer_from(json.loads(json.dumps(layer_config(layer))))
    again.params, X = layer.params, np.ones((4, 2, 3), np.float32)
    assert (again(X, lengths=[4, 2])[0] == layer(X, lengths=[4, 2])[0]).all()


def test_under_a_language_model(tmp_path):
    "Fit, step, sample, search, save and load with a stack as the layer."
    text = "to be or not to be that is the question " * 20
    stack = lambda: Deep([RNN(12, 16, seed=1), RNN(16, 16, seed=2)], skip="residual")
    model = LanguageModel(Vocabulary.characters(text), stack())
    before = model.evaluate(text).nats
    model.fit(text, steps=150, T=16, batch_size=8, progress=False)
    assert model.evaluate(text).nats < before / 2
    model.save(tmp_path / "model")
    again = LanguageModel.load(tmp_path / "model")
    assert again.layer.config() == model.layer.config() and again.evaluate(text) == model.evaluate(text)
    assert generate(again, "to be", length=20, n=3, seed=1) == generate(model, "to be", length=20, n=3, seed=1)
    assert beam_search(model, "to be", width=3, length=5)[0].text


def test_training_is_resumed_exactly(tmp_path):
    "States of every layer are in the checkpoint."
    text = "to be or not to be that is the question " * 20
    make = lambda: LanguageModel(Vocabulary.characters(text), Deep([RNN(12, 8, seed=1), RNN(8, 8, seed=2)]))
    whole, parts, options = make(), make(), {"T": 16, "batch_size": 8, "progress": False}
    whole.fit(text, steps=12, **options)
    parts.fit(text, steps=5, checkpoint=tmp_path / "c", every=5, **options)
    parts = make()
    parts.fit(text, steps=12, checkpoint=tmp_path / "c", every=5, **options)
    assert all((a == b).all() for a, b in zip(leaves(whole.params).values(), leaves(parts.params).values(), strict=True))


# ---- bad input
def test_bad_arguments_are_named():
    p, X, state, masks = deep_case(UNITS[0], None, dropout="step")
    f = deep([rnn] * 3)
    Y, end, pullback = f(p, X, state)
    with pytest.raises(ValueError, match="skip: expected None or one of residual, input, output, both, got True"):
        deep([rnn], skip=True)
    for units, got in (([], r"\[\]"), (rnn, "rnn"), (None, "None"), ("rnn", "'rnn'"), (RNN(3, 5), "RNN"), (iter([rnn]), "<list_iterator")):
        with pytest.raises(TypeError, match=f"units: expected a list of functions such as rnn, lowest first, got {got}"):
            deep(units)
    for unit, got in ((3, "3"), (RNN, "the class RNN"), (RNN(3, 5), r"RNN\(n_x=3")):
        with pytest.raises(TypeError, match=rf"units\[1\]: expected a function such as rnn, gru or lstm, got {got}"):
            deep([rnn, unit])
    for skip in (["input"], {}, np.array(["input", "output"])):
        with pytest.raises(ValueError, match="skip: expected None or one of residual, input, output, both, got"):
            deep([rnn], skip)
    with pytest.raises(ValueError, match="skip: expected None or one of .*, got 'inputs'"):
        deep_step([RNN(3, 5).step], "inputs", np.ones((2, 3), np.float32))
    for skip in (None, "input"):
        with pytest.raises(TypeError, match="^X: expected a NumPy or CuPy array, got list"):
            deep([rnn] * 3, skip)(p, X.tolist())
    with pytest.raises(TypeError, match="p: expected a tuple of 3, lowest layer first, got RNNParams"):
        f(p[0], X)
    with pytest.raises(TypeError, match="p: expected a tuple of 3, lowest layer first, got NoneType"):
        f(None, X)
    with pytest.raises(TypeError, match="p: expected a tuple of 3, lowest layer first, got tuple of 2"):
        f(p[:2], X)
    with pytest.raises(TypeError, match="state: expected a tuple of 3, lowest layer first, got RNNState"):
        f(p, X, state[0])
    with pytest.raises(ValueError, match=r"layers\[1\]: state.a: expected shape \(4, 2\), got \(4, 5\)"):
        f(p, X, (state[0], state[0], state[2]))
    with pytest.raises(ValueError, match=r"layers\[0\]: X: expected shape \(T, B, 3\), got \(6, 4, 2\)"):
        f(p, X[..., :2])
    with pytest.raises(ValueError, match=r"layers\[1\]: X: expected shape \(T, B, 5\), got \(6, 4, 4\)"):
        f((p[2]._replace(Wax=np.ones((4, 3))), p[1], p[2]), X)
    with pytest.raises(ValueError, match=r"layers\[0\]: lengths"):
        f(p, X, state, [1, 2])
    with pytest.raises(TypeError, match="bring them to one side"):
        f(p, device.asarray(X))
    with pytest.raises(ValueError, match=r"skip='residual': layers\[1\] reads 5 features and puts out 2; they must agree"):
        deep([rnn] * 3, "residual")(p, X)
    with pytest.raises(TypeError, match="masks.between: expected a tuple of 2, lowest layer first, got tuple of 3"):
        f(p, X, masks=(*masks, masks[0]))
    with pytest.raises(TypeError, match="masks.inside: expected a tuple of 3, lowest layer first, got tuple of 2"):
        f(p, X, masks=DeepMasks(masks, (None, None)))
    with pytest.raises(ValueError, match=r"masks.between\[1\]: expected shape \(6, 4, 2\), got \(6, 4, 5\)"):
        f(p, X, masks=(masks[0], masks[0]))
    with pytest.raises(ValueError, match=r"masks.between\[0\]: expected shape \(4, 5\), got \(5,\)"):
        f(p, X, masks=(masks[0][0, 0], None))
    with pytest.raises(TypeError, match=r"masks.between\[0\]: expected float64, got bool"):
        f(p, X, masks=(masks[0] > 0, None))
    with pytest.raises(TypeError, match="bring them to one side"):
        f(p, X, masks=device_masks(masks))
    with pytest.raises(ValueError, match=r"dY: expected shape \(6, 4, 4\), got \(6, 4, 2\)"):
        pullback(Y[..., :2])
    with pytest.raises(TypeError, match="dstate: expected a tuple of 3, lowest layer first, got RNNState"):
        pullback(None, end[0])
    with pytest.raises(ValueError, match=r"layers\[2\]: dstate.a: expected shape \(4, 4\)"):
        pullback(None, (None, None, RNNState(np.ones((1, 4)))))


def device_masks(masks):
    return tree_map(device.asarray, masks)


@pytest.mark.parametrize("make, error, message", [
    (lambda: dropout_masks(0, 2, [3], 1.0), ValueError, r"dropout: expected a number in \[0, 1\), got 1.0"),
    (lambda: dropout_masks(0, 2, [3], -0.1), ValueError, "dropout: expected a number"),
    (lambda: dropout_masks(0, 2, [3], True), TypeError, "dropout: expected a number"),
    (lambda: dropout_masks(0, 2, [3], float("nan")), ValueError, "dropout: expected a number"),
    (lambda: dropout_masks(0, 2.0, [3], 0.1), TypeError, "B: expected a whole number >= 0, got 2.0"),
    (lambda: dropout_masks(0, -1, [3], 0.0), ValueError, "B: expected a whole number >= 0, got -1"),
    (lambda: dropout_masks(0, [3], 2, 0.1), TypeError, r"B: expected a whole number >= 0, got \[3\]"),
    (lambda: dropout_masks(0, 2, 3, 0.1), TypeError, "widths: expected a list, the features of each layer but the last, got 3"),
    (lambda: dropout_masks(None, 2, "33", 0.1), TypeError, "widths: expected a list"),
    (lambda: dropout_masks(0, 2, [3, 0], 0.1), ValueError, r"widths\[1\]: expected a whole number >= 1, got 0"),
    (lambda: dropout_masks(0, 2, [3.0], 0.1), TypeError, r"widths\[0\]: expected a whole number >= 1, got 3.0"),
    (lambda: dropout_masks(0, 2, [3], 0.1, np.float64), TypeError, "T: expected a whole number >= 0, got <class"),
    (lambda: dropout_masks(0, 2, [3], 0.1, -1), ValueError, "T: expected a whole number >= 0, got -1"),
    (lambda: LAYERS["residual"]().masks(0, "4"), TypeError, "B: expected a whole number >= 0, got '4'"),
    (lambda: dropout_masks("seed", 2, [3], 0.1), ValueError, "rng: expected a numpy.random.Generator or a seed"),
    (lambda: dropout_masks(0, 2, [3], 0.1, dtype=np.int32), TypeError, "dtype: expected float32 or float64, got int32"),
    (lambda: Deep([]), TypeError, r"layers: expected a list of recurrent layers, got \[\]"),
    (lambda: Deep(RNN(3, 5)), TypeError, "layers: expected a list of recurrent layers, got RNN"),
    (lambda: Deep([RNN(3, 5), 5]), TypeError, r"layers\[1\]: expected a recurrent layer .* got int"),
    (lambda: Deep([RNN(3, 5), RNN(4, 5)]), ValueError, r"layers\[1\]: expected n_x=5 \(5 from layers\[0\]\), got n_x=4"),
    (lambda: Deep([RNN(3, 5), RNN(5, 5)], skip="both"), ValueError, r"expected n_x=8 \(5 from layers\[0\] and 3 from the input\)"),
    (lambda: Deep([RNN(3, 5), RNN(5, 4)], skip="residual"), ValueError, r"layers\[1\] reads 5 features and puts out 4"),
    (lambda: Deep([RNN(3, 5)], dropout=0.5), ValueError, "dropout: it lies between layers, and there is one layer only; got 0.5"),
    (lambda: Deep([RNN(3, 5), RNN(5, 5)], dropout=1), ValueError, "dropout: expected a number"),
    (lambda: Deep([RNN(3, 5), RNN(5, 5)], dropout="0.1"), TypeError, "dropout: expected a number"),
    (lambda: Deep([RNN(3, 5)], skip="skip"), ValueError, "skip: expected None or one of"),
    (lambda: Deep([RNN(5, 5)] * 2), ValueError, "'0.Wax' and '1.Wax' are one array"),
    (lambda: Deep([RNN(5, 5), RNN(5, 5, dtype=np.float64)]), TypeError,
     "layers: expected one dtype, got float32 for '0.Wax' and float64 for '1.Wax'"),
])
def test_bad_layers_are_named(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_parameters_are_tuples_lowest_first():
    layer = LAYERS["plain"]()
    assert isinstance(layer.params, tuple) and isinstance(layer.params[0], RNNParams)
    assert [p.Waa.shape[0] for p in layer.params] == [5, 2, 4] and all(a.n_a == b.n_x for a, b in pairwise(layer.layers))
    layer.params = tree_map(np.zeros_like, layer.params)
    assert not any(a.any() for a in leaves(layer.params).values())
    with pytest.raises(TypeError, match="params: expected a tuple of 3, lowest layer first, got tuple of 2"):
        layer.params = layer.params[:2]
    before, bad = layer.params, (*layer.params[:2], layer.params[0])
    with pytest.raises(ValueError, match=r"params.2.Wax: expected shape \(4, 2\), got \(5, 3\)"):
        layer.params = bad
    assert all(p is q for p, q in zip(layer.params, before, strict=True))  # nor has any layer taken its own


# ---- configurations
class Foreign(RNN):
    "A layer of a class that is in no list."


def entries(config):
    "Every configuration of a layer within this one, itself first."
    yield config
    for inside in [v for value in config.values() if isinstance(value, list) for v in value]:
        yield from entries(inside)


@pytest.mark.parametrize("place", range(6))
@pytest.mark.parametrize("damage, message", [
    (lambda c: c.update({"class": "Unheard"}), "layer: expected one of RNN, GRU, LSTM, Bidirectional, Deep, got 'Unheard'"),
    (lambda c: c.update({"class": ["RNN"]}), r"layer: expected one of RNN, .*, got \['RNN'\]"),
    (lambda c: c.update({"class": None}), "layer: expected one of RNN, .*, got None"),
    (lambda c: c.pop("class"), "layer: expected one of RNN, .*, got {"),
    (lambda c: c.update(odd=1), "layer: .* cannot be made from its configuration: .* unexpected keyword argument 'odd'"),
    (lambda c: c.pop("n_x" if "n_x" in c else "layer" if "layer" in c else "layers"), "layer: .* cannot be made .*: .* missing 1 required"),
], ids=["unknown", "list", "none", "absent", "odd", "short"])
def test_damage_anywhere_in_a_configuration_is_named(place, damage, message):
    layer = Deep([Bidirectional([GRU(3, 2), RNN(3, 2)]), Deep([RNN(4, 4)])])
    config = json.loads(json.dumps(layer_config(layer)))
    parts = list(entries(config))
    assert len(parts) == 6
    damage(parts[place])
    with pytest.raises(ValueError, match=message):
        layer_from(config)


@pytest.mark.parametrize("config, message", [
    (None, "layer: expected a dictionary as layer_config gives, got None"),
    ("RNN", "layer: expected a dictionary as layer_config gives, got 'RNN'"),
    ([], r"layer: expected a dictionary as layer_config gives, got \[\]"),
    ({}, "layer: expected one of RNN, .*, got {}"),
    ({"class": "RNN", "n_x": "3", "n_a": 5}, "layer: RNN cannot be made from its configuration: n_x: expected a whole number"),
    ({"class": "Deep", "layers": [None]}, r"layer: Deep cannot be made .*: layers\[0\]: expected a recurrent layer .* got NoneType"),
    ({"class": "Deep", "layers": {"class": "RNN", "n_x": 3, "n_a": 5}}, "layer: Deep cannot be made .*: layers: expected a list"),
])
def test_what_is_no_configuration(config, message):
    with pytest.raises(ValueError, match=message):
        layer_from(config)


@pytest.mark.parametrize("make", [
    lambda: Foreign(3, 5), lambda: Bidirectional(Foreign(3, 5)), lambda: Deep([RNN(3, 3), Foreign(3, 5)]),
    lambda: Deep([Bidirectional([RNN(3, 3), Foreign(3, 5)])])])
def test_a_layer_of_an_unknown_class_is_not_written_down(make):
    with pytest.raises(ValueError, match=r"layer: Foreign is not known; enter it with LAYERS\['Foreign'\]"):
        layer_config(make())
    for wrong in (None, 3, RNN, len):
        with pytest.raises(TypeError, match="layer: expected a layer such as RNN"):
            layer_config(wrong)


def test_a_damaged_stack_in_a_file_is_named(tmp_path):
    LanguageModel(Vocabulary.characters("abc"), Deep([RNN(4, 5), RNN(5, 5)], dropout=np.float32(0.25))).save(tmp_path / "m")
    arrays, meta = load_tree(tmp_path / "m")
    meta["config"]["layer"]["layers"][1]["class"] = "Unheard"
    save_tree(tmp_path / "m", arrays, meta, kind="language model")
    with pytest.raises(ValueError, match="layer: expected one of RNN, .*, got 'Unheard'"):
        LanguageModel.load(tmp_path / "m")
