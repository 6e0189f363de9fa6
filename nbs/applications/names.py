# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: python3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Names
# > One-to-many: a network that invents names, letter by letter, and is told which kind of name to invent. Are they new, are they names, and does it know whose they are?

# %%
#| default_exp applications.names

# %%
#| hide
get_ipython().InteractiveTB.set_mode("Minimal")
import matplotlib.pyplot as plt
plt.style.use("../book.mplstyle")

# %%
#| export
from functools import partial
from math import log
from time import perf_counter

import numpy as np

from seqbook.backend import array_module, asnumpy, check_choice, check_number, check_whole, leaves
from seqbook.gru import GRU
from seqbook.language_model import tuned_ngram
from seqbook.notation import Vocabulary, mask
from seqbook.optim import Adam, one_cycle
from seqbook.rnn import log_softmax
from seqbook.rnn_types import Generator, by_length, check_list
from seqbook.sampling import generate

# %%
#| hide
import json
from collections import Counter
from pathlib import Path

from seqbook.data import names

# %% [markdown]
# ## The question
#
# In the course a network learns the names of 1,536 dinosaurs, letter by letter, and then invents new ones: *Trodonosaurus* and its like. It is the smallest task in which a network writes. It leaves three questions open. How *good* are such names, in a number? Are they *new*, or has it learned the list by heart?
# And can one *ask* it for a name of a certain kind?
#
# The file of dinosaurs comes with the course and in no package, so it is not here. The functions of that assignment (`clip`, `sample`, `optimize`, `model`) are, under their own names, in [the course's own functions](../practice/course.ipynb): whoever has `dinos.txt` can run it on them. This chapter takes
# names of people, which are many more, come in kinds, and are known to every reader's ear.


# %% [markdown]
# ## The data, what they are and what they are not

# %%
people = names()
print(people, people.source, sep="\n")

# %%
#| export
CATEGORIES = ("female", "male", "surname")


def census_lists(
    people,   # what `seqbook.data.names` gives
) -> dict:    # category -> {name in small letters: share of the population in per cent}
    "The three lists, in the order of CATEGORIES."
    lists = people.female, people.male, people.surnames
    return {c: {name.lower(): share for name, share in names.items()} for c, names in zip(CATEGORIES, lists)}


# %%
lists = census_lists(people)
for c, shares in lists.items():
    common = ", ".join([*shares][:4])
    print(f"{c:<8}{len(shares):>7,} names of {np.mean([len(n) for n in shares]):.1f} letters; {common}, ..., {[*shares][-1]}; together {sum(shares.values()):.0f} % of the people")
both = lists["female"].keys() & lists["male"].keys()
assert set("".join(n for shares in lists.values() for n in shares)) == set("abcdefghijklmnopqrstuvwxyz")
print(f"{len(both)} first names are on both lists: {', '.join(sorted(both)[:5])} ...")

# %% [markdown]
# * They are the names that were counted in a sample of the census of the United States of 1990, each with the share of the people who bear it; very rare ones are missing.
# * Letters only: no accents, no spaces, no apostrophes. *O'Brien* is `obrien`.
# * *Female* and *male* are what was ticked on that form. They are not properties of the name; 331 names are on both lists, and what is usual changes by country and decade.
# * Most surnames came from Europe, whole peoples are missing or rare. A model of this list knows nothing of names elsewhere.
#
# ### What must not be seen
#
# Names are to be predicted that the model has never read. A spelling may stand in several lists, so spellings are dealt into parts, not list entries: *Kelly* is in the training part as a first name of either sex and as a surname, or in none of them.

# %%
#| export
def split_names(
    lists: dict,   # category -> names
    valid=0.1,     # share of the spellings for validation
    test=0.1,      # share for the test
    seed=0,        # of the order
) -> dict:         # "train", "valid", "test" -> category -> list of names
    "Deal the spellings into three parts; a spelling is in one part, whatever its categories."
    if check_number("valid", valid, 0, 1, "()") + check_number("test", test, 0, 1, "()") >= 1:
        raise ValueError(f"test: expected less than 1 - valid = {1 - valid:g}, got {test:g}")
    spellings = sorted(set().union(*lists.values()))
    order = np.random.default_rng(seed).permutation(len(spellings))
    edges = np.cumsum([round(len(order) * (1 - valid - test)), round(len(order) * valid)])
    parts = {p: {spellings[i] for i in rows} for p, rows in zip(("train", "valid", "test"), np.split(order, edges))}
    return {p: {c: [n for n in names if n in part] for c, names in lists.items()} for p, part in parts.items()}


