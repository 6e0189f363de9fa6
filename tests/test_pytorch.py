"""The same weights give the same outputs and gradients in PyTorch."""
from functools import partial

import numpy as np
import pytest
from agreement import agree
from units import UNITS, case

from seqbook.backend import leaves, tree_map
from seqbook.bptt import binary_cross_entropy, cross_entropy
from seqbook.brnn import BidirectionalParams, BidirectionalState, bidirectional
from seqbook.deep_rnn import deep
from seqbook.gru import GRUState, gru, gru_from_pytorch, gru_init, gru_step, gru_to_pytorch
from seqbook.interop import rnn_to_pytorch
from seqbook.lstm import lstm, lstm_from_pytorch, lstm_to_pytorch
from seqbook.rnn import dense, dense_init, embedding, embedding_init, rnn

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'seqbook[peers]'")

LENGTHS = {"full": None, "ragged": [6, 3, 1, 4]}
DTYPES = {"float64": (np.float64, 1e-12), "float32": (np.float32, 2e-6)}


def tensor(a):
    return torch.tensor(np.array(a), requires_grad=np.asarray(a).dtype.kind == "f")


def torch_rnn(p, activation):
    "PyTorch's layer with our weights: its two biases are our one."
    n_a, n_x = p.Wax.shape
    layer = torch.nn.RNN(n_x, n_a, nonlinearity=activation, dtype=torch.from_numpy(p.Wax).dtype)
    with torch.no_grad():
        theirs = (layer.weight_ih_l0, layer.weight_hh_l0, layer.bias_ih_l0, layer.bias_hh_l0)
        for w, ours in zip(theirs, (p.Wax, p.Waa, p.ba, 0 * p.ba), strict=True):
            w.copy_(torch.from_numpy(ours))
    return layer


def unrolled(layer, X, state, lengths):
    "PyTorch's layer over a batch, packed where the examples end at different times: outputs and final state, both time-major."
    if lengths is None:
        return layer(X, state)
    packed = torch.nn.utils.rnn.pack_padded_sequence(X, torch.tensor(lengths), enforce_sorted=False)
    Y, end = layer(packed, state)
    return torch.nn.utils.rnn.pad_packed_sequence(Y, total_length=len(X))[0], end


def torch_gru(p):
    "PyTorch's layer with our weights, and the names of its arrays."
    theirs = gru_to_pytorch(p)
    layer = torch.nn.GRU(p.Wax.shape[1], p.Waa.shape[1], dtype=torch.from_numpy(p.Wax).dtype)
    layer.load_state_dict({f"{k}_l0": torch.from_numpy(w) for k, w in theirs.items()})
    return layer, list(theirs)


@pytest.mark.parametrize("arriving", [("Y", "state"), ("Y",), ("state",)], ids="+".join)
@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_gru(dtype, lengths, arriving, rng):
    dtype, tol = DTYPES[dtype]
    unit = next(u for u in UNITS if u.name == "gru-after")
    p, X, state = case(unit, dtype=dtype)
    Y, end, pullback = gru(p, X, state, LENGTHS[lengths], reset="after")
    dY, da = (rng.normal(size=a.shape).astype(dtype) for a in (Y, end.a))
    dX, grads, dstate0 = pullback(dY if "Y" in arriving else None, GRUState(da) if "state" in arriving else None)

    (layer, names), tX, ta = torch_gru(p), tensor(X), tensor(state.a[None])
    tY, tend = unrolled(layer, tX, ta, LENGTHS[lengths])
    ((tY * torch.from_numpy(dY)).sum() * ("Y" in arriving) + (tend[0] * torch.from_numpy(da)).sum() * ("state" in arriving)).backward()
    theirs = {k: getattr(layer, f"{k}_l0").grad for k in names}
    ours = gru_to_pytorch(grads)  # the conversion permutes and changes signs, so gradients convert as weights do
    ours["bias_hh"][:10] = ours["bias_ih"][:10]  # both biases of a gate have the same derivative
    agree({"Y": Y, "end": end.a, "dX": dX, "dstate0": dstate0.a, **ours},
          {"Y": tY, "end": tend[0], "dX": tX.grad, "dstate0": ta.grad[0], **theirs}, tol, "PyTorch")


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
def test_gru_from_pytorch(dtype, bias, rng):
    dtype, tol = DTYPES[dtype]
    X = rng.normal(size=(6, 4, 3)).astype(dtype)
    layer = torch.nn.GRU(3, 5, bias=bias, dtype=torch.from_numpy(X).dtype)
    p = gru_from_pytorch(**{k.removesuffix("_l0"): w.detach().numpy() for k, w in layer.named_parameters()})
    Y, end, _ = gru(p, X, reset="after")
    tY, tend = layer(torch.from_numpy(X))
    agree({"Y": Y, "end": end.a}, {"Y": tY, "end": tend[0]}, tol, "PyTorch")


