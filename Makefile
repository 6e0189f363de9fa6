# Two commands do everything:  make book  (read)   and   make test  (check).  `make help` lists the rest.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
SITE   := docs/_build/html
PORT   ?= 8000
SHELL  := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.PHONY: help book test install data site serve lab export execute shakespeare recorded hooks clean always

help:
	@echo "make book         install, fetch the data, run every chapter, build the site in $(SITE)"
	@echo "make serve        read the site at http://localhost:$(PORT)"
	@echo "make lab          open the chapters in JupyterLab"
	@echo "make test         everything CI runs: exports in sync, chapters run, pytest, the site in a browser"
	@echo "make export       write seqbook/ from the notebooks"
	@echo "make execute      run the chapters and keep their outputs in nbs/ (make execute NB=02_rnn for one)"
	@echo "make shakespeare  train on the complete works and record the result (half an hour on two cores)"
	@echo "make recorded APP=music   the longer run of an application's chapter, its figures recorded"
	@echo "make hooks        git hooks: notebooks cleaned and exports in sync at each commit"
	@echo "make clean        remove the environment and everything built"

# ---- the environment: brought up to date when settings.ini or setup.py change, made anew when it is broken or PYTHON names
# another version. Of two makes at once, the second waits for the first (the lock is on this file) and finds the work done.
NAMED    = $(filter-out file default undefined,$(origin PYTHON))
SAME     = { test -z "$(NAMED)" || test "$$($(BIN)/python -V 2>&1)" = "$$($(PYTHON) -V 2>&1)"; }
FINISHED = { test -e $@ && ! test settings.ini -nt $@ && ! test setup.py -nt $@ && $(BIN)/python -c '' 2>/dev/null && $(SAME); }
USABLE   = { $(BIN)/python -m pip --version >/dev/null 2>&1 && $(SAME); }

$(VENV)/made: always
	@$(FINISHED) && exit 0; \
	command -v "$(firstword $(PYTHON))" >/dev/null \
	  || { echo "There is no '$(PYTHON)' here. Name a Python 3.11, 3.12 or 3.13: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }; \
	$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null \
	  || { echo "seqbook needs Python 3.11, 3.12 or 3.13, and '$(PYTHON)' is $$($(PYTHON) -V 2>&1 | head -n 1). Name another: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }; \
	$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null \
	  || { echo "$(PYTHON) has no venv module. On Debian and Ubuntu: apt install python3-venv"; exit 1; }; \
	exec 9<Makefile; $(PYTHON) -c 'import fcntl; fcntl.flock(9, fcntl.LOCK_EX)' || exit 1; \
	$(FINISHED) && exit 0; \
	$(USABLE) || $(PYTHON) -m venv --clear $(VENV) || exit 1; \
	echo "== environment: $(VENV) ($$($(BIN)/python -V))"; \
	$(BIN)/python -m pip install -qq --disable-pip-version-check --editable '.[dev,docs,applications]' \
	  || { echo "The packages could not be installed: check the network and pip's settings (pip config list), then run make again."; exit 1; }; \
	touch $@

always:

$(VENV)/peers: $(VENV)/made
	@echo "== peers to compare with: PyTorch, Keras, ONNX"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --editable '.[peers]' \
	  || { echo "The peers could not be installed. Everything but the comparison with them runs without: make test PEERS="; exit 1; }
	@touch $@

