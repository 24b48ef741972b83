# What people run, over the cards of this machine. The first argument is where the programs are. Prints what a runner of tests would.
set -uo pipefail
programs=$1
work=$(mktemp -d)
server=
passed=0 failed=0
export AWS_ACCESS_KEY_ID=key AWS_SECRET_ACCESS_KEY=secret-of-the-key
export CROSSDOCK_ACCESS_KEY=key CROSSDOCK_SECRET_KEY=secret-of-the-key
address=10.9.0.1:9000

check() { # WHAT COMMAND…: what it prints is shown if it fails
    local what=$1
    shift
    if "$@" >"$work/said" 2>&1; then
        passed=$((passed + 1))
        echo "test programs::$what ... ok"
    else
        failed=$((failed + 1))
        echo "test programs::$what ... FAILED"
        cat "$work/said"
    fi
}

start() { # OPTIONS…: a server, once it is ready
    "$programs/s3-server" --data "$work/data" --listen "$address" --cores 2 --memory 64MiB --scrub-rate 0 "$@" >"$work/server" 2>&1 &
    server=$!
    for _ in $(seq 600); do
        grep -q ^ready "$work/server" && return 0
        kill -0 $server 2>/dev/null || break
        sleep 0.1
    done
    cat "$work/server"
    return 1
}

client() {
    "$programs/rdma-client" --server "$address" "$@"
}

# A card by its name, of two.
starts_with_a_card() { start --rdma rxe0 --metrics 127.0.0.1:9001; }

# Rows of the bench are of the card, as many bytes came as went, and it is drawn.
bench_over_the_card() {
    client --rdma --require bench s3://bucket/bench/ --sizes 64 --seconds 0.1 --plot "$work/plot.svg" >"$work/rows" || return 1
    cat "$work/rows"
    [ "$(awk '$3 == "PUT" || $3 == "GET" { print $3, $4 }' "$work/rows" | tr '\n' ';')" = "PUT rdma;PUT http;GET rdma;GET http;" ] &&
        grep -q '>rdma<' "$work/plot.svg"
}

# Nothing, one byte, and an object of several parts go both ways, by the card that is nearest to the server, without falling back.
files_go_both_ways() {
    for bytes in 0 1 20000001; do
        head -c $bytes /dev/urandom >"$work/source"
        client --rdma --require --memory 16 put "$work/source" "s3://bucket/key $bytes" >"$work/put" || return 1
        client --rdma=rxe0 --require --memory 16 get "s3://bucket/key $bytes" "$work/target" >"$work/got" || return 1
        cmp "$work/source" "$work/target" || return 1
        cat "$work/put" "$work/got"
        grep -q "^put $bytes bytes over RDMA" "$work/put" && grep -q "^got $bytes bytes over RDMA" "$work/got" || return 1
    done
    # The server says by which of its rails.
    grep -q "rxe0/1" "$work/put"
}

# How many sessions there are, none by now; and the rail, which both cores can use.
operators_see_it() {
    exec 3<>/dev/tcp/127.0.0.1/9001 || return 1
    printf 'GET /metrics HTTP/1.1\r\nHost: here\r\n\r\n' >&3
    tr -d '\r' <&3 | grep crossdock_remote >"$work/metrics"
    exec 3>&-
    cat "$work/metrics"
    grep -qx 'crossdock_remote_sessions{transport="rdma"} 0' "$work/metrics" &&
        grep -qx 'crossdock_remote_rail_usable{transport="rdma",rail="rxe0/1"} 2' "$work/metrics" &&
        grep -q 'crossdock_remote_connects_total{result="made"}' "$work/metrics"
}

# What is not there is an error that names it, of either program.
wrong_names_are_told() {
    client --rdma=nothing0 --require put "$work/source" s3://bucket/key >"$work/wrong" 2>&1 && return 1
    "$programs/s3-server" --data "$work/other" --listen 127.0.0.1:0 --cores 1 --rdma nothing0 >>"$work/wrong" 2>&1 && return 1
    cat "$work/wrong"
    [ "$(grep -c nothing0 "$work/wrong")" = 2 ]
}

# Both cards, each of which takes memory.
info_of_the_cards() {
    "$programs/crossdock" rdma-info --json >"$work/info" || return 1
    cat "$work/info"
    grep -q '"name": "rxe0"' "$work/info" && grep -q '"name": "rxe1"' "$work/info" &&
        [ "$(grep -c '"refused": null' "$work/info")" = 2 ] || return 1
    "$programs/crossdock" rdma-info >"$work/info" && cat "$work/info" && [ "$(grep -c ' takes ' "$work/info")" = 2 ]
}

ends_when_asked() {
    kill $server && wait $server
}

check starts_with_a_card starts_with_a_card
check bench_over_the_card bench_over_the_card
check files_go_both_ways files_go_both_ways
check operators_see_it operators_see_it
check wrong_names_are_told wrong_names_are_told
check info_of_the_cards info_of_the_cards
check ends_when_asked ends_when_asked
rm -rf "$work"
word=ok
[ $failed = 0 ] || word=FAILED
echo "test result: $word. $passed passed; $failed failed; 0 ignored"
[ $failed = 0 ]
