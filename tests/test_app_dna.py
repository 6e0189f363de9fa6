"""DNA: reading of letters, the baselines on made sequences whose genes are known, and what the two networks are given."""
import numpy as np
import pytest

from seqbook.applications.dna import (
    CODE,
    FRAMES,
    JUNCTIONS,
    PENTAMERS,
    STOPS,
    coding_probabilities,
    codon_places,
    effects,
    error_rates,
    find_genes,
    fold,
    frame_tags,
    gene_tagger,
    gene_windows,
    hexamers,
    junction,
    longest_frames,
    one_hot,
    open_frames,
    out_of_fold,
    position_bayes,
    readings,
    rephrased,
    reverse_complement,
    splice_classifier,
    splice_probabilities,
    strand_labels,
)

LETTERS = "ACGT"


def made_pieces(n, seed=0):
    "Pieces of 60 random bases; in class 1 AG stands before the middle, in class 2 GT after it, in class 0 neither."
    rng = np.random.default_rng(seed)
    letters, y = rng.integers(0, 4, (n, 60)), rng.integers(0, 3, n)
    letters[:, 28:32] = 1
    letters[y == 1, 28:30] = [0, 2]
    letters[y == 2, 30:32] = [2, 3]
    return np.eye(4, dtype=np.float32)[letters], y


def made_genes(rng, genes, codons=120):
    "A chromosome with so many genes, on both strands in turn, and (L, 2) where they are. Genes use few codons, so that they stand out."
    usual = np.array([[1, 3, 0], [3, 1, 0], [2, 0, 0], [2, 1, 3], [0, 0, 1]])  # CTA TCA GAA GCT AAC: stops in the other frames
    parts, coding = [], []
    for k in range(genes):
        between = rng.integers(0, 4, 90 + rng.integers(0, 3))
        gene = np.concatenate([[0, 3, 2], usual[rng.integers(0, 5, codons)].reshape(-1), [3, 0, 0]])
        parts += [between, gene if k % 2 == 0 else reverse_complement(gene)]
        coding += [np.zeros((len(between), 2), bool), np.tile([k % 2 == 0, k % 2 == 1], (len(gene), 1))]
    return np.concatenate(parts), np.concatenate(coding)


def test_letters_become_probabilities():
    assert one_hot("acgtU").argmax(axis=1).tolist() == [0, 1, 2, 3, 3]
    assert one_hot("N").tolist() == [[0.25] * 4] and one_hot("B").tolist() == [[0, *[np.float32(1 / 3)] * 3]]
    with pytest.raises(ValueError, match="text: expected letters .* got 'X'"):
        one_hot("ACX")
    with pytest.raises(TypeError, match="text: expected a str"):
        one_hot(["A"])
    with pytest.raises(ValueError, match="text"):
        one_hot("")


def test_folding_keeps_every_base_and_ends_at_the_middle():
    X = np.arange(2 * 6 * 4, dtype=np.float32).reshape(2, 6, 4)
    F = fold(X)
    assert F.shape == (2, 3, 8)
    assert (F[:, :, :4] == X[:, :3]).all() and (F[:, :, 4:] == X[:, ::-1][:, :3]).all()
    assert (F[:, -1] == X[:, 2:4].reshape(2, 8)).all()
    with pytest.raises(ValueError, match="X: expected an even number"):
        fold(X[:, :5])


def test_bayes_by_position_is_bayes():
    rng = np.random.default_rng(1)
    shares = rng.dirichlet(np.ones(4), size=(2, 5))                                   # (class, place, base)
    y = rng.integers(0, 2, 40_000)
    X = np.eye(4)[np.array([[rng.choice(4, p=shares[c, t]) for t in range(5)] for c in y[:4000]])]
    model = position_bayes(X, y[:4000], 0.5)
    assert abs(np.exp(model.logs) - shares).max() < 0.05 and np.allclose(np.exp(model.logs).sum(axis=2), 1)
    P = model.probabilities(X[:3])
    chance = lambda x, c: np.exp(model.prior[c]) * np.prod([np.exp(model.logs)[c, t, x[t].argmax()] for t in range(5)])
    by_hand = np.array([[chance(x, c) for c in (0, 1)] for x in X[:3]])
    assert np.allclose(P, by_hand / by_hand.sum(axis=1, keepdims=True))
    with pytest.raises(ValueError, match="alpha"):
        position_bayes(X, y[:4000], 0)


