"Sentiment: bags against hand-made counts, gradients against central differences, effects of words on models whose answer is known."
import numpy as np
import pytest

import seqbook.applications.sentiment as app
from seqbook.backend import leaves, tree_map
from seqbook.bptt import gradcheck
from seqbook.brnn import Bidirectional
from seqbook.gru import GRU
from seqbook.lstm import LSTM
from seqbook.notation import Vocabulary
from seqbook.training import load_tree

TEXTS = ["a superb , moving film", "a dull film", "not dull at all", "superb !", "bad , bad , bad", "the film is bad"]
RATINGS = np.array([3.0, -2.0, 1.0, 2.5, -3.0, -0.5])
WORDS = Vocabulary.build("a b c d e".split(), end=None)


def reviewer(seed=1, unit=GRU, **options):
    return app.Reviewer(WORDS, Bidirectional(unit(3, 4, seed=seed, dtype=np.float64)), seed=seed, dtype=np.float64, **options)


class Weights:
    "A sum of weights, a thing with `scores` whose effects are known."

    def __init__(self, **weights):
        self.weights = weights

    def scores(self, texts):
        return np.array([sum(self.weights.get(w, 0.0) for w in app.tokenize(t)) for t in texts])


@pytest.fixture(scope="module")
def trained():
    texts, ratings = TEXTS * 6, np.tile(RATINGS, 6)
    options = {"epochs": 12, "batch_size": 9, "lr": 1e-2, "min_count": 1, "n_x": 8, "n_a": 8, "patience": None}
    return app.train_reviewer((texts, ratings), (TEXTS, RATINGS), **options)


@pytest.mark.parametrize("unit", [GRU, LSTM])
@pytest.mark.parametrize("noisy", [False, True])
def test_gradient_equals_central_differences(unit, noisy):
    model = reviewer(unit=unit, sharpness=0.7)
    model.params = tree_map(lambda a: a + 0.2 * np.random.default_rng(0).normal(size=a.shape), model.params)
    batch = model.batch(["a b c d", "e", "b zzz"], [2.0, -1.5, 0.3])

    def loss(params):
        model.params, model.rng = params, np.random.default_rng(5) if noisy else None
        return model.loss_and_grads(batch)[0]

    params = model.params
    loss(params)
    model.rng = np.random.default_rng(5) if noisy else None
    gradcheck(loss, params, model.loss_and_grads(batch)[1]).check(1e-6)


def test_loss_is_the_cross_entropy_against_degrees():
    model = reviewer(sharpness=2.0)
    model.rng = None
    P, q = model.probabilities(["a b", "c"]), app.degrees([1.0, -3.0], 2.0)
    expected = -np.mean((1 - q) * np.log(P[:, 0]) + q * np.log(P[:, 1]))
    assert np.isclose(model.loss_and_grads(model.batch(["a b", "c"], [1.0, -3.0]))[0], expected)
    assert np.allclose(q, [1 / (1 + np.exp(-2)), 1 / (1 + np.exp(6))])


def test_padding_changes_nothing():
    model = reviewer()
    alone, together = model.scores(["a b"]), model.scores(["a b", "a b c d e a b c"])
    assert np.allclose(alone[0], together[0], atol=1e-12)


def test_mean_and_maximum_by_hand():
    Y = np.array([[[1.0, 5.0]], [[3.0, -1.0]], [[9.0, 9.0]]])
    h, back = app.read_mean_max(Y, None, [2])
    assert h.tolist() == [[2, 2, 3, 5]]
    assert app.read_mean_max(Y, None)[0][0, 2:].tolist() == [9, 9]
    dY, dstate = back(np.array([[1.0, 1.0, 10.0, 20.0]]))
    assert dstate is None and dY[:, 0].tolist() == [[0.5, 20.5], [10.5, 0.5], [0, 0]]


