# Everything runs in .venv, which the first target that needs it makes from the hash-pinned lock.
PYTHON ?= python3
DEMO_FLAGS ?=
READY = .venv/ready

.PHONY: demo test test-slow test-frameworks docs lock bench-peers
demo: $(READY)
	.venv/bin/byol pretrain builtin --out runs/demo --overwrite $(DEMO_FLAGS)

test: $(READY)
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/pytest -n 2 --dist loadgroup

# What takes its time: signals and kills in every way, many processes, coverage of intervals, large networks.
test-slow: $(READY)
	.venv/bin/pytest -n 2 --dist loadgroup -m slow

# The loop of somebody else: the same environment with Lightning and Accelerate beside, at the same versions otherwise.
test-frameworks: .venv/ready-frameworks
	.venv/bin/pytest -m frameworks

# The site, into site/; every page and every link is checked, and nothing is fetched.
docs: $(READY)
	NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --strict
	! grep -rlE '<(script|link|img|iframe)[^>]*(src|href)="?(https?:)?//' site --include='*.html'

$(READY): requirements/lock.txt pyproject.toml
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet --require-hashes -r requirements/lock.txt
	.venv/bin/pip install --quiet --no-deps --no-build-isolation -e .
	touch $(READY)

.venv/ready-frameworks: $(READY) requirements/frameworks.txt
	.venv/bin/pip install --quiet --require-hashes -r requirements/frameworks.txt
	touch .venv/ready-frameworks

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

# Needs uv. The locks name hashes and no address, and serve Python 3.11 to 3.13. What is locked already keeps its version;
# the second lock is the first and what the frameworks add, so that installing it changes nothing.
COMPILE = uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
  --no-emit-find-links --no-header --no-annotate -c requirements/pins.txt pyproject.toml --group dev
lock:
	$(COMPILE) -o requirements/lock.txt
	cp requirements/lock.txt requirements/frameworks.txt
	$(COMPILE) --group frameworks -o requirements/frameworks.txt
