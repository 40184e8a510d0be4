# make demo   install into .venv, make images with their truths, train two denoisers on them and judge them, in demo/
# make test   install with the development tools and run the checks (ruff, mypy, the short form of every test)
# make slow   the long forms of the statistical and fault tests
# make report train the learned methods, tune the filters, and judge all of them on the evaluation, in docs/report/
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

.PHONY: help demo test slow report lint docs clean venv core dev
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
	@echo "installing usim and s2s (two or three minutes on the first run)"
	$(PIP) install -c constraints.txt -e ".[s2s]"
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt
	@echo "installing usim, s2s and the development tools (three or four minutes on the first run)"
	$(PIP) install -c constraints.txt -e ".[dev]"
	@touch $(VENV)/.core $@

# What the demo judges: the two that it trained, and every filter.
JUDGED := -m demo/speckle2self -m demo/noise2noise -m gaussian -m median -m lee -m kuan -m frost -m srad -m nlm -m obnlm

# Only files that an earlier demo made are removed; anything else that lies there stays.
define FORGET_DEMO
	for name in cyst training unseen; do \
		rm -f demo/$$name.png demo/$$name/manifest.json demo/$$name/run.json demo/$$name/shard-*.h5; \
		rmdir demo/$$name 2>/dev/null || true; \
	done; \
	for name in speckle2self noise2noise; do \
		rm -f demo/unseen.$$name.h5 demo/$$name/best.pt demo/$$name/last.pt demo/$$name/metrics.jsonl; \
		rmdir demo/$$name 2>/dev/null || true; \
	done; \
	rm -f demo/report.html demo/report.json
endef

demo: core
	@mkdir -p demo
	@$(FORGET_DEMO)
	@echo; echo "1 of 8: one image of cysts and wires (the first run compiles the kernels)"
	$(BIN)/usim generate phantoms/cyst.yaml -o demo/cyst
	$(BIN)/usim view demo/cyst -o demo/cyst.png
	@echo; echo "2 of 8: a training set, every frame drawn anew"
	$(BIN)/usim generate phantoms/training.yaml -o demo/training
	@echo; echo "3 of 8: four of its frames beside their truths"
	$(BIN)/usim view demo/training -o demo/training.png --frames 0,1,2,3
	@echo; echo "4 of 8: Speckle2Self learns from noisy images alone, simulated while it learns (three minutes)"
	$(BIN)/s2s train --sim phantoms/training.yaml --method speckle2self --minutes 3 -o demo/speckle2self
	@echo; echo "5 of 8: Noise2Noise learns from pairs of independent looks (three minutes)"
	$(BIN)/s2s train --sim phantoms/training.yaml --method noise2noise --batch 4 --minutes 3 -o demo/noise2noise
	@echo; echo "6 of 8: frames that neither has seen"
	$(BIN)/usim generate phantoms/training.yaml --seed 1000 --frames 8 -o demo/unseen
	@echo; echo "7 of 8: they are denoised"
	$(BIN)/s2s denoise demo/unseen -m demo/speckle2self -o demo/unseen.speckle2self.h5
	$(BIN)/s2s denoise demo/unseen -m demo/noise2noise -o demo/unseen.noise2noise.h5
	@echo; echo "8 of 8: both are judged against the truth, beside every filter"
	$(BIN)/s2s evaluate --data demo/unseen $(JUDGED) -o demo/report.html --json demo/report.json
	@echo; echo "made:"; ls demo/*.png demo/*.h5 demo/*.html demo/*/*.pt | sed 's/^/  /'
	@echo; echo "open demo/report.html; next, for example:"
	@echo "  $(BIN)/usim info demo/training"
	@echo "  $(BIN)/s2s methods"
	@echo "  $(BIN)/s2s denoise your_scan.png -m demo/noise2noise"

# What the committed report judges, beside the weights in the box; a training that is there is not repeated.
LEARNED := noise2noise noise2true

REPORTED := -m default -m speckle2self $(LEARNED:%=-m runs/%) -m docs/report/tuned.json

report: core
	@mkdir -p docs/report
	for name in $(LEARNED); do \
		[ -e runs/$$name/best.pt ] || $(BIN)/s2s train --sim --method $$name --steps 2000 -o runs/$$name || exit 1; \
	done
	$(BIN)/s2s tune --sim -o docs/report/tuned.json
	$(BIN)/s2s evaluate --sim $(REPORTED) -o docs/report/report.html

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
	find usim s2s tests docs benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
	$(FORGET_DEMO)
	rmdir demo 2>/dev/null || true