def test_a_mask_keeps_the_mean():
    M = app.kept(np, np.random.default_rng(0), (400, 500), 0.3, np.dtype(np.float32))
    assert M.dtype == np.float32 and abs(M.mean() - 1) < 0.01 and set(np.unique(M)) == {0, np.float32(1 / 0.7)}
    assert app.kept(np, None, (2,), 0.3, np.dtype(np.float32)) == app.kept(np, np.random.default_rng(0), (2,), 0, np.dtype(np.float32)) == 1


def test_hidden_words_become_the_unknown_word():
    model = reviewer(word_dropout=0.25)
    X = np.full((200, 100), 3)
    hidden = model.hide_words(X, np.random.default_rng(0))
    assert set(np.unique(hidden)) == {WORDS.unknown_id, 3} and abs((hidden == WORDS.unknown_id).mean() - 0.25) < 0.02
    assert model.hide_words(X, None) is X


def test_it_learns_and_comes_back_from_a_file(trained, tmp_path):
    model, history = trained
    assert app.accuracy(model.scores(TEXTS), RATINGS) == 1 and history["loss"][1][-1] < history["loss"][1][0]
    model.save(tmp_path / "reviewer.safetensors")
    again = app.Reviewer.load(tmp_path / "reviewer.safetensors")
    assert np.array_equal(again.scores(TEXTS), model.scores(TEXTS)) and again.rates == model.rates
    assert load_tree(tmp_path / "reviewer.safetensors")[1]["word_dropout"] == 0.1
    assert {k: v.shape for k, v in leaves(again.params).items()} == {k: v.shape for k, v in leaves(model.params).items()}


def test_same_seed_same_model():
    train = TEXTS * 3, np.tile(RATINGS, 3)
    one, two = (app.train_reviewer(train, (TEXTS, RATINGS), epochs=1, batch_size=6, seed=4, min_count=1)[0] for _ in range(2))
    assert np.array_equal(one.scores(TEXTS), two.scores(TEXTS))


def test_word_vectors_begin_with_counts():
    model = app.make_reviewer(TEXTS, RATINGS, min_count=1, seed=0)
    E, ratio = model.embedding.params.E, app.log_ratios(model.inputs, TEXTS, RATINGS)
    assert np.allclose(E[:, 0], ratio, atol=1e-6) and abs(E[:, 1:].std() - 0.1) < 0.01
    assert ratio[model.inputs["superb"]] > 0 > ratio[model.inputs["bad"]] and ratio[model.inputs.unknown_id] == 0


def test_naive_bayes_by_hand():
    bag = app.Bag("bayes").fit(["good film", "bad film"], [2.0, -2.0])
    assert np.allclose(bag.scores(["good", "bad", "film", "unheard", "good good"]), [np.log(2), -np.log(2), 0, 0, np.log(2)])
    soft = app.Bag("bayes", sharpness=1.0).fit(["good film", "bad film"], [2.0, -2.0])
    assert 0 < soft.scores(["good"])[0] < np.log(2)


@pytest.mark.parametrize("kind", app.BAGS)
def test_bags_tell_good_from_bad(kind):
    bag = app.tuned_bag(kind, (TEXTS * 4, np.tile(RATINGS, 4)), (TEXTS, RATINGS), sizes=(1, 2))
    assert app.accuracy(bag.scores(TEXTS), RATINGS) == 1
    same = app.Bag(bag.kind, bag.n, bag.strength, bag.sharpness).fit(TEXTS * 4, np.tile(RATINGS, 4))
    assert np.allclose(same.scores(TEXTS), bag.scores(TEXTS), atol=1e-3)


def test_leave_one_out_finds_the_weights_of_a_sum():
    words, effects = app.leave_one_out(Weights(good=2.0, bad=-1.5), "Good, not bad: good!")
    assert words == ["good", ",", "not", "bad", ":", "good", "!"] and np.allclose(effects, [2, 0, 0, -1.5, 0, 2, 0])
    assert app.leave_one_out(Weights(good=2.0), "good")[1].tolist() == [2.0]


