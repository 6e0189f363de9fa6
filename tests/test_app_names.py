"Names: counted letters against hand-made sums, a network on made-up names whose kind is in their ending, what is new of what it writes."
from types import SimpleNamespace

import numpy as np
import pytest

import seqbook.applications.names as app
from seqbook.ctc import edit_distance

RNG = np.random.default_rng(0)
ENDS = {"female": "a", "male": "o", "surname": "nk"}


def made(n, seed):
    "Names of two or three syllables; the last letters tell the category."
    rng = np.random.default_rng(seed)
    stem = lambda: "".join(rng.choice([*"bdlmrt"]) + rng.choice([*"aei"]) for _ in range(rng.integers(1, 3)))
    return {c: sorted({stem() + rng.choice([*"bdlmrt"]) + end for _ in range(n)}) for c, end in ENDS.items()}


@pytest.fixture(scope="module")
def parts():
    return app.split_names(made(300, 0), 0.15, 0.15)


@pytest.fixture(scope="module")
def counted(parts):
    return app.NameNGrams(parts["train"], parts["valid"], orders=(2, 3, 4), shares=(0.3, 0.6, 1.0))


@pytest.fixture(scope="module")
def writer(parts):
    return app.train_generator(parts["train"], parts["valid"], n_a=48, steps=800, batch_size=64, repeats=None)[0]


# ---- lists and parts

def test_lists_are_in_small_letters_and_in_order():
    people = SimpleNamespace(female={"MARY": 2.6}, male={"JAMES": 3.3, "KIM": 0.1}, surnames={"SMITH": 1.0})
    lists = app.census_lists(people)
    assert [*lists] == [*app.CATEGORIES] and lists["male"] == {"james": 3.3, "kim": 0.1} and lists["surname"] == {"smith": 1.0}


def test_a_spelling_is_in_one_part_whatever_its_lists():
    lists = made(300, 0) | {"surname": made(300, 0)["male"][::2] + ["smith"]}
    parts = app.split_names(lists, 0.2, 0.3, seed=4)
    sets = {p: set().union(*names.values()) for p, names in parts.items()}
    everything = set().union(*lists.values())
    assert not sets["train"] & sets["valid"] and not sets["train"] & sets["test"] and not sets["valid"] & sets["test"]
    assert set().union(*sets.values()) == everything and abs(len(sets["test"]) - 0.3 * len(everything)) <= 1
    assert all(sorted(n for part in parts.values() for n in part[c]) == sorted(names) for c, names in lists.items())
    assert app.split_names(lists, 0.2, 0.3, seed=4) == parts != app.split_names(lists, 0.2, 0.3, seed=5)


# ---- counted letters

def test_a_stream_keeps_names_apart():
    ids, on = app.as_stream(["ann", "bo"], gap=3)
    assert app.LETTERS.text(ids) == "...ann...bo..." and app.LETTERS.text(ids[on]) == "ann.bo."
    assert app.LETTERS.text(app.as_stream(["Ann"])[0]) == ".ann." and app.as_stream([])[1].sum() == 0


@pytest.mark.parametrize("order", [2, 3, 5])
def test_ngrams_do_not_see_the_name_before(parts, order):
    model, names = app.name_ngram(order, parts["train"]["female"], parts["valid"]["female"]), parts["test"]["female"][:12]
    p = app.letter_probabilities(model, names)
    alone = [app.letter_probabilities(model, [n]) for n in names]
    assert np.allclose(p, np.concatenate(alone), rtol=1e-12) and len(p) == sum(len(n) + 1 for n in names)
    ends = [app.LETTERS.end_id] * (order - 1)
    one = app.LETTERS.encode(names[0], end=True).tolist()
    by_hand = [model.probabilities((ends + one)[t:t + order - 1])[y] for t, y in enumerate(one)]
    assert np.allclose(alone[0], by_hand, rtol=1e-10)
    assert np.isclose(model.probabilities(ends).sum(), 1) and model.probabilities(ends)[app.LETTERS.end_id] < 0.01  # a name has a letter


def test_the_discount_is_the_one_that_suits_the_validation_names(parts):
    names, valid = parts["train"]["male"], parts["valid"]["male"]
    best = np.log(app.letter_probabilities(app.name_ngram(3, names, valid), valid)).sum()
    model = app.NGram(3, len(app.LETTERS), smoothing="kneser-ney").fit(app.as_stream(names, 2)[0])
    assert np.isclose(best, max(np.log(app.letter_probabilities(model.smooth(d), valid)).sum() for d in app.DISCOUNTS))


def test_a_mixture_of_counts_is_the_weighted_mean(parts, counted):
    for c in app.CATEGORIES:
        (w, own, shared), names = counted.parts[c], parts["test"][c][:9]
        by_hand = [np.log(w * app.letter_probabilities(own, [n]) + (1 - w) * app.letter_probabilities(shared, [n])).sum() for n in names]
        assert np.allclose(counted.log_probabilities(c, names), by_hand)
        alone = np.log(app.letter_probabilities(own, parts["valid"][c])).sum()
        assert counted.log_probabilities(c, parts["valid"][c]).sum() >= alone - 1e-9  # 1.0 is among the shares
    assert counted.size > 0


