# Every target that runs Python first brings .venv up to requirements.lock.

PYTHON := .venv/bin/python
# Processes that run the tests; each has one thread, and keeps to whole files of tests.
WORKERS ?= 2
STAMP := .venv/.installed
PEERS := .venv-peers
LOCKING := build/lock
LOSSES := bce batch_dice bce+batch_dice bce+batch_dice+focal
EXPERIMENT := Task00_Phantom
DEMO_EPOCHS := 5
DEMO := --config conf/task/phantom.yaml --config conf/robustness/quick.yaml \
	--trainer.max_epochs $(DEMO_EPOCHS) --robustness.splits [test] --saliency.splits [test] --test_after_fit true

# The first Python on the path that runs and is new enough; looked for only when .venv is made.
FIND_PYTHON := for candidate in python3.11 python3.12 python3.13 python3; do \
	$$candidate -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$candidate && break; done
NO_PYTHON := no Python with venv: found none of 3.11 or newer on the path, expected python3.11; \
	install it and run make again

.DEFAULT_GOAL := help
.PHONY: help install demo ui test test-slow test-real test-postgres browser test-browser lint types check bench bench-peers lock docker \
	stack clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-10s %s\n", $$1, $$2 }' Makefile

install: $(STAMP) ## Make .venv with everything that requirements.lock lists

$(STAMP): requirements.lock
	@python="$$($(FIND_PYTHON))"; test -n "$$python" || { echo "$(NO_PYTHON)" >&2; exit 2; }; \
	echo "Installing requirements.lock into .venv; the first time takes some minutes."; \
	$$python -m venv .venv
	@$(PYTHON) -m pip install -qq --disable-pip-version-check -r requirements.lock
	@touch $@

demo: $(STAMP) ## Train the paper's losses on a small made-up task, attack them and compare them
	@echo "Demo: 24 synthetic volumes, $(DEMO_EPOCHS) epochs, fewer points, 5 repeats; a few minutes on 2 cores."
	@echo "It shows what you will see, and says nothing about losses."
	$(PYTHON) main.py phantom --root data --cases 24 --seed 0 --force
	@set -e; for loss in $(LOSSES); do \
		echo "$(PYTHON) main.py fit $(DEMO) --model.loss $$loss"; \
		$(PYTHON) main.py fit $(DEMO) --model.loss $$loss; \
	done
	$(PYTHON) main.py compare --experiment $(EXPERIMENT)
	@echo "All runs in MLflow: $(PYTHON) main.py ui"

ui: $(STAMP) ## Open the store of runs in the browser
	$(PYTHON) main.py ui

test: $(STAMP) ## Run the tests; those on real volumes too where SEGSTRESS_DATA is set
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest -n $(WORKERS) --dist loadfile \
		$(if $(SEGSTRESS_DATA),-m "not slow and not browser and not postgres")

test-slow: $(STAMP) ## Run the tests that train for longer
	$(PYTHON) -m pytest -m "slow and not browser and not postgres"

test-real: $(STAMP) ## Run the tests on the real volumes in the folder SEGSTRESS_DATA
	$(PYTHON) -m pytest -m "real and not browser and not postgres" -rs

test-postgres: $(STAMP) ## Run the tests that start a PostgreSQL of their own
	$(PYTHON) -m pytest -m postgres -rs

browser: $(STAMP) ## Install chromium where there is none, for make test-browser
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null || apt-get install -y chromium
	@$(PYTHON) -c 'import playwright'

test-browser: $(STAMP) ## Run the tests that open the report and the dashboards in a browser
	$(PYTHON) -m pytest -m browser -rs

lint: $(STAMP) ## Check style and layout with ruff
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

types: $(STAMP) ## Check types with mypy
	$(PYTHON) -m mypy

check: lint types test ## Run lint, types and test

bench: $(STAMP) ## Measure what the tool costs, on a machine with nothing else to do
	@set -e; for one in losses engine forms repeats fit growth memory roofline; do \
		echo "$(PYTHON) -m benchmarks.$$one"; $(PYTHON) -m benchmarks.$$one; \
	done

# The peers' packages lie on top of .venv, so that both sides run on the same torch.
$(PEERS)/.installed: $(STAMP) benchmarks/peers/requirements.txt
	@echo "Installing benchmarks/peers/requirements.txt into $(PEERS)."
	@$(PYTHON) -m venv $(PEERS); echo '*' > $(PEERS)/.gitignore
	@folder='import sysconfig; print(sysconfig.get_path("purelib"))'; \
	$(PYTHON) -c "$$folder" > "$$($(PEERS)/bin/python -c "$$folder")/segstress.pth"
	@$(PEERS)/bin/python -m pip install -qq --disable-pip-version-check --no-deps \
		-r benchmarks/peers/requirements.txt
	@touch $@

bench-peers: $(PEERS)/.installed ## Measure it against others of its kind, or one (PEER=captum)
	$(PEERS)/bin/python -m benchmarks.peers$(if $(PEER),.$(PEER))

# Pins that are in the lock stay: delete a line (or the file) first to let it move. What belongs to
# one machine or one torch build is taken out, so that torch brings its own elsewhere.
lock: ## Make requirements.lock again from pyproject.toml
	@rm -rf $(LOCKING); mkdir -p $(LOCKING); touch requirements.lock
	@python="$$($(FIND_PYTHON))"; test -n "$$python" || { echo "$(NO_PYTHON)" >&2; exit 2; }; \
	$$python -m venv $(LOCKING)/venv
	$(LOCKING)/venv/bin/python -m pip install -qq -c requirements.lock '.[dev]'
	$(LOCKING)/venv/bin/python -m pip freeze --all --exclude pip --exclude wheel --exclude segstress \
		> $(LOCKING)/frozen
	@{ echo "# Made by 'make lock' from pyproject.toml."; \
		grep -vE '^(nvidia|cuda|triton)' $(LOCKING)/frozen | sed 's/+[a-z0-9.]*$$//'; } > $(LOCKING)/lock
	@mv $(LOCKING)/lock requirements.lock; rm -rf build segstress.egg-info

docker: ## Build the image that runs main.py without anything installed
	docker build --file docker/Dockerfile --tag segstress .

stack: $(STAMP) ## Run a team's PostgreSQL and MLflow server here without Docker (PORT=5001 for another port)
	@$(PYTHON) docker/stack.py $(if $(PORT),--port $(PORT))

clean: ## Remove caches and the stamp of .venv; runs under mlruns/ stay
	rm -rf .hypothesis .mypy_cache .pytest_cache .ruff_cache build lightning_logs $(STAMP)
	find . -name __pycache__ -type d -not -path './.venv*/*' -not -path './mlruns/*' -prune \
		-exec rm -rf {} +
