#!/bin/sh
# Run the short forms in three lanes, each with "$@". In front: trees of processes with bounds of
# time. Behind them, at a lower priority: trees that mostly wait; and what needs no tree. A tree
# waits more than it works, so the three fit on two cores and take 15 minutes at most.
python=.venv/bin/python
trees="tests/test_order_truth.py tests/test_ledger_command.py tests/test_ledger_tree.py
    tests/test_examples.py tests/test_order_cli.py tests/test_feeds.py
    tests/system/test_agreement.py tests/system/test_chaos.py tests/system/test_consumers.py
    tests/test_chart.py tests/test_chart_orders.py tests/test_chart_trading.py"
plain="tests/backends tests/test_layers.py tests/test_tidy.py"
for path in tests/unit/*; do
    case "$path" in
        */service) ;; # its bounds of time are those of processes
        */__pycache__) ;;
        *) plain="$plain $path" ;;
    esac
done
mkdir -p build

# As root a browser raises its own priority, from behind the others to before them all.
keep="setpriv --bounding-set=-sys_nice"
$keep true 2>/dev/null || keep=

# lane NICE NAME FILES...: a lane behind the first one; its output goes to build/NAME.log.
lane() {
    priority=$1 log="build/$2.log"
    shift 2
    exec $keep nice -n "$priority" "$python" -m pytest -m "not soak" -p no:cacheprovider "$@" \
        >"$log" 2>&1
}

lane 10 trees "$@" $trees &
trees_pid=$!
lane 15 plain "$@" $plain &
plain_pid=$!
trap 'kill -INT "$trees_pid" "$plain_pid" 2>/dev/null; wait; exit 130' INT TERM
$keep "$python" -m pytest -m "not soak" --durations=12 $(printf -- '--ignore=%s ' $trees $plain) "$@"
front=$?
wait "$trees_pid"
trees_code=$?
wait "$plain_pid"
plain_code=$?
cat build/trees.log build/plain.log
# 5: "$@" chose no test of a lane; that is well as long as it chose one of another.
result=5
for code in "$front" "$trees_code" "$plain_code"; do
    [ "$code" = 5 ] && continue
    [ "$result" = 5 ] && result=0
    [ "$code" = 0 ] || result=$code
done
exit "$result"
