"Translation: detached marks, BLEU, the memory, IBM model 1, word by word, and an encoder-decoder on a made language."
import numpy as np
import pytest

pytest.importorskip("sacrebleu")

from seqbook.applications.translation import (
    BINS,
    NONE,
    Bigrams,
    Memory,
    _by_likeness,
    bleu,
    by_words,
    check_sentences,
    copier,
    cut,
    joined,
    kept,
    passages,
    recall,
    sides,
    signature,
    train_translator,
    translate,
    translations,
    translator,
    word_by_word,
    word_table,
)
from seqbook.backend import leaves
from seqbook.data import DataUnavailable
from seqbook.datasets import verse_pairs

WORDS = {"le": "the", "chat": "cat", "chien": "dog", "noir": "black", "petit": "small", "dort": "sleeps", "mange": "eats"}


def made(count=500, seed=0):
    "French with its adjectives after the noun, English with them before."
    rng, source, target = np.random.default_rng(seed), [], []
    for _ in range(count):
        noun, verb, adjective = rng.choice(["chat", "chien"]), rng.choice(["dort", "mange"]), rng.choice(["noir", "petit", ""])
        source.append([w for w in ("le", noun, adjective, verb) if w])
        target.append([WORDS[w] for w in ("le", adjective, noun, verb) if w])
    return source, target


def test_joined_undoes_cut_for_ordinary_sentences():
    for text in ("the e-mail (optional).", "it's here, isn't it?", 'press "ok" now!', "50% of 3.5", "a/b"):
        assert joined(cut(text)) == text
    assert cut("L’élève") == cut("l'élève") == ["l'élève"]


def test_cut_wants_a_text():
    with pytest.raises(TypeError, match="text: expected a str, got NoneType"):
        cut(None)


def test_bleu_is_that_of_sacrebleu():
    import sacrebleu
    a, r = ["The cat is on the mat.", "There is a dog"], ["the cat sat on the mat.", "There is a big dog"]
    assert bleu(a, r) == pytest.approx(sacrebleu.corpus_bleu(a, [r], lowercase=True).score)
    assert bleu([cut(x) for x in r], r) == pytest.approx(100)
    score, half = bleu(a * 20, r * 20, 50)
    assert score == pytest.approx(bleu(a * 20, r * 20)) and half > 0
    assert "case:lc" in signature() and "version" in signature()


@pytest.mark.parametrize("answers, references", [([], []), (["a"], ["a", "b"])])
def test_bleu_refuses_unequal_lists(answers, references):
    with pytest.raises(ValueError, match="references: expected one for each answer"):
        bleu(answers, references)


def test_memory_finds_the_most_similar():
    source, target = made(60)
    memory = Memory(source, target)
    for s, t in zip(source[:20], target[:20]):
        i, likeness = memory.find(s)
        assert source[i] == s and likeness == 1 and memory.translate(s) == t
    i, likeness = memory.find(["le", "chat", "noir", "rouge"])
    assert source[i][:3] == ["le", "chat", "noir"] and likeness == 3 / 4
    assert memory.find(["rouge"]) == (None, 0.0) and memory.translate(["rouge"]) == []


def test_word_table_finds_the_dictionary():
    table = word_table(*made())
    for f, e in WORDS.items():
        least = 0.5 if f == "le" else 0.8  # every sentence has a 'the', which NONE may have said
        assert max(table[f], key=table[f].get) == e and table[f][e] > least
    assert all(abs(sum(row.values()) - 1) < 1e-3 for row in table.values()) and NONE in table


def test_word_table_by_hand():
    "One round from a flat start: of two words each gets half; NONE and the word share alike."
    table = word_table([["a"]], [["x", "y"]], 1)
    assert table["a"] == table[NONE] == {"x": 0.5, "y": 0.5}


def test_bigrams_sum_to_one_and_know_order():
    lm = Bigrams(made()[1])
    for past in ("<s>", "the", "cat", "never seen"):
        assert sum(np.exp(lm(past, w)) for w in [*lm.single, "never seen"]) == pytest.approx(1)
    assert lm("black", "cat") > lm("cat", "black")


def test_word_by_word_keeps_the_order_of_the_source():
    source, target = made()
    table, lm = word_table(source, target), Bigrams(target)
    assert word_by_word(table, lm, ["le", "chat", "dort"], bonus=2.0) == ["the", "cat", "sleeps"]
    assert word_by_word(table, lm, ["ubuntu"], bonus=9.0) == ["ubuntu"]  # an unknown word stays
    assert word_by_word(table, lm, ["le", "chat"], skip=1.0, bonus=-9.0) == []


def test_by_words_and_recall():
    rows = by_words([["a"], ["a", "b", "c", "d"]], [["x"], ["a", "b"]], ["x", "a b c d"])
    assert [r[:4] for r in rows if r[2]] == [[1, 1, 1, 1.0], [4, 5, 1, 0.0]] and len(rows) == len(BINS)
    assert rows[0][4] is None
    assert recall([["a"], []], [["a", "a"], ["b"]], {"a": 1, "b": 0}) == [["never seen", 1, 0.0], ["once", 2, 0.5]]


@pytest.fixture(scope="module")
def model():
    source, target = made()
    model = translator(source, target, n_a=12, n_x=10, dropout=0.1)
    train_translator(model, source, target, made(40, 1), steps=150, lr=2e-2)
    return model


