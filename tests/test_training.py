"""The training loop: batches, files, checkpoints, kills, interrupts, divergence, and what it asks of a device."""
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from seqbook.backend import DeviceArray, asnumpy, device, fast, leaves, tree_map
from seqbook.language_model import LanguageModel
from seqbook.notation import Vocabulary
from seqbook.optim import SGD, Adam, AdamW, RMSprop, cosine
from seqbook.training import (
    EarlyStopping,
    History,
    Shuffled,
    Stream,
    TrainingDiverged,
    load_tree,
    running_mean,
    save_tree,
    train,
    write_whole,
)

IDS = np.random.default_rng(0).integers(0, 12, 1500)
LETTERS = Vocabulary("abcdefghijkl")


def fit(steps=40, seed=3, **options):
    "A short run, and the model it leaves."
    model = LanguageModel(LETTERS, n_a=16, n_x=8, seed=seed)
    options = {"batch_size": 5, "T": 13, "optimizer": Adam(cosine(5e-3, 100)), "log_every": 7, "progress": False} | options
    return model, model.fit(IDS, steps=steps, **options)


def bits(tree):
    return {k: asnumpy(a).tobytes() for k, a in leaves(tree).items()}


class Quadratic:
    "Loss |w|^2 / 2 scaled by the batch; draws a number from its own generator at every step."

    def __init__(self, seed=0):
        self.params, self.rng, self.drawn = {"w": np.array([3.0, -2.0])}, np.random.default_rng(seed), []

    def loss_and_grads(self, batch, state):
        self.drawn.append(self.rng.normal())
        w = self.params["w"]
        return float(w @ w) / 2, {"w": w + 0.01 * self.drawn[-1]}, None


# ---- batches