def test_gradient_times_input_equals_central_differences():
    model = reviewer(seed=3)
    words, effects = app.gradient_times_input(model, "b a zzz b")
    X, _ = model.features(np.stack(model.encode_inputs([words]), axis=1))
    score = lambda X: float(np.diff(model.from_vectors(X)[0][0])[0])
    for t in range(4):
        bump = lambda e, t=t: X * (1 + e * (np.arange(4) == t))[:, None, None]
        assert np.isclose(effects[t], (score(bump(1e-5)) - score(bump(-1e-5))) / 2e-5, atol=1e-8)


def test_a_committee_says_the_mean():
    class Sure:
        def __init__(self, p):
            self.p = p

        def probabilities(self, texts):
            return np.array([[1 - self.p, self.p]] * len(texts))

    both = app.Committee([Sure(0.9), Sure(0.5)])
    assert np.allclose(both.probabilities(["x"]), [[0.3, 0.7]]) and np.isclose(both.scores(["x"])[0], np.log(0.7 / 0.3))
    with pytest.raises(ValueError, match="models: expected at least one"):
        app.Committee([])


def luminance(colour):
    parts = [int(colour[i:i + 2], 16) / 255 for i in (1, 3, 5)]
    r, g, b = (v / 12.92 if v <= 0.03928 else ((v + 0.055) / 1.055) ** 2.4 for v in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def test_colours_are_readable_and_say_no_more_than_the_text():
    shown = app.opinion(Weights(good=2.0, bad=-9.0), ["good <b> bad", "so so"])
    html, text = shown._repr_html_(), repr(shown)
    assert "&lt;" in html and "<b>" not in html and "script" not in html
    assert text.splitlines()[0] == "disliked -7.0: good[+2.0] < b > bad[-9.0]" and "so so" in text
    dark = luminance("#16191c")
    for effect in np.linspace(-5, 5, 41):
        assert (luminance(app.shade(effect)) + 0.05) / (dark + 0.05) > 7


def test_paired_and_interval():
    assert app.paired([1, 1, 1, 0], [0, 0, 0, 0]) == (3, 0, 0.25) and app.paired([1, 0], [0, 1])[2] == 1.0
    assert app.paired([1, 0], [1, 0]) == (0, 0, 1.0)
    low, high = app.interval(0.8, 1000)
    assert 0.774 < low < 0.775 and 0.823 < high < 0.824 and app.interval(1.0, 10)[1] <= 1
    with pytest.raises(ValueError, match="b: expected one truth value"):
        app.paired([1, 0], [1])


def test_by_clarity_counts_each_sentence_once():
    rows = app.by_clarity([1, 0, 1, 1], [0.2, -0.3, 4.0, -1.0])
    assert rows[0] == (0, 0.5, 0.5, 2) and rows[2][2:] == (1.0, 1) and sum(r[3] for r in rows) == 4 and np.isnan(rows[1][2])


def test_negated():
    assert all(map(app.negated, ("It isn't funny", "It isn’t", "Nothing works.", "LACKS heart")))
    assert not any(map(app.negated, ("a notable film", "knotty", "annotated")))


class Given:
    "Scores that are known, by sentence."

    def __init__(self, scores):
        self.known = scores

    def scores(self, texts):
        return np.array([self.known[t] for t in texts])


def test_a_mixture_is_the_weighted_sum_in_units_of_the_spreads():
    one, other = Given({"x": 3.0, "y": -1.0}), Given({"x": -10.0, "y": 40.0})
    mixture = app.Mixture([one, other], [0.25, 0.75], [2.0, 10.0])
    assert np.allclose(mixture.scores(["x", "y"]), [0.25 * 1.5 - 0.75, -0.125 + 3])
    assert np.allclose(app.Mixture([one, other], [1, 0], [1, 1]).scores(["x", "y"]), [3, -1])
    three = app.Mixture([one, other, mixture], [1, 2, 3], [1, 1, 1])
    assert np.allclose(three.scores(["x", "y"]), one.scores("xy") + 2 * other.scores("xy") + 3 * mixture.scores("xy"))
    assert app.spread_of(other, ["x", "y"]) == 25


def test_the_share_goes_to_the_model_that_follows_the_ratings(rng):
    r = rng.normal(size=400) * 2
    noise = rng.normal(size=(2, 400))
    assert app.best_share(r, noise[0], r) == 1 and app.best_share(noise[0], r, r) == 0
    q = app.degrees(r) - 0.5
    assert app.best_share(q + 0.3 * noise[0], q + 0.3 * noise[1], r) in (0.4, 0.5, 0.6)
    assert app.best_share(q + 0.1 * noise[0], q + 0.6 * noise[1], r) > 0.7


def test_stacking_does_not_depend_on_the_scale_of_scores(rng):
    r, texts = rng.normal(size=300) * 2, [f"sentence {i}" for i in range(300)]
    a, b = r + rng.normal(size=300), r + 2 * rng.normal(size=300)
    scores = []
    for scale in (1, 50):
        found = app.stacked(Given(dict(zip(texts, a))), Given(dict(zip(texts, scale * b))), (texts, r))
        assert np.isclose(found.spreads[1], scale * b.std()) and 0.5 < found.shares[0] < 1 and sum(found.shares) == 1
        scores.append(found.scores(texts))
    assert np.allclose(*scores) and app.accuracy(scores[0], r) > max(app.accuracy(a, r), app.accuracy(b, r)) - 0.01


def test_cross_validation_judges_every_sentence_unseen(monkeypatch):
    seen, stops, counted, fit = [], [], [], app.Bag.fit

    class Net:
        def scores(self, texts):
            assert not set(texts) & set(seen[-1])
            return np.linspace(1, 2, len(texts))

        probabilities = lambda self, texts: np.array([[0.2, 0.8]] * len(texts)) + np.linspace(0, 0.1, len(texts))[:, None] * [-1, 1]

    def fake(train, valid, seed, **options):
        assert not set(train[0]) & set(valid[0])
        seen.append(train[0])
        stops.append((seed, valid[0]))
        return Net(), None

    monkeypatch.setattr(app, "train_reviewer", fake)
    monkeypatch.setattr(app.Bag, "fit", lambda self, texts, ratings: counted.append(list(texts)) or fit(self, texts, ratings))
    texts, ratings = [f"{t} {k}" for k in range(4) for t in TEXTS], np.tile(RATINGS, 4)
    scores, shares = app.cross_validate(texts, ratings, {"bayes": app.Bag()}, k=4, members=2, mix="bayes")
    assert [*scores] == ["bayes", "bags together", "network", "committee of 2", "committee + counts", "all together"] and len(shares) == 4
    assert (scores["network"] >= 1).all() and len(seen) == 8 and app.accuracy(scores["bayes"], ratings) > 0.8
    assert [seed for seed, _ in stops] == [*range(8)] and sorted(t for _, v in stops[::2] for t in v) == sorted(texts)
    for j, rows in enumerate(app.folds(24, 4)):
        judged, (all_nine, without_stop) = {texts[i] for i in rows}, counted[2 * j:2 * j + 2]
        assert not judged & {*all_nine} and len(all_nine) == 18 and not judged & {*without_stop}
        assert not {*stops[2 * j][1]} & {*without_stop} and len(without_stop) == 12  # nothing that is mixed has seen `stop`
    told = app.summary(scores, ratings)
    assert told["network"]["accuracy"] == 0.5 and set(told) == set(scores)
    assert sorted(np.concatenate(app.folds(10, 3)).tolist()) == list(range(10))


def test_each_network_is_compared_with_each_bag():
    scores = {"bayes": np.array([1, 1, -1, -1]), "ridge": np.array([1, -1, 1, -1]), "network": np.array([1, 1, 1, 1])}
    found = app.compared(scores, np.ones(4), ("bayes", "ridge"))
    assert found == {"network": {"bayes": (2, 0, 0.5), "ridge": (2, 0, 0.5)}}


def test_judges_learn_on_equal_data():
    train, stop = (TEXTS * 2, np.tile(RATINGS, 2)), ([f"{t} again" for t in TEXTS], RATINGS)
    models = app.judges(train, stop, {"ridge": app.Bag("ridge")}, members=2, seed=5, epochs=1, batch_size=6, min_count=1)
    again = app.Bag("ridge").fit(train[0] + stop[0], np.concatenate([train[1], stop[1]]))
    assert np.allclose(models["ridge"].scores(TEXTS), again.scores(TEXTS), atol=1e-3)
    for name in ("committee + counts", "all together"):
        assert models[name].models == [models["committee of 2"], models["ridge"]] and np.isclose(sum(models[name].shares), 1)
    early = app.spread_of(app.Bag("ridge").fit(*train), stop[0])
    assert models["all together"].shares == [0.5, 0.5] and np.isclose(models["all together"].spreads[1], early)
    assert np.allclose(models["bags together"].scores(TEXTS) * early, models["ridge"].scores(TEXTS), atol=1e-3)
    alone = app.train_reviewer(train, stop, seed=5, epochs=1, batch_size=6, min_count=1)[0]
    assert np.array_equal(models["network"].scores(TEXTS), alone.scores(TEXTS))


@pytest.mark.parametrize("call, message", [
    (lambda: app.degrees([1.0], 0), "sharpness"),
    (lambda: app.Bag("svm"), "kind: expected one of"),
    (lambda: app.Bag(n=0), "n: expected"),
    (lambda: app.Bag().fit(["a", " "], [1, 2]), r"train texts\[1\]: expected a str with at least one word"),
    (lambda: app.Bag().fit(["a", "b"], [1]), "train ratings: expected"),
    (lambda: app.Bag().fit(["a"], [np.nan]), "train ratings: expected finite"),
    (lambda: app.Reviewer("words", None), "inputs: expected a Vocabulary"),
    (lambda: reviewer(word_dropout=1.0), "word_dropout"),
    (lambda: reviewer().scores("a b"), "inputs: expected a list"),
    (lambda: reviewer().scores(["a", "  "]), r"inputs\[1\]: expected at least one word"),
    (lambda: reviewer().fit(["a"], ["liked"]), "targets: expected numbers"),
    (lambda: app.opinion(Weights(), ""), r"^texts\[0\]: expected a str with at least one word"),
    (lambda: app.folds(3, 4), "k: expected at most n"),
    (lambda: app.Mixture([], [], []), "shares, spreads: expected one number for each of 0 models"),
    (lambda: app.Mixture([1, 2], [1], [1, 1]), "shares, spreads: expected one number for each of 2 models, got 1 and 2"),
    (lambda: app.Mixture([1, 2], [1, -1], [1, 1]), r"shares\[1\]: expected a number in \[0, inf\), got -1"),
    (lambda: app.Mixture([1, 2], [1, 1], [1, 0]), r"spreads\[1\]: expected a number in \(0, inf\), got 0"),
    (lambda: app.best_share([1.0, 2.0], [1.0], [1.0, -1.0]), "other: expected"),
    (lambda: app.stacked(Weights(), Weights(), (["a", ""], [1, 2])), r"valid texts\[1\]: expected a str"),
    (lambda: app.judges((TEXTS, RATINGS), (TEXTS, RATINGS), {"bayes": app.Bag()}), "mix: expected one of bayes, got 'ridge'"),
    (lambda: app.Bag().fit(TEXTS, RATINGS).scores("a film"), "texts: expected a list"),
])
def test_bad_input_is_named(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()
