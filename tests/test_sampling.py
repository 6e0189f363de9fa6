"""Sampling and search, checked against chains whose every probability is known."""

import gc
import math
import warnings
from itertools import islice, product
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as hnp

from seqbook import sampling
from seqbook.backend import DeviceArray, device, gpu_missing, tree_map
from seqbook.language_model import LanguageModel
from seqbook.notation import Vocabulary
from seqbook.sampling import (
    Beam, adjust, beam_search, beam_steps, entropy, exclude, generate, greedy, inverse_cdf, length_penalty, next_logits,
    nucleus, reorder, sample_ids, score, stream, temperature, top_k,
)

pytestmark = pytest.mark.filterwarnings("error")
INF = np.inf


def softmax(z):
    z = np.asarray(z, np.float64)
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


class Two(NamedTuple):
    before: object  # (B,) the symbol before the last one


class SecondOrder:
    "P(next | last two): a chain with a memory outside of its input, so that a state in the wrong row changes what it says."

    def __init__(self, symbols="." + "abc", seed=0, end=".", zeros=0.15, xp=np, dtype=np.float64):
        rng = np.random.default_rng(seed)
        n = len(symbols)
        P = rng.dirichlet(np.full(n, 0.7), size=(n, n))
        P[rng.random(P.shape) < zeros] = 0
        P[..., 0] += 1e-3
        with np.errstate(divide="ignore"):
            self.host = np.log(P / P.sum(-1, keepdims=True)).astype(dtype)
        self.params, self.vocabulary, self.calls, self.n = {"table": xp.asarray(self.host)}, Vocabulary(symbols, end=end), [], n

    def step(self, ids, state=None):
        self.calls.append(len(ids))
        before = state.before if state is not None else ids * 0
        return self.params["table"][before, ids], Two(ids)

    def log_probability(self, ids, prompt=()):
        "By a plain loop over the table."
        path = [0, *(prompt or (0,)), *ids]
        first = 1 + max(len(prompt), 1)
        return sum(self.host[path[t - 2], path[t - 1], path[t]] for t in range(first, len(path)))

    def outcomes(self, length, prompt=()):
        "Every way to write until the end symbol (0) or `length` symbols."
        for T in range(1, length + 1):
            for ids in product(range(1, self.n), repeat=T - 1):
                for last in (0,) if T < length else range(self.n):
                    yield (*ids, last), self.log_probability((*ids, last), prompt)


@pytest.fixture
def chain():
    return SecondOrder()


def chi_square_ok(counts, P):
    "Pearson's test at about 1 in 10,000; cells expected fewer than 5 times pooled."
    E = counts.sum() * P
    rare = E < 5
    E, n = np.append(E[~rare], E[rare].sum()), np.append(counts[~rare], counts[rare].sum())
    assert (n[E == 0] == 0).all()
    n, E = n[E > 0], E[E > 0]
    df = max(len(E) - 1, 1)
    return ((n - E) ** 2 / E).sum() < df * (1 - 2 / (9 * df) + 3.72 * math.sqrt(2 / (9 * df))) ** 3


# --- one draw ------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("seed", range(4))
def test_draws_follow_the_distribution(dtype, seed):
    z = (np.random.default_rng(seed).normal(size=40) * 3).astype(dtype)
    z[[0, 7, 39]] = -INF
    ids = sample_ids(np.broadcast_to(z, (20_000, 40)), seed + 100)
    assert ids.dtype == np.int64 and chi_square_ok(np.bincount(ids, minlength=40), softmax(z))
    assert not chi_square_ok(np.bincount((ids + 1) % 40, minlength=40), softmax(np.where(np.isfinite(z), z, -9)))


def test_each_row_is_drawn_from_its_own_distribution():
    z = np.array([[0.0, -INF, -INF], [-INF, 0.0, 0.0], [1.0, 1.0, -INF]])
    ids = sample_ids(np.broadcast_to(z, (6000, 3, 3)), 3)
    for row in range(3):
        assert chi_square_ok(np.bincount(ids[:, row], minlength=3), softmax(z[row]))


def test_inverse_cdf_at_the_borders():
    z = np.array([-INF, 0.0, 0.0, -INF, 0.0, 0.0, -INF])
    u = np.array([0.0, np.nextafter(0.25, 0), 0.25, 0.5, 0.75, np.nextafter(1, 0)])
    assert inverse_cdf(np.broadcast_to(z, (6, 7)), u).tolist() == [1, 1, 2, 4, 5, 5]


@given(
    hnp.arrays(np.float32, st.integers(1, 30), elements=st.floats(-(2.0**99), 2.0**99, width=32) | st.just(-INF)),
    st.floats(0, 1, exclude_max=True),
)
def test_a_draw_is_possible_and_inside_its_piece(z, u):
    if not np.isfinite(z).any():
        with pytest.raises(ValueError, match="finite largest"):
            inverse_cdf(z, u)
        return
    i = int(inverse_cdf(z, u))
    P = softmax(z)
    assert 0 <= i < len(z) and z[i] > -INF
    assert P[:i].sum() - 1e-5 <= u <= P[: i + 1].sum() + 1e-5