@pytest.mark.parametrize("n, B, T", [(3, 2, 1), (50, 1, 7), (101, 4, 25), (101, 4, 26), (64, 3, 1000)])
def test_stream_reads_every_symbol_once(n, B, T):
    ids, stream = np.arange(n), Stream(np.arange(n), B, T)
    pieces, starts = [], []
    while stream.epoch == 0:
        (x, y), start = stream.next()
        assert x.shape == y.shape and x.shape[1] == B and x.shape[0] <= T and (y == x + 1).all()
        pieces.append(x)
        starts.append(start)
    assert (np.concatenate(pieces).T.ravel() == ids[:(n - 1) // B * B]).all()
    assert starts == [True] + [False] * (len(starts) - 1) and stream.at == 0


@pytest.mark.parametrize("make", [
    lambda: Stream(IDS, 4, 11), lambda: Shuffled(23, 4, list, seed=5), lambda: Shuffled(23, 4, list, np.arange(23) % 7)])
def test_batches_go_on_from_any_position(make):
    batches = make()
    expected, positions = [], []
    for _ in range(300 if isinstance(batches, Stream) else 20):
        positions.append(json.loads(json.dumps(batches.position())))
        expected.append(batches.next())
    for k in (0, 1, len(expected) // 2, len(expected) - 1):
        again = make()
        again.seek(positions[k])
        batch, start = again.next()
        assert start == expected[k][1] and all(np.array_equal(a, b) for a, b in zip(batch, expected[k][0]))


def test_shuffled_takes_each_example_once_an_epoch():
    lengths = np.random.default_rng(1).integers(0, 50, 1000)
    for given in (None, lengths):
        batches = Shuffled(1000, 16, lambda i: i, given)
        orders = [np.concatenate([batches.next()[0] for _ in range(63)]) for _ in range(2)]
        assert all(sorted(order) == list(range(1000)) for order in orders) and (orders[0] != orders[1]).any()
    spread = [lengths[b].max() - lengths[b].min() for b in Shuffled(1000, 16, list, lengths).order(0)]
    assert np.mean(spread) < 10 < np.mean([lengths[b].max() - lengths[b].min() for b in Shuffled(1000, 16, list).order(0)])


@pytest.mark.parametrize("call, words", [
    (lambda: Stream([1, 2, 3], 1, 1), "ids"), (lambda: Stream(np.zeros((3, 3), int), 1, 1), "expected shape"),
    (lambda: Stream(np.zeros(9), 1, 1), "integer"), (lambda: Stream(IDS[:4], 4, 1), "at least 5 symbols"),
    (lambda: Stream(IDS, 0, 1), "batch_size"), (lambda: Stream(IDS, 2, 1.5), "T: expected"),
    (lambda: Shuffled(3, 2, list, seed=-1), "seed: expected .*-1"), (lambda: Shuffled(3, 2, list, seed="x"), "seed: expected .*'x'"),
    (lambda: EarlyStopping(0), "patience: expected .*got 0"), (lambda: EarlyStopping(3, -1), "min_delta: expected .*got -1"),
    (lambda: Shuffled(0, 2, list), "n: expected"), (lambda: Shuffled(3, 2, list, lengths=[1, 2]), "lengths"),
])
def test_bad_batches_are_named(call, words):
    with pytest.raises((TypeError, ValueError), match=words):
        call()


@pytest.mark.parametrize("name", ["steps", "log_every", "evaluate_every", "every", "patience"])
@pytest.mark.parametrize("value", [0, -1, 2.5, "3", True, float("nan")])
def test_counts_are_whole_and_positive(tmp_path, name, value):
    with pytest.raises((TypeError, ValueError), match=f"^{name}: expected a whole number >= 1, got {value!r}"):
        fit(**{"valid": IDS[:50], "checkpoint": tmp_path / "x", name: value})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["clip", "seconds"])
@pytest.mark.parametrize("value", [0, -1, "3", True, float("nan")])
def test_bounds_are_positive(name, value):
    with pytest.raises((TypeError, ValueError), match=rf"^{name}: expected a number in \(0, inf\), got {value!r}"):
        fit(**{name: value})


@pytest.mark.parametrize("options, words", [
    ({"patience": 3}, "patience: has no effect without an evaluation; give .*valid="),
    ({"evaluate_every": 3}, "evaluate_every: has no effect without an evaluation; give .*valid="),
    ({"every": 3}, "every: has no effect without a checkpoint; give checkpoint="),
    ({"callbacks": print}, "callbacks: expected a list of functions .*, got <built-in"), ({"callbacks": None}, "callbacks: .*got None"),
    ({"callbacks": [print, 3]}, "callbacks: "), ({"callbacks": "print"}, "callbacks: .*got 'print'"),
    ({"optimizer": 0.1}, r"optimizer: expected an optimiser such as Adam\(2e-3\), got 0.1"),
    ({"optimizer": "adam"}, "optimizer: .*, got 'adam'"),
    ({"optimizer": Adam}, "optimizer: .*, got the class Adam itself"), ({"optimizer": 0}, "optimizer: .*got 0"),
    ({"optimizer": cosine(0.1, 9)}, "optimizer: .*, got cosine without step"), ({"min_delta": -1}, "min_delta: .*got -1"),
    ({"checkpoint": 5}, "checkpoint: expected the path of a file, got 5"),
])
def test_bad_settings_are_named(options, words):
    with pytest.raises((TypeError, ValueError), match="^" + words):
        fit(**options)


def test_bad_parts_are_named(tmp_path):
    batches = Shuffled(3, 1, list)
    for args, options, words in [((None, batches), {}, "model: .*got None"), ((Quadratic, batches), {}, "model: .*the class Quadratic"),
                                 ((Quadratic(), [1, 2]), {}, "batches: expected batches such as .*, got list without next"),
                                 ((Quadratic(), batches), {"evaluate": 5}, "evaluate: expected a function without arguments, got 5")]:
        with pytest.raises(TypeError, match=words):
            train(*args, SGD(0.1), 3, progress=False, **options)
    for resume in (True, False):  # before the first step, not at the end
        with pytest.raises(IsADirectoryError, match="checkpoint: expected a file, got the folder"):
            fit(checkpoint=tmp_path, resume=resume)


def test_callbacks_may_come_from_a_generator():
    steps = []
    fit(3, callbacks=(f for f in [lambda run: steps.append(run.step)]))
    assert steps == [1, 2, 3]


# ---- history and early stopping

def test_history_survives_json_exactly():
    history = History()
    for step in range(50):
        history.append(step, loss=np.float32(1) / (step + 3), norm=1e-300 * step)
    assert History.from_dict(json.loads(json.dumps(history.to_dict()))) == history
    steps, values = history["loss"]
    assert steps.tolist() == list(range(50)) and values[0] == float(np.float32(1) / 3)
    with pytest.raises(KeyError, match="it has loss, norm"):
        history["valid"]


def test_history_plots_itself():
    import matplotlib
    matplotlib.use("agg")
    _, history = fit(valid=IDS[:100], evaluate_every=10)
    ax = history.plot(unit="nats")
    assert ax.get_xlabel() == "step" and ax.get_ylabel() == "nats"
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["training, running mean", "validation"]
    assert history.plot(ax) is ax
    matplotlib.pyplot.close("all")


def test_running_mean_does_not_lag():
    line = np.linspace(5, 1, 40)
    for span in (1, 4, 9, 99):
        assert np.allclose(running_mean(line, span), line)


def test_early_stopping():
    stopping = EarlyStopping(patience=2, min_delta=0.1)
    assert [stopping.update(x) for x in (1.0, 0.95, 0.85)] == [True, False, True] and not stopping.stop
    assert not stopping.update(float("nan")) and not stopping.update(0.8) and stopping.stop
    assert not EarlyStopping().stop


def test_the_best_parameters_come_back():
    losses, seen = iter([3.0, 1.0, 2.0, 4.0, 5.0]), []
    model = Quadratic()

    def evaluate():
        seen.append(model.params["w"].copy())
        return next(losses)

    history = train(model, Shuffled(3, 1, list), SGD(0.1), 100, evaluate=evaluate, evaluate_every=2, patience=3, progress=False)
    assert history["valid"][0].tolist() == [2, 4, 6, 8, 10]
    assert (model.params["w"] == seen[1]).all() and (seen[-1] != seen[1]).all()


# ---- files

@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.uint8, bool])
def test_a_tree_comes_back_bit_for_bit(tmp_path, dtype):
    rng = np.random.default_rng(0)
    tree = {"a": rng.normal(size=(3, 4)).astype(dtype), "b": {"c": np.zeros((0, 2), dtype), "d": np.array(1, dtype)},
            "t": rng.normal(size=(4, 5)).astype(dtype).T, "s": rng.normal(size=(6, 6)).astype(dtype)[::2, 1:4]}
    save_tree(tmp_path / "x", tree, {"text": "ä\n", "numbers": [1, 0.1, None]})
    arrays, meta = load_tree(tmp_path / "x")
    assert meta == {"text": "ä\n", "numbers": [1, 0.1, None]} and list(arrays) == sorted(arrays)
    for name, a in leaves(tree).items():
        b = arrays[name]
        assert b.dtype == a.dtype and b.shape == a.shape and (b == a).all() and b.flags.writeable


