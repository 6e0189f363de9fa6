"Spelling to phonemes: edit distance, error rates, cuts, the joint n-gram model, and the networks on a made language."
from types import SimpleNamespace

import numpy as np
import pytest

from seqbook.applications.pronunciation import (Chunks, JointNgram, Rates, best_cuts, by_spelling, cut_table, edit_distance, error_rates, examples,
                                                exchanged, influence, learn_chunks, letter_tagger, network_scores, phoneme_scores, pronounce, proposed,
                                                questions, say, spelling_model, spoken, tagged, together, train_speller, train_tagger)

SOUND = {"a": ("A",), "h": (), "x": ("K", "S"), "t": ("T",), "n": ("N",)}


def made(count=1200, seed=0):
    "A language in which each letter always says the same, but for 'th', which says one other sound."
    rng = np.random.default_rng(seed)
    words = sorted({"".join(rng.choice(list("ahxtn"), rng.integers(2, 5))) for _ in range(count)})
    words = [w for w in words if set(w) - {"h"}]
    return words, [tuple(p for a, b in zip(w, w[1:] + "-") for p in (("TH",) if a + b == "th" else SOUND[a])) for w in words]


@pytest.fixture(scope="module")
def language():
    words, sounds = made()
    rows = np.arange(len(words))
    return SimpleNamespace(words=words, phonemes=[[s] for s in sounds], symbols=tuple(sorted({p for s in sounds for p in s})),
                           splits={"train": rows[rows % 5 > 0], "valid": rows[rows % 10 == 0], "test": rows[rows % 10 == 5]})


def test_edit_distance_is_symmetric_and_keeps_the_triangle():
    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice(list("ab"), rng.integers(0, 6))) for _ in range(12)]
    for a in texts:
        assert edit_distance(a, a) == 0 and edit_distance(a, "") == len(a)
        for b in texts:
            assert edit_distance(a, b) == edit_distance(b, a) == sum(1 for _ in exchanged(a, b)) >= abs(len(a) - len(b))
            assert all(edit_distance(a, b) <= edit_distance(a, c) + edit_distance(c, b) for c in texts)


def test_the_nearest_reference_counts():
    assert error_rates(["ab"], [["xyz", "ac", "bb"]]) == Rates(1 / 2, 1.0, 1)
    assert error_rates(["ab", "c"], [["ab", "zz"], ["cd"]]) == Rates(1 / 4, 1 / 2, 2)
    assert by_spelling(["xx", "y"], ["ab", "c"], [["ab", "zz"], ["cd"]]) == [[1, 1, 1, 1, 2], [2, 1, 0, 0, 2]]


@pytest.mark.parametrize("answers, references", [([], []), (["a"], []), (["a"], [["a"], ["b"]])])
def test_error_rates_refuse_unequal_lists(answers, references):
    with pytest.raises(ValueError, match="references: expected"):
        error_rates(answers, references)


def test_parts_and_limits(language):
    words, references = questions(language, "valid")
    assert len(words) == len(language.splits["valid"]) and examples(language, "valid")[0] == words
    assert questions(language, "valid", 7)[0][0] == words[0] and len(questions(language, "valid", 7)[0]) == 7
    with pytest.raises(ValueError, match="part: expected one of"):
        questions(language, "dev")


def test_cut_table_counts_all_cuts():
    "With weights of one the table counts the ways to write J as T numbers of 0, 1 or 2."
    for T in range(1, 5):
        for J in range(1, 2 * T + 1):
            ways = sum(sum(cut) == J for cut in np.ndindex(*(3,) * T))
            E = [np.zeros((1, T, J + 1 - k)) for k in range(3)]
            assert np.isclose(np.exp(cut_table(E, np.logaddexp)[0, -1, -1]), ways)
            assert cut_table(E, np.maximum)[0, -1, -1] == 0


def test_cuts_are_found_and_become_more_probable(language):
    words, sounds = examples(language)
    chunks = Chunks(words, sounds)
    course = learn_chunks(chunks, 8)
    assert all(a <= b + 1e-9 * abs(b) for a, b in zip(course[1:], course[2:]))
    cuts = best_cuts(chunks)
    assert all(sum(cut, ()) == y and len(cut) == len(w) for w, y, cut in zip(words, sounds, cuts))
    x_says = {q for w, cut in zip(words, cuts) for letter, q in zip(w, cut) if letter == "x"}
    assert x_says == {("K", "S")}
    assert np.allclose(np.exp(chunks.theta).sum(axis=1), 1)