def test_nobody_answers_for_an_example_it_has_seen():
    folds, seen = np.arange(20) % 4, []

    def predictor(train, rows):
        seen.append(set(train) & set(rows))
        return np.tile(rows[:, None], 2)

    rows, P = out_of_fold(predictor, folds)
    assert sorted(rows) == list(range(20)) and (P[:, 0] == rows).all() and not any(seen) and len(seen) == 4
    assert sorted(out_of_fold(predictor, folds, [2])[0]) == [2, 6, 10, 14, 18]


def test_error_rates_by_class():
    P = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.1, 0.9]])
    assert error_rates(P, np.array([0, 0, 1, 1]), ("a", "b")) == {"a": 50.0, "b": 0.0, "all": 25.0}


def test_the_network_finds_a_junction_and_effects_show_where():
    X, y = made_pieces(600)
    model = splice_classifier(X[:500], y[:500], steps=120, n_a=24)
    P = splice_probabilities(model, X[500:])
    assert P.shape == (100, 3) and (P.argmax(axis=1) == y[500:]).mean() > 0.9
    i = 500 + int(np.flatnonzero((y[500:] == 2) & (P.argmax(axis=1) == 2))[0])
    E = effects(lambda x: splice_probabilities(model, x), X[i], 2)
    assert E.shape == (60, 4) and abs(E[X[i] == 1]).max() < 1e-5                      # to set a base to itself changes nothing
    assert set(E.min(axis=1).argsort()[:2]) == {30, 31}
    text = "".join(LETTERS[b] for b in X[i].argmax(axis=1))
    assert list(junction(model, text)) == list(JUNCTIONS) and abs(junction(model, text)["EI"] - P[i - 500, 2]) < 1e-5
    with pytest.raises(ValueError, match="text: expected 60 letters"):
        junction(model, text[:59])


def test_the_opposite_strand():
    assert reverse_complement(np.array([0, 0, 1, 2, 3, 3])).tolist() == [0, 0, 1, 2, 3, 3]   # its own reverse complement
    for wrong in ([0, 1, 2, 3, 4, 0], [0, 1], [0, 1, -1, 2, 3, 0]):
        with pytest.raises(ValueError, match="bases: expected at least 6 numbers"):
            reverse_complement(wrong)


def test_open_frames_against_a_slow_reader():
    rng = np.random.default_rng(2)
    bases = rng.integers(0, 4, 900)
    slow = set()
    for strand, s in ((1, bases), (2, reverse_complement(bases))):
        text = "".join(LETTERS[b] for b in s)
        for f in range(3):
            start = None
            for t in range(f, len(text) - 2, 3):
                codon = text[t:t + 3]
                if codon == "ATG" and start is None:
                    start = t
                if codon in ("TAA", "TAG", "TGA"):
                    if start is not None:
                        a, b = start, t + 3
                        slow.add((b - a, strand, *((a, b) if strand == 1 else (900 - b, 900 - a))))
                    start = None
    found = open_frames(bases)
    assert set(found) == slow and len(found) == len(slow) and found == sorted(found, reverse=True)


def test_both_baselines_find_made_genes():
    bases, coding = made_genes(np.random.default_rng(3), 10)
    y = strand_labels(coding)
    assert (longest_frames(bases, 200) == y).mean() > 0.93                            # an ATG may stand in front of a gene by chance
    assert (hexamers(bases, coding, 60)(bases) == y).mean() > 0.85
    assert (longest_frames(reverse_complement(bases), 200)[::-1] == np.array([0, 2, 1])[longest_frames(bases, 200)]).all()
    with pytest.raises(ValueError, match="window"):
        hexamers(bases, coding, 2)


