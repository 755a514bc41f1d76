#!/bin/sh
# Pin every dependency anew: install the newest versions that pyproject.toml allows into a clean environment, and write them to constraints.txt.
set -eu
cd "$(dirname "$0")/.."
. scripts/lib.sh

python=$(require_python)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
say "Making a clean environment"
"$python" -m venv "$work/venv"
say "Installing the newest versions that pyproject.toml allows"
quietly "$work/install.log" "$work/venv/bin/python" -m pip install --disable-pip-version-check --no-input --progress-bar off -e '.[dev]'
"$work/venv/bin/python" -m pip check --disable-pip-version-check
{
    echo '# Every package that a working environment holds, pinned. Written by `make constraints`; edit pyproject.toml instead.'
    "$work/venv/bin/python" -m pip freeze --exclude-editable --exclude pip --exclude setuptools 2>/dev/null | grep -E '^[A-Za-z0-9._-]+==[^ ]+$' | LC_ALL=C sort -f
} >"$work/constraints.txt"
cp "$work/constraints.txt" constraints.txt
say "constraints.txt pins $(grep -c '==' constraints.txt) packages"