# %%
parts = split_names(lists)
train, valid, test = parts["train"], parts["valid"], parts["test"]
for p, names_of in parts.items():
    print(f"{p:<6}", *(f"{c} {len(ns):>6,}" for c, ns in names_of.items()))
assert not set(train["female"]) & set(test["surname"]) and sum(len(parts[p]["male"]) for p in parts) == len(lists["male"])

# %% [markdown]
# ## Notation used here
#
# | symbol | code | meaning |
# |---|---|---|
# | $c$ | `category` | female, male or surname |
# | $y = y^{\langle1\rangle}\dots y^{\langle T_y\rangle}$ | `name` | letters; the last symbol is the end, a full stop |
# | $P(y\mid c)$ | `log_probabilities(...)` | probability of a name in a category |
#
# The measure is the mean of $-\log_2 P$ over all letters and ends of the names of a part: bits per character. Who knows nothing needs $\log_2 27 = 4.75$.


# %%
#| export
LETTERS = Vocabulary.characters("abcdefghijklmnopqrstuvwxyz", end=".")


def bits(
    log_p,   # (N,) ln P of each name, its end included
    names,   # N names
) -> float:
    "Bits per character, ends included."
    return float(-np.sum(log_p) / log(2) / sum(len(n) + 1 for n in names))


def as_stream(
    names,   # list of names
):           # -> (n,) ids: an end, then each name with its end
    "Names as one text, for n-grams."
    ids = [LETTERS.encode(n, end=True) for n in check_list("names", names)]
    return np.concatenate([[LETTERS.end_id], *ids])


# %%
assert LETTERS.text(as_stream(["ann", "bo"])) == ".ann.bo." and np.isclose(bits(np.log([1 / 27**4]), ["ann"]), np.log2(27))

# %% [markdown]
# ## The baseline: counted letters
#
# An [n-gram model](../05_language_model.ipynb) for each category, with the smoothing of Kneser and Ney, its order and discount chosen on the validation part. But there are only a thousand male names to count, and they share most of their spelling habits with the other lists. A network will make use of that; so should the
# baseline. It mixes the model of a category with one of all the lists together:
#
# $$ P(y^{\langle t\rangle}\mid y^{\langle<t\rangle}, c) = \lambda_c\,P_c(y^{\langle t\rangle}\mid y^{\langle<t\rangle}) + (1-\lambda_c)\,P_{\text{all}}(y^{\langle t\rangle}\mid y^{\langle<t\rangle}) \tag{names.1} $$
#
# A history may reach back over the end before the name, where it learns nothing: what came before is another name, in no order.

# %%
#| export
class NameNGrams:
    "Kneser-Ney n-grams of each category, mixed with those of all. Equation names.1."

    def __init__(
        self,
        train: dict,         # category -> names
        valid: dict,         # category -> names: chooses discounts, orders and shares
        orders=(3, 4, 5, 6), # lengths of n-grams to try
        shares=(0.2, 0.35, 0.5, 0.65, 0.8, 1.0),  # values of lambda to try
    ):
        everything = as_stream([n for names in train.values() for n in names])
        self.parts = {c: self.choose(as_stream(names), everything, as_stream(valid[c]), orders, shares) for c, names in train.items()}

    @staticmethod
    def choose(own, everything, valid, orders, shares):
        "The share and the two models that predict the validation names best."
        own, shared = ([tuned_ngram(k, len(LETTERS), ids, valid, "kneser-ney") for k in orders] for ids in (own, everything))
        p = {id(m): np.exp(m.log_probabilities(valid)[1:]) for m in own + shared}
        tried = [(w, a, b) for a in own for b in shared for w in shares]
        return max(tried, key=lambda m: np.log(m[0] * p[id(m[1])] + (1 - m[0]) * p[id(m[2])]).sum())

    def log_probabilities(self, category, names):
        "ln P of each name in a category, (N,)"
        w, own, shared = self.parts[check_choice("category", category, self.parts)]
        ids = as_stream(names)
        p = np.log(w * np.exp(own.log_probabilities(ids)) + (1 - w) * np.exp(shared.log_probabilities(ids)))[1:]
        ends = np.cumsum([len(n) + 1 for n in names])
        return np.add.reduceat(p, np.concatenate([[0], ends[:-1]]))

    @property
    def size(self):
        "Numbers stored: n-grams of the models in use."
        return sum(m.size for m in {id(m): m for _, *pair in self.parts.values() for m in pair}.values())


