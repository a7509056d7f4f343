# make setup      .venv from pinned versions; links Detectron2 where there is one
# make demo       phantoms -> training -> submission -> score, on two cores, no data needed
# make test       the tests; test-fast leaves the slow ones out, test-exhaustive runs variations of these
# make lint       ruff, types, that folders import only from those below, and the house rules
# make bench      each step against what people would use instead, as ratios in benchmarks/RESULTS.md
# make docs       the documents as a site in outputs/site, without network
# make ablations  what EMA, NMS, TTA and normal images do to the score on phantoms; 25 minutes
#
# DETECTRON2=/path/to/checkout-or-wheel   which Detectron2 to use; "none" to go without
# ENGINE=detectron2|torchvision           which engine the demo trains with (default: auto)
# PYTHON=python3.12                       any of 3.10 to 3.13
# WORKERS=4                               how many tests run at a time (default: 2)

PYTHON ?= $(shell command -v python3.11 || command -v python3)
DETECTRON2 ?=
ENGINE ?= auto
WORKERS ?= 2
BIN := .venv/bin
READY := .venv/.ready

.PHONY: setup demo test test-fast test-exhaustive lint docs bench ablations clean

setup: $(READY)
	@$(BIN)/python tools/link_detectron2.py "$(DETECTRON2)"

$(READY): setup.py constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 10) <= v <= (3, 13) else \
	  "Python %d.%d: expected 3.10 to 3.13; try make setup PYTHON=python3.11" % v)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q --upgrade pip
	$(BIN)/python -m pip install -q $$($(BIN)/python -c \
	  'import sys; print("-c constraints.txt" if sys.version_info >= (3, 11) else "")') \
	  -e '.[dev,detectron2]'
	@touch $(READY)

demo: setup
	$(BIN)/vindr-det demo --out outputs/demo --engine $(ENGINE)

test: setup
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

test-fast: setup
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not slow"

test-exhaustive: setup
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m exhaustive

lint: setup
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q tests/test_house.py

docs: setup
	$(BIN)/mkdocs build --strict

ablations: setup
	$(BIN)/python benchmarks/ablations.py --out outputs/ablations

bench: setup
	$(BIN)/python benchmarks/bench.py

clean:
	rm -rf outputs .pytest_cache .ruff_cache .mypy_cache
