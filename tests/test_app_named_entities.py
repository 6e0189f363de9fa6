"""Named entities: counting as conlleval does, linear rivals, a tagger that knows words by number and by letters."""
import numpy as np
import pytest

from seqbook.applications import named_entities as ne
from seqbook.applications.named_entities import (
    Found,
    NameTagger,
    Perceptron,
    Windows,
    acquainted,
    best_path,
    best_threshold,
    entities,
    entity_scores,
    known_entities,
    mark,
    name_tagger,
    shape,
    taught,
    word_scores,
)
from seqbook.backend import tree_map
from seqbook.bptt import gradcheck
from seqbook.notation import Vocabulary

HEROES = ["Anfortas", "Belinda", "Corvus", "Dorabel", "Edgaro", "Fiorello", "Gwendolin", "Hadubrand"]


def stories(names):
    "A name after 'sir', and a capital after 'the' that is none."
    said = [["sir", n, "sees", "the", "Moon"] for n in names] + [["the", n + "ia", "calls", "sir", m] for n, m in zip(names, names[::-1])]
    return said, [[int(before == "sir") for before in ["", *s[:-1]]] for s in said]


@pytest.mark.parametrize("tags, found", [
    ("", []), ("O", []), ("B-X", [(0, 1, "X")]), ("B-X I-X O I-X", [(0, 2, "X"), (3, 4, "X")]), ("B-X B-X", [(0, 1, "X"), (1, 2, "X")]),
    ("I-X I-Y B-Y I-Y", [(0, 1, "X"), (1, 2, "Y"), (2, 4, "Y")]), ("O B-X I-X", [(1, 3, "X")])])
def test_entities_as_conlleval_has_them(tags, found):
    assert entities(tags.split()) == found


def test_scores_by_hand():
    gold = [["B-A", "I-A", "O", "B-B"], ["O", "B-A"]]
    said = [["B-A", "I-A", "O", "B-A"], ["B-B", "B-A"]]
    scores = entity_scores(gold, said)
    assert scores == {"all": Found(2, 4, 3), "A": Found(2, 3, 2), "B": Found(0, 1, 1)}
    assert scores["all"].precision == 0.5 and scores["all"].recall == 2 / 3 and scores["all"].f1 == pytest.approx(4 / 7)
    assert Found(0, 0, 0).f1 == Found(0, 0, 0).precision == Found(0, 0, 0).recall == 0


def test_single_words_and_those_that_count():
    gold, marked, where = [[1, 0, 1], [0]], [[1, 1, 0], [0]], [[True, True, False], [True]]
    assert word_scores(gold, marked) == Found(1, 2, 2)
    assert word_scores(gold, marked, where) == Found(1, 2, 1)
    assert best_threshold([[1, 1, 0, 0]], [[0.9, 0.3, 0.21, 0.1]]) == pytest.approx(0.28)


def test_acquaintance_is_by_words_and_type():
    known = known_entities([["Ann", "sees", "Rome"]], [["B-PSN", "O", "B-LOC"]])
    assert known == {("Ann", "PSN"), ("Rome", "LOC")}
    sides = acquainted([["B-PSN", "O", "B-LOC"]], [["B-PSN", "B-PSN", "B-LOC"]], [["Ann", "met", "Troy"]], known)
    assert sides == {"seen": Found(1, 1, 1), "not seen": Found(1, 2, 1)}


@pytest.mark.parametrize("word, kinds", [
    ("Hermione", "Xxx"), ("McDonald", "XxXxx"), ("1602", "99"), ("南アフリカ", "ckk"), ("の", "h"), ("'tis", "-xx")])
def test_shapes(word, kinds):
    assert shape(word) == kinds


def test_windows_know_only_what_was_there():
    window = Windows([["Ann", "sees"], ["Bob", "sees"]], width=1)
    X = window(["Zoe", "sees"])
    assert X.shape == (2, 3 * 9 + 3) and 0 <= X.min() and X.max() < window.size
    assert (window(["Ann", "sees"])[0] != X[0]).any() and (window(["Ann", "sees"])[1, 9:18] == X[1, 9:18]).all()
    in_both = Windows([["Ann", "sees"], ["Bob", "sees"]], groups=[0, 1]).table  # of the names their shape, and no second column
    assert {f for f in in_both if f[1] is not ne.OUTSIDE} == {*enumerate(ne.properties("sees")), (1, "Xxx")}


def test_the_perceptron_learns_what_only_its_last_tag_tells():
    X, y = [[["a", "b", "b", "b"], ["c", "b", "b", "b"]] * 3, [["A", "A", "A", "A"], ["C", "C", "C", "C"]] * 3]
    window = Windows(X, width=0, pairs=False)
    model = Perceptron(["A", "C"], window.size).fit([window(s) for s in X], y, epochs=5)
    assert model.predict([window(s) for s in X]) == y


def test_best_path_never_continues_nothing():
    tags = ["O", "B-X", "I-X", "I-Y"]
    assert best_path(np.array([[0.5, 0.1, 0.4, 0], [0.1, 0.1, 0.7, 0.1]]), tags) == ["B-X", "I-X"]
    P = np.random.default_rng(0).dirichlet(np.ones(4), size=5)
    legal = lambda path: all(b[0] != "I" or a[2:] == b[2:] for a, b in zip(["O", *path], path))
    every = [[tags[k] for k in np.unravel_index(n, (4,) * 5)] for n in range(4**5)]
    worth = lambda path: sum(np.log(P[t, tags.index(y)]) for t, y in enumerate(path))
    assert best_path(P, tags) == max(filter(legal, every), key=worth)
    assert best_path(np.zeros((0, 4)), tags) == []