def test_rare_symbols_survive_float32():
    "60,000 equal symbols: a running sum in float32 would be wrong by whole symbols at the far end."
    z = np.zeros(60_000, np.float32)
    u = (np.arange(0, 60_000, 997) + 0.5) / 60_000
    assert inverse_cdf(np.broadcast_to(z, (len(u), 60_000)), u).tolist() == list(range(0, 60_000, 997))


# --- changes to a distribution -------------------------------------------------------------------------------------

finite = hnp.arrays(np.float64, st.integers(1, 25), elements=st.floats(-20, 20).map(lambda x: round(x, 1)))


@given(finite, st.floats(0.05, 20))
def test_temperature_is_a_power_of_the_distribution(z, t):
    P = softmax(z) ** (1 / t)
    np.testing.assert_allclose(softmax(temperature(z, t)), P / P.sum(), rtol=1e-9, atol=1e-300)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("t", [0, 1e-310, 1e-50, 1e-6])
def test_temperature_to_zero_is_greedy(dtype, t):
    z = np.array([[1.0, 3.0, 2.0], [-5.0, -INF, -4.0]], dtype)
    assert softmax(temperature(z, t)).tolist() == [[0, 1, 0], [0, 0, 1]]
    assert temperature(z, t).dtype == dtype


def test_equal_largest_logits():
    z = np.array([1.0, 2.0, 2.0])
    assert softmax(temperature(z, 0)).tolist() == [0, 1, 0]
    assert softmax(temperature(z, 1e-9)).tolist() == [0, 0.5, 0.5]


@pytest.mark.parametrize("t", [1e30, 1e300, np.float32(3), 2])
def test_hot_is_flat_and_excluded_stays_excluded(t):
    z = np.array([1e4, 0.0, -INF], np.float32)
    out = temperature(z, t)
    assert out.dtype == np.float32 and out[2] == -INF and not np.isnan(out).any()
    if t > 100:
        np.testing.assert_allclose(softmax(out), [0.5, 0.5, 0])


@given(finite, st.integers(1, 30))
def test_top_k_keeps_exactly_k(z, k):
    kept = np.isfinite(top_k(z, k))
    expected = sorted(range(len(z)), key=lambda i: (-z[i], i))[:k]
    assert np.flatnonzero(kept).tolist() == sorted(expected)
    assert (top_k(z, k)[kept] == z[kept]).all()


def test_top_k_counts_what_is_excluded_already():
    z = np.array([-INF, 1.0, -INF, 0.0])
    assert top_k(z, 3).tolist() == z.tolist() and top_k(z, 1).tolist() == [-INF, 1, -INF, -INF]


@given(finite, st.floats(1e-12, 1))
@settings(max_examples=300)
def test_nucleus_is_the_smallest_set(z, p):
    P, kept = softmax(z), np.isfinite(nucleus(z, p))
    n = int(kept.sum())
    descending = np.sort(P)[::-1]
    assert n >= 1 and descending[:n].sum() >= p - 1e-12                     # it reaches p
    assert p == 1 or descending[: n - 1].sum() < p + 1e-12                  # no smaller set does
    assert np.flatnonzero(kept).tolist() == sorted(sorted(range(len(z)), key=lambda i: (-z[i], i))[:n])


def test_nucleus_ends():
    z = np.log([0.1, 0.5, 0.2, 0.2])
    assert nucleus(z, 1) is z and nucleus(z, 1.0) is z
    assert np.isfinite(nucleus(z, np.finfo(float).tiny)).tolist() == [False, True, False, False]
    assert np.isfinite(nucleus(z, 0.7)).tolist() == [False, True, True, False]
    assert np.isfinite(nucleus(np.zeros(1000), 0.0301)).sum() == 31


@given(st.integers(1, 12), st.integers(1, 6), st.integers(0, 2**31))
def test_rows_do_not_mix(n, B, seed):
    z = np.random.default_rng(seed).normal(size=(2, B, n)).astype(np.float32)
    for f in (lambda x: temperature(x, 0.3), lambda x: temperature(x, 0), lambda x: top_k(x, 3), lambda x: nucleus(x, 0.6),
              lambda x: adjust(x, 0.7, 4, 0.9, [0] if n > 1 else []), entropy):
        whole = f(z)
        assert whole.dtype == np.float32
        for i, j in product(range(2), range(B)):
            np.testing.assert_array_equal(whole[i, j], f(z[i, j]))


def test_nothing_is_changed_in_place():
    z = np.random.default_rng(0).normal(size=(3, 9))
    before = z.copy()
    adjust(z, 0.5, 4, 0.8, [1])
    sample_ids(z, 0)
    assert (z == before).all()


def test_order_of_the_changes():
    z = np.log([0.4, 0.3, 0.2, 0.1])
    np.testing.assert_array_equal(adjust(z, 0.5, 3, 0.8, [1]), nucleus(top_k(temperature(exclude(z, [1]), 0.5), 3), 0.8))
    # the nucleus counts its mass after top-k: 0.4 / 0.7 >= 0.55
    assert np.isfinite(adjust(z, k=2, p=0.55)).sum() == 1 and np.isfinite(adjust(z, p=0.55)).sum() == 2


