# `make demo` and `make test` do all of their own set-up; the first run installs, later ones start at once.
BIN := .venv/bin
# Offscreen rendering by whatever .ci/setup found to work; one thread per process, because the work is spread over processes.
RUN = MUJOCO_GL=$${MUJOCO_GL:-$$(cat .venv/mujoco_gl)} OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} HF_HUB_OFFLINE=1
CHECKPOINT ?= checkpoints/tabletop
PYTEST_ARGS ?=

.PHONY: help demo test lint format setup
.DEFAULT_GOAL := help

help:
	@echo "make demo    the shipped policy follows instructions in MuJoCo through ROS 2 (under 5 minutes)"
	@echo "make test    lint, types and tests; PYTEST_ARGS=--long adds the long ones"
	@echo "make lint    ruff and pyright alone"
	@echo "make format  let ruff fix and format the code"
	@echo "make setup   make or update .venv alone"

setup:
	@.ci/setup

demo: setup
	@$(RUN) $(BIN)/vla ros-demo --checkpoint $(CHECKPOINT)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright

test: lint
	$(RUN) $(BIN)/python -m pytest $(PYTEST_ARGS)

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
