"""seqbook.notation: exact values, properties over random data, bad input and its messages, NumPy and a stand-in device alike."""
import copy
import json
import pickle
import time

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from seqbook import notation as nt
from seqbook.backend import DeviceArray, asnumpy, device, gpu_missing, to, use
from seqbook.notation import (
    UnknownSymbolError,
    Vocabulary,
    batches,
    check_lengths,
    from_batch_first,
    from_course,
    mask,
    one_hot,
    pad,
    to_batch_first,
    to_course,
    tokenize,
    unpad,
)

SENTENCE = "Harry Potter and Hermione Granger invented a new spell."
MOVE = {"numpy": np.asarray, "device": device.asarray}
if gpu_missing() is None:
    MOVE["cupy"] = lambda x: to(x, "cupy")


@pytest.fixture(params=list(MOVE))
def move(request):
    return MOVE[request.param]


def values(x):
    return asnumpy(x)


settings.register_profile("book", deadline=None, max_examples=60)
settings.load_profile("book")
ragged = st.lists(st.lists(st.integers(0, 99), max_size=9), min_size=1, max_size=8).filter(any)


# tokens

def test_the_lectures_sentence():
    assert tokenize(SENTENCE) == ["harry", "potter", "and", "hermione", "granger", "invented", "a", "new", "spell", "."]
    assert tokenize(SENTENCE, lower=False)[0] == "Harry"


@pytest.mark.parametrize("text, tokens", [
    ("", []), (" \n\t", []), ("don't", ["don't"]), ("don\u2019t", ["don\u2019t"]), ("'tis", ["'", "tis"]), ("dogs'", ["dogs", "'"]),
    ("well-known", ["well", "-", "known"]), ("10,000.5 x", ["10,000.5", "x"]), ("1, 2", ["1", ",", "2"]), ("a_b", ["a", "_", "b"]),
    ("...", [".", ".", "."]), ("cafe\u0301", ["caf\u00e9"]), ("言葉", ["言葉"]),
])
def test_tokenize_cases(text, tokens):
    assert tokenize(text) == tokens


@given(st.text())
def test_tokenize_loses_only_white_space(text):
    import unicodedata
    composed = unicodedata.normalize("NFC", text)
    assert "".join(tokenize(text, lower=False)) == "".join(composed.split())


def test_tokenize_refuses_bytes():
    with pytest.raises(TypeError, match="text: expected a str, got bytes"):
        tokenize(b"a")


# vocabularies

def test_special_symbols_go_in_front_and_keep_their_place():
    v = Vocabulary(["a", "b"], unknown="<unk>", end="<eos>")
    assert v.symbols == ("<unk>", "<eos>", "a", "b") and (v.unknown_id, v.end_id) == (0, 1)
    w = Vocabulary(["a", "\n", "b"], end="\n")
    assert w.symbols == ("a", "\n", "b") and w.end_id == 1 and w.unknown_id is None
    assert list(v) == list(v.symbols) and len(v) == 4 and v["b"] == 3 and v["zulu"] == 0


def test_build_counts_cuts_and_breaks_ties_by_alphabet():
    tokens = "c c c b b a a d".split()
    assert Vocabulary.build(tokens).symbols == ("<unk>", "<eos>", "c", "a", "b", "d")
    assert Vocabulary.build(tokens, size=4).symbols == ("<unk>", "<eos>", "c", "a")
    assert Vocabulary.build(tokens, min_count=2, unknown=None, end=None).symbols == ("c", "a", "b")
    assert Vocabulary.build(reversed(tokens)) == Vocabulary.build(tokens)
    from collections import Counter
    assert Vocabulary.build(Counter(tokens)) == Vocabulary.build(tokens)
    assert Vocabulary.build(["<unk>", "<unk>", "a", "<eos>"]).symbols == ("<unk>", "<eos>", "a")


@given(st.lists(st.text("abcde", min_size=1, max_size=3), min_size=1), st.integers(3, 12))
def test_a_smaller_vocabulary_is_a_prefix(tokens, size):
    small, full = Vocabulary.build(tokens, size=size), Vocabulary.build(tokens)
    assert len(small) == min(size, len(full)) and small.symbols == full.symbols[:size]
    ids = full.encode(tokens)
    assert np.array_equal(small.encode(tokens), np.where(ids < size, ids, 0))


