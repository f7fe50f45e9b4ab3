#!/bin/sh
# Run the short forms: trees of processes in front, unit tests beside them, both with "$@".
# A tree mostly waits, so the two fit on two cores; one after the other takes half as long again.
python=.venv/bin/python
log=build/units.log
mkdir -p build
nice -n 10 "$python" -m pytest -m "not soak" -p no:cacheprovider "$@" \
    tests/unit tests/backends >"$log" 2>&1 &
units=$!
trap 'kill -INT "$units" 2>/dev/null; wait "$units"; exit 130' INT TERM
"$python" -m pytest -m "not soak" --durations=12 "$@" tests/system tests/test_*.py
trees=$?
wait "$units"
code=$?
cat "$log"
# 5: "$@" chose no test of this half.
[ "$code" = 5 ] && [ "$trees" != 5 ] && code=0
[ "$trees" = 5 ] && [ "$code" != 5 ] && trees=0
[ "$trees" = 0 ] || exit "$trees"
exit "$code"