def test_the_network_learns_the_order(model):
    source, target = made(40, 2)
    assert translations(model, source, 2) == target
    assert translate("Le chien noir mange", model) == "the black dog eats"


def test_unknown_words_are_never_written(model):
    assert all("<unk>" not in s for s in translations(model, [["xyz", "chat"], ["xyz"]]))


@pytest.mark.parametrize("bad", ["", "   ", None, 3])
def test_translate_refuses_what_is_no_sentence(model, bad):
    with pytest.raises(ValueError, match="text: expected a sentence"):
        translate(bad, model)


def test_copier_has_one_vector_between():
    model = copier([["a", "b"], ["b", "c"]], 6, 4)
    assert model.bridge is None and model.start(np.zeros((3, 2), np.int64))[0].a.shape == (2, 6)
    assert kept([["a"], ["a", "b"]], [["a", "b"], ["a", "b"]]) == [[2, 2, 3, 1]]


def test_only_translations_forbids_the_unknown_word():
    "Made the most probable word of all, it is what the beam writes by itself; a test on a model that avoids it would prove nothing."
    model = translator(*made(60), n_a=4, n_x=4)
    leaves(model.params)["decoder.output.by"][model.decoder.vocabulary.encode(["<unk>"])[0]] += 20
    assert "<unk>" in model.beam(["le", "chat"], 2, 5, n=1)[0].text
    assert "<unk>" not in translations(model, [["le", "chat"]], 2, length=5)[0]


def test_one_seed_one_translator():
    answers = []
    for seed in (3, 3, 4):
        model = translator(*made(60), n_a=4, n_x=4, seed=seed)
        train_translator(model, *made(60), made(10, 1), steps=12)
        answers.append(leaves(model.params)["decoder.layer.Waa"])
    assert np.array_equal(*answers[:2]) and not np.allclose(answers[0], answers[2])


@pytest.mark.parametrize("call", [
    lambda text: Memory([text], [["the"]]),
    lambda text: Memory(*made(5)).find(text),
    lambda text: word_table([["le"], text], [["the"], ["the"]]),
    lambda text: word_by_word({}, Bigrams([["the"]]), text),
    lambda text: translator([text], [["the"]]),
    lambda text: translations(None, [text]),
])
def test_a_string_is_no_list_of_words(call):
    "A string would be read letter by letter."
    with pytest.raises(ValueError, match="source: expected sentences as lists of words, which `cut` makes of text, got 'le chat'"):
        call("le chat")


@pytest.mark.parametrize("call", [Memory, word_table, translator, check_sentences])
def test_sentences_that_slipped_are_refused(call):
    with pytest.raises(ValueError, match="target: expected as many sentences as in source, 2, got 1"):
        call([["le"], ["chat"]], [["the"]])
    with pytest.raises(ValueError, match="target: expected sentences as lists of words, .* got 'cat' as number 1"):
        call([["le"], ["chat"]], [["the"], "cat"])


@pytest.mark.parametrize("name, call", [
    ("seed", lambda: translator(*made(60), seed=-1)),
    ("rounds", lambda: word_table(*made(5), rounds=0)),
    ("discount", lambda: Bigrams([["a"]], discount=2)),
    ("draws", lambda: bleu(["a", "b"], ["a", "b"], draws=1)),
    ("part", lambda: sides(Parts, "future")),
])
def test_errors_name_the_argument(name, call):
    with pytest.raises(ValueError, match=f"^{name}: expected"):
        call()


class Parts:
    "Of a data set only what `sides` asks for."
    splits, other, english = {"train": [1], "valid": [0]}, ["Le chat", "L’âge"], ["The cat", "Age"]


def test_sides_cuts_both_and_keeps_the_reference():
    assert sides(Parts) == ([["l'âge"]], [["age"]], ["Age"])
    assert sides(Parts, "valid") == ([["le", "chat"]], [["the", "cat"]], ["The cat"])


def test_by_likeness_puts_each_sentence_into_one_part():
    a, r = [cut(x) for x in ("the big cat sleeps", "no", "the small dog eats")], ["the big cat sleeps", "yes", "the small dog eats"]
    rows = _by_likeness(a, r, [1.0, 0.0, 0.39])
    assert [row[:3] for row in rows] == [[0.0, 0.4, 2], [0.8, 1.0, 1]]
    assert rows[1][3] == pytest.approx(100) and rows[0][3] < 99


def test_passages_are_beginnings_of_verses():
    try:
        verses = verse_pairs("ja", progress=False)
    except DataUnavailable as e:
        pytest.skip(f"{e.archive.name}: {e.reason}")
    some, again = passages(300, 12, 200), passages(300, 12, 200)
    assert some == again != passages(300, 12, 200, seed=1)
    assert {len(s) for s in some} == set(range(1, 13)) and len({w for s in some for w in s}) <= 201
    starts = {tuple(cut(verses.english[i])[:1]) for i in verses.splits["train"]}
    assert all(tuple(s[:1]) in starts for s in some if s[0] != "<unk>")
    with pytest.raises(ValueError, match="longest: expected a length that some verse of the part 'test' has, got 1000"):
        passages(3, 1000, part="test")