def test_a_word_that_cannot_be_cut_is_left_out():
    chunks = Chunks(["a", "ab"], [("X", "Y", "Z"), ("X", "Y")])
    learn_chunks(chunks, 2)
    cuts = best_cuts(chunks)
    assert cuts[0] is None and sum(cuts[1], ()) == ("X", "Y")
    with pytest.raises(ValueError, match="phonemes: expected one tuple"):
        Chunks(["a"], [])


@pytest.fixture(scope="module")
def ngram(language):
    words, sounds = examples(language)
    chunks = Chunks(words, sounds)
    learn_chunks(chunks)
    return JointNgram(words, best_cuts(chunks), 4)


def test_ngram_probabilities_sum_to_one(ngram):
    for past in [(0,), *list(ngram.total)[::97], (5, 9, 9), (10**6,)]:
        assert np.isclose(sum(ngram.probability(past, g) for g in range(1, ngram.n + 1)), 1)


def test_ngram_says_words_it_has_not_seen(language, ngram):
    words, right = questions(language, "test")
    assert error_rates([say(ngram, w) for w in words], right).words < 0.1
    options = proposed(ngram, words[0], n=3)
    assert [p for _, p in options] == sorted((p for _, p in options), reverse=True) and len({y for y, _ in options}) == len(options) <= 3
    assert say(ngram, "t?t") == say(ngram, "tt")  # an unknown letter says nothing


def test_ngram_refuses_what_it_cannot_use():
    with pytest.raises(ValueError, match="order: expected a whole number >= 2"):
        JointNgram(["a"], [[("A",)]], 1)
    with pytest.raises(ValueError, match="cuts: expected at least one word"):
        JointNgram(["a"], [None])


@pytest.fixture(scope="module")
def speller(language):
    model = spelling_model(language, n_a=24, n_x=12)
    train_speller(model, language, steps=350, lr=1e-2)
    return model


def test_encoder_decoder_learns_the_language(language, speller):
    words, right = questions(language, "test")
    assert error_rates(spoken(speller, words), right).phonemes < 0.1
    assert error_rates(spoken(speller, words, 3), right).phonemes < 0.1


def test_phoneme_scores_are_those_of_the_beam(language, speller):
    words = questions(language, "test")[0][:12]
    best = [speller.beam(w, 3, 40, alpha=0.0)[0] for w in words]
    scores = phoneme_scores(speller, words, [b.text.split() for b in best])
    assert np.allclose([s.sum() for s in scores], [b.log_probability for b in best], atol=1e-3)
    assert [len(s) for s in scores] == [len(b.ids) for b in best]


def test_influence_lies_on_the_letter_that_says_it(speller):
    answer, I = influence(speller, "taxn")
    assert answer == ("T", "A", "K", "S", "N") and I.shape == (4, 5)
    assert (I.argmax(axis=0) == [0, 1, 2, 2, 3]).sum() >= 4


def test_together_weighs_both():
    options = [[(("A",), -1.0), (("B",), -2.0)]]
    assert together(options, [[-5.0, -1.0]], 0.0) == [("A",)] and together(options, [[-5.0, -1.0]], 1.0) == [("B",)]


def test_network_scores_follow_the_proposals(language, ngram, speller):
    words = questions(language, "test")[0][:5]
    options = [proposed(ngram, w) for w in words]
    scores = network_scores(speller, words, options)
    assert [len(s) for s in scores] == [len(o) for o in options]
    assert np.isclose(scores[2][0], phoneme_scores(speller, [words[2]], [options[2][0][0]])[0].sum(), atol=1e-4)


def test_tagger_on_letters(language):
    words, sounds = examples(language)
    chunks = Chunks(words, sounds)
    learn_chunks(chunks)
    cuts = best_cuts(chunks)
    model = letter_tagger([*cuts, None], "ahxtn", n_a=8, n_x=8, dropout=0.1)
    train_tagger(model, [*words, "a"], [*cuts, None], steps=120, lr=2e-2)
    asked, right = questions(language, "test")
    assert error_rates(tagged(model, asked), right).words < 0.1


def test_pronounce_takes_what_people_write(language, speller, ngram):
    assert pronounce("Táxn", speller) == " ".join(spoken(speller, ["taxn"], 4)[0])
    assert pronounce("taxn an", speller, ngram).count(",") == 1
    for bad in ("", "  ", None):
        with pytest.raises(ValueError, match="text: expected a word"):
            pronounce(bad, speller)
    with pytest.raises(ValueError, match="text: expected letters of the dictionary, .*got '7'"):
        pronounce("tax7", speller)