def test_entropy():
    assert entropy(np.zeros(8)) == pytest.approx(math.log(8))
    assert entropy(np.array([0.0, -INF])) == 0
    assert entropy(np.log([0.5, 0.25, 0.25])) == pytest.approx(1.5 * math.log(2))


# --- text ----------------------------------------------------------------------------------------------------------

def test_texts_have_the_chain_s_probabilities(chain):
    "Every outcome of at most 3 symbols, against its probability."
    outcomes = dict(chain.outcomes(3))
    assert sum(map(math.exp, outcomes.values())) == pytest.approx(1)
    names = ["".join(".abc"[i] for i in ids if i) for ids in outcomes]
    assert len(set(names)) == len(names)
    texts = generate(chain, length=3, n=20_000, seed=5)
    counts = np.array([texts.count(s) for s in names])
    assert counts.sum() == 20_000 and chi_square_ok(counts, np.exp(list(outcomes.values())))


def test_settings_reach_the_draw(chain):
    "With a temperature, top-k and a nucleus, the frequencies of the next symbol are those of the adjusted logits."
    z = next_logits(chain, "ab")
    for keys in ({"t": 0.6}, {"k": 2}, {"p": 0.7}, {"t": 1.5, "k": 3, "p": 0.9}):
        names = {"t": "temperature", "k": "top_k", "p": "nucleus"}
        texts = generate(chain, "ab", length=1, n=8000, seed=1, end=False, **{names[k]: v for k, v in keys.items()})
        counts = np.array([texts.count(s) for s in chain.vocabulary.symbols])
        assert chi_square_ok(counts, softmax(adjust(z, **keys)))


@pytest.mark.parametrize("n", [1, 2, 7, 50])
def test_a_stream_does_not_depend_on_its_company(chain, n):
    many = generate(chain, "a", length=25, n=60, seed=9)
    assert generate(chain, "a", length=25, n=n, seed=9) == many[:n]
    assert len(set(many)) > 10
    assert generate(chain, "a", length=25, n=n, seed=10) != many[:n]


def test_a_longer_length_only_adds(chain):
    for short, long in zip(generate(chain, length=5, n=30, seed=2), generate(chain, length=50, n=30, seed=2)):
        assert long.startswith(short)


@given(st.lists(st.text("abc", max_size=7), max_size=6), st.integers(1, 3), st.integers(0, 2**40))
@settings(max_examples=60, deadline=None)
def test_ragged_prompts_equal_single_prompts(prompts, n, seed):
    chain = SecondOrder()
    distinct = list(dict.fromkeys(prompts))
    together = generate(chain, distinct, length=8, n=n, seed=seed)
    assert together == [s for p in distinct for s in generate(chain, p, length=8, n=n, seed=seed)]


def test_a_prompt_given_twice_is_two_streams(chain):
    a, b = generate(chain, "a", length=9, n=2, seed=3), generate(chain, "b", length=9, seed=3)
    assert generate(chain, ["a", "b", "a"], length=9, seed=3) == [a[0], b[0], a[1]]


def test_seeds(chain):
    assert generate(chain, seed=np.int64(4), n=5) == generate(chain, seed=4, n=5)
    rng = np.random.default_rng(0)
    first, second = generate(chain, n=8, seed=rng), generate(chain, n=8, seed=rng)
    assert first != second and first == generate(chain, n=8, seed=np.random.default_rng(0))
    assert generate(chain, n=20, seed=None) != generate(chain, n=20, seed=None)


def test_end_symbol(chain):
    texts = generate(chain, length=40, n=50, seed=0)
    assert all("." not in s for s in texts) and len({len(s) for s in texts}) > 3
    assert {len(s) for s in generate(chain, length=40, n=50, seed=0, end=False)} == {40}
    assert any("." in s for s in generate(chain, length=40, n=50, seed=0, end=False))
    for s, t in zip(generate(chain, "b", length=40, n=50, seed=0, end="a"), generate(chain, "b", length=40, n=50, seed=0, end=False)):
        assert s == t.split("a")[0]


def test_the_batch_shrinks_and_no_step_is_wasted(chain):
    chain.calls.clear()
    texts = generate(chain, length=30, n=40, seed=0)
    longest = max(len(s) + (len(s) < 30) for s in texts)
    assert len(chain.calls) == longest and chain.calls == sorted(chain.calls, reverse=True)
    alive = [sum(len(s) + (len(s) < 30) > t for s in texts) for t in range(longest)]
    assert chain.calls == alive


def test_an_empty_prompt_follows_an_end():
    chain = SecondOrder()
    np.testing.assert_array_equal(next_logits(chain, ""), next_logits(chain, "."))
    newline = SecondOrder("a\nb", end=None)
    np.testing.assert_array_equal(next_logits(newline, ""), next_logits(newline, "\n"))
    assert generate(newline, length=9, seed=1) == generate(newline, "\n", length=9, seed=1)
    assert generate(newline, length=9, seed=1, end="b") == generate(newline, "b", length=9, seed=1, end="b")
    with pytest.raises(ValueError, match="prompt: empty.*neither an end symbol nor a newline"):
        generate(SecondOrder("xyz", end=None))