# %%
start, counted = perf_counter(), NameNGrams(train, valid)
for c, (w, own, shared) in counted.parts.items():
    alone = own.evaluate(as_stream(valid[c])).bits
    print(f"{c:<8} {own.order}-grams of its own ({alone:.3f} bits alone), share {w:g}; {shared.order}-grams of all; together {bits(counted.log_probabilities(c, valid[c]), valid[c]):.3f}")

# %%
assert all(bits(counted.log_probabilities(c, valid[c]), valid[c]) < 3.3 for c in CATEGORIES)

# %% [markdown]
# ## The model
#
# A [`Generator`](../04_rnn_types.ipynb): the category is a row of a table, its $\tanh$ is the GRU's state before the first letter, and each letter that was written is read before the next:
#
# $$ a^{\langle0\rangle} = \tanh(e_c),\qquad P(y\mid c) = \prod_t P\!\left(y^{\langle t\rangle}\mid a^{\langle0\rangle}, y^{\langle<t\rangle}\right) \tag{names.2} $$
#
# One network for all the lists: what it learns of spelling from 71,000 surnames serves the 979 male names too. So that these are not lost among them, a first name is dealt several times in each round.

# %%
#| export
REPEATS = {"female": 6, "male": 8, "surname": 1}  # how often a name of each list is read in a round


def make_generator(
    n_a=128,   # units of the GRU
    seed=0,    # draws the weights
) -> Generator:
    "A fresh network that writes a name of a category."
    return Generator(list(CATEGORIES), LETTERS, layer=GRU(len(LETTERS), n_a, seed=seed), seed=seed)


def pairs(
    names: dict,    # category -> names
    repeats=None,   # category -> how often each; None: once
    limit=None,     # names of each category at most; None: all
):                  # -> list of categories, list of as many names
    "Lists as examples."
    rows = [(c, n) for c, ns in names.items() for n in ns[:limit] for _ in range((repeats or {}).get(c, 1))]
    return [c for c, _ in rows], [n for _, n in rows]


def train_generator(
    train: dict,      # category -> names
    valid: dict,      # category -> names: the best parameters on them are kept
    n_a=128,          # units of the GRU
    steps=1200,       # updates
    batch_size=128,   # names in a batch
    lr=5e-3,          # largest learning rate
    seed=0,           # weights and order
    repeats=REPEATS,  # see `pairs`
    progress=False,   # show a progress bar
):                    # -> Generator, History
    "Make a generator and train it."
    model = make_generator(n_a, seed)
    history = model.fit(*pairs(train, repeats), valid=pairs(valid, limit=1000), steps=steps, batch_size=batch_size,
                        optimizer=Adam(one_cycle(lr, steps)), seed=seed, progress=progress)
    return model, history


# %%
start = perf_counter()
writer, history = train_generator(train, valid)
print(writer, f"{perf_counter() - start:.0f} s", sep="\n")

# %%
#| fig-cap: Loss in nats per character. The validation names are as many of each list as there are, up to a thousand.
#| fig-alt: A training loss that falls steeply and then slowly, and validation points that follow it.
history.plot(unit="nats per character");

# %% [markdown]
# `log_probabilities` gives $\ln P(y\mid c)$ of whole names, many at once:

# %%
#| export
def log_probabilities(
    model: Generator,  # the network
    category: str,     # what it is told
    names,             # list of N names
    batch_size=512,    # names side by side
):                     # -> (N,) float64 ln P(name | category), the end included
    "Equation names.2, teacher-forced."
    examples, out = model.examples([category] * len(names), names), np.zeros(len(names))
    for rows in by_length([len(n) for n in names], batch_size):
        c, ids, targets, lengths = model.collate([examples[i] for i in rows])
        Z = model.forward((c, ids, targets, lengths))[0].astype(np.float64)
        xp = array_module(Z)
        L = xp.take_along_axis(log_softmax(Z), xp.asarray(targets)[..., None], axis=-1)[..., 0]  # (T, B)
        out[rows] = asnumpy(xp.where(xp.asarray(mask(lengths, len(Z))), L, 0).sum(axis=0))
    return out


# %%
some = valid["male"][:20]
by_model = writer.evaluate(["male"] * 20, some)
assert np.isclose(bits(log_probabilities(writer, "male", some), some), by_model.nats / np.log(2), atol=1e-4)

# %% [markdown]
# ## The result