@given(st.text(min_size=1), st.text())
def test_characters_round_trip(text, other):
    v = Vocabulary.characters(text)
    ids = v.encode(text)
    assert ids.dtype == np.int64 and ids.shape == (len(text),) and v.text(ids) == text and v.decode(ids) == list(text)
    assert np.array_equal(ids, v.encode(list(text))) and v.symbols == tuple(sorted(set(text)))
    w = Vocabulary.characters(text, unknown="<unk>")
    assert w.decode(w.encode(other)) == [c if c in text else "<unk>" for c in other]


@given(st.lists(st.text(min_size=1, max_size=5), min_size=1))
def test_words_round_trip(tokens):
    v = Vocabulary.build(tokens, unknown=None, end=None)
    assert v.decode(v.encode(tokens)) == tokens
    again = Vocabulary.from_dict(json.loads(json.dumps(v.to_dict())))
    assert again == v and hash(again) == hash(v) and again.symbols == v.symbols


def test_a_table_answers_for_code_points_beyond_it():
    v = Vocabulary("ab", unknown="?")
    assert v.encode("a\U0010ffff\ud800b").tolist() == [1, 0, 0, 2]


def test_end_and_text():
    words = Vocabulary(["a", "spell"], end="<eos>")
    assert words.encode(["a", "spell"], end=True).tolist() == [1, 2, 0] and words.encode([], end=True).tolist() == [0]
    assert words.text([1, 2, 0]) == "a spell <eos>"
    letters = Vocabulary("ab", end="<eos>")
    assert letters.by_character and letters.text([1, 2, 0]) == "ab<eos>" and not words.by_character
    assert letters.encode("").shape == (0,) and letters.decode([]) == [] and letters.encode("").dtype == np.int64
    with pytest.raises(ValueError, match="end: this vocabulary has no end symbol"):
        Vocabulary("ab").encode("ab", end=True)


def test_immutable_equal_copied():
    v = Vocabulary(["a", "bc"], unknown="<unk>")
    with pytest.raises(AttributeError):
        v.unknown = None
    symbols = ["a", "bc"]
    w = Vocabulary(symbols, unknown="<unk>")
    symbols.append("d")
    w.encode(["bc"])
    assert v == w and {v: 1}[w] == 1 and v != Vocabulary(["bc", "a"], unknown="<unk>") and v != Vocabulary(["<unk>", "a", "bc"])
    assert pickle.loads(pickle.dumps(w)) == v == copy.deepcopy(w)
    assert repr(v) == "<Vocabulary of 3 words, unknown='<unk>'>" and repr(Vocabulary("ab")) == "<Vocabulary of 2 characters>"


def test_membership_is_strict():
    v = Vocabulary(["a"], unknown="<unk>")
    assert "a" in v and "b" not in v and 0 not in v and ["a"] not in v


def test_decode_takes_ids_of_any_library(move):
    v = Vocabulary("abc")
    assert v.decode(move(np.array([2, 0], np.uint8))) == ["c", "a"] and v.text([0, 1]) == "ab"