def test_excluded_symbols_never_come(chain):
    texts = generate(chain, length=20, n=60, end=False, exclude=["b", "."], seed=0)
    assert set("".join(texts)) <= {"a", "c"}
    assert generate(chain, length=20, n=60, end=False, exclude=("b", "."), seed=0) == texts
    assert "b" not in greedy(chain, length=20, exclude="b", end=False)


def test_words():
    chain = SecondOrder(["<eos>", "to", "be", "or"], end="<eos>")
    (text,) = generate(chain, "to be", length=6, end=False, seed=1)
    assert text.replace("<eos>", "").split() == [w for w in text.split() if w != "<eos>"]
    assert text == " ".join(stream(chain, "To be", length=6, end=False, seed=1))
    two = generate(chain, [["to", "be"], "or", np.array([1, 2])], length=6, seed=1)
    assert two[:2] == generate(chain, "to be", length=6, seed=1) + generate(chain, "or", length=6, seed=1)
    assert two[2] == generate(chain, "to be", length=6, n=2, seed=1)[1]          # the same prompt, so its second stream
    assert generate(chain, length=6, seed=1) == generate(chain, [["<eos>"]], length=6, seed=1)
    best = beam_search(chain, ["to"], width=3, length=5)[0]
    assert score(chain, np.array(best.ids), "to", end=False) == pytest.approx(best.log_probability)
    assert score(chain, best.text, ["to"], end=None if best.finished else False) == pytest.approx(best.log_probability)
    with pytest.raises(ValueError, match=r"prompt\[1\]: .*'not' at position 2"):
        generate(chain, ["to", "to be not"])


def test_an_unknown_symbol_stands_for_others():
    chain = SecondOrder(["<unk>", "a", "b"], end=None)
    chain.vocabulary = Vocabulary(["<unk>", "a", "b"], unknown="<unk>")
    assert generate(chain, "aπ", length=5, seed=0) == generate(chain, [["a", "<unk>"]], length=5, seed=0)
    assert "<unk>" not in generate(chain, "aπ", length=50, exclude="<unk>", seed=0)[0]


# --- one symbol at a time ------------------------------------------------------------------------------------------

@pytest.mark.parametrize("options", [{}, {"temperature": 0.5}, {"top_k": 2, "end": False}, {"nucleus": 0.6, "end": "a"}, {"exclude": "c"}])
def test_stream_is_the_first_text(chain, options):
    assert "".join(stream(chain, "b", length=30, seed=7, **options)) == generate(chain, "b", length=30, n=3, seed=7, **options)[0]


def test_stream_is_lazy_endless_and_closes(chain):
    chain.calls.clear()
    s = stream(chain, "abc", end=False)
    assert chain.calls == []                                # nothing before it is asked for
    first = list(islice(s, 4))
    assert len(chain.calls) == 3 + 3                        # the prompt, then one step for each further symbol
    assert len(list(islice(s, 2000))) == 2000
    s.close()
    s.close()
    assert next(s, None) is None
    again = stream(chain, "abc", end=False)
    assert list(islice(again, 4)) == first
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del again, s
        gc.collect()


def test_stream_passes_errors_on():
    class Breaks(SecondOrder):
        def step(self, ids, state=None):
            if len(self.calls) == 3:
                raise KeyboardInterrupt
            return super().step(ids, state)

    s = stream(Breaks(), "a", end=False)
    assert len(list(islice(s, 3))) == 3
    with pytest.raises(KeyboardInterrupt):
        next(s)


# --- search --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("prompt", ["", "ab", "c"])
def test_width_one_is_greedy(seed, prompt):
    chain = SecondOrder(seed=seed)
    for length in (1, 2, 12):
        (h,) = beam_search(chain, prompt, width=1, length=length)
        assert h.text == greedy(chain, prompt, length=length)
        assert h.text == generate(chain, prompt, length=length, temperature=0, n=2, seed=seed)[1]
        assert h.finished == (h.ids[-1] == 0)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("alpha, kind", [(0, "wu"), (0.6, "wu"), (1.0, "lecture"), (2.5, "wu"), (0.7, "lecture")])
def test_a_wide_beam_is_exhaustive(seed, alpha, kind):
    chain = SecondOrder(seed=seed)
    prompt = (1, 2) if seed % 2 else ()
    truth = {ids: lp for ids, lp in chain.outcomes(5, prompt) if lp > -INF}
    ranked = sorted(truth, key=lambda ids: -truth[ids] / length_penalty(len(ids), alpha, kind))
    found = beam_search(chain, "ab" if prompt else "", width=4**5, length=5, alpha=alpha, penalty=kind, n=25)
    assert len({h.ids for h in found}) == len(found) == min(25, len(truth))
    for h, ids in zip(found, ranked):
        assert h.score == pytest.approx(truth[ids] / length_penalty(len(ids), alpha, kind), abs=1e-12)
        assert h.log_probability == pytest.approx(truth[h.ids], abs=1e-12)
        assert h.finished == (h.ids[-1] == 0)
        assert h.text == "".join(".abc"[i] for i in (h.ids[:-1] if h.finished else h.ids))


