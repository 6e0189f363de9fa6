"""Held-out bits per character on Shakespeare's complete works: counted models beside a recurrent network.

    python benchmarks/shakespeare.py                     # about half an hour on two cores
    python benchmarks/shakespeare.py --resume            # go on after an interruption, to the same result
    python benchmarks/shakespeare.py --steps 300 --minutes 1 --results -    # a quick look; writes no result

Every work gives its first 90 % to training, the next 5 % to validation and the last 5 % to the test. So all parts have
something of each work, and neighbouring lines still stay on one side, except at two seams a work. All models see the same
three parts. Choices (discounts, smoothing, learning rate, the best step) are made on the validation part; the test part is
scored once. The model and its checkpoint lie in the cache folder of the data sets.
"""
import argparse
import json
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import record
from record import commit, machine, peak_mib

from seqbook.backend import leaves
from seqbook.data import cache_dir, shakespeare
from seqbook.language_model import LanguageModel, split_works, tuned_ngram
from seqbook.notation import Vocabulary
from seqbook.optim import Adam, cosine, warmup
from seqbook.rnn import softmax


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--steps", type=int, default=18_000, help="updates to make in all")
    p.add_argument("--minutes", type=float, help="stop the training after so many minutes; --resume goes on")
    p.add_argument("--resume", action="store_true", help="take up the checkpoint of an earlier run")
    p.add_argument("--n_a", type=int, default=512, help="units of the recurrent layer")
    p.add_argument("--n_x", type=int, default=64, help="features of a character")
    p.add_argument("--batch_size", type=int, default=64, help="parallel streams")
    p.add_argument("--T", type=int, default=64, help="steps of a window")
    p.add_argument("--lr", type=float, default=3e-3, help="highest learning rate, after a warm-up of up to 200 steps; then half a cosine")
    p.add_argument("--clip", type=float, default=1.0, help="largest norm of a gradient")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--results", default=str(record.RESULTS / "shakespeare.json"), help="file for the result; - for none")
    p.add_argument("--note", default="", help="what the reader of the result should know, such as other work on the machine")
    p.add_argument("--quiet", action="store_true", help="no progress bar")
    return p.parse_args()


def counted(name, order, smoothing, n_v, train, valid, test):
    "One row: a counted model, its discount chosen on the validation part."
    start = time.perf_counter()
    model = tuned_ngram(order, n_v, train, valid, smoothing)
    seconds, e = time.perf_counter() - start, model.evaluate(test)
    return {"model": name, "parameters": model.size, "seconds": round(seconds, 1), "discount": model.discount,
            "valid_bits": model.evaluate(valid).bits, "bits": e.bits, "perplexity": e.perplexity, "symbols": e.symbols,
            "memory_mib": peak_mib()}


def counted_rows(*texts):
    "Uniform, unigram, 5-grams in three smoothings, and the n-gram of any length that does best on the validation part."
    kinds = [("uniform", 0, "backoff"), ("unigram", 1, "backoff"), ("5-gram, backing-off", 5, "backoff"),
             ("5-gram, interpolated", 5, "interpolated"), ("5-gram, Kneser-Ney", 5, "kneser-ney")]
    kinds += [(f"{k}-gram, Kneser-Ney", k, "kneser-ney") for k in (6, 7, 8, 9)]
    # a process for each, so that each has a peak memory of its own
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as pool:
        rows = [pool.submit(counted, *kind, *texts).result() for kind in kinds]
    return rows[:5] + [min(rows[5:], key=lambda r: r["valid_bits"])]


def sample(model, start, length, temperature, rng):
    "A text drawn from the model, character by character."
    ids, state = model.vocabulary.encode(start), None
    for i in ids:
        z, state = model.step(np.array([i]), state)
    out = list(ids)
    for _ in range(length):
        p = softmax(z[0].astype(np.float64) / temperature)
        out.append(int(rng.choice(len(p), p=p / p.sum())))
        z, state = model.step(np.array([out[-1]]), state)
    return model.vocabulary.text(out)


class Clock:
    "Adds up the seconds, the peak memory and the commits of a run over interruptions, and stops it after some minutes."

    def __init__(self, path, minutes, resume, commit):
        before = json.loads(path.read_text()) if resume and path.exists() else {"seconds": 0.0, "memory_mib": 0, "commits": []}
        self.path, self.before, self.limit = path, before, None if minutes is None else 60 * minutes
        self.commits = before["commits"] + ([commit] if commit and commit not in before["commits"] else [])
        self.start, self.stopped = time.perf_counter(), False
        self.mark = self.start

    @property
    def seconds(self):
        return self.before["seconds"] + time.perf_counter() - self.start

    @property
    def memory(self):
        return max(self.before["memory_mib"], peak_mib())

    def write(self):
        self.mark = time.perf_counter()
        self.path.write_text(json.dumps({"seconds": self.seconds, "memory_mib": self.memory, "commits": self.commits}))

    def __call__(self, run):
        now = time.perf_counter()
        if now - self.mark > 20:
            self.write()
        if self.limit is not None and now - self.start > self.limit:
            run.stop = self.stopped = True