@pytest.mark.parametrize("make, error, message", [
    (lambda: Vocabulary(5), TypeError, "symbols: expected a sequence of strings, got int"),
    (lambda: Vocabulary(["a", 3]), TypeError, "symbols: expected strings of at least one character, got 3"),
    (lambda: Vocabulary(["a", ""]), TypeError, "symbols: expected strings of at least one character, got ''"),
    (lambda: Vocabulary("abca"), ValueError, "symbols: expected each one once, got 'a' more than once"),
    (lambda: Vocabulary([], unknown="<unk>"), ValueError, "symbols: expected at least one beside the special ones"),
    (lambda: Vocabulary(["a"], unknown="?", end="?"), ValueError, "end: expected another symbol than unknown, got '\\?'"),
    (lambda: Vocabulary.build("a text"), TypeError, "tokens: expected a list of tokens, got one str; tokenize"),
    (lambda: Vocabulary.build([]), ValueError, "tokens: expected at least one that occurs 1 times or more"),
    (lambda: Vocabulary.build(["a"], min_count=2), ValueError, "tokens: expected at least one that occurs 2 times"),
    (lambda: Vocabulary.build(["a"], size=2), ValueError, "size: expected a whole number >= 3, got 2"),
    (lambda: Vocabulary.build(["a"], size=10.0), TypeError, "size: expected a whole number >= 3, got 10.0"),
    (lambda: Vocabulary.characters(["a"]), TypeError, "text: expected a str, got list"),
    (lambda: Vocabulary.from_dict({"symbols": ["a"]}), ValueError, "d: expected a dictionary with 'symbols', 'unknown' and 'end'"),
    (lambda: Vocabulary.from_dict(["a"]), ValueError, "got list"),
])
def test_bad_vocabularies(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize("call, error, message", [
    (lambda v: v.encode("a spell"), TypeError, "one str is ambiguous for a vocabulary of words.*tokenize"),
    (lambda v: v.encode(["a", "wand"]), UnknownSymbolError, "tokens: 'wand' at position 1 is none of the 2 symbols"),
    (lambda v: v["wand"], KeyError, "'wand' at position 0"),
    (lambda v: v.encode(["a", 3]), TypeError, "tokens: expected strings, got int at position 1"),
    (lambda v: v.encode([["a"], ["spell"]]), TypeError, "got list at position 0; encode one sequence at a time"),
    (lambda v: v.encode(b"a"), TypeError, "tokens: expected strings, got int at position 0"),
    (lambda v: v.encode(None), TypeError, "tokens: expected a list of strings, got NoneType"),
    (lambda v: v[0], TypeError, r"symbol: expected a str, got int; .symbols\[i\]"),
    (lambda v: v.decode([0, 2]), ValueError, r"ids: expected 0 <= id < 2, got 2 at \[1\]"),
    (lambda v: v.decode([0, -1]), ValueError, r"got -1 at \[1\]"),
    (lambda v: v.decode([0.0]), TypeError, "ids: expected whole numbers, got float64"),
    (lambda v: v.decode(np.zeros(2)), TypeError, "ids: expected an integer, got float64"),
    (lambda v: v.decode([[0], [1]]), ValueError, r"ids: expected one sequence, shape \(T,\), got \(2, 1\); of a batch"),
    (lambda v: v.decode(1), ValueError, r"shape \(T,\), got \(\)"),
    (lambda v: v.text("a"), TypeError, "ids: expected whole numbers, got str"),
])
def test_bad_symbols_and_ids(call, error, message):
    with pytest.raises(error, match=message):
        call(Vocabulary(["a", "spell"]))


def test_unknown_symbol_error_is_a_value_and_a_key_error():
    assert issubclass(UnknownSymbolError, ValueError) and issubclass(UnknownSymbolError, KeyError)
    with pytest.raises(UnknownSymbolError) as e:
        Vocabulary("ab").encode("abc")
    assert str(e.value) == "tokens: 'c' at position 2 is none of the 2 symbols, and there is no unknown symbol"


def test_an_unknown_symbol_does_not_hide_ids_given_as_tokens():
    with pytest.raises(TypeError, match="expected strings, got int64 at position 0"):
        Vocabulary(["a"], unknown="<unk>").encode(np.array([1, 0]))


def test_five_million_characters_are_encoded_at_once():
    text = "To be, or not to be: that is the question.\n" * 120_000
    v = Vocabulary.characters(text)
    start = time.perf_counter()
    ids = v.encode(text)
    assert time.perf_counter() - start < 2  # a loop over the characters takes several times as long; a table about a tenth of it
    assert ids.shape == (len(text),) and v.text(ids[:43]) == text[:43]


# one-hot

some_ids = hnp.arrays(np.int64, hnp.array_shapes(min_dims=0, max_dims=3, max_side=4), elements=st.integers(0, 6))


@given(some_ids, st.sampled_from(["float32", "float64", "int8", "bool"]))
def test_one_hot_is_the_identitys_row(ids, dtype):
    X = one_hot(ids, 7, dtype)
    assert X.shape == (*ids.shape, 7) and X.dtype == dtype and np.array_equal(X, np.eye(7, dtype=dtype)[ids])
    D = one_hot(device.asarray(ids), 7, dtype)
    assert isinstance(D, DeviceArray) and np.array_equal(D.get(), X)


def test_one_hot_takes_lists_and_nothing(move):
    assert one_hot([2, 0], 3).tolist() == [[0, 0, 1], [1, 0, 0]] and one_hot(1, 2).tolist() == [0, 1]
    assert one_hot([], 3).shape == (0, 3) and one_hot(move(np.zeros((0, 2), int)), 3).shape == (0, 2, 3)
    assert one_hot(np.uint8(200), 300).argmax() == 200 and one_hot(move(np.array([255], np.uint8)), 300).shape == (1, 300)


@given(st.integers(1, 30), st.integers(1, 5), st.data())
def test_a_product_with_a_one_hot_vector_is_a_column(n, n_a, data):
    W = np.random.default_rng(n).normal(size=(n_a, n))
    ids = np.array(data.draw(st.lists(st.integers(0, n - 1), min_size=1)))
    assert np.array_equal(one_hot(ids, n, W.dtype) @ W.T, W[:, ids].T)


@pytest.mark.parametrize("ids, n, error, message", [
    ([[1, 2], [3, 0]], 3, ValueError, r"ids: expected 0 <= id < 3, got 3 at \[1, 0\]"),
    ([-1], 3, ValueError, r"got -1 at \[0\]"),
    (np.array(3), 3, ValueError, r"got 3 at \[\]"),
    ([0.5], 3, TypeError, "ids: expected whole numbers, got float64"),
    ([True], 3, TypeError, "ids: expected whole numbers, got bool"),
    (np.zeros(2, np.float32), 3, TypeError, "ids: expected an integer, got float32"),
    ("abc", 3, TypeError, "ids: expected whole numbers, got str"),
    ([[1], [1, 2]], 3, ValueError, "ids: expected lists of equal length"),
    ([0], 0, ValueError, "n: expected a whole number >= 1, got 0"),
    ([0], 2.0, TypeError, "n: expected a whole number >= 1, got 2.0"),
])
def test_one_hot_refuses(ids, n, error, message):
    with pytest.raises(error, match=message):
        one_hot(ids, n)


def test_one_hot_out_of_range_on_any_library(move):
    with pytest.raises(ValueError, match=r"got 9 at \[1\]"):
        one_hot(move(np.array([0, 9])), 4)


# padding, masks, lengths

@given(ragged, st.integers(-3, 3))
def test_pad_and_unpad(sequences, value):
    X, lengths = pad([np.array(s, dtype=np.int64) for s in sequences], value)
    T, B = max(map(len, sequences)), len(sequences)
    assert X.shape == (T, B) and X.dtype == np.int64 and lengths.dtype == np.int64 and lengths.tolist() == [len(s) for s in sequences]
    assert [s.tolist() for s in unpad(X, lengths)] == sequences
    assert (X[~mask(lengths, T)] == value).all() and (X.size - mask(lengths, T).sum()) == T * B - sum(map(len, sequences))
    assert all(np.shares_memory(s, X) for s in unpad(X, lengths) if len(s))
    Z, n = pad(sequences, value)
    assert np.array_equal(X, Z) and np.array_equal(n, lengths)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "bool", "complex64"])
