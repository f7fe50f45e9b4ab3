#!/bin/sh
# Print the first Python 3.12 or 3.11 that runs and can build a virtual environment, or say in one
# line how to get one. A version manager's shim may stand first in PATH and fail: it is skipped.
works() {
    "$1" -c "import sys, ensurepip; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))" \
        >/dev/null 2>&1
}
runs() { "$1" -c "pass" >/dev/null 2>&1; }

if [ -n "$PYTHON" ]; then
    works "$PYTHON" && { command -v "$PYTHON"; exit 0; }
    echo "make: $PYTHON does not run, is not 3.11 or 3.12, or lacks ensurepip;" \
        "leave PYTHON out to have one found" >&2
    exit 1
fi

lacking=
for version in 3.12 3.11; do
    IFS=:
    for folder in $PATH; do
        candidate="$folder/python$version"
        [ -x "$candidate" ] || continue
        if works "$candidate"; then
            echo "$candidate"
            exit 0
        fi
        if [ -z "$lacking" ] && runs "$candidate"; then lacking="python$version"; fi
    done
    unset IFS
done

if command -v uv >/dev/null 2>&1; then
    for version in 3.12 3.11; do
        found="$(UV_PYTHON_DOWNLOADS=never uv python find --no-project "$version" 2>/dev/null)"
        if [ -n "$found" ] && works "$found"; then
            echo "$found"
            exit 0
        fi
    done
fi

root=
[ "$(id -u)" = 0 ] || root="sudo "
if [ -n "$lacking" ] && command -v apt-get >/dev/null 2>&1; then
    echo "make: $lacking cannot build a virtual environment (no ensurepip);" \
        "run: ${root}apt-get install -y $lacking-venv" >&2
elif command -v uv >/dev/null 2>&1; then
    echo "make: no Python 3.12 or 3.11 found; run: uv python install 3.12" >&2
elif command -v apt-get >/dev/null 2>&1; then
    offered="$(apt-cache pkgnames python3.1 2>/dev/null | grep -xE 'python3\.1[12]' | sort -r | head -n 1)"
    offered="${offered:-python3.12}"
    echo "make: no Python 3.12 or 3.11 found;" \
        "run: ${root}apt-get install -y $offered $offered-venv" >&2
elif command -v dnf >/dev/null 2>&1; then
    echo "make: no Python 3.12 or 3.11 found; run: ${root}dnf install -y python3.12" >&2
elif command -v brew >/dev/null 2>&1; then
    echo "make: no Python 3.12 or 3.11 found; run: brew install python@3.12" >&2
else
    echo "make: no Python 3.12 or 3.11 found;" \
        "install one of them with your system's package manager" >&2
fi
exit 1