# %%
lines = {}
for c in CATEGORIES:
    lines[c] = bits(counted.log_probabilities(c, test[c]), test[c]), bits(log_probabilities(writer, c, test[c]), test[c])
    print(f"{c:<8} {len(test[c]):>6,} names of the test part: n-grams {lines[c][0]:.3f} bits per character, network {lines[c][1]:.3f}")

# %%
assert lines["surname"][1] < lines["surname"][0] and max(v for pair in lines.values() for v in pair) < 3.3

# %% [markdown]
# The short training of this page is enough where names are many. Where they are few, counting with good smoothing is hard to beat; the [longer run](#the-longer-run) takes a larger network and more time.
#
# ## What it writes
#
# Twelve names of each category. The random numbers are the same in each row, so that only the category makes the difference:

# %%
invented = {c: writer.sample([c], n=1000, length=20, seed=1) for c in CATEGORIES}
for c, ns in invented.items():
    print(f"{c:<8}", *ns[:12])

# %% [markdown]
# ### Are they new?
#
# A name is *known* if it is in one of the three lists as they were read in training, *real* if it is in the held-out parts, so that the network has invented a name that exists, and else *new*. That a name is new is not yet worth much: `xqzz` is new. And whoever changes one letter of a known name makes new ones at no cost. So we
# also ask how many of the new ones are one step away from a known name, a letter changed, added or removed. For comparison, the same of real names that were held out.

# %%
#| export
def one_step(name: str) -> set:
    "All strings that differ from a name by one letter changed, added or removed."
    letters, cuts = "abcdefghijklmnopqrstuvwxyz", [(name[:i], name[i:]) for i in range(len(name) + 1)]
    removed = {a + b[1:] for a, b in cuts if b}
    changed = {a + c + b[1:] for a, b in cuts if b for c in letters}
    return (removed | changed | {a + c + b for a, b in cuts for c in letters}) - {name}


def novelty(
    invented,   # list of names
    known,      # names that were seen in training
    real=(),    # names that exist but were not seen
) -> dict:      # shares of all: known, real, new; near: share of the not known that are one step from a known one; distinct
    "How new invented names are."
    known, real, n = set(known), set(real), len(check_list("invented", invented))
    if not n:
        raise ValueError("invented: expected at least one name, got none")
    unknown = [y for y in invented if y not in known]
    near = np.mean([not known.isdisjoint(one_step(y)) for y in unknown]) if unknown else 0.0
    found = np.mean([y in real for y in unknown]) * len(unknown) / n if unknown else 0.0
    return {"known": 1 - len(unknown) / n, "real": float(found), "new": float(len(unknown) / n - found), "near": float(near), "distinct": len(set(invented)) / n}


# %%
assert one_step("a") >= {"", "b", "ab", "ba"} and "a" not in one_step("a")
assert novelty(["ann", "anna", "zzz", "zzz"], ["ann"], ["anna"]) == {"known": 0.25, "real": 0.25, "new": 0.5, "near": 1 / 3, "distinct": 0.75}

# %%
known = set().union(*train.values())
real = set().union(*valid.values(), *test.values())
news = {c: novelty(ns, known, real) for c, ns in invented.items()}
held = {c: novelty(test[c][:1000], known, real) for c in CATEGORIES}
for c in CATEGORIES:
    print(f"{c:<8}", *(f"{k} {v:.1%}" for k, v in news[c].items()), f"(held-out names: near {held[c]['near']:.1%})")

# %%
assert all(0.05 < v["known"] < 0.9 and v["distinct"] > 0.5 and v["real"] > 0 for v in news.values())

# %% [markdown]
# What to see: a part of what it writes it has read, part exists and it has not read it, and the rest is new. Its new names are about as near to known ones as real names are to each other; it does not live on changing a letter.

# %%
#| export
def nearest(
    name: str,  # an invented name
    known,      # list of names
    n=3,        # how many
) -> list:      # of known names, the most alike first
    "The known names that share most with one, by the ratio of Ratcliff and Obershelp, as difflib computes it."
    from difflib import get_close_matches
    return get_close_matches(name, [k for k in known if k and name and k[0] == name[0]], n, 0.0)


# %%
fresh = [y for y in invented["surname"] if y not in known and y not in real][:6]
for y in fresh:
    print(f"{y:<12} like {', '.join(nearest(y, train['surname']))}")