def test_the_same_tree_gives_the_same_file(tmp_path):
    tree = {k: np.full(3, i) for i, k in enumerate("zyxabc")}
    for name in ("1", "2"):
        save_tree(tmp_path / name, tree, {"b": 1, "a": 2}, kind="test")
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


def test_files_that_are_something_else(tmp_path):
    from safetensors.numpy import save
    path = tmp_path / "x.safetensors"
    save_tree(path, {"w": np.arange(100.0)}, kind="checkpoint")
    whole = path.read_bytes()
    with pytest.raises(ValueError, match="expected a language model, this is a checkpoint"):
        load_tree(path, kind="language model")
    for data in (b"", b"1234567", b"not a file of this kind, but long enough", whole[:-1], whole[:100], whole + b"0"):
        path.write_bytes(data)
        with pytest.raises(ValueError, match="x.safetensors: not a whole safetensors file"):
            load_tree(path)
    for metadata in (None, {"format": "pt"}, {"seqbook": "[]"}, {"seqbook": "{}"}):
        path.write_bytes(save({"w": np.zeros(2)}, metadata))
        with pytest.raises(ValueError, match="not one that seqbook wrote"):
            load_tree(path)
    path.write_bytes(save({"w": np.zeros(2)}, {"seqbook": json.dumps({"format": 99})}))
    with pytest.raises(ValueError, match="format 99.*newer one is needed"):
        load_tree(path)
    for k in (8 * 99, 8 * 50 + 3):
        turned = bytearray(whole)
        turned[-k] ^= 16
        path.write_bytes(turned)
        with pytest.raises(ValueError, match="damaged"):
            load_tree(path)
    with pytest.raises(FileNotFoundError):
        load_tree(tmp_path / "missing")


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "x"
    write_whole(path, b"old")
    with monkeypatch.context() as m:
        m.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(OSError, match="disk full"):
            write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    write_whole(path, b"new")
    assert path.read_bytes() == b"new"