def test_gru_cell(rng):
    p = gru_init(0, 3, 5, np.float64, reset="after")._replace(ba=rng.normal(size=15), bac=rng.normal(size=5))
    x, a = rng.normal(size=(4, 3)), rng.normal(size=(4, 5))
    cell = torch.nn.GRUCell(3, 5, dtype=torch.float64)
    cell.load_state_dict({k: torch.from_numpy(w) for k, w in gru_to_pytorch(p).items()})
    agree({"a": gru_step(p, x, GRUState(a), reset="after")[0].a}, {"a": cell(torch.from_numpy(x), torch.from_numpy(a))}, 1e-14)


@pytest.mark.parametrize("arriving", [("Y", "state"), ("Y",), ("state",)], ids="+".join)
@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_rnn(activation, dtype, lengths, arriving, rng):
    dtype, tol = DTYPES[dtype]
    p, X, state = case(UNITS[0], dtype=dtype)
    Y, end, pullback = rnn(p, X, state, LENGTHS[lengths], activation)
    dY, da = (rng.normal(size=a.shape).astype(dtype) for a in (Y, end.a))
    dX, grads, dstate0 = pullback(dY if "Y" in arriving else None, type(end)(da) if "state" in arriving else None)

    layer, tX, ta = torch_rnn(p, activation), tensor(X), tensor(state.a[None])
    tY, tend = unrolled(layer, tX, ta, LENGTHS[lengths])
    loss = (tY * torch.from_numpy(dY)).sum() * ("Y" in arriving) + (tend[0] * torch.from_numpy(da)).sum() * ("state" in arriving)
    loss.backward()
    weights = {"Wax": layer.weight_ih_l0.grad, "Waa": layer.weight_hh_l0.grad, "ba": layer.bias_ih_l0.grad}
    agree({"Y": Y, "end": end.a, "dX": dX, "dstate0": dstate0.a, **leaves(grads)},
          {"Y": tY, "end": tend[0], "dX": tX.grad, "dstate0": ta.grad[0], **weights}, tol, "PyTorch")


@pytest.mark.parametrize("arriving", [("Y", "state"), ("Y",), ("state",)], ids="+".join)
@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("unit", ["lstm", "lstm-coupled"])
def test_lstm(unit, dtype, lengths, arriving, rng):
    dtype, tol = DTYPES[dtype]
    p, X, state = case(next(u for u in UNITS if u.name == unit), dtype=dtype)
    Y, end, pullback = lstm(p, X, state, LENGTHS[lengths])
    dY, da, dc = (rng.normal(size=a.shape).astype(dtype) for a in (Y, *end))
    dX, grads, dstate0 = pullback(dY if "Y" in arriving else None, type(end)(da, dc) if "state" in arriving else None)

    layer = torch.nn.LSTM(X.shape[2], Y.shape[2], dtype=torch.from_numpy(X).dtype)
    layer.load_state_dict({f"{name}_l0": torch.from_numpy(w) for name, w in lstm_to_pytorch(p).items()})
    tX, ta, tc = tensor(X), tensor(state.a[None]), tensor(state.c[None])
    if LENGTHS[lengths] is None:
        tY, tend = layer(tX, (ta, tc))
    else:
        packed = torch.nn.utils.rnn.pack_padded_sequence(tX, torch.tensor(LENGTHS[lengths]), enforce_sorted=False)
        tY, tend = layer(packed, (ta, tc))
        tY, _ = torch.nn.utils.rnn.pad_packed_sequence(tY)
    loss = (tY * torch.from_numpy(dY)).sum() * ("Y" in arriving)
    loss = loss + sum((s[0] * torch.from_numpy(d)).sum() for s, d in zip(tend, (da, dc), strict=True)) * ("state" in arriving)
    loss.backward()
    weights = {"Wax": layer.weight_ih_l0.grad, "Waa": layer.weight_hh_l0.grad, "ba": layer.bias_ih_l0.grad}
    if unit == "lstm-coupled":  # PyTorch's input gate is our forget gate with the other sign
        weights = {name: w[5:] - torch.cat([w[:5], 0 * w[10:]]) for name, w in weights.items()}
    agree({"Y": Y, "end a": end.a, "end c": end.c, "dX": dX, "da0": dstate0.a, "dc0": dstate0.c, **leaves(grads)},
          {"Y": tY, "end a": tend[0][0], "end c": tend[1][0], "dX": tX.grad, "da0": ta.grad[0], "dc0": tc.grad[0], **weights},
          tol, "PyTorch")