# %% [markdown]
# ## What it learnt: whose name is it?
#
# A network that knows how likely a name is in each category can be asked the other way round. Bayes' rule, with every category as likely as the others before the name is seen:
#
# $$ P(c\mid y) = \frac{P(c)\,P(y\mid c)}{\sum_{c'}P(c')\,P(y\mid c')} \tag{names.3} $$
#
# Nobody trained it for this. The rival is: naive Bayes on letters, which was made for classifying, and the same on groups of letters with the edges of the name marked, their length and smoothing chosen on the validation part. And the n-grams go through (names.3) as well. The question is put with names that are on one list only, and each category
# counts for a third (the mean of the shares right in each).

# %%
#| export
def posterior(
    log_p,        # (N, C) ln P(name | category)
    prior=None,   # (C,) probabilities of the categories; None: equal
):                # -> (N, C) P(category | name)
    "Bayes' rule. Equation names.3."
    log_p = np.asarray(log_p, np.float64)
    prior = np.full(log_p.shape[1], 1 / log_p.shape[1]) if prior is None else np.asarray(prior, np.float64)
    if prior.shape != log_p.shape[1:] or (prior <= 0).any():
        raise ValueError(f"prior: expected {log_p.shape[1]} positive numbers, got {prior!r:.60}")
    p = np.exp(log_p + np.log(prior) - (log_p + np.log(prior)).max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True)


def only_here(
    names: dict,   # category -> names of one part
    lists: dict,   # category -> all names
):                 # -> names, (N,) numbers of their categories
    "The names of a part that stand in one list only."
    counts = [(n, k) for k, (c, ns) in enumerate(names.items()) for n in ns if sum(n in other for other in lists.values()) == 1]
    return [n for n, _ in counts], np.array([k for _, k in counts])


def balanced_accuracy(
    guesses,   # (N,) numbers of categories
    truth,     # (N,) the right ones
) -> float:
    "The mean over the categories of the share right in each."
    guesses, truth = np.asarray(guesses), np.asarray(truth)
    return float(np.mean([(guesses[truth == k] == k).mean() for k in np.unique(truth)]))


class LetterBayes:
    "Naive Bayes on the letters of a name, or on groups of them; equal priors."

    def __init__(
        self,
        n=1,           # longest group of letters; from 2 on the edges of the name are marked
        strength=1.0,  # added to each count
    ):
        self.n, self.strength = check_whole("n", n), check_number("strength", strength, brackets="()")

    def fit(self, names, truth):
        "Count. -> the model"
        from sklearn.feature_extraction.text import CountVectorizer
        from sklearn.naive_bayes import MultinomialNB
        analyzer, low = ("char", 1) if self.n == 1 else ("char_wb", 1)
        self.counter = CountVectorizer(analyzer=analyzer, ngram_range=(low, self.n))
        self.bayes = MultinomialNB(alpha=self.strength, fit_prior=False).fit(self.counter.fit_transform(names), truth)
        return self

    def predict(self, names):
        "(N,) numbers of categories."
        return self.bayes.predict(self.counter.transform(names))


def tuned_letters(train, valid, sizes=(2, 3, 4, 5, 6), strengths=(0.01, 0.1, 0.5)):
    "The best LetterBayes on the validation names; each argument is (names, numbers of categories)."
    tried = [LetterBayes(n, a).fit(*train) for n in sizes for a in strengths]
    return max(tried, key=lambda m: balanced_accuracy(m.predict(valid[0]), valid[1]))


# %%
assert np.allclose(posterior(np.log([[0.1, 0.3]])), [[0.25, 0.75]]) and np.allclose(posterior(np.log([[0.1, 0.3]]), [0.75, 0.25]), 0.5)
assert balanced_accuracy([0, 0, 0, 1], [0, 0, 0, 0]) == 0.75 and balanced_accuracy([0, 0, 0, 0], [0, 0, 0, 1]) == 0.5

# %%
learn, choose, ask = (only_here(parts[p], lists) for p in ("train", "valid", "test"))
table = lambda model: np.stack([model(c, ask[0]) for c in CATEGORIES], axis=1)
guesses = {
    "letters": LetterBayes().fit(*learn).predict(ask[0]),
    "groups of letters": (grouped := tuned_letters(learn, choose, sizes=(3, 4, 5), strengths=(0.1, 0.5))).predict(ask[0]),
    "n-grams": posterior(table(counted.log_probabilities)).argmax(axis=1),
    "network": posterior(table(partial(log_probabilities, writer))).argmax(axis=1),
}
print(", ".join(f"{(ask[1] == k).sum():,} {c}" for k, c in enumerate(CATEGORIES)))
for name, g in guesses.items():
    print(f"{name:<18} {balanced_accuracy(g, ask[1]):.3f}   ", *(f"{c} {(g[ask[1] == k] == k).mean():.2f}" for k, c in enumerate(CATEGORIES)))

