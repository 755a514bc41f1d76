#!/bin/sh
# Bring .venv up to date with pyproject.toml and constraints.txt. Does nothing, at once, where it already is.
# A stamp in .venv holds what it was built from: both files and the folder, because an editable install knows its own address.
set -eu
cd "$(dirname "$0")/.."
. scripts/lib.sh

wanted="$(cat pyproject.toml constraints.txt | cksum) $(pwd)"
stamp=.venv/.built-from
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ] && .venv/bin/python -c '' 2>/dev/null; then
    exit 0
fi

python=$(require_python)
say "Setting up .venv with $python ($("$python" -c 'import platform; print(platform.python_version())')). The first time takes one to three minutes, most of it downloads."
if ! .venv/bin/python -c 'import sys, pip; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then
    "$python" -m venv --clear .venv || fail "Python's venv module does not work. On Debian and Ubuntu: apt install python3.11-venv"
fi
rm -f "$stamp"
say "Installing $(grep -c '==' constraints.txt) packages at the versions pinned in constraints.txt"
quietly .venv/install.log .venv/bin/python -m pip install --disable-pip-version-check --no-input \
    --progress-bar off -c constraints.txt -e '.[dev]' || fail "pip could not install the dependencies; its whole output is in .venv/install.log"
printf '%s' "$wanted" >"$stamp"
say "Environment ready"
