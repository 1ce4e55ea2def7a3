# Everything runs in .venv, which the first target that needs it makes from the hash-pinned lock.
PYTHON ?= python3
DEMO_FLAGS ?=
READY = .venv/ready

.PHONY: demo test lock bench-peers
demo: $(READY)
	.venv/bin/byol pretrain builtin --out runs/demo --overwrite $(DEMO_FLAGS)

test: $(READY)
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/pytest

$(READY): requirements/lock.txt pyproject.toml
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet --require-hashes -r requirements/lock.txt
	.venv/bin/pip install --quiet --no-deps --no-build-isolation -e .
	touch $(READY)

# Rivals live in an environment of their own, so that byol never depends on them.
bench-peers: .venv-peers/ready
	.venv-peers/bin/python benchmarks/peers.py
	.venv-peers/bin/python benchmarks/views.py

.venv-peers/ready: requirements/lock.txt benchmarks/requirements-peers.txt pyproject.toml
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/pip install --quiet --require-hashes -r requirements/lock.txt
	.venv-peers/bin/pip install --quiet --no-deps --no-build-isolation -e .
	.venv-peers/bin/pip install --quiet -r benchmarks/requirements-peers.txt
	touch .venv-peers/ready

# Needs uv. The lock names hashes and no address, and serves Python 3.11 to 3.13.
lock:
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	  --no-annotate -c requirements/pins.txt pyproject.toml --group dev -o requirements/lock.txt