# %%
first = ask[1] < 2
sexes = {name: balanced_accuracy(posterior(table(f)[first][:, :2]).argmax(axis=1), ask[1][first]) for name, f in
         (("n-grams", counted.log_probabilities), ("network", partial(log_probabilities, writer)))}
print("female or male only:", *(f"{name} {v:.3f}" for name, v in sexes.items()))
assert balanced_accuracy(guesses["network"], ask[1]) > balanced_accuracy(guesses["letters"], ask[1]) + 0.05 and min(sexes.values()) > 0.7

# %% [markdown]
# After how many letters does it know? The same rule with the beginning of a name in place of the whole:

# %%
#| export
def unfolding(
    model: Generator,  # the network
    name: str,         # a name
):                     # -> (T + 2, 3) P(category | nothing, first letter, two letters, ..., with the end)
    "How the answer of equation names.3 changes while a name is read."
    out = []
    for c in CATEGORIES:
        batch = model.batch([c], [name])
        L = asnumpy(log_softmax(model.forward(batch)[0].astype(np.float64)))[:, 0]
        out.append(np.concatenate([[0], np.cumsum(L[np.arange(len(name) + 1), batch[2][:, 0]])]))
    return posterior(np.stack(out, axis=1))


# %%
#| fig-cap: P(category) while a name is read, letter by letter, from the start to its end. All three names were held out.
#| fig-alt: Three panels with three lines each that start at one third. For the female name its line rises in the last letters, for the male and the surname likewise, with reversals on the way.
typical = [max((n for n in choose[0] if len(n) in (6, 7) and choose[1][choose[0].index(n)] == k), key=lambda n: unfolding(writer, n)[-1, k]) for k in range(3)]
fig, axes = plt.subplots(1, 3, figsize=(7.0, 2.4), sharey=True)
for ax, name in zip(axes, typical):
    for k, c in enumerate(CATEGORIES):
        ax.plot(unfolding(writer, name)[:, k], "o-", markersize=3, label=c)
    ax.set_xticks(range(len(name) + 2), ["", *name, "."])
    ax.set(title=name, ylim=(-0.03, 1.03))
axes[0].set_ylabel("P(category)")
axes[0].legend();

# %%
steps = unfolding(writer, typical[0])
assert np.allclose(steps.sum(axis=1), 1) and np.allclose(steps[0], 1 / 3) and steps[-1, 0] > 0.8

# %% [markdown]
# ## Temperature
#
# [Temperature](../06_sampling.ipynb) divides the scores before the softmax. Low: only what is most likely; high: anything goes.

# %%
for t in (0.3, 0.7, 1.0, 1.5):
    print(f"{t:>4} ", *writer.sample(["female"], n=8, length=20, temperature=t, seed=2))

# %%
#| fig-cap: Share of 300 female names that are known, and of distinct ones among them, by temperature.
#| fig-alt: Two curves. The share of distinct names rises with temperature from a few percent to one; the share of known names falls from nearly all to nearly none.
temperatures = (0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5)
cooled = [novelty(writer.sample(["female"], n=300, length=20, temperature=t, seed=3), known, real) for t in temperatures]
fig, ax = plt.subplots(figsize=(5.4, 2.8))
for k, label in (("known", "known"), ("distinct", "distinct")):
    ax.plot(temperatures, [v[k] for v in cooled], "o-", label=label)
ax.set(xlabel="temperature", ylabel="share", ylim=(-0.03, 1.03))
ax.legend();

# %%
assert cooled[0]["known"] > cooled[-1]["known"] + 0.3 and cooled[-1]["distinct"] > cooled[0]["distinct"] + 0.3

# %% [markdown]
# What to see: a name is new at a price. At 1 the names are drawn as the network believes them to be spread. Below, fewer and more common ones come again and again; above, letters that do not fit together.
#
# ## Try it: names that begin with your letters