WRITER = """
import sys
import numpy as np
from seqbook.training import save_tree
k = 0
while True:
    k += 1
    save_tree(sys.argv[1], {"w": np.full(200_000, k), "v": np.full(50_000, -k)}, {"k": k})
    if k == 1:
        print("ready", flush=True)
"""


@pytest.mark.skipif(os.name != "posix", reason="needs a signal that cannot be caught")
def test_killed_while_writing(tmp_path):
    "A process that does nothing but write is killed at random moments; the file is always whole."
    rng, path, partials = random.Random(0), tmp_path / "x", 0
    for _ in range(8):
        child = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE)
        assert child.stdout.readline() == b"ready\n"
        time.sleep(rng.uniform(0, 0.05))
        child.kill()
        child.wait()
        child.stdout.close()
        arrays, meta = load_tree(path)
        assert (arrays["w"] == meta["k"]).all() and (arrays["v"] == -meta["k"]).all()
        partials = len(list(tmp_path.glob("*.partial")))
    fit(1, checkpoint=path, resume=False)  # a run clears away what killed writers of its file left
    assert not list(tmp_path.glob("*.partial")), f"{partials} left"


# ---- resuming

@pytest.mark.parametrize("make", [
    lambda: Adam(cosine(5e-3, 100)), lambda: AdamW(1e-3), lambda: RMSprop(1e-3, momentum=0.5), lambda: SGD(0.1),
    lambda: SGD(0.05, momentum=0.9)])
def test_a_resumed_run_has_the_same_bits(tmp_path, make):
    whole, history = fit(60, optimizer=make(), valid=IDS[:200], evaluate_every=9)
    for cut in (1, 22, 23, 24, 59):  # an epoch of 23 windows ends at 23
        path = tmp_path / f"{cut}"

        def stop(run, cut=cut):
            run.stop = run.step == cut

        fit(60, optimizer=make(), valid=IDS[:200], evaluate_every=9, checkpoint=path, callbacks=[stop])
        assert load_tree(path)[1]["step"] == cut
        other, resumed = fit(60, seed=3, optimizer=make(), valid=IDS[:200], evaluate_every=9, checkpoint=path)
        assert bits(other.params) == bits(whole.params) and resumed == history


def test_the_models_generator_goes_on(tmp_path):
    def run(model, steps):
        train(model, Shuffled(5, 2, list), SGD(0.1), steps, checkpoint=tmp_path / "x", progress=False)
        return model

    first, second = run(Quadratic(), 10), run(Quadratic(seed=8), 25)
    whole = Quadratic()
    train(whole, Shuffled(5, 2, list), SGD(0.1), 25, progress=False)
    assert first.drawn + second.drawn == whole.drawn and (second.params["w"] == whole.params["w"]).all()


def test_a_finished_run_is_not_run_again(tmp_path):
    model, history = fit(30, checkpoint=tmp_path / "x", valid=IDS[:100])
    again, same = fit(30, checkpoint=tmp_path / "x", valid=IDS[:100], callbacks=[lambda run: pytest.fail("a step was made")])
    assert bits(again.params) == bits(model.params) and same == history
    stopped, h = fit(500, checkpoint=tmp_path / "y", valid=IDS[:50], evaluate_every=3, patience=2, optimizer=Adam(0.1))
    assert h["valid"][0][-1] < 500
    again, same = fit(500, checkpoint=tmp_path / "y", valid=IDS[:50], evaluate_every=3, patience=2, optimizer=Adam(0.1))
    assert bits(again.params) == bits(stopped.params) and same == h


