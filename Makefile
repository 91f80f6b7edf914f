# `make demo` and `make test` bring what they need into .venv, and work offline from the second time on.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
# Tests start thousands of processes of ours: a third of their time was compiling what an environment forbade to keep.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo messages test test-slow test-gpu test-kills test-nodes mutants check install lint types imports format clean \
        bench-monitor bench-output bench-supervisor bench-checkpoint bench-trainer bench-fusion \
        bench-learning bench-history bench-relaunch bench bench-gpu soak release healthy-pauses healthy-warnings foreign fuzz \
        campaign

install: $(STAMP)

# uv where there is one, else one of our own in the environment, else pip alone. Bytecode, which pip makes by itself,
# costs half a minute once and spares every start of a trainer four seconds.
$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python >= 3.11 is needed, $(PYTHON) is older: make PYTHON=python3.12 …"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@set -e; \
	 uv=$$(command -v uv || true); \
	 if [ -z "$$uv" ]; then $(BIN)/python -m pip install --quiet --disable-pip-version-check uv && uv=$(BIN)/uv || true; fi; \
	 if [ -n "$$uv" ]; then "$$uv" pip install --quiet --compile-bytecode --python $(BIN)/python -e '.[dev]' || { echo "uv could not install, trying pip"; uv=; }; fi; \
	 if [ -z "$$uv" ]; then $(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'; fi
	@touch $@

demo: install
	@$(BIN)/python tools/demo.py

# Sentences from the code into the catalogues (*.po), and those compiled (*.mo); says what is not translated yet.
messages: install
	@$(BIN)/python -m tools.messages

# Most tests wait for processes, so three files are run at once, in the order of tests/conftest.py.
test: install
	@$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

# What takes longer than the suite may.
test-slow: install
	@$(BIN)/python -m pytest -m slow

# On a machine with an NVIDIA GPU; elsewhere each says why it is left out.
test-gpu: install
	@$(BIN)/python -m pytest -m gpu -s

# Beside supervisord, torchrun and NVRx, which are installed into throw-away environments.
bench-supervisor: install
	@$(BIN)/python -m tools.bench_supervisor

# What 5,000 incidents, and 50 runs, cost who looks.
bench-history: install
	@$(BIN)/python -m tools.bench_history

# From a kill of fred-train to its next step.
bench-relaunch: install
	@$(BIN)/python -m tools.bench_relaunch

# All of them but the learning, one after the other, into BENCHMARKS.md.
bench: install
	@$(BIN)/python -m tools.bench

# Ten thousand relaunches and ten million beats; a quarter of an hour or more. SOAK='--relaunches 1000' is shorter.
SOAK ?=
soak: install
	@$(BIN)/python -m tools.soak $(SOAK)

# A wheel and a source archive in dist/, tried in clean environments; RELEASE=--no-train spares the 5 GB of torch.
RELEASE ?=
release: install
	@$(BIN)/python -m tools.release $(RELEASE)

# On a machine with an NVIDIA GPU, at most eight minutes, into BENCHMARKS-gpu.md.
bench-gpu: install
	@$(BIN)/python -m tools.bench_gpu

# An hour of pauses that are no hangs, in a minute or two: nobody may be ended.
healthy-pauses: install
	@$(BIN)/python tools/healthy_pauses.py

# Hours in which all is well, with noise on every signal: nobody may be warned. HOURS=24 is a day.
HOURS ?= 8
healthy-warnings: install
	@HOURS=$(HOURS) $(BIN)/python -m pytest -q -m slow tests/policy/warnings/test_healthy.py

# Ultralytics, Hugging Face, Lightning, torchrun and nanoGPT, unedited, through every failure; installs them into a
# throw-away environment. FOREIGN='--env DIR' keeps it, '--only hf' is one program.
FOREIGN ?=
foreign: install
	@nice $(BIN)/python -m tools.foreign $(FOREIGN)

# Several machines on this one: a real Slurm of three nodes, through every row of the table in docs/several-machines.md.
test-nodes: install
	@$(BIN)/python -m pytest -m "slow or not slow" tests/nodes

# Killed 20 and 200 times at random moments: a run ends as if it had not been.
test-kills: install
	@$(BIN)/python -m pytest -m slow tests/trainer/checkpoint/test_kills.py

# How many small faults in the modules of tests/mutants.toml their tests notice; hours with SAMPLE=0, which takes all.
SAMPLE ?= 40
mutants: install
	@$(BIN)/python -m tools.mutants --sample $(SAMPLE)

# 21,000 garbled files for every reader of what others write.
FUZZ ?=
fuzz: install
	@nice $(BIN)/python -m tools.fuzz $(FUZZ)

# Random faults at random moments, each run judged from outside: N=1000 SEED=7 are other ones.
N ?= 200
SEED ?= 1
campaign: install
	@nice $(BIN)/python -m tools.campaign --n $(N) --seed $(SEED)

bench-checkpoint: install
	@$(BIN)/python -m tools.bench_checkpoint

# 300 MB of output in a minute: what reading the position from it costs.
bench-output: install
	@$(BIN)/python -m tools.bench_output

bench-monitor: install
	@$(BIN)/python -m tools.bench_monitor

bench-trainer: install
	@$(BIN)/python -m tools.bench_trainer

bench-fusion: install
	@$(BIN)/python tools/bench_fusion.py

# Beside YOLO11n, which is installed into a throw-away environment, and torchvision's FCOS: an hour and a half on one core.
bench-learning: install
	@$(BIN)/python -m tools.bench_learning

check: lint types imports

lint: install
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: install
	@$(BIN)/mypy

imports: install
	@$(BIN)/lint-imports

format: install
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
