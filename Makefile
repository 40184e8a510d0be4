# make demo   install into .venv and make the first images, with their truths, in demo/
# make test   install with the development tools and run the checks (ruff, mypy, the short form of every test)
# make slow   the long forms of the statistical and fault tests
# make lint   ruff and mypy alone
# make docs   the HTML pages, in docs/_build/html
# make clean  remove .venv, demo's own files and every cache
#
# PYTHON chooses the interpreter that .venv is made with:  make demo PYTHON=/opt/python3.12/bin/python3

SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
CANDIDATES := $(if $(PYTHON),$(PYTHON),python3 python3.12 python3.11 python3.13 python)
USABLE := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))

.PHONY: help demo test slow lint docs clean venv core dev
.DEFAULT_GOAL := help

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

# A folder that was moved, or whose Python went away, has a .venv that no longer runs: it is made again.
venv:
	@if [ -e $(VENV) ] && ! "$(CURDIR)/$(BIN)/python" -c "import sys; sys.exit(sys.prefix != '$(CURDIR)/$(VENV)')" 2>/dev/null; then \
		echo "$(VENV) does not run any more; making it again"; rm -rf $(VENV); \
	elif [ -e $(VENV) ] && ! "$(BIN)/pip" --version >/dev/null 2>&1; then \
		echo "$(VENV) is incomplete or was moved; making it again"; rm -rf $(VENV); \
	fi
	@if [ ! -e $(VENV) ]; then \
		for python in $(CANDIDATES); do \
			if "$$python" -c '$(USABLE)' >/dev/null 2>&1; then found="$$python"; break; fi; \
		done; \
		if [ -z "$$found" ]; then \
			echo "error: usim needs Python 3.11 or newer with venv and pip; none of these is: $(CANDIDATES) (choose one: make PYTHON=/path/to/python3.12)" >&2; \
			exit 2; \
		fi; \
		echo "making $(VENV) with $$("$$found" --version 2>&1)"; \
		"$$found" -m venv $(VENV) || { rm -rf $(VENV); exit 1; }; \
	fi

# Made in a second make, because the first one looked for the stamps before `venv` may have removed them. A stamp is older
# than what it was made from after a pull that changed it: then pip runs again.
core: venv
	@$(MAKE) --no-print-directory --silent $(VENV)/.core

dev: venv
	@$(MAKE) --no-print-directory --silent $(VENV)/.dev

$(VENV)/.core: pyproject.toml constraints.txt
	@echo "installing usim (a minute or two on the first run)"
	$(PIP) install -c constraints.txt -e .
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt
	@echo "installing usim and its development tools (two or three minutes on the first run)"
	$(PIP) install -c constraints.txt -e ".[dev]"
	@touch $(VENV)/.core $@

# Only files that an earlier demo made are removed; anything else that lies there stays.
demo: core
	@mkdir -p demo
	@for name in cyst training; do \
		rm -f demo/$$name.png demo/$$name/manifest.json demo/$$name/run.json demo/$$name/shard-*.h5; \
		rmdir demo/$$name 2>/dev/null || true; \
	done
	@echo; echo "1 of 4: one image of cysts and wires (the first run compiles the kernels)"
	$(BIN)/usim generate phantoms/cyst.yaml -o demo/cyst
	@echo; echo "2 of 4: a training set, every frame drawn anew"
	$(BIN)/usim generate phantoms/training.yaml -o demo/training
	@echo; echo "3 of 4: the image beside its truths"
	$(BIN)/usim view demo/cyst -o demo/cyst.png
	@echo; echo "4 of 4: four frames of the training set beside their truths"
	$(BIN)/usim view demo/training -o demo/training.png --frames 0,1,2,3
	@echo; echo "made:"; ls demo/cyst.png demo/training.png demo/cyst/* demo/training/* | sed 's/^/  /'
	@echo; echo "next, for example:"
	@echo "  $(BIN)/usim info demo/training"
	@echo "  $(BIN)/usim view demo/training -o demo/more.png --frames 10,20,30"
	@echo "  $(BIN)/usim generate wires -o demo/wires && $(BIN)/usim view demo/wires"

lint: dev
	$(BIN)/ruff check .
	$(BIN)/mypy

test: lint
	$(BIN)/python -m pytest -n 2 -m "not slow"

slow: dev
	$(BIN)/python -m pytest -n 2 -m slow

docs: venv
	$(PIP) install --quiet -c constraints.txt -e ".[docs]"
	$(BIN)/python -m sphinx -W -b html docs docs/_build/html

clean:
	rm -rf $(VENV) docs/_build .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find usim tests docs benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
	for name in cyst training; do \
		rm -f demo/$$name.png demo/$$name/manifest.json demo/$$name/run.json demo/$$name/shard-*.h5; \
		rmdir demo/$$name 2>/dev/null || true; \
	done
	rmdir demo 2>/dev/null || true
