# make demo    fine-tune a small pre-trained encoder with CE and with CE+SCL, and compare
# make test    run the tests
# make help    the other targets
# Not ?=: these names are common in environments, and clean removes VENV.
VENV := .venv
PYTHON :=
DEMO :=
CONTEST :=
RECIPES :=
GPU_CHECK :=

RUN = "$(VENV)"/bin
# By file: what the tests of a file share is made once, not once on each core.
# One process more than cores: some wait for those that they have started.
PARALLEL := -n $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1) --dist loadfile
# Hypothesis's profile ci draws the same examples each time; make test-slow draws others.

.PHONY: help setup demo smoke test test-slow test-interpreters test-slurm lint format bench recipes contest gpu-check clean

help:
	@echo "make demo               CE and CE+SCL on 8 few-shot samples (4 minutes after set-up)"
	@echo "make demo GLUE_DIR=DIR  the same on SST-2 from DIR/SST-2; more options: make demo DEMO=--help"
	@echo "make smoke              every recipe and configuration of examples/, small, on a CPU"
	@echo "make test               tests (16 minutes on 2 cores); make test-slow: the long ones too"
	@echo "make test-interpreters  tests on each of Python 3.10 to 3.13 that is installed"
	@echo "make test-slurm         scl-sweep and the recipe for nodes on a Slurm started here (root, apt)"
	@echo "make lint | format      check | mend style"
	@echo "make bench              speed and memory against stock fairseq, recorded (2 hours)"
	@echo "make contest GLUE_DIR=DIR  beside SetFit and others, recorded (many hours; CONTEST=--help)"
	@echo "make recipes GLUE_DIR=DIR  the search that the recipes rest on, recorded (many hours)"
	@echo "make gpu-check          everything on a GPU, in 8 minutes (DRY=1: tiny, on a CPU; GPU_CHECK=--help)"
	@echo "make setup              only the environment in $(VENV); PYTHON=... and TORCH=... choose"
	@echo "make clean              remove what the targets made, the environment included"

setup:
	@scripts/setup_env.sh "$(VENV)" "$(PYTHON)"

demo: setup
	@$(RUN)/python -m scl_fairseq.cli.demo $(if $(GLUE_DIR),--glue-dir "$(GLUE_DIR)") $(DEMO)

smoke: setup
	@PATH="$$(cd "$(VENV)" && pwd)/bin:$$PATH" scripts/smoke.sh

test: setup
	$(RUN)/python -m pytest $(PARALLEL) -m "not slow" --hypothesis-profile=ci

test-slow: setup
	$(RUN)/python -m pytest $(PARALLEL)

test-interpreters:
	scripts/test_interpreters.sh

test-slurm:
	@scripts/test_slurm.sh "$(VENV)" "$(PYTHON)"

lint: setup
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .

format: setup
	$(RUN)/ruff check --fix .
	$(RUN)/ruff format .

bench: setup
	$(RUN)/python -m benchmarks.criterion --record
	$(RUN)/python -m benchmarks.contrast --record
	$(RUN)/python -m benchmarks.large_batch --record
	$(RUN)/python -m benchmarks.preprocess --record
	$(RUN)/python -m benchmarks.sweep --record
	$(RUN)/python -m benchmarks.embed --record
	$(RUN)/python -m benchmarks.packed --record
	$(RUN)/python -m benchmarks.packed_accuracy --record

recipes: setup
	@$(RUN)/python -m benchmarks.recipes $(if $(GLUE_DIR),--glue-dir "$(GLUE_DIR)") \
		$(if $(YELP_DIR),--yelp-dir "$(YELP_DIR)") $(or $(RECIPES),--record)

contest: setup
	@scripts/setup_setfit.sh .venv-setfit "$(VENV)"
	@$(RUN)/python -m benchmarks.contest $(if $(GLUE_DIR),--glue-dir "$(GLUE_DIR)") \
		$(if $(YELP_DIR),--yelp-dir "$(YELP_DIR)") $(or $(CONTEST),--record)

gpu-check: setup
	@$(RUN)/python -m benchmarks.gpu $(GPU_CHECK)

clean:
	if [ -e "$(VENV)/torch-choice" ]; then rm -rf "$(VENV)"; fi
	rm -rf .venvs .venv-setfit .gpu outputs build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