@pytest.mark.parametrize("width", [1, 2, 3, 5])
@pytest.mark.parametrize("end", [None, False, "b"])
def test_a_narrow_beam_by_plain_lists(width, end):
    "The definition, with Python lists and no state to reorder."
    for seed in range(5):
        chain = SecondOrder(seed=seed)
        stop = {None: 0, False: -1, "b": 2}[end]
        live, done = [((), 0.0)], []
        for t in range(1, 8):
            every = [((*ids, i), chain.log_probability((*ids, i), (3, 1))) for ids, _ in live for i in range(4)]
            best = sorted((e for e in every if e[1] > -INF), key=lambda e: -e[1])[:width]
            done += [e for e in best if e[0][-1] == stop or t == 7]
            live = [e for e in best if e[0][-1] != stop]
        done.sort(key=lambda e: -e[1] / length_penalty(len(e[0])))
        found = beam_search(chain, "ca", width=width, length=7, end=end)
        assert len(found) == min(width, len(done))
        for h, (ids, lp) in zip(found, done):
            assert h.ids == ids and h.log_probability == pytest.approx(lp, abs=1e-12)


def test_stopping_early_loses_nothing(chain):
    "The bound on what can still win: the same results as from the beam followed to its end, with fewer steps."
    fewer = 0
    for seed, alpha in product(range(10), (0, 0.6, 1.0)):
        chain = SecondOrder(seed=seed)
        full = []
        for beam in beam_steps(chain, "", 4, 12):
            T = beam.ids.shape[1]
            full += (beam.log_probability / length_penalty(T, alpha))[beam.ended | (T == 12)].tolist()
        steps = len(chain.calls)
        chain.calls.clear()
        found = beam_search(chain, width=4, length=12, alpha=alpha)
        fewer += len(chain.calls) < steps
        assert [h.score for h in found] == pytest.approx(sorted(full, reverse=True)[:4])
    assert fewer > 5


def test_beam_steps_say_where_each_beginning_came_from(chain):
    previous = None
    for beam in beam_steps(chain, "a", width=3, length=6):
        assert isinstance(beam, Beam) and (np.diff(beam.log_probability) <= 0).all()
        if previous is not None:
            assert not previous.ended[beam.parents].any()
            np.testing.assert_array_equal(beam.ids[:, :-1], previous.ids[beam.parents])
        previous = beam


def test_beam_results_are_scored_by_reading(chain):
    for h in beam_search(chain, "cab", width=6, length=9):
        assert score(chain, h.text, "cab", end=None if h.finished else False) == pytest.approx(h.log_probability, abs=1e-12)


def test_a_chain_that_greedy_gets_wrong():
    class Chain:
        vocabulary = Vocabulary([".", "a", "b"], end=".")
        P = np.array([[0, 0.6, 0.4], [0.1, 0.45, 0.45], [0.9, 0.05, 0.05]])

        def step(self, ids, state=None):
            with np.errstate(divide="ignore"):
                return np.log(self.P)[ids], Two(ids)

    assert greedy(Chain(), length=5) == "aaaaa"
    assert beam_search(Chain(), width=2, length=5)[0].text == "b"
    assert math.exp(beam_search(Chain(), width=2, length=5)[0].log_probability) == pytest.approx(0.36)


def test_ties_go_to_the_earlier_beginning_and_the_lower_id():
    class Flat:
        vocabulary = Vocabulary("abc")

        def step(self, ids, state=None):
            return np.zeros((len(ids), 3), np.float32), Two(ids)

    assert [h.text for h in beam_search(Flat(), "a", width=4, length=2)] == ["aa", "ab", "ac", "ba"]
    assert greedy(Flat(), "a", length=4) == "aaaa"


def test_excluded_in_search(chain):
    for h in beam_search(chain, "a", width=4, length=6, exclude=["b"]):
        assert "b" not in h.text
        assert score(chain, h.text, "a", end=None if h.finished else False) == pytest.approx(h.log_probability)


def test_score(chain):
    v = chain.vocabulary
    for text, prompt in product(("", "a", "abc", "ccba"), ("", "b", "ab")):
        ids, before = tuple(v.encode(text)), tuple(v.encode(prompt))
        assert score(chain, text, prompt) == pytest.approx(chain.log_probability((*ids, 0), before))
        assert score(chain, text, prompt, end=False) == pytest.approx(chain.log_probability(ids, before))
    assert isinstance(score(chain, "a"), float)
    assert score(chain, "a", end="b") == score(chain, "ab", end=False)


def test_length_penalty():
    for T, alpha in product((1, 2, 30), (0, 0.6, 1)):
        assert length_penalty(T, alpha) == pytest.approx((5 + T) ** alpha / (5 + 1) ** alpha)   # Wu et al. 2016, eq. 14
        assert length_penalty(T, alpha, "lecture") == pytest.approx(T**alpha)
    np.testing.assert_allclose(length_penalty(np.arange(1, 4), 1, "lecture"), [1, 2, 3])


