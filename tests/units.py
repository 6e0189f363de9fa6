"""The units of the book and their options, in one place: every test of the matrix runs over this table."""
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from seqbook.backend import tree_map
from seqbook.gru import GRUState, gru, gru_hoisted, gru_init, gru_plain, gru_step
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


UNITS = (
    Unit("rnn", rnn_init, RNNState, rnn_step, {"plain": rnn_plain, "hoisted": rnn_hoisted, "table": rnn}, ({}, {"activation": "relu"})),
    gru_unit("gru"),
    gru_unit("gru-after", reset="after"),
    gru_unit("gru-simplified", variant="simplified"),
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