def test_pad_keeps_dtype_and_trailing_axes(move, dtype):
    rows = [np.ones((n, 2, 3), dtype) for n in (2, 0, 4)]
    X, lengths = pad([move(r) for r in rows])
    assert type(X) is type(move(rows[0])) is type(lengths)
    assert X.shape == (4, 3, 2, 3) and X.dtype == dtype and values(lengths).tolist() == [2, 0, 4]
    for row, again in zip(rows, unpad(X, lengths)):
        assert np.array_equal(row, values(again))


def test_pad_with_empty_lists_and_other_fillings():
    X, lengths = pad([[], [1.5, 2.5], []], value=np.nan)
    assert X.dtype == np.float64 and lengths.tolist() == [0, 2, 0] and np.isnan(X[:, [0, 2]]).all()
    X, lengths = pad([np.zeros((0, 3))] * 2)
    assert X.shape == (0, 2, 3) and lengths.tolist() == [0, 0] and [s.shape for s in unpad(X, lengths)] == [(0, 3)] * 2
    assert pad([np.ones(1, np.float32)], 0.1)[0].dtype == np.float32 and pad([[1]], True)[0].tolist() == [[1]]
    assert np.isinf(pad([np.ones(1, np.float32), np.ones(2, np.float32)], -np.inf)[0]).sum() == 1


