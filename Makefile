# Everything sets itself up: a .venv and a ComfyUI checkout (COMFYUI_PATH, or one from PyPI in .host/).
PYTHON ?= python3
BIN := .venv/bin
# glibc gives large blocks back to the system and asks for them anew at every step: kept, they save a
# quarter of the time of a small model. Elsewhere this says nothing to anyone.
export MALLOC_MMAP_THRESHOLD_ ?= 1073741824
export MALLOC_TRIM_THRESHOLD_ ?= 4294967296

# What Python has compiled is kept: each server and test process would do so anew, for seconds.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: test demo study bench gpu fuzz check graders matrix setup clean

setup:
	@$(PYTHON) tools/run.py setup

# A process more than there are cores, up to four, each with its own host and server
# (tests/conftest.py); a file's tests stay together.
# make test ARGS="-m 'not server' -k concept"; ARGS="-m nightly" for the dearest, which it leaves out otherwise.
test: setup
	@$(BIN)/pytest -q --tb=short --durations=10 --numprocesses auto --maxprocesses 4 --dist loadfile -m "not nightly" $(ARGS)

demo: setup
	@$(BIN)/python tools/run.py demo $(ARGS)

# some five hours of one core; goes on where it stopped. make study ARGS="--workers 4"
study: setup
	@$(BIN)/python tools/run.py study $(ARGS)

bench: setup
	@$(BIN)/python tools/run.py bench $(ARGS)

# what only a GPU shows, within 8 minutes; writes docs/gpu.md. Without a GPU it says what it would do
gpu: setup
	@$(BIN)/python tools/run.py gpu $(ARGS)

# damaged files, odd names and requests, races, full disks and kills for ten minutes, from a seed.
# make fuzz ARGS="--seed 7 --minutes 60"
fuzz: setup
	@$(BIN)/python tools/run.py fuzz $(ARGS)

check: setup
	@$(BIN)/python tools/run.py check $(ARGS)

# comfy-cli, comfy-import-guard, comfy-test and comfy-lint on the files that users get
graders: setup
	@$(BIN)/python tools/run.py graders $(ARGS)

# the host tests on the oldest ComfyUI that is supported, one between, and the pinned one.
# make matrix ARGS="0.18.2 -- tests/host"
matrix: setup
	@$(BIN)/python tools/run.py matrix $(ARGS)

clean:
	rm -rf .venv .host .demo .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
