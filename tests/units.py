"""The units of the book and their options, in one place: every test of the matrix runs over this table."""
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from seqbook.backend import array_module, tree_map
from seqbook.gru import GRUState, gru, gru_hoisted, gru_init, gru_plain, gru_step
from seqbook.lstm import LSTMMasks, LSTMState, lstm, lstm_hoisted, lstm_init, lstm_plain, lstm_step
from seqbook.rnn import RNNState, rnn, rnn_hoisted, rnn_init, rnn_plain, rnn_step


@dataclass(frozen=True)
class Unit:
    name: str
    init: Callable          # (rng, n_x, n_a, dtype) -> params
    State: type
    step: Callable          # (p, x, state, **options) -> state, cache
    forms: dict             # name -> function with the sequence contract; "plain" is the oracle
    options: tuple = field(default=({},))


def gru_unit(name, **options):
    "A row for one form of the GRU: its parameters differ, so that the options are bound and not listed."
    bound = lambda f: partial(f, **options)
    forms = {"plain": bound(gru_plain), "hoisted": bound(gru_hoisted), "table": bound(gru)}
    return Unit(name, bound(gru_init), GRUState, bound(gru_step), forms)


LSTM_FORMS = {"plain": lstm_plain, "hoisted": lstm_hoisted, "table": lstm}
PATTERNS = {  # masks of one sequence, a function of the unit's number alone, so that any batch can be cut from any other
    "dropout": lambda n: LSTMMasks(drop=np.where(np.arange(n) % 3 == 1, 0, 1.5)),
    "zoneout": lambda n: LSTMMasks(hold_a=(np.arange(n) % 3 == 0) * 1.0, hold_c=np.linspace(0, 1, n)),
}


def masked(f, pattern):
    "The unit, or its step, with masks made for whatever it is given."
    def unit(p, X, state=None, *args, **options):
        if getattr(X, "ndim", 0) < 2 or not hasattr(p, "Waa"):
            return f(p, X, state, *args, **options)
        xp, n_a = array_module(X), p.Waa.shape[1]
        on = lambda m: xp.broadcast_to(xp.asarray(m, dtype=X.dtype), (X.shape[-2], n_a))
        return f(p, X, state, *args, masks=tree_map(on, PATTERNS[pattern](n_a)), **options)
    return unit


def lstm_masked(pattern, **init):
    forms = {name: masked(form, pattern) for name, form in LSTM_FORMS.items()}
    return Unit(f"lstm-{pattern}", partial(lstm_init, **init), LSTMState, masked(lstm_step, pattern), forms)


UNITS = (
    Unit("rnn", rnn_init, RNNState, rnn_step, {"plain": rnn_plain, "hoisted": rnn_hoisted, "table": rnn}, ({}, {"activation": "relu"})),
    gru_unit("gru"),
    gru_unit("gru-after", reset="after"),
    gru_unit("gru-simplified", variant="simplified"),
    Unit("lstm", lstm_init, LSTMState, lstm_step, LSTM_FORMS),
    Unit("lstm-peepholes", partial(lstm_init, peepholes=True), LSTMState, lstm_step, LSTM_FORMS,
         ({"peepholes": "gers"}, {"peepholes": "lecture"})),
    Unit("lstm-coupled", partial(lstm_init, coupled=True), LSTMState, lstm_step, LSTM_FORMS),
    Unit("lstm-coupled-peepholes", partial(lstm_init, coupled=True, peepholes=True), LSTMState, lstm_step, LSTM_FORMS,
         ({"peepholes": "gers"}, {"peepholes": "lecture"})),
    lstm_masked("dropout"),
    lstm_masked("zoneout", peepholes=True),
)

CASES = [(u, o) for u in UNITS for o in u.options]
FORMS = [(u, o, form) for u, o in CASES for form in u.forms if form != "plain"]


def label(value):
    "How a case is named in pytest's output."
    if isinstance(value, Unit):
        return value.name
    if isinstance(value, dict):
        return "-".join(f"{k}={v}" for k, v in value.items()) or "default"
    return str(value)


def case(unit, seed=0, T=6, B=4, n_x=3, n_a=5, dtype=np.float64):
    "Parameters with non-zero biases, inputs and an initial state."
    rng = np.random.default_rng(seed)
    random = lambda a: (a + 0.5 * rng.normal(size=a.shape)).astype(dtype)
    p = tree_map(random, unit.init(rng, n_x, n_a, dtype))
    X = rng.normal(size=(T, B, n_x)).astype(dtype)
    return p, X, unit.State(*(rng.normal(size=(B, n_a)).astype(dtype) for _ in unit.State._fields))