def test_another_run_is_not_resumed(tmp_path):
    path = tmp_path / "x"
    fit(5, checkpoint=path)
    for options, word in [({"seed": 4}, "model.seed was 3, is 4"), ({"T": 14}, "batches.T"), ({"clip": 2.0}, "clip"),
                          ({"optimizer": SGD(0.1)}, "optimizer.name")]:
        with pytest.raises(ValueError, match=word):
            fit(5, checkpoint=path, **options)
    model = LanguageModel(LETTERS, n_a=16, n_x=8, seed=3)
    with pytest.raises(ValueError, match="batches.crc32"):
        model.fit(IDS[::-1].copy(), steps=5, batch_size=5, T=13, optimizer=Adam(cosine(5e-3, 100)), log_every=7, progress=False,
                  checkpoint=path)
    fit(5, seed=4, checkpoint=path, resume=False)
    assert load_tree(path)[1]["settings"]["model"]["seed"] == 4


PROGRAM = """
import sys
import numpy as np
from seqbook.language_model import LanguageModel
from seqbook.notation import Vocabulary
from seqbook.optim import Adam, cosine
ids = np.random.default_rng(0).integers(0, 12, 3000)
model = LanguageModel(Vocabulary("abcdefghijkl"), n_a=24, n_x=8, seed=3)
history = model.fit(ids, valid=ids[:300], steps=250, batch_size=4, T=20, optimizer=Adam(cosine(5e-3, 250)), evaluate_every=17,
                    checkpoint=sys.argv[1], every=1, progress=False)
model.save(sys.argv[2])
open(sys.argv[3], "w").write(repr(history.to_dict()))
"""


@pytest.mark.skipif(os.name != "posix", reason="needs a signal that cannot be caught")
def test_killed_again_and_again(tmp_path):
    "kill -9 at random moments, resumed each time: the same model file and history, byte for byte, as a run left alone."
    def start(name):
        paths = [tmp_path / f"{name}.{end}" for end in ("checkpoint", "model", "history")]
        return subprocess.Popen([sys.executable, "-c", PROGRAM, *map(str, paths)]), paths

    alone, expected = start("alone")
    rng, kills = random.Random(2), 0
    child, (checkpoint, *result) = start("killed")
    while kills < 5 and child.poll() is None:
        before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else None
        while child.poll() is None and (not checkpoint.exists() or checkpoint.stat().st_mtime_ns == before):
            time.sleep(0.002)  # until the child has got somewhere
        time.sleep(rng.uniform(0, 0.1))
        child.send_signal(signal.SIGKILL)
        child.wait()
        load_tree(checkpoint, kind="checkpoint")
        kills, (child, _) = kills + 1, start("killed")
    assert child.wait() == alone.wait() == 0 and kills >= 2
    assert [p.read_bytes() for p in result] == [p.read_bytes() for p in expected[1:]]


# ---- the stop button

def test_an_interrupt_ends_after_the_step(tmp_path):
    handler = signal.getsignal(signal.SIGINT)

    def press(run):
        if run.step == 11:
            os.kill(os.getpid(), signal.SIGINT)

    model, history = fit(30, checkpoint=tmp_path / "x", callbacks=[press])
    assert load_tree(tmp_path / "x")[1]["step"] == 11 and history["loss"][0].tolist() == [7, 11]
    assert signal.getsignal(signal.SIGINT) is handler
    resumed, _ = fit(30, checkpoint=tmp_path / "x")
    assert bits(resumed.params) == bits(fit(30)[0].params)


def test_a_second_press_stops_at_once():
    def press_twice(run):
        for _ in range(2):  # apart, since two signals of a kind that wait are one
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.1)

    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        fit(30, callbacks=[press_twice])
    assert signal.getsignal(signal.SIGINT) is handler


def test_it_runs_outside_the_main_thread():
    out = []
    thread = threading.Thread(target=lambda: out.append(fit(10)))
    thread.start()
    thread.join()
    assert bits(out[0][0].params) == bits(fit(10)[0].params)


