#!/bin/sh
# Build .venv with the given interpreter; one that another Python version built is emptied first.
set -e
clear=
if [ -e .venv ] && [ "$(.venv/bin/python -V 2>/dev/null)" != "$("$1" -V)" ]; then
    clear=--clear
fi
exec "$1" -m venv $clear .venv