# %%
#| export
def invent(
    model: Generator,  # the network
    category: str,     # "female", "male" or "surname"
    begins="",         # first letters, a to z
    n=10,              # how many
    temperature=0.8,   # lower: more usual names
    seed=0,            # of the draws
) -> list:             # of n names
    "Names of a category that begin with given letters."
    check_choice("category", category, model.inputs)
    if not isinstance(begins, str) or any(letter not in LETTERS or letter == LETTERS.end for letter in begins.lower()):
        raise ValueError(f"begins: expected letters a to z, got {begins!r:.60}")
    prompt = [*model.prompt, *begins.lower()]
    written = generate(model.given([category]), [prompt], 20, n, temperature, seed=seed)
    return [(begins.lower() + rest).capitalize() for rest in written]


def whose(
    model: Generator,  # the network
    name: str,         # letters a to z
) -> dict:             # category -> probability
    "What a name sounds like: Bayes' rule with equal priors. Equation names.3."
    if not isinstance(name, str) or not name or any(letter not in LETTERS or letter == LETTERS.end for letter in name.lower()):
        raise ValueError(f"name: expected letters a to z, got {name!r:.60}")
    P = posterior(np.stack([log_probabilities(model, c, [name.lower()]) for c in CATEGORIES], axis=1))[0]
    return {c: round(float(p), 3) for c, p in zip(CATEGORIES, P)}


# %%
for c in CATEGORIES:
    print(f"{c:<8}", *invent(writer, c, "Ka", n=8))

# %%
written = [invent(writer, c, "Ka", n=8) for c in CATEGORIES]
assert all(n.startswith("Ka") for ns in written for n in ns) and len({tuple(ns) for ns in written}) == 3
{name: whose(writer, name) for name in ("Trodonosaurus", "Seqbook", "Andrewna")}

# %% [markdown]
# ## Every name once, or as often as it is borne?
#
# So far *Mary* and *Zulma* counted the same: the model was of *spellings*. One could also read each name as often as it is borne; then it is a model of *people*. The measure for that is not held-out spellings but how well it tells what an average woman is called: $-\sum_y p(y)\log_2 P(y\mid c)$ bits a name, where $p$ is the share in the
# census. No model can be below the entropy of $p$.

# %%
#| export
def drawn_by_share(
    shares: dict,  # name -> share
    n: int,        # how many to draw
    seed=0,        # of the draws
) -> list:         # of n names
    "Names drawn as often as they are borne."
    p = np.array([*shares.values()], np.float64)
    if not p.sum() > 0:
        raise ValueError("shares: expected at least one name with a share above 0")
    order = np.random.default_rng(seed).choice(len(p), check_whole("n", n), p=p / p.sum())
    keys = [*shares]
    return [keys[i] for i in order]


def bits_a_person(
    shares: dict,  # name -> share
    log_p,         # (N,) ln P of the names, in their order
):                 # -> entropy of the shares, bits per person under the model
    "How many bits the name of a random person takes: at best, and with a model."
    p = np.array([*shares.values()], np.float64)
    p, log_p = p[p > 0] / p.sum(), np.asarray(log_p)[p > 0]
    return float(-(p * np.log2(p)).sum()), float(-(p * log_p).sum() / log(2))


# %%
crowd = {c: drawn_by_share(lists[c], n, seed=1) for c, n in (("female", 30_000), ("male", 30_000), ("surname", 30_000))}
crowd_writer, _ = train_generator(crowd, {c: ns[:300] for c, ns in crowd.items()}, steps=800, repeats=None, seed=0)
for c in ("female", "male"):
    scores = [bits_a_person(lists[c], log_probabilities(m, c, [*lists[c]])) for m in (writer, crowd_writer)]
    print(f"{c:<8} at best {scores[0][0]:.2f} bits a person; read once each {scores[0][1]:.2f}, read as often as borne {scores[1][1]:.2f}")
    assert scores[0][0] < scores[1][1] < scores[0][1] - 2

# %%
for c in CATEGORIES:
    ns = crowd_writer.sample([c], n=400, length=20, seed=1)
    print(f"{c:<8} known {novelty(ns, lists[c])['known']:.0%}; most often {', '.join(n for n, _ in Counter(ns).most_common(5))};", *ns[:6])

# %% [markdown]
# Weighted, it has little reason to learn how names are built: a hundred common ones are most of what it reads, and they are learned by heart. For inventing, read each spelling once; for guessing what a stranger is called, read them as they come.
#
# (The crowd was drawn from the whole lists: there is nothing held out in this measure, for the population is the list.)
#
# ## Where it fails
#
# The held-out names that surprise it most, in bits per character:

