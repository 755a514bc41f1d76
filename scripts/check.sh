#!/bin/sh
# Everything that can be judged without running the product. Runs all of it and reports each, so that one failure hides no other.
set -u
cd "$(dirname "$0")/.."
. scripts/lib.sh

export DAGSTER_DISABLE_TELEMETRY=yes
python=.venv/bin/python
failed=
check() {
    name=$1
    shift
    say "$name"
    "$@" || failed="$failed
  $name"
}

check "Lint (ruff)" "$python" -m ruff check .
check "Format (ruff)" "$python" -m ruff format --check .
check "Import contracts (import-linter)" "$python" -c 'from importlinter.cli import lint_imports_command; lint_imports_command()'
check "Types (mypy)" "$python" -m mypy
check "Definitions load without a warning of our making" "$python" scripts/check_definitions_load.py
check "Dagster validates the definitions" "$python" -W 'ignore:Function `definitions_validate_command`' -m dagster definitions validate -w workspace.yaml

if [ -n "$failed" ]; then
    say "Failed:$failed"
    exit 1
fi
say "All checks passed"