@pytest.mark.parametrize("options", [{}, {"both": False}, {"n_spell": 0}, {"n_word": 0}, {"shapes": False}], ids=str)
def test_gradients(options):
    said = [[("Ann", "N"), ("sees", "V")], [("Bob", "N")], [("a", "D"), ("sea", "N"), ("sees", "V")]]
    model = name_tagger(said, [0, 1], **{"n_word": 3, "n_letter": 2, "n_spell": 2, "n_second": 2, "n_a": 3} | options, dtype=np.float64)
    rng = np.random.default_rng(1)
    model.params = params = tree_map(lambda a: a + 0.3 * rng.normal(size=a.shape), model.params)
    batch = model.batch(said, [[1, 0], [1], [0, 0, 0]])

    def loss_and_grads(tree):
        model.params, model.rng = tree, np.random.default_rng(2)
        return model.loss_and_grads(batch)

    gradcheck(lambda tree: loss_and_grads(tree)[0], params, loss_and_grads(params)[1]).check(1e-6)


def test_new_names_are_found_by_what_stands_before_them():
    model = taught(name_tagger(*stories(HEROES)[:1], [0, 1], n_a=16, dropout=0.1), *stories(HEROES), steps=60, batch_size=8, lr=2e-2)
    new = stories(["Oberto", "Pellinor", "Quirin"])
    assert model.predict(new[0]) == new[1]
    assert mark("sir Oberto sees the Moon", model).words == ["sir", "Oberto", "sees", "the", "Moon"]
    assert "[Oberto" in repr(mark("sir Oberto sees", model)) and "<script" not in mark("sir <script", model)._repr_html_()


def test_hidden_at_the_rate_of_their_count():
    model = name_tagger([["a", "a", "a", "b"], ["a"]], [0, 1], alpha=1)
    assert dict(zip(model.words, model.hide)) == pytest.approx({"<unk>": 0.5, "a": 1 / 5, "b": 1 / 2})
    by_text = name_tagger([["a", "a", "b"], ["a"]], [0, 1], alpha=1, min_count=2, groups=["x", "y"])
    assert dict(zip(by_text.words, by_text.hide)) == pytest.approx({"<unk>": 0.5, "a": 1 / 3})


def test_a_file_brings_it_back(tmp_path):
    said, y = stories(HEROES)
    model = name_tagger(said, [0, 1], n_a=4)
    model.save(tmp_path / "names.safetensors")
    again = NameTagger.load(tmp_path / "names.safetensors")
    assert again.predict(said) == model.predict(said) and again.words == model.words


def test_padding_and_neighbours_in_the_batch_change_nothing():
    said, _ = stories(HEROES)
    model = name_tagger(said, [0, 1], n_a=4)
    alone = [model.probabilities([s])[0] for s in said[:3] + [["Unbekannt"]]]
    for a, b in zip(alone, model.probabilities(said[:3] + [["Unbekannt"]])):
        np.testing.assert_allclose(a, b, atol=1e-6)


WORDS = Vocabulary.build(["a"], end=None)


@pytest.mark.parametrize("call, message", [
    (lambda: entities(["B-X", "X"]), r"tags\[1\]: expected O, or B- or I- before a type, got 'X'"),
    (lambda: entity_scores([["O"]], [["O", "O"]]), "predicted: expected as many"),
    (lambda: NameTagger(["a"], WORDS, [0, 1]), r"words: expected a Vocabulary with an unknown symbol, got \['a'\]"),
    (lambda: NameTagger(WORDS, Vocabulary("abc"), [0, 1]), "letters: expected a Vocabulary with an unknown"),
    (lambda: NameTagger(WORDS, WORDS, [0, 1], n_word=0, n_spell=0), "n_word, n_spell: expected at least one above 0"),
    (lambda: NameTagger(WORDS, WORDS, [0, 1], dropout=1.0), "dropout"),
    (lambda: NameTagger(WORDS, WORDS, [0, 1]).predict(["ab"]), r"inputs\[0\]"),
    (lambda: NameTagger(WORDS, WORDS, [0, 1]).predict([[("a", "N")]]), r"inputs\[0\]\[0\]: expected a word"),
    (lambda: NameTagger(WORDS, WORDS, [0, 1], shapes=True), "shapes: expected a Vocabulary second"),
    (lambda: NameTagger(WORDS, WORDS, [0, 1], WORDS).predict([["a"]]), r"inputs\[0\]\[0\]: expected a pair"),
    (lambda: best_path(np.ones((2, 3)), ["O", "B-X"]), "P: expected"),
    (lambda: Windows([["a"]], width=-1), "width"),
    (lambda: mark(["a"], None), "text: expected a str, got list"),
    (lambda: mark("a", None), "model: expected a NameTagger for the labels 0 and 1, got None"),
    (lambda: mark("a", NameTagger(WORDS, WORDS, ["O", "B-X"])), "model: expected a NameTagger for the labels 0 and 1"),
])
def test_bad_input_is_named(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()