def main():
    a, version = arguments(), commit()
    corpus = shakespeare("complete")
    parts = split_works(corpus)
    vocabulary = Vocabulary.characters("".join(parts))
    train, valid, test = map(vocabulary.encode, parts)
    print(f"{len(corpus.works)} works, {len(vocabulary)} symbols; "
          f"train {len(train):,}, validation {len(valid):,}, test {len(test):,} characters", flush=True)

    folder = cache_dir() / "models"
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / "shakespeare.checkpoint"
    model = LanguageModel(vocabulary, n_x=a.n_x, n_a=a.n_a, seed=a.seed)
    print(model, flush=True)
    clock = Clock(folder / "shakespeare.run.json", a.minutes, a.resume, version)

    def log(run):
        if run.step % 500 == 0:
            valid_bits = run.history["valid"][1][-1] / np.log(2) if "valid" in run.history else float("nan")
            train_bits = run.history["loss"][1][-1] / np.log(2)
            print(f"step {run.step:6d}  {clock.seconds:6.0f} s  train {train_bits:.3f}  validation {valid_bits:.4f} bits", flush=True)

    warm = min(200, a.steps // 10)
    optimizer = Adam(warmup(cosine(a.lr, a.steps - warm, a.lr / 100), warm))
    history = model.fit(train, valid=valid, steps=a.steps, batch_size=a.batch_size, T=a.T, clip=a.clip, log_every=50, evaluate_every=1000,
                        optimizer=optimizer, checkpoint=checkpoint, seconds=60,
                        resume=a.resume, progress=not a.quiet, callbacks=[log, clock])
    clock.write()
    seconds, memory = clock.seconds, clock.memory
    model.save(folder / "shakespeare.safetensors")
    done = optimizer.t
    if done < a.steps and not clock.stopped:
        sys.exit(f"interrupted after {done} steps; --resume goes on")
    print(f"trained: {done} steps, {seconds:.0f} s, at most {memory} MiB; scoring the test part one character at a time", flush=True)

    start = time.perf_counter()
    e = model.evaluate(test)
    size = sum(x.size for x in leaves(model.params).values())
    network = {"model": f"network, tanh RNN of {a.n_a} units", "parameters": size, "seconds": round(seconds, 1),
               "valid_bits": model.evaluate(valid, batch_size=64).bits, "bits": e.bits, "perplexity": e.perplexity, "symbols": e.symbols,
               "memory_mib": memory, "scoring_seconds": round(time.perf_counter() - start, 1)}
    rows = counted_rows(len(vocabulary), train, valid, test) + [network]
    print(f"\n{'model':<32}{'bits/char':>10}{'perplexity':>12}{'parameters':>12}{'seconds':>9}{'peak MiB':>10}")
    for r in rows:
        print(f"{r['model']:<32}{r['bits']:>10.4f}{r['perplexity']:>12.3f}{r['parameters']:>12,}{r['seconds']:>9.1f}{r['memory_mib']:>10}")

    rng = np.random.default_rng(a.seed)
    samples = [{"temperature": t, "start": s, "text": sample(model, s, 300, t, rng)} for t, s in ((0.5, "\n"), (0.8, "KING"), (1.0, "\n"))]
    print(*(f"\n--- temperature {s['temperature']}\n{s['text']}" for s in samples), sep="\n")
    if a.results != "-":
        beaten = {r["model"]: bool(network["bits"] < r["bits"]) for r in rows[:-1]}
        settings = {k: v for k, v in vars(a).items() if k not in ("results", "resume", "quiet", "minutes", "note")}
        result = {"what": "bits per character on held-out text of Shakespeare's complete works", "rows": rows, "network_beats": beaten,
                  "split": {"how": "each work 90 / 5 / 5, in order, at line ends", "works": len(corpus.works), "symbols": len(vocabulary),
                            "train": len(train), "valid": len(valid), "test": len(test)},
                  "settings": settings, "steps_done": done, "seed": a.seed, "commits": clock.commits, "machine": machine(),
                  "versions": record.versions("numpy", "seqbook"), "note": a.note,
                  "source": corpus.source, "citation": corpus.citation, "history": history.to_dict(), "samples": samples}
        record.write(a.results, result)
        print(f"\nwritten: {Path(a.results).name}")


if __name__ == "__main__":
    main()
