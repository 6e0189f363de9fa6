"""The longer runs of the applications' chapters, recorded: what a chapter shows beside its own short training.

    python benchmarks/applications.py sentiment              # one chapter's run; writes benchmarks/results/sentiment.json
    python benchmarks/applications.py sentiment music        # several, one after the other
    python benchmarks/applications.py speech --results -     # writes nothing

Each module of `seqbook.applications` has a function `recorded(progress)`: it trains with the settings of the longer run and
returns its figures as plain numbers, lists and dictionaries. Date, seconds, machine, versions and commit are added here.
"""
import argparse
import json
import sys
from importlib import import_module
from time import perf_counter

import record


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("names", nargs="+", metavar="NAME", help="modules of seqbook.applications: sentiment, music, ...")
    p.add_argument("--results", default=str(record.RESULTS), help="folder of the results; - for none")
    p.add_argument("--note", default="", help="what the reader of the result should know, such as other work on the machine")
    p.add_argument("--quiet", action="store_true", help="no progress bar")
    args = p.parse_args()
    for name in args.names:
        try:
            run = import_module(f"seqbook.applications.{name}").recorded
        except (ModuleNotFoundError, AttributeError) as error:
            sys.exit(f"NAME: expected a module of seqbook.applications that has a function `recorded`, got {name!r} ({error})")
        start = perf_counter()
        figures = run(progress=not args.quiet)
        kept = {"date": record.today(), "commit": record.commit(), "seconds": round(perf_counter() - start, 1), "note": args.note,
                "memory_mib": record.peak_mib(), "machine": record.machine(), "versions": record.versions("numpy")}
        print(json.dumps(figures, indent=1)[:4000], flush=True)
        if args.results != "-":
            record.write(f"{args.results}/{name}.json", figures | {"run": kept})


if __name__ == "__main__":
    main()