@pytest.mark.parametrize("sequences, value, error, message", [
    ("abc", 0, TypeError, "sequences: expected a list of sequences, got str"),
    (np.zeros((2, 3)), 0, TypeError, r"sequences: expected a list of sequences, got one array of shape \(2, 3\)"),
    (7, 0, TypeError, "sequences: expected a list of sequences, got int"),
    ([], 0, ValueError, "sequences: expected at least one sequence that is not an empty list, got 0 in all"),
    ([[], []], 0, ValueError, "got 2 in all"),
    (["ab"], 0, TypeError, r"sequences\[0\]: expected a sequence of numbers, got str; encode text first"),
    ([[1], ["a"]], 0, TypeError, r"sequences\[1\]: expected a sequence of numbers, got str"),
    ([[1], 2], 0, ValueError, r"sequences\[1\]: expected a sequence, got a single number"),
    ([[[1], [1, 2]]], 0, ValueError, r"sequences\[0\]: expected one sequence, its items of one shape"),
    ([[1, 2], [0.5]], 0, TypeError, r"sequences\[1\]: expected int64, got float64"),
    ([np.zeros((2, 3)), np.zeros((2, 4))], 0, ValueError, r"sequences\[1\]: expected shape \(T, 3\), got \(2, 4\)"),
    ([np.zeros((2, 3)), np.zeros(2)], 0, ValueError, r"sequences\[1\]: expected shape \(T, 3\), got \(2,\)"),
    ([[1]], np.nan, ValueError, "value: expected one number that int64 can hold, got nan"),
    ([[1]], 0.5, ValueError, "value: expected one number that int64 can hold, got 0.5"),
    ([[1]], [0], ValueError, "value: expected one number"),
    ([[1]], "x", ValueError, "value: expected one number"),
    ([np.ones(1, np.uint8)], -1, ValueError, "that uint8 can hold, got -1"),
    ([np.ones(1, np.float32)], 1e300, ValueError, "that float32 can hold, got 1e"),
    ([np.ones(1, np.float32)], 1j, ValueError, "that float32 can hold, got 1j"),
])
def test_pad_refuses(sequences, value, error, message):
    with pytest.raises(error, match=message):
        pad(sequences, value)


def test_libraries_do_not_mix():
    with pytest.raises(TypeError, match="device and numpy in one call"):
        pad([np.zeros(2), device.asarray(np.zeros(3))])
    X = device.asarray(np.zeros((3, 2)))
    with pytest.raises(TypeError, match="lengths: expected an array of device, got one of numpy"):
        unpad(X, np.array([1, 2]))
    assert [s.shape for s in unpad(X, [1, 2])] == [(1,), (2,)] and len(unpad(X, None)) == 2


@given(st.lists(st.integers(0, 7), min_size=1, max_size=6), st.integers(0, 4))
def test_mask(lengths, extra):
    T = max(lengths) + extra
    M = mask(lengths, T)
    assert M.dtype == bool and M.shape == (T, len(lengths)) and M.sum(axis=0).tolist() == lengths
    assert all(M[t, i] == (t < n) for i, n in enumerate(lengths) for t in range(T))
    D = mask(device.asarray(np.array(lengths)), T)
    assert isinstance(D, DeviceArray) and np.array_equal(D.get(), M)


def test_check_lengths_returns_what_it_got(move):
    n = move(np.array([0, 3, 2]))
    out = check_lengths(n, 3, 3)
    assert type(out) is type(n) and values(out).tolist() == [0, 3, 2] and out.dtype == np.int64
    assert check_lengths(None, 3, 3) is None and check_lengths(move(np.array([1], np.uint8)), 1, 1).dtype == np.int64
    own = np.array([1, 2])
    assert check_lengths(own, 2, 2) is own and check_lengths([], 4, 0).shape == (0,)
    assert isinstance(check_lengths([1, 2], 2, 2, device), DeviceArray)