# %%
for c in CATEGORIES:
    per = -log_probabilities(writer, c, test[c]) / np.log(2) / np.array([len(n) + 1 for n in test[c]])
    hard, easy = (np.argsort(-per)[:6], np.argsort(per)[:6])
    print(f"{c:<8} hardest:", *(f"{test[c][i]} ({per[i]:.1f})" for i in hard), "  easiest:", *(test[c][i] for i in easy))

# %% [markdown]
# They are names from languages of which the list has little. And it has no memory beyond letters: nothing tells it that a name has already been given, or how it is spoken.

# %% tags=["raises-exception"]
invent(writer, "dinosaur", "T")

# %% tags=["raises-exception"]
whose(writer, "Zoë")

# %% [markdown]
# ## The longer run
#
# `python benchmarks/applications.py names` trains three networks of 256 units on the same parts, for longer.

# %%
#| export
def recorded(
    progress=True,  # show how far it is
) -> dict:          # plain numbers, for benchmarks/results/names.json
    "The longer run: three seeds of 256 units, against the same baselines."
    from seqbook.data import names
    lists = census_lists(names())
    parts = split_names(lists)
    train, test = parts["train"], parts["test"]
    learn, choose, ask = (only_here(parts[p], lists) for p in ("train", "valid", "test"))
    counted, grouped = NameNGrams(train, parts["valid"]), tuned_letters(learn, choose)
    table = lambda f: np.stack([f(c, ask[0]) for c in CATEGORIES], axis=1)
    known, real = set().union(*train.values()), set().union(*parts["valid"].values(), *test.values())
    first, runs = ask[1] < 2, []
    whose = lambda t: {"three": balanced_accuracy(posterior(t).argmax(axis=1), ask[1]),
                       "two": balanced_accuracy(posterior(t[first][:, :2]).argmax(axis=1), ask[1][first])}
    for seed in range(3):
        start = perf_counter()
        model, _ = train_generator(train, parts["valid"], n_a=256, steps=3000, seed=seed, progress=progress)
        seconds, f = perf_counter() - start, partial(log_probabilities, model)
        samples = {c: model.sample([c], n=1000, length=20, seed=seed) for c in CATEGORIES}
        runs.append({"seconds": round(seconds, 1), "bits": {c: bits(f(c, test[c]), test[c]) for c in CATEGORIES}, **whose(table(f)),
                     "novelty": {c: novelty(ns, known, real) for c, ns in samples.items()},
                     "samples": {c: [n for n in ns if n not in known][:12] for c, ns in samples.items()}})
    return {
        "ngrams": {"size": counted.size, "bits": {c: bits(counted.log_probabilities(c, test[c]), test[c]) for c in CATEGORIES},
                   "orders": {c: [m[1].order, m[2].order, m[0]] for c, m in counted.parts.items()}, **whose(table(counted.log_probabilities))},
        "letters": balanced_accuracy(LetterBayes().fit(*learn).predict(ask[0]), ask[1]),
        "groups": {"n": grouped.n, "strength": grouped.strength, "three": balanced_accuracy(grouped.predict(ask[0]), ask[1])},
        "asked": [int((ask[1] == k).sum()) for k in range(3)], "names": {p: {c: len(ns) for c, ns in part.items()} for p, part in parts.items()},
        "parameters": int(sum(a.size for a in leaves(model.params).values())), "runs": runs,
    }


# %%
result = json.loads(Path("../../benchmarks/results/names.json").read_text())
run, runs = result["run"], result["runs"]
spread = lambda values: f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}"
print(f"{run['date']}, {run['machine']['cpu']}, {run['seconds']:.0f} s; {result['parameters']:,} parameters, {np.mean([r['seconds'] for r in runs]):.0f} s for one; {len(runs)} seeds")
for c in CATEGORIES:
    print(f"{c:<8} bits per character: n-grams {result['ngrams']['bits'][c]:.3f}, network {spread([r['bits'][c] for r in runs])}")
print(f"whose name, of three: letters {result['letters']:.3f}, groups of letters {result['groups']['three']:.3f}, n-grams {result['ngrams']['three']:.3f}, network {spread([r['three'] for r in runs])}")
print(f"female or male: n-grams {result['ngrams']['two']:.3f}, network {spread([r['two'] for r in runs])}")
for c in CATEGORIES:
    print(f"{c:<8} known {np.mean([r['novelty'][c]['known'] for r in runs]):.1%}, real {np.mean([r['novelty'][c]['real'] for r in runs]):.1%};", *runs[0]["samples"][c][:10])