def test_normalisation_turns_the_winner_round():
    class Ending:
        vocabulary = Vocabulary([".", "a", "b"], end=".")

        def step(self, ids, state=None):
            return np.log([[0.1, 0.5, 0.4], [0.1, 0.1, 0.8], [0.1, 0.8, 0.1]])[ids], Two(ids)

    assert beam_search(Ending(), width=8, length=20, alpha=0)[0].text == ""
    assert len(beam_search(Ending(), width=8, length=20, alpha=1, penalty="lecture")[0].text) >= 19


# --- the state, and other arrays -----------------------------------------------------------------------------------

def test_reorder():
    tree = {"a": Two(np.arange(6).reshape(3, 2)), "b": None, "c": (np.arange(3),)}
    out = reorder(tree, [2, 0, 0])
    assert out["a"].before.tolist() == [[4, 5], [0, 1], [0, 1]] and out["b"] is None and out["c"][0].tolist() == [2, 0, 0]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_same_texts_on_a_device(dtype):
    near, far = SecondOrder(dtype=dtype), SecondOrder(dtype=dtype, xp=device)
    for options in ({}, {"temperature": 0}, {"temperature": 0.7, "top_k": 3, "nucleus": 0.9, "exclude": "c"}, {"end": False}):
        assert generate(far, ["a", "bca", ""], n=3, length=15, **options) == generate(near, ["a", "bca", ""], n=3, length=15, **options)
    assert "".join(stream(far, "a", length=9)) == "".join(stream(near, "a", length=9))
    assert beam_search(far, "a", width=3, length=6) == beam_search(near, "a", width=3, length=6)
    assert score(far, "abc") == pytest.approx(score(near, "abc"))
    assert isinstance(next_logits(far, "a"), DeviceArray)


def test_one_wait_for_each_symbol_on_a_device():
    far = SecondOrder(xp=device)
    DeviceArray.synchronisations.clear()
    generate(far, ["a", "bca"], n=10, length=12, end=False, temperature=0.8, top_k=3, nucleus=0.9, exclude="c")
    assert dict(DeviceArray.synchronisations) == {"get": 12 + 2}     # the shorter prompt's streams are two symbols ahead


@pytest.mark.gpu
def test_cupy_gives_the_same_texts(network):
    assert gpu_missing() is None
    import cupy

    options = {"n": 5, "length": 30, "temperature": 0.8, "top_k": 3, "nucleus": 0.95}
    near, far = SecondOrder(), SecondOrder(xp=cupy)
    assert generate(far, ["a", "bca"], **options) == generate(near, ["a", "bca"], **options)
    assert [h.ids for h in beam_search(far, width=4, length=8)] == [h.ids for h in beam_search(near, width=4, length=8)]
    expected = generate(network, ["ab", "c"], **options), [h.ids for h in beam_search(network, "ab", width=4, length=8)]
    network.to("cupy")
    assert (generate(network, ["ab", "c"], **options), [h.ids for h in beam_search(network, "ab", width=4, length=8)]) == expected


# --- the network of the book ---------------------------------------------------------------------------------------

@pytest.fixture(params=[np.float32, np.float64])
def network(request):
    "Untrained, but with weights large enough to have opinions."
    model = LanguageModel(Vocabulary("\nabcdefg", end="\n"), n_a=24, seed=3, dtype=request.param)
    model.params = tree_map(lambda w: w * 2, model.params)
    return model


def test_network_scores_what_it_evaluates(network):
    for text in ("a", "abcg", "gfedcba"):
        assert score(network, text) == pytest.approx(network.log_probability(text), rel=1e-5)
    words = LanguageModel(Vocabulary.build(["to", "be", "or", "not"]), n_a=8, seed=1, dtype=np.float64)
    assert score(words, "to be or not") == pytest.approx(words.log_probability("to be or not"))
    assert all(len(s.split()) <= 9 for s in generate(words, "to be", length=9, n=5, exclude="<unk>"))


def test_network_streams_and_prompts(network):
    prompts = ["a", "abcdefg", "", "cc"]
    together = generate(network, prompts, n=3, length=12, seed=1)
    alone = [s for p in prompts for s in generate(network, p, n=3, length=12, seed=1)]
    assert together == alone and len(set(together)) > 6
    assert "".join(stream(network, "abc", length=12, seed=4)) == generate(network, "abc", length=12, n=9, seed=4)[0]


def test_network_search(network):
    for prompt in ("", "ab"):
        (h,) = beam_search(network, prompt, width=1, length=9)
        assert h.text == greedy(network, prompt, length=9)
        for h in beam_search(network, prompt, width=5, length=9):
            assert score(network, h.text, prompt, end=None if h.finished else False) == pytest.approx(h.log_probability, rel=1e-5)