STACKED = {  # name -> row of the table of units, our unit, our converter, PyTorch's class and its options
    "rnn": ("rnn", rnn, rnn_to_pytorch, torch.nn.RNN, {}),
    "rnn relu": ("rnn", partial(rnn, activation="relu"), rnn_to_pytorch, torch.nn.RNN, {"nonlinearity": "relu"}),
    "gru": ("gru-after", partial(gru, reset="after"), gru_to_pytorch, torch.nn.GRU, {}),
    "lstm": ("lstm", lstm, lstm_to_pytorch, torch.nn.LSTM, {}),
}


def stack_of(kind, L, both, dtype):
    "L layers in one direction or both: parameters, input, states, and the unit that computes them."
    unit = next(u for u in UNITS if u.name == STACKED[kind][0])
    made = [[case(unit, 2 * k + side, n_x=(10 if both else 5) if k else 3, dtype=dtype) for side in range(1 + both)] for k in range(L)]
    join = (lambda pair, kind: kind(*pair)) if both else (lambda pair, kind: pair[0])
    p = tuple(join([q for q, _, _ in layer], BidirectionalParams) for layer in made)
    state = tuple(join([s for _, _, s in layer], BidirectionalState) for layer in made)
    return p, made[0][0][1], state, deep([bidirectional(STACKED[kind][1]) if both else STACKED[kind][1]] * L)


def parts(tree, both):
    "Every layer and direction in PyTorch's order, with the suffix of its weights' names."
    return {f"_l{k}{suffix}": q for k, layer in enumerate(tree) for suffix, q in zip(("", "_reverse"), layer if both else (layer,))}


def theirs_of(convert, tree, both):
    "Parameters or gradients as PyTorch's arrays; both biases of a gate have the same derivative."
    return {name + suffix: w for suffix, q in parts(tree, both).items() for name, w in convert(q).items()}


@pytest.mark.parametrize("arriving", [("Y", "state"), ("Y",), ("state",)], ids="+".join)
@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("both", [False, True], ids=["one way", "both ways"])
@pytest.mark.parametrize("L", [1, 2, 3])
@pytest.mark.parametrize("kind", STACKED)
def test_layers_and_directions(kind, L, both, dtype, lengths, arriving, rng):
    "PyTorch's own stack of layers, in float64, so that our rounding is measured alone; it may add up from layer to layer."
    (dtype, tol), (_, _, convert, Layer, options) = DTYPES[dtype], STACKED[kind]
    p, X, state, network = stack_of(kind, L, both, dtype)
    Y, end, pullback = network(p, X, state, LENGTHS[lengths])
    dY, dend = rng.normal(size=Y.shape).astype(dtype), tree_map(lambda s: rng.normal(size=s.shape).astype(dtype), end)
    dX, grads, dstate0 = pullback(dY if "Y" in arriving else None, dend if "state" in arriving else None)

    double = lambda tree: tree_map(lambda a: a.astype(np.float64), tree)
    layer, fields = Layer(3, 5, L, bidirectional=both, dtype=torch.float64, **options), parts(state, both)["_l0"]._fields
    layer.load_state_dict({name: torch.from_numpy(w) for name, w in theirs_of(convert, double(p), both).items()})
    joined = lambda tree: [np.stack([getattr(s, f) for s in parts(tree, both).values()]) for f in fields]
    tX, t0 = tensor(double(X)), [tensor(s) for s in joined(double(state))]
    tY, tend = unrolled(layer, tX, tuple(t0) if len(t0) > 1 else t0[0], LENGTHS[lengths])
    tend = tend if len(t0) > 1 else (tend,)
    loss = (tY * torch.from_numpy(double(dY))).sum() * ("Y" in arriving)
    (loss + sum((t * torch.from_numpy(d)).sum() for t, d in zip(tend, joined(double(dend)))) * ("state" in arriving)).backward()

    ours, theirs = {"Y": Y, "dX": dX}, {"Y": tY, "dX": tX.grad}
    for f, s, d, ts, t in zip(fields, joined(end), joined(dstate0), tend, t0, strict=True):
        ours |= {f"end {f}": s, f"start {f}": d}
        theirs |= {f"end {f}": ts, f"start {f}": t.grad}
    for suffix, g in parts(grads, both).items():
        for field, name in (("Wax", "weight_ih"), ("Waa", "weight_hh"), ("ba", "bias_ih")):
            blocks = getattr(layer, name + suffix).grad.numpy()
            ours[field + suffix], theirs[field + suffix] = (convert(g)[name] if kind == "gru" else getattr(g, field)), blocks
    agree(ours, theirs, L * tol, f"PyTorch in float64, {L} layer{'s' * (L > 1)}", dtypes=False)


