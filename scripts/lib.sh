# What the shell scripts share: finding Python 3.11, and running a long command with signs of life. Sourced, never run.

started=$(date +%s)

# say TEXT: one progress line with the seconds since the script started.
say() {
    printf '[%4ds] %s\n' "$(($(date +%s) - started))" "$*"
}

fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# find_python: print the path of a working Python 3.11, or nothing. A pyenv shim may exist and yet refuse, so each candidate is run.
find_python() {
    for candidate in "${PYTHON:-}" python3.11 python3 python \
        "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.11*/bin/python3.11 \
        /opt/homebrew/bin/python3.11 /usr/local/bin/python3.11; do
        [ -n "$candidate" ] || continue
        "$candidate" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' >/dev/null 2>&1 || continue
        "$candidate" -c 'import sys; print(getattr(sys, "_base_executable", None) or sys.executable)'
        return 0
    done
    return 1
}

require_python() {
    find_python || fail "no Python 3.11 found (looked for python3.11, python3, python and pyenv's versions)." \
        "Install it (apt install python3.11 python3.11-venv, brew install python@3.11, or pyenv install 3.11)" \
        "or name it: make ... PYTHON=/path/to/python3.11"
}

# quietly LOG COMMAND...: run COMMAND with its output in LOG, and every 5 s say what it is doing. Its output is shown if it fails.
quietly() {
    log=$1
    shift
    "$@" >"$log" 2>&1 &
    job=$!
    trap 'kill "$job" 2>/dev/null; exit 130' INT TERM
    seconds=0
    while kill -0 "$job" 2>/dev/null; do
        sleep 1
        seconds=$((seconds + 1))
        [ $((seconds % 5)) -eq 0 ] || continue
        doing=$(grep -E '^ *(Collecting|Downloading|Using cached|Preparing|Building|Installing)' "$log" | tail -n 1 |
            sed -e 's/^ *//' -e 's/^Installing collected packages.*/unpacking/' | cut -c 1-90)
        say "  still busy: ${doing:-starting}"
    done
    status=0
    wait "$job" || status=$?
    trap - INT TERM
    if [ "$status" -ne 0 ]; then
        grep -v '^WARNING: Location' "$log" | tail -n 30 >&2
    fi
    return "$status"
}