def test_network_on_a_device(network):
    expected = generate(network, ["ab", "c"], n=4, length=10, temperature=0.8), beam_search(network, "ab", width=3, length=6)
    network.params = tree_map(device.asarray, network.params)
    found = generate(network, ["ab", "c"], n=4, length=10, temperature=0.8), beam_search(network, "ab", width=3, length=6)
    assert found == expected


# --- bad input -----------------------------------------------------------------------------------------------------

Z = np.zeros((2, 3))


@pytest.mark.parametrize("call, error, words", [
    (lambda c: temperature(Z, -0.5), ValueError, ["temperature", "[0, inf)", "-0.5"]),
    (lambda c: temperature(Z, float("nan")), ValueError, ["temperature", "[0, inf)", "nan"]),
    (lambda c: temperature(Z, INF), ValueError, ["temperature", "[0, inf)", "got inf"]),
    (lambda c: temperature(Z, "hot"), TypeError, ["temperature", "number", "'hot'"]),
    (lambda c: temperature(Z, True), TypeError, ["temperature", "number", "True"]),
    (lambda c: temperature([1.0, 2.0], 1), TypeError, ["logits", "list"]),
    (lambda c: temperature(np.arange(3), 1), TypeError, ["logits", "float32 or float64", "int64"]),
    (lambda c: temperature(np.float64(1), 1), ValueError, ["logits", "(..., n_v)", "()"]),
    (lambda c: top_k(np.zeros((2, 0)), 1), ValueError, ["logits", "n_v >= 1", "(2, 0)"]),
    (lambda c: top_k(Z, 0), ValueError, ["top_k", ">= 1", "0"]),
    (lambda c: top_k(Z, 2.0), TypeError, ["top_k", "whole number", "2.0"]),
    (lambda c: nucleus(Z, 0), ValueError, ["nucleus", "(0, 1]", "got 0"]),
    (lambda c: nucleus(Z, 1.01), ValueError, ["nucleus", "(0, 1]", "1.01"]),
    (lambda c: nucleus(Z, None), TypeError, ["nucleus", "None"]),
    (lambda c: exclude(Z, [3]), ValueError, ["exclude", "<= 2", "3"]),
    (lambda c: exclude(Z, [-1]), ValueError, ["exclude", ">= 0", "-1"]),
    (lambda c: inverse_cdf(Z, [0.5, 1.0]), ValueError, ["u", "< 1", "1.0"]),
    (lambda c: inverse_cdf(Z, [0.5, -0.1]), ValueError, ["u", "0 <=", "-0.1"]),
    (lambda c: inverse_cdf(Z, [0.5]), ValueError, ["u", "(2,)", "(1,)"]),
    (lambda c: score(c, np.array([0.5])), TypeError, ["text", "integer", "float64"]),
    (lambda c: score(c, np.array([1, 4])), ValueError, ["text", "< 4", "got 4"]),
    (lambda c: next_logits(c, np.array([-1])), ValueError, ["prompt", "0 <=", "-1"]),
    (lambda c: sample_ids(np.full((2, 3), np.nan), 0), ValueError, ["logits", "NaN"]),
    (lambda c: sample_ids(np.array([INF, 0]), 0), ValueError, ["logits", "+inf"]),
    (lambda c: sample_ids(np.full(3, -INF), 0), ValueError, ["logits", "-inf only"]),
    (lambda c: generate(c, temperature=-1), ValueError, ["temperature", "[0, inf)", "-1"]),
    (lambda c: generate(c, top_k=0), ValueError, ["top_k", ">= 1", "0"]),
    (lambda c: generate(c, nucleus=2), ValueError, ["nucleus", "(0, 1]", "2"]),
    (lambda c: generate(c, n=0), ValueError, ["n:", ">= 1", "0"]),
    (lambda c: generate(c, length=0), ValueError, ["length", ">= 1", "0"]),
    (lambda c: generate(c, length=None), TypeError, ["length", "whole number", "None"]),
    (lambda c: generate(c, seed=-3), ValueError, ["seed", ">= 0", "-3"]),
    (lambda c: generate(c, seed="x"), TypeError, ["seed", "'x'"]),
    (lambda c: generate(c, end="z"), ValueError, ["end", "'z'"]),
    (lambda c: generate(c, end=True), ValueError, ["end", "True"]),
    (lambda c: generate(c, exclude=["z"]), ValueError, ["exclude", "'z'"]),
    (lambda c: generate(c, exclude=".abc"), ValueError, ["exclude", "'.abc'"]),
    (lambda c: generate(c, exclude=list(".abc")), ValueError, ["exclude", "nothing is left", "all 4 symbols"]),
    (lambda c: greedy(c, exclude=list(".abc")), ValueError, ["exclude", "nothing is left"]),
    (lambda c: stream(c, exclude=list(".abc")), ValueError, ["exclude", "nothing is left"]),
    (lambda c: exclude(Z, [0, 1, 2, 1]), ValueError, ["exclude", "nothing is left", "all 3 symbols"]),
    (lambda c: generate(c, exclude=5), TypeError, ["exclude", "list of symbols", "got 5"]),
    (lambda c: beam_search(c, exclude=None), TypeError, ["exclude", "list of symbols", "got None"]),
    (lambda c: exclude(Z, None), TypeError, ["exclude", "list of ids", "got None"]),
    (lambda c: generate(c, temperature=np.array([1.0, 2.0])), TypeError, ["temperature", "number in", "array([1., 2.])"]),
    (lambda c: temperature(Z, np.ones(3)), TypeError, ["temperature", "number in", "array("]),
    (lambda c: generate(c, temperature=True), TypeError, ["temperature", "True"]),
    (lambda c: generate(c, temperature=None), TypeError, ["temperature", "None"]),
    (lambda c: length_penalty(-3), ValueError, ["T", ">= 1", "-3"]),
    (lambda c: length_penalty(np.array([2, 0])), ValueError, ["T", ">= 1", "got 0"]),
    (lambda c: length_penalty(1.5), TypeError, ["T", "integer", "float64"]),
    (lambda c: sample_ids(Z, -1), ValueError, ["rng", "seed", "-1"]),
    (lambda c: sample_ids(Z, "x"), ValueError, ["rng", "seed", "'x'"]),
    (lambda c: generate(c, "abπ"), ValueError, ["prompt", "'π'", "position 2"]),
    (lambda c: generate(c, ["a", "zb"]), ValueError, ["prompt[1]", "'z'", "position 0"]),
    (lambda c: generate(c, ["a", 7]), TypeError, ["prompt[1]", "int"]),
    (lambda c: generate(c, 7), TypeError, ["prompt", "int"]),
    (lambda c: generate([], "a"), TypeError, ["model", "vocabulary", "list"]),
    (lambda c: stream(c, nucleus=0), ValueError, ["nucleus", "(0, 1]"]),          # at the call, not at the first symbol
    (lambda c: stream(c, "z"), ValueError, ["prompt", "'z'"]),
    (lambda c: stream(c, ["a", "ab"]), ValueError, ["prompt", "'ab'"]),
    (lambda c: stream(c, length=-1), ValueError, ["length", ">= 1", "-1"]),
    (lambda c: greedy(c, ["a", "b"]), ValueError, ["prompt", "one", "2"]),
    (lambda c: score(c, "az"), ValueError, ["text", "'z'", "position 1"]),
    (lambda c: score(c, 5), TypeError, ["text", "int"]),
    (lambda c: beam_search(c, width=0), ValueError, ["width", ">= 1", "0"]),
    (lambda c: beam_search(c, width=1.5), TypeError, ["width", "whole", "1.5"]),
    (lambda c: beam_search(c, length=0), ValueError, ["length", ">= 1", "0"]),
    (lambda c: beam_search(c, alpha=-1), ValueError, ["alpha", "[0, inf)", "-1"]),
    (lambda c: beam_search(c, penalty="google"), ValueError, ["penalty", "'wu' or 'lecture'", "'google'"]),
    (lambda c: beam_search(c, n=0), ValueError, ["n:", ">= 1", "0"]),
    (lambda c: beam_search(c, "z"), ValueError, ["prompt", "'z'"]),
    (lambda c: beam_search(c, exclude=list(".abc")), ValueError, ["exclude", "nothing"]),
    (lambda c: next_logits(c, "z"), ValueError, ["prompt", "'z'"]),
])
def test_bad_input(chain, call, error, words):
    with pytest.raises(error) as e:
        call(chain)
    for word in words:
        assert word in str(e.value), f"{word!r} is not in: {e.value}"