def test_bits_of_those_who_know_nothing():
    assert np.isclose(app.bits(np.log([27.0**-4, 27.0**-3]), ["ann", "bo"]), np.log2(27))


# ---- the network

def test_the_network_scores_each_name_alone_as_among_others(writer, parts):
    names = parts["test"]["surname"][:20]
    together = app.log_probabilities(writer, "surname", names, batch_size=7)
    assert np.allclose(together, [app.log_probabilities(writer, "surname", [n])[0] for n in names], atol=1e-4)
    assert np.isclose(-together.sum() / sum(len(n) + 1 for n in names), writer.evaluate(["surname"] * 20, names).nats, atol=1e-4)


def test_names_are_drawn_as_often_as_they_are_scored(writer):
    drawn = writer.sample(["male"], n=4000, length=20, seed=3)
    common = max(set(drawn), key=drawn.count)
    p = float(np.exp(app.log_probabilities(writer, "male", [common])[0]))
    assert abs(drawn.count(common) / 4000 - p) < 4 * np.sqrt(p * (1 - p) / 4000)


def test_what_it_writes_is_of_the_kind_it_was_told(writer):
    for c, end in ENDS.items():
        assert np.mean([n.endswith(end) for n in writer.sample([c], n=200, length=20, seed=1)]) > 0.9


def test_it_knows_whose_a_new_name_is(writer, counted, parts):
    names, truth = app.only_here(parts["test"], made(300, 0))
    for f in (lambda c: app.log_probabilities(writer, c, names), lambda c: counted.log_probabilities(c, names)):
        guesses = app.posterior(np.stack([f(c) for c in app.CATEGORIES], axis=1)).argmax(axis=1)
        assert app.balanced_accuracy(guesses, truth) > 0.95
    assert max(app.whose(writer, "Bamero"), key=app.whose(writer, "bamero").get) == "male"
    assert np.isclose(sum(app.whose(writer, "Bamero").values()), 1, atol=0.002)


def test_both_together_are_the_mean_of_both(writer, counted, parts):
    assert np.allclose(np.exp(app.mixed(np.log([0.1, 0.4]), np.log([0.3, 0.4]), 0.25)), [0.25, 0.4])
    found = app.three_ways(writer, counted, parts["valid"], parts["test"])
    for c, v in found.items():
        names = parts["test"][c]
        p, q = app.log_probabilities(writer, c, names), counted.log_probabilities(c, names)
        assert v["network"] == app.bits(p, names) and v["n-grams"] == app.bits(q, names)
        assert np.isclose(v["both"], app.bits(np.log(v["share"] * np.exp(p) + (1 - v["share"]) * np.exp(q)), names))
        assert v["both"] <= max(v["network"], v["n-grams"])


def test_an_answer_unfolds_from_even_to_the_whole_name(writer):
    steps = app.unfolding(writer, "bamero")
    assert steps.shape == (8, 3) and np.allclose(steps[0], 1 / 3) and np.allclose(steps.sum(axis=1), 1)
    assert np.allclose(steps[-1], [*app.whose(writer, "bamero").values()], atol=1e-3)


def test_names_that_begin_as_asked(writer):
    asked = app.invent(writer, "female", "Ba", n=20, seed=2)
    assert len(asked) == 20 and all(n.startswith("Ba") and n[1:] == n[1:].lower() for n in asked)
    assert asked == app.invent(writer, "female", "bA", n=20, seed=2) != app.invent(writer, "female", "ba", n=20, seed=3)
    assert np.mean([n.endswith("a") for n in asked]) > 0.8 and len(app.invent(writer, "male", n=3)) == 3


def test_examples_are_repeated_and_limited():
    names = {"female": ["a", "b"], "male": ["c"], "surname": ["d", "e", "f"]}
    assert app.pairs(names, {"male": 3}, limit=2) == (["female"] * 2 + ["male"] * 3 + ["surname"] * 2, [*"abcccde"])


# ---- new, and whose

def test_one_step_is_distance_one():
    near = app.one_step("bob")
    assert all(edit_distance("bob", n) == 1 for n in near) and "bob" not in near
    for _ in range(300):
        other = "".join(RNG.choice([*"bot"], RNG.integers(0, 6)))
        assert (other in near) == (edit_distance("bob", other) == 1)


def test_novelty_by_hand():
    found = app.novelty(["ann", "anna", "zzz", "zzz"], ["ann"], ["anna"])
    assert found == {"known": 0.25, "real": 0.25, "new": 0.5, "near": 1 / 3, "distinct": 0.75}
    assert app.novelty(["ann"], ["ann"]) == {"known": 1, "real": 0, "new": 0, "near": 0, "distinct": 1}


def test_the_nearest_share_the_first_letter():
    assert app.nearest("marta", ["martha", "arta", "zoe", "maria"], 2) == ["martha", "maria"] and app.nearest("", ["a"]) == []


