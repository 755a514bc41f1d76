# Needs Python 3.11, git and make; everything else is installed into .venv by the first target that you ask for.
# No target names an absolute path and .venv/bin/python is always run as a module, so a folder with a space in its name works.

.DEFAULT_GOAL := help
.PHONY: help setup demo test check constraints clean

# An environment that belongs to another project must not leak into ours.
unexport PYTHONHOME
unexport PYTHONPATH
unexport VIRTUAL_ENV

help:
	@echo 'make demo         play the story of a deal through a local Salesforce, a local Stripe and Dagster'
	@echo 'make test         run the whole test suite'
	@echo 'make check        lint, format, import contracts, types, Dagster definitions'
	@echo 'make setup        only the environment (.venv); the targets above do it themselves'
	@echo 'make constraints  pin every dependency anew from a clean environment'
	@echo 'make clean        remove the environment and what runs left behind'

setup:
	@sh scripts/setup.sh

demo: setup
	@.venv/bin/python -m sync_pipeline.cli demo

test: setup
	@echo 'Running the whole test suite; the slowest tests start servers, a browser and Dagster itself'
	@.venv/bin/python -m pytest -n auto --maxprocesses 4 --dist worksteal

check: setup
	@sh scripts/check.sh

constraints:
	@sh scripts/update_constraints.sh

clean:
	rm -rf .venv .sync build sync_pipeline.egg-info .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