@pytest.mark.parametrize("lengths, T, B, error, message", [
    ([1, 4], 3, 2, ValueError, r"lengths\[1\]: expected 0 <= length <= T = 3, got 4$"),
    ([-1, 2], 3, 2, ValueError, r"lengths\[0\]: expected 0 <= length <= T = 3, got -1$"),
    ([4, 2], 3, 2, ValueError, "got 4$"),
    ([1, 2, 3], 5, 2, ValueError, r"lengths: expected one for each example, shape \(B,\) = \(2,\), got \(3,\)$"),
    ([1, 2, 3], 3, 2, ValueError, r"got \(3,\); the time axis comes first: is X \(B, T, ...\)\? Then from_batch_first\(X\)$"),
    ([5, 1, 2, 2, 1], 4, 5, ValueError, r"lengths\[0\].*got 5; the time axis comes first"),
    (3, 3, 1, ValueError, r"got \(\)$"),
    ([[1], [2]], 3, 2, ValueError, r"got \(2, 1\)$"),
    ([1.0, 2.0], 3, 2, TypeError, "lengths: expected whole numbers, got float64"),
    (np.array([1.0, 2.0], np.float32), 3, 2, TypeError, "lengths: expected an integer, got float32"),
    (np.ones((3, 2), bool), 3, 2, TypeError, r"got a mask; mask.sum\(axis=0\) gives its lengths"),
    ([True, True], 3, 2, TypeError, "lengths: expected whole numbers, got bool"),
    ("ab", 3, 2, TypeError, "lengths: expected whole numbers, got str"),
])
def test_check_lengths_refuses(lengths, T, B, error, message):
    with pytest.raises(error, match=message):
        check_lengths(lengths, T, B)


@pytest.mark.parametrize("lengths, T, message", [
    ([1, 9], 3, r"lengths\[1\]: expected 0 <= length <= T = 3, got 9"), ([[1]], 3, r"lengths: expected shape \(B,\), got \(1, 1\)"),
    ([1], 3.5, "T: expected a whole number >= 0, got 3.5"), ([0], -1, "T: expected a whole number >= 0, got -1"),
])
def test_mask_refuses(lengths, T, message):
    with pytest.raises((TypeError, ValueError), match=message):
        mask(lengths, T)


def test_unpad_refuses():
    with pytest.raises(TypeError, match="X: expected a NumPy or CuPy array, got list"):
        unpad([[1]], [1])
    with pytest.raises(ValueError, match=r"X: expected shape \(T, B, ...\), got \(3,\)"):
        unpad(np.zeros(3), [1])
    with pytest.raises(ValueError, match="from_batch_first"):
        unpad(np.zeros((2, 5)), [5, 1])


# batches

@given(ragged, st.integers(1, 5), st.sampled_from([None, 0, 7]), st.booleans(), st.integers(1, 3))
def test_batches_give_each_sequence_once(sequences, batch_size, rng, sort, chunk):
    rows = [np.array(s, dtype=np.int64) for s in sequences]
    seen = []
    for X, lengths, indices in batches(rows, batch_size, rng, sort, chunk):
        assert X.shape == (lengths.max(), len(indices)) and 1 <= len(indices) <= batch_size
        for i, piece in zip(indices, unpad(X, lengths)):
            assert piece.tolist() == sequences[i]
        seen += indices.tolist()
    assert sorted(seen) == list(range(len(sequences)))
    again = [i for *_, indices in batches(rows, batch_size, rng, sort, chunk) for i in indices.tolist()]
    assert seen == again


def test_batches_orders():
    rows = [np.zeros(n) for n in (5, 1, 4, 2, 3)]
    order = lambda **o: [i.tolist() for *_, i in batches(rows, 2, **o)]
    assert order(sort=False) == [[0, 1], [2, 3], [4]]
    assert order() == [[1, 3], [4, 2], [0]] and order(chunk=1) == [[1, 0], [3, 2], [4]]
    rng = np.random.default_rng(1)
    first, second = order(rng=rng), order(rng=rng)
    assert first != second and first == order(rng=1) == order(rng=np.random.default_rng(1))


def test_sorting_saves_padding():
    rng = np.random.default_rng(0)
    rows = [np.zeros(n) for n in rng.geometric(0.1, 4000)]
    share = lambda **o: 1 - sum(n.sum() for _, n, _ in batches(rows, 32, **o)) / sum(X.size for X, _, _ in batches(rows, 32, **o))
    assert share(rng=0, sort=False) > 0.6 and share(rng=0) < 0.1


def test_batches_stay_on_the_device(move):
    rows = [move(np.arange(n, dtype=np.float32)) for n in (3, 1, 2)]
    for X, lengths, indices in batches(rows, 2, rng=0):
        assert type(X) is type(rows[0]) is type(lengths) and isinstance(indices, np.ndarray)


