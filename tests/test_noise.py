"""Noise in training: models draw their layers' masks in `fit`, never in evaluation, and a resumed run draws the same ones."""
import numpy as np
import pytest

from seqbook.backend import DeviceArray, asnumpy, device, leaves, tree_map
from seqbook.bptt import gradcheck
from seqbook.brnn import Bidirectional
from seqbook.deep_rnn import Deep
from seqbook.gru import GRU
from seqbook.language_model import LanguageModel, encode, sentence_batch
from seqbook.lstm import LSTM
from seqbook.notation import Vocabulary
from seqbook.rnn import RNN, apply, masks_of
from seqbook.rnn_types import Classifier, Generator, Seq2Seq, Tagger

LETTERS = Vocabulary.build(list("abcdef"), end="<eos>")
TEXTS = ["abc", "fedcba", "a", "deaf"]
LABELS = ["x", "y", "x", "y"]


def noisy(n_x=3, n_a=4, seed=0, dtype=np.float64, both_ways=False):
    "Every kind of noise at once: between the layers, on the recurrence, on the state."
    make = lambda n, s: LSTM(n, n_a, recurrent_dropout=0.3, zoneout_a=0.2, zoneout_c=0.3, seed=s, dtype=dtype)
    first = Bidirectional(make(n_x, seed), "sum") if both_ways else make(n_x, seed)
    return Deep([first, make(n_a, seed + 1)], dropout=0.4)


def model_of(name, dtype=np.float64, layer=None):
    if name == "language model":
        return LanguageModel(LETTERS, layer or noisy(dtype=dtype), dtype=dtype), (TEXTS,)
    if name == "classifier":
        return Classifier(LETTERS, ["x", "y"], layer or noisy(dtype=dtype, both_ways=True), dtype=dtype), (TEXTS, LABELS)
    if name == "tagger":
        tags = [["xy"[c < "c"] for c in text] for text in TEXTS]
        return Tagger(LETTERS, ["x", "y"], layer or noisy(dtype=dtype, both_ways=True), dtype=dtype), (TEXTS, tags)
    if name == "generator":
        return Generator(["x", "y"], LETTERS, layer or noisy(dtype=dtype), dtype=dtype), (LABELS, TEXTS)
    decoder = noisy(seed=5, dtype=dtype) if layer is None else RNN(3, 4, dtype=dtype)
    return Seq2Seq(LETTERS, LETTERS, layer or noisy(dtype=dtype), decoder, dtype=dtype), (TEXTS, TEXTS[::-1])


def batch_of(model, data):
    return sentence_batch(encode(LETTERS, data[0]), LETTERS.end_id) if isinstance(model, LanguageModel) else model.batch(*data)


MODELS = ["language model", "classifier", "tagger", "generator", "seq2seq"]


@pytest.mark.parametrize("name", MODELS)
def test_gradients_under_noise(name):
    "With the generator put back before each call the loss is one function of the parameters."
    model, data = model_of(name)
    batch, params = batch_of(model, data), model.params

    def run(tree):
        model.params, model.rng = tree, np.random.default_rng(7)
        return model.loss_and_grads(batch)

    gradcheck(lambda tree: run(tree)[0], params, run(params)[1]).check(1e-6)


@pytest.mark.parametrize("name", MODELS)
def test_training_is_noisy_and_evaluation_is_not(name):
    model, data = model_of(name)
    batch = batch_of(model, data)
    first, second = (model.loss_and_grads(batch)[0] for _ in range(2))
    still = [model.evaluate(*data).nats for _ in range(2)]
    model.rng = None
    assert first != second and still[0] == still[1]
    assert float(model.loss_and_grads(batch)[0]) == pytest.approx(still[0], rel=1e-12)


@pytest.mark.parametrize("name", MODELS)
def test_the_noise_depends_on_the_seed_alone(name):
    "Equal models draw equal noise; a layer without noise draws nothing at all."
    losses = []
    for _ in range(2):
        model, data = model_of(name)
        losses.append([float(model.loss_and_grads(batch_of(model, data))[0]) for _ in range(3)])
    assert losses[0] == losses[1] and len(set(losses[0])) == 3
    model, data = model_of(name, layer=GRU(3, 4, dtype=np.float64))
    before = model.rng.bit_generator.state
    model.loss_and_grads(batch_of(model, data))
    assert model.rng.bit_generator.state == before


@pytest.mark.parametrize("name", MODELS)
def test_a_resumed_run_draws_the_same_noise(tmp_path, name):
    def run(steps, **options):
        model, data = model_of(name, np.float32)
        data = data[:1] if isinstance(model, LanguageModel) else data
        model.fit(*data, steps=steps, batch_size=2, progress=False, **options)
        return {k: asnumpy(a).tobytes() for k, a in leaves(model.params).items()}

    whole = run(15)
    run(7, checkpoint=tmp_path / "k")
    assert run(15, checkpoint=tmp_path / "k") == whole


@pytest.mark.parametrize("layer", [RNN(3, 4), GRU(3, 4), LSTM(3, 4), Deep([RNN(3, 4), RNN(4, 4)]), Bidirectional(LSTM(3, 4))], ids=repr)
def test_layers_without_noise_have_no_masks(layer):
    assert masks_of(layer, np.random.default_rng(0), 5) is None


@pytest.mark.parametrize("both_ways", [False, True])
def test_apply_passes_the_layers_own_masks(both_ways):
    layer, X = noisy(both_ways=both_ways), np.random.default_rng(3).normal(size=(6, 5, 3))
    wanted = layer(X, None, np.array([6, 2, 0, 5, 1]), layer.masks(np.random.default_rng(1), 5))
    got = apply(layer, X, None, np.array([6, 2, 0, 5, 1]), np.random.default_rng(1))
    assert np.array_equal(got[0], wanted[0]) and not np.allclose(got[0], layer(X)[0])
    assert np.array_equal(apply(layer, X)[0], layer(X)[0])


def test_noise_goes_where_the_model_is():
    model, data = model_of("language model", np.float32)
    there = model_of("language model", np.float32)[0]
    batch = batch_of(model, data)
    loss = float(model.loss_and_grads(batch)[0])
    there.params = tree_map(device.asarray, there.params)
    there_loss, grads, _ = there.loss_and_grads(batch)
    assert float(asnumpy(there_loss)) == loss and all(isinstance(a, DeviceArray) for a in leaves(grads).values())