def test_places_in_a_codon():
    gene = np.array([0, 3, 2, 1, 1, 1, 3, 0, 0])                                      # ATG CCC TAA
    bases = np.concatenate([[1, 1], gene, [1], reverse_complement(gene), [1]])
    coding = np.zeros((len(bases), 2), bool)
    coding[2:11, 0] = coding[12:21, 1] = True
    places = codon_places(bases, coding)
    assert places.tolist() == [0, 0, *[1, 2, 3] * 3, 0, *[4, 5, 6] * 3, 0]
    assert STOPS == [48, 50, 56]
    for o, tags in enumerate(frame_tags(places)):
        assert len(set(tags[(places[o::3] > 0) & (places[o::3] < 4)])) == 1           # constant within a gene
    # the tag says how far before the middle base its codon begins
    t = 3
    assert FRAMES[frame_tags(places)[t % 3][t // 3]] == "+1" and (bases[t - 1:t + 2] == [0, 3, 2]).all()


def test_rephrasing_keeps_the_proteins():
    bases, coding = made_genes(np.random.default_rng(8), 6)
    other = rephrased(bases, coding, np.random.default_rng(0), codons=1.0, noise=0.5)
    assert 0.01 < (other != bases)[coding.any(axis=1)].mean() < 0.5 and 0.2 < (other != bases)[~coding.any(axis=1)].mean() < 0.6
    for s, t, c in ((bases, other, coding[:, 0]), (reverse_complement(bases), reverse_complement(other), coding[::-1, 1])):
        begins = np.flatnonzero(np.diff(c.astype(int), prepend=0) == 1)
        assert len(begins) == 3
        for a in begins:
            said = [[CODE[x[k:k + 3] @ [16, 4, 1]] for k in range(a, a + 366, 3)] for x in (s, t)]
            assert said[0] == said[1] and said[0][0] == "M" and said[0][-1] == "*" and "*" not in said[0][:-1]
    assert (rephrased(bases, coding, np.random.default_rng(0), 0, 0) == bases).all()


def test_readings_have_every_base_in_the_middle_once():
    bases = np.random.default_rng(4).integers(0, 4, 50)
    parts = readings(bases)
    middle = np.empty(50, int)
    for o, ids in enumerate(parts):
        middle[o::3] = ids // 16 % 4
    assert (middle == bases).all()
    assert PENTAMERS.decode([int(parts[2][1])]) == ["".join(LETTERS[b] for b in bases[3:8])]


def test_windows_are_the_readings_of_both_strands():
    bases, coding = made_genes(np.random.default_rng(5), 4)
    inputs, targets = gene_windows(bases, coding, 50)
    assert sum(map(len, inputs)) == 2 * len(bases) and all(len(x) == len(t) <= 50 for x, t in zip(inputs, targets))
    assert np.concatenate(inputs)[:len(readings(bases)[0])].tolist() == readings(bases)[0].tolist()


def test_the_tagger_learns_made_genes_on_both_strands():
    bases, coding = made_genes(np.random.default_rng(6), 12, codons=60)
    model = gene_tagger(bases, coding, updates=120, n_a=16, n_x=8, copies=0)
    other, where = made_genes(np.random.default_rng(7), 6, codons=60)
    P = coding_probabilities(model, other)
    assert P.shape == (len(other), 3) and np.allclose(P.sum(axis=1), 1, atol=1e-5)
    assert (P.argmax(axis=1) == strand_labels(where)).mean() > 0.9
    back = coding_probabilities(model, reverse_complement(other))                     # both strands are read: they may be exchanged
    assert np.allclose(back[::-1, [0, 2, 1]], P, atol=1e-5)
    found = find_genes(model, "".join(LETTERS[b] for b in other), 60)
    assert len(found) >= 4 and {s for s, *_ in found} == {"+", "-"}


def test_bad_input_is_named():
    X, y = made_pieces(30)
    with pytest.raises(ValueError, match=r"y: expected classes 0 to 2, got 0 to 3"):
        splice_classifier(X, np.where(np.arange(30) == 4, 3, 0), steps=4)
    with pytest.raises(ValueError, match=r"X: expected shape \(N, T, 4\)"):
        splice_classifier(X[:, :, :3], y, steps=4)
    with pytest.raises(ValueError, match=r"which: expected some of the folds \[0, 1\], got 5"):
        out_of_fold(lambda a, b: np.zeros((len(b), 2)), np.arange(6) % 2, [0, 5])
    bases, coding = made_genes(np.random.default_rng(9), 2)
    with pytest.raises(ValueError, match="coding: expected shape"):
        codon_places(bases, coding[:-1])
    model = gene_tagger(bases, coding, updates=4, n_a=4, n_x=2, copies=0)
    with pytest.raises(ValueError, match="bases: expected at least 6 numbers 0 A, 1 C, 2 G, 3 T, got 7 of them, from 0 to 4"):
        coding_probabilities(model, np.array([0, 1, 2, 3, 4, 0, 1]))
    with pytest.raises(ValueError, match="text: expected at least 6 letters, got 3"):
        find_genes(model, "ACG")
    with pytest.raises(ValueError, match="text: expected letters out of"):
        find_genes(model, "ACGTACGX")
    with pytest.raises(ValueError, match="copies"):
        gene_tagger(bases, coding, updates=4, copies=-1)