@pytest.mark.parametrize("arguments, error, message", [
    (([[1]], 0), ValueError, "batch_size: expected a whole number >= 1, got 0"),
    (([[1]], 2.0), TypeError, "batch_size: expected a whole number >= 1, got 2.0"),
    (([[1]], True), TypeError, "batch_size: expected a whole number"),
    (([[1]], 1, 0, True, 0), ValueError, "chunk: expected a whole number >= 1, got 0"),
    (([[1]], 1, "seed"), TypeError, "rng: expected None, a seed or a np.random.Generator, got str"),
    (([], 1), ValueError, "sequences: expected at least one sequence"),
    ((["abc"], 1), TypeError, r"sequences\[0\]: expected a sequence of numbers"),
])
def test_batches_refuse_at_once(arguments, error, message):
    with pytest.raises(error, match=message):
        batches(*arguments)  # the call raises, before a first batch is asked for


# other orders of axes

@given(hnp.array_shapes(min_dims=2, max_dims=4, max_side=5))
def test_conversions(shape):
    X = np.arange(np.prod(shape)).reshape(shape)
    assert np.array_equal(from_batch_first(to_batch_first(X)), X) and from_batch_first(X).shape == (shape[1], shape[0], *shape[2:])
    assert np.shares_memory(from_batch_first(X), X) and np.shares_memory(to_batch_first(X), X)
    assume(len(shape) < 4)
    assert np.array_equal(to_course(from_course(X)), X) and np.shares_memory(from_course(X), X) and from_course(X).shape == shape[::-1]
    for index in np.ndindex(*shape):
        assert from_course(X)[index[::-1]] == X[index] == to_course(X)[index[::-1]]


def test_conversions_stay_on_the_device(move):
    X = move(np.zeros((2, 3, 4)))
    DeviceArray.synchronisations.clear()
    for convert, shape in ((from_course, (4, 3, 2)), (to_course, (4, 3, 2)), (from_batch_first, (3, 2, 4)), (to_batch_first, (3, 2, 4))):
        assert convert(X).shape == shape and type(convert(X)) is type(X)
    assert not DeviceArray.synchronisations


@pytest.mark.parametrize("convert", [from_course, to_course, from_batch_first, to_batch_first])
def test_conversions_refuse(convert):
    with pytest.raises(ValueError, match="X: expected shape .*, got \\(3,\\)"):
        convert(np.zeros(3))
    with pytest.raises(TypeError, match="X: expected a NumPy or CuPy array, got list"):
        convert([[1]])


@pytest.mark.parametrize("convert", [from_course, to_course])
def test_the_course_has_no_four_axes(convert):
    with pytest.raises(ValueError, match=r"got \(1, 1, 1, 1\)"):
        convert(np.zeros((1, 1, 1, 1)))


# where new arrays are made, and how often the host waits

def test_lists_become_arrays_of_the_default():
    with use("numpy"):
        assert isinstance(one_hot([0], 2), np.ndarray) and isinstance(pad([[1]])[0], np.ndarray)


@pytest.mark.gpu
def test_lists_become_cupy_arrays_under_use():
    with use("cupy") as cp:
        assert isinstance(one_hot([0], 2), cp.ndarray) and isinstance(pad([[1]])[0], cp.ndarray) and isinstance(mask([1], 2), cp.ndarray)


@pytest.mark.parametrize("call, waits", [
    (lambda X, n: one_hot(X, 9), 1), (lambda X, n: mask(n, 4), 1), (lambda X, n: check_lengths(n, 4, 2), 1),
    (lambda X, n: pad([X[:, 0], X[:2, 1]]), 0), (lambda X, n: unpad(X, n), 2), (lambda X, n: list(batches([X[:, 0], X[:2, 1]], 1)), 0),
])
def test_waits(call, waits):
    X, n = device.asarray(np.zeros((4, 2), int)), device.asarray(np.array([4, 1]))
    DeviceArray.synchronisations.clear()
    call(X, n)
    assert DeviceArray.synchronisations.total() == waits


def test_every_public_name_is_documented():
    for name in nt.__all__:
        assert getattr(nt, name).__doc__, name