@pytest.mark.parametrize("bias", [True, False])
def test_lstm_weights_from_pytorch(bias, rng):
    "PyTorch's own weights, both biases at work; a cell's have no suffix."
    torch.manual_seed(0)
    layer = torch.nn.LSTM(3, 5, bias=bias, num_layers=2, dtype=torch.float64)
    X = rng.normal(size=(6, 4, 3))
    Y = X
    for suffix in ("_l0", "_l1"):
        weights = {name.removesuffix(suffix): w.numpy() for name, w in layer.state_dict().items() if name.endswith(suffix)}
        Y, _, _ = lstm(lstm_from_pytorch(**weights), Y)
    agree({"Y": Y}, {"Y": layer(torch.from_numpy(X))[0]}, 1e-12, "PyTorch")
    cell = torch.nn.LSTMCell(3, 5, bias=bias, dtype=torch.float64)
    p = lstm_from_pytorch(**{name: w.numpy() for name, w in cell.state_dict().items()})
    agree({"a": lstm(p, X[:1])[0][0]}, {"a": cell(torch.from_numpy(X[0]))[0]}, 1e-12, "PyTorch")


@pytest.mark.parametrize("dtype", DTYPES)
def test_embedding_dense_cross_entropy(dtype, rng):
    dtype, tol = DTYPES[dtype]
    ids, y = rng.integers(0, 7, size=(6, 4)), rng.integers(0, 5, size=(6, 4))
    mask = np.arange(6)[:, None] < np.array([6, 3, 1, 0])
    e, q = embedding_init(rng, 7, 3, dtype), dense_init(rng, 3, 5, dtype)._replace(by=rng.normal(size=5).astype(dtype))
    X, back_X = embedding(e, ids)
    Z, back_Z = dense(q, X)
    loss, back = cross_entropy(Z, y, mask)
    dX, g = back_Z(back())

    E, W, b = tensor(e.E), tensor(q.Wya), tensor(q.by)
    tZ = torch.nn.functional.linear(torch.nn.functional.embedding(torch.from_numpy(ids), E), W, b)
    ignored = torch.from_numpy(np.where(mask, y, -100)).reshape(-1)
    tloss = torch.nn.functional.cross_entropy(tZ.reshape(-1, 5), ignored)
    tloss.backward()
    ours = {"loss": np.asarray(loss), "E": back_X(dX).E, "Wya": g.Wya, "by": g.by}
    agree(ours, {"loss": tloss, "E": E.grad, "Wya": W.grad, "by": b.grad}, tol, "PyTorch")


@pytest.mark.parametrize("dtype", DTYPES)
def test_binary_cross_entropy(dtype, rng):
    dtype, tol = DTYPES[dtype]
    Z, y = rng.normal(size=(6, 4)).astype(dtype), rng.integers(0, 2, size=(6, 4))
    loss, back = binary_cross_entropy(Z, y)
    tZ = tensor(Z)
    tloss = torch.nn.functional.binary_cross_entropy_with_logits(tZ, torch.from_numpy(y.astype(dtype)))
    tloss.backward()
    agree({"loss": np.asarray(loss), "dZ": back()}, {"loss": tloss, "dZ": tZ.grad}, tol, "PyTorch")
