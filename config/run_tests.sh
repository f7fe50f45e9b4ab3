#!/bin/sh
# Run the short forms: trees of processes in front; beside them what depends on no bound of time,
# both with "$@". A tree mostly waits, so the two fit on two cores and take 15 minutes at most.
python=.venv/bin/python
log=build/beside.log
beside="tests/test_layers.py tests/test_tidy.py tests/test_ledger_command.py
    tests/test_order_truth.py tests/test_examples.py tests/test_order_cli.py
    tests/test_ledger_tree.py tests/system/test_agreement.py tests/test_front_door.py
    tests/test_feeds.py"
ignored=$(printf -- '--ignore=%s ' $beside)
mkdir -p build
nice -n 10 "$python" -m pytest -m "not soak" -p no:cacheprovider "$@" \
    tests/unit tests/backends $beside >"$log" 2>&1 &
other=$!
trap 'kill -INT "$other" 2>/dev/null; wait "$other"; exit 130' INT TERM
"$python" -m pytest -m "not soak" --durations=12 --ignore=tests/unit --ignore=tests/backends \
    $ignored "$@"
front=$?
wait "$other"
code=$?
cat "$log"
# 5: "$@" chose no test of this half.
[ "$code" = 5 ] && [ "$front" != 5 ] && code=0
[ "$front" = 5 ] && [ "$code" != 5 ] && front=0
[ "$front" = 0 ] || exit "$front"
exit "$code"