@pytest.mark.parametrize("logits", [[np.nan, 0, 1, 2], [2, 1, 0, np.nan], [np.nan] * 4, [0, INF, 1, 2], [-INF] * 4])
@pytest.mark.parametrize("settings", [{}, {"temperature": 0}, {"temperature": 0.5}, {"top_k": 1}, {"nucleus": 0.3},
                                      {"top_k": 2, "nucleus": 0.5}, {"temperature": 0, "top_k": 1, "nucleus": 0.1}])
def test_logits_that_are_not_finite_are_never_hidden(chain, logits, settings):
    class Broken(SecondOrder):
        def step(self, ids, state=None):
            return np.tile(np.array(logits), (len(ids), 1)), super().step(ids, state)[1]

    calls = [lambda: generate(Broken(), **settings), lambda: next(stream(Broken(), **settings))]
    for call in calls + [lambda: greedy(Broken()), lambda: beam_search(Broken())] * (settings == {}):
        with pytest.raises(ValueError, match="^logits: "):
            call()


def test_more_results_than_the_beam_is_wide(chain):
    found = beam_search(chain, width=2, length=8, n=5)
    assert 2 < len(found) <= 5 and [h.score for h in found] == sorted((h.score for h in found), reverse=True)


def test_a_model_that_breaks_its_word(chain):
    class Wrong(SecondOrder):
        def step(self, ids, state=None):
            return np.zeros((len(ids), 5)), None

    with pytest.raises(ValueError, match=r"logits of model.step: expected shape \(1, 4\), got \(1, 5\)"):
        generate(Wrong(), "a")


def test_everything_public_is_documented():
    for name in sampling.__all__:
        assert getattr(sampling, name).__doc__, name