# A Chromium to look at the site with: $CHROMIUM or one on PATH; else Debian's own, where we may install it.
BROWSERS = chromium chromium-browser google-chrome google-chrome-stable
CHROMIUM_IS_HERE = ( for b in "$${CHROMIUM:-}" $(BROWSERS); do test -n "$$b" && command -v "$$b" >/dev/null && exit 0; done; exit 1 )
$(VENV)/browser: $(VENV)/made always
	@$(CHROMIUM_IS_HERE) \
	|| { command -v apt-get >/dev/null && test "$$(id -u)" = 0 && echo "== browser: the system's package chromium" \
	     && apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends chromium >/dev/null \
	     && $(CHROMIUM_IS_HERE); } \
	|| { echo "There is no Chromium here to look at the site with: install one (Debian: apt install chromium), name one (make test CHROMIUM=/path/to/it), or go without (make test BROWSER=)."; exit 1; }
	@test -e $@ && ! test $(VENV)/made -nt $@ && exit 0; \
	$(BIN)/python -m pip install -qq --disable-pip-version-check --editable '.[browser]' \
	  || { echo "What drives the browser could not be installed. Everything but the tests of the site in it runs without: make test BROWSER="; exit 1; }; \
	touch $@

$(VENV)/lab: $(VENV)/made
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --editable '.[lab]'
	@touch $@

install: $(VENV)/made

data: $(VENV)/made
	@$(BIN)/python -m seqbook.data all

# ---- the book
book: data
	@$(BIN)/python docs/execute.py
	@$(MAKE) --no-print-directory site
	@echo "== the book is at $(SITE)/index.html; make serve shows it at http://localhost:$(PORT)"

site: $(VENV)/made
	@$(BIN)/python docs/build.py

serve:
	@test -f $(SITE)/index.html || { echo "There is no book yet: run make book first."; exit 1; }
	@$(BIN)/python -c 'import socket, sys; socket.create_server(("127.0.0.1", int(sys.argv[1]) or -1)).close()' '$(PORT)' 2>/dev/null \
	  || { echo "Port '$(PORT)' cannot be had: it is taken, or not ours to take, or no port. Name another: make serve PORT=8080"; exit 1; }
	@echo "http://localhost:$(PORT)  (Ctrl-C ends it; make serve PORT=8080 for another port)"
	@$(BIN)/python -m http.server --bind 127.0.0.1 --directory $(SITE) $(PORT)

lab: $(VENV)/lab
	@cd nbs && ../$(BIN)/jupyter lab index.ipynb

# ---- checks
PEERS ?= $(VENV)/peers
# BROWSER= means without a browser; its usual value, the name of a program, means with
LOOK = $(if $(filter undefined,$(origin BROWSER))$(BROWSER),$(VENV)/browser)
test: $(VENV)/made $(PEERS) $(LOOK) data
	@echo "== exports in sync"
	@$(BIN)/python tests/in_sync.py
	@$(BIN)/ruff check seqbook tests docs benchmarks setup.py
	@$(BIN)/python docs/book_map.py --check
	@$(BIN)/python docs/readme.py --check
	@$(BIN)/python docs/hosted.py --check
	@echo "== chapters run"
	@$(BIN)/python docs/execute.py --strict
	@echo "== site"
	@$(MAKE) --no-print-directory site
	@echo "== tests"
	@SEQBOOK_REQUIRE_SITE=1 SEQBOOK_REQUIRE_BROWSER=$(if $(strip $(LOOK)),1) OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -q -rs -n auto tests

# ---- for those who write
export: $(VENV)/made
	@$(BIN)/python docs/hosted.py
	@$(BIN)/nbdev_export
	@$(BIN)/python docs/book_map.py
	@$(BIN)/python docs/readme.py

execute: export
	@$(BIN)/python docs/execute.py --inplace $(NB)

shakespeare: data
	@$(BIN)/python benchmarks/shakespeare.py $(ARGS)

recorded: data
	@$(BIN)/python benchmarks/applications.py $(APP)

hooks: $(VENV)/made
	@git config core.hooksPath .githooks
	@git config merge.nbdev-merge.name "merge notebooks cell by cell"
	@git config merge.nbdev-merge.driver "$(BIN)/nbdev_merge %O %A %B %P"
	@git config diff.ipynb.textconv "$(BIN)/jupytext --to py:percent --output - --from ipynb"
	@echo "hooks are in place"

clean:
	rm -rf $(VENV) docs/_build build dist *.egg-info