def test_progress_goes_to_stderr_and_can_be_silent(capsys):
    fit(10, progress=True)
    shown = capsys.readouterr()
    assert shown.out == "" and "loss=" in shown.err and "10/10" in shown.err
    fit(10)
    assert capsys.readouterr() == ("", "")


# ---- divergence

def test_a_loss_that_is_no_number(tmp_path):
    class Failing(Quadratic):
        def loss_and_grads(self, batch, state):
            loss, grads, state = super().loss_and_grads(batch, state)
            return (float("nan") if len(self.drawn) == 8 else loss), grads, state

    model, path = Failing(), tmp_path / "x"
    words = "step 8: the loss is nan .*last gradient norm before was .*smaller learning rate than 0.1.*clip=1.0"
    with pytest.raises(TrainingDiverged, match=words) as e:
        train(model, Shuffled(5, 1, list), SGD(0.1), 20, checkpoint=path, every=3, log_every=5, progress=False)
    assert e.value.step == 8 and e.value.history["loss"][0].tolist() == [5] and np.isfinite(model.params["w"]).all()
    assert load_tree(path)[1]["step"] == 6


def test_an_infinite_gradient_is_not_applied():
    class Failing(Quadratic):
        def loss_and_grads(self, batch, state):
            loss, grads, state = super().loss_and_grads(batch, state)
            return loss, {"w": grads["w"] * np.inf}, state

    model = Failing()
    with pytest.raises(TrainingDiverged, match="step 1: .*it was the first step.*a smaller clip than 0.5"):
        train(model, Shuffled(5, 1, list), SGD(0.1), 20, clip=0.5, progress=False)
    assert (model.params["w"] == [3, -2]).all()


def test_clipping_limits_the_step():
    model = Quadratic()
    moved = []
    train(model, Shuffled(5, 1, list), SGD(1.0), 5, clip=0.25, progress=False,
          callbacks=[lambda run: moved.append(model.params["w"].copy())])
    steps = np.diff(np.array([[3.0, -2.0], *moved]), axis=0)
    assert np.allclose(np.linalg.norm(steps, axis=1), 0.25)


# ---- devices

def on_device(seed=3):
    model = LanguageModel(LETTERS, n_a=16, n_x=8, seed=seed)
    model.params = tree_map(device.asarray, model.params)
    return model


@pytest.mark.usefixtures("array_forms")
def test_a_device_is_asked_rarely(synchronisations):
    model, counts = on_device(), []
    options = {"batch_size": 5, "T": 13, "optimizer": Adam(cosine(5e-3, 100)), "progress": False}
    history = model.fit(IDS, steps=40, log_every=20, callbacks=[lambda run: counts.append(synchronisations.total())], **options)
    assert [k + 1 for k in range(40) if counts[k] > ([0] + counts)[k]] == [20, 40]
    with fast(False):  # the form that a device's arrays are computed in
        host, same = fit(40, log_every=20)
    assert same == history and bits(host.params) == bits(model.params)


@pytest.mark.usefixtures("array_forms")
def test_a_device_run_is_resumed_on_the_device(tmp_path):
    options = {"batch_size": 5, "T": 13, "optimizer": Adam(cosine(5e-3, 100)), "log_every": 7, "progress": False,
               "checkpoint": tmp_path / "x"}
    on_device().fit(IDS, steps=17, **options)
    model = on_device()
    model.fit(IDS, steps=40, **options | {"optimizer": Adam(cosine(5e-3, 100))})
    assert all(isinstance(a, DeviceArray) for a in leaves(model.params).values())
    with fast(False):
        assert bits(model.params) == bits(fit(40)[0].params)


@pytest.mark.gpu
def test_gpu_trains_as_the_host_does(tmp_path):
    host, history = fit(40)
    model = LanguageModel(LETTERS, n_a=16, n_x=8, seed=3).to("cupy")
    same = model.fit(IDS, steps=40, batch_size=5, T=13, optimizer=Adam(cosine(5e-3, 100)), log_every=7, progress=False,
                     checkpoint=tmp_path / "x")
    assert np.allclose(same["loss"][1], history["loss"][1], atol=1e-3)
    assert load_tree(tmp_path / "x")[1]["step"] == 40