def test_bayes_rule():
    log_p = np.log(RNG.random((5, 3)))
    assert np.allclose(app.posterior(log_p), np.exp(log_p) / np.exp(log_p).sum(axis=1, keepdims=True))
    prior = np.array([0.7, 0.2, 0.1])
    assert np.allclose(app.posterior(log_p - 2000, prior), prior * np.exp(log_p) / (prior * np.exp(log_p)).sum(axis=1, keepdims=True))


def test_only_names_of_one_list_are_asked():
    lists = {"female": ["kim", "ann"], "male": ["kim", "bob"], "surname": ["bob", "smith"]}
    names, truth = app.only_here(lists, lists)
    assert names == ["ann", "smith"] and truth.tolist() == [0, 2]


def test_every_category_counts_the_same():
    assert app.balanced_accuracy([0, 0, 0, 1], [0, 0, 0, 0]) == 0.75 and app.balanced_accuracy([0] * 9 + [0], [0] * 9 + [1]) == 0.5


def test_naive_bayes_on_letters_by_hand():
    model = app.LetterBayes().fit(["ab", "aa", "bbc"], [0, 0, 1])
    log_p = np.log([[4 / 7, 2 / 7, 1 / 7], [1 / 6, 3 / 6, 2 / 6]])  # a, b, c with one added to each count
    for name in ("a", "b", "aab", "abb", "abc", "acc"):
        assert model.predict([name])[0] == np.argmax([log_p[k, ["abc".index(x) for x in name]].sum() for k in range(2)])


def test_groups_of_letters_know_where_they_stand():
    stems = sorted({"".join(np.random.default_rng(k).choice([*"abei"], 4)) for k in range(200)})
    names = lambda part: ([s + "ol" for s in part] + ["ol" + s for s in part], np.repeat([0, 1], len(part)))
    learn, choose, ask = names(stems[::3]), names(stems[1::3]), names(stems[2::3])
    best = app.tuned_letters(learn, choose, sizes=(1, 3), strengths=(0.1, 1.0))
    assert best.n == 3 and app.balanced_accuracy(best.predict(ask[0]), ask[1]) > 0.95
    assert app.balanced_accuracy(app.LetterBayes().fit(*learn).predict(ask[0]), ask[1]) == 0.5  # the same letters


# ---- as often as they are borne

def test_draws_follow_the_shares():
    drawn = app.drawn_by_share({"mary": 3.0, "zoe": 1.0, "x": 0.0}, 4000, seed=1)
    assert abs(drawn.count("mary") / 4000 - 0.75) < 0.03 and "x" not in drawn
    assert drawn == app.drawn_by_share({"mary": 3.0, "zoe": 1.0, "x": 0.0}, 4000, seed=1)


def test_bits_of_a_person_by_hand():
    best, model = app.bits_a_person({"a": 2.0, "b": 1.0, "c": 1.0, "d": 0.0}, np.log([0.25, 0.25, 0.25, 1e-300]))
    assert np.isclose(best, 1.5) and np.isclose(model, 2)


# ---- bad input

@pytest.mark.parametrize("call, error, message", [
    (lambda w: app.split_names({"a": ["b"]}, 0.5, 0.6), ValueError, r"test: expected less than 1 - valid = 0.5, got 0.6"),
    (lambda w: app.split_names({"a": ["b"]}, 0), ValueError, r"valid: expected a number in \(0, 1\)"),
    (lambda w: app.as_stream(["ann", ""]), ValueError, r"names\[1\]: expected letters a to z, got ''"),
    (lambda w: app.as_stream(["o'brien"]), ValueError, r"names\[0\]: expected letters a to z"),
    (lambda w: app.as_stream("ann"), TypeError, "names: expected"),
    (lambda w: app.name_ngram(1, ["ann"], ["bo"]), ValueError, "order: expected a whole number >= 2"),
    (lambda w: app.mixed([0.0], [0.0], 1), ValueError, r"share: expected a number in \(0, 1\)"),
    (lambda w: app.novelty([], ["ann"]), ValueError, "invented: expected at least one name"),
    (lambda w: app.posterior([[0.0, 0.0]], [1, 0]), ValueError, "prior: expected 2 positive numbers"),
    (lambda w: app.LetterBayes(0), ValueError, "n: expected a whole number"),
    (lambda w: app.drawn_by_share({"ann": 0.0}, 3), ValueError, "shares: expected at least one name"),
    (lambda w: app.log_probabilities(w, "dinosaur", ["rex"]), ValueError, "dinosaur"),
    (lambda w: app.invent(w, "dinosaur", "T"), ValueError, "category: expected one of female, male, surname, got 'dinosaur'"),
    (lambda w: app.invent(w, "male", "T."), ValueError, r"begins: expected letters a to z, got 'T\.'"),
    (lambda w: app.whose(w, "Zoë"), ValueError, "name: expected letters a to z, got 'Zoë'"),
    (lambda w: app.whose(w, ""), ValueError, "name: expected letters a to z, got ''"),
])
def test_bad_input_is_named(writer, call, error, message):
    with pytest.raises(error, match=message):
        call(writer)


def test_a_category_that_was_not_counted(counted):
    with pytest.raises(ValueError, match="category: expected one of female, male, surname, got 'dinosaur'"):
        counted.log_probabilities("dinosaur", ["rex"])
