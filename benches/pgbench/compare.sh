#!/bin/sh
# What a server takes of runs in transactions of their own, written by hand, beside what it takes of ours, in batches:
# the same tables, the same server, the same durability.
#
#     benches/servers.sh benches/pgbench/compare.sh [SECONDS]
#
# Prints what `cargo bench --bench saturation` says, then a line for each number of pgbench's clients.
set -eu
seconds=${1:-20}
monitors=20000
here=$(dirname "$0")

fresh
cargo bench -q --bench saturation -- --database-url "$WB_PG_URL" --server-pid "$WB_PG_PID" --monitors $monitors --seconds "$seconds"
for clients in 1 8 16 32 64; do
    fresh
    # Tables and rows only.
    cargo bench -q --bench saturation -- --database-url "$WB_PG_URL" --monitors $monitors --seconds 0 >/dev/null 2>&1
    tps=$(pgbench -n -M prepared -c $clients -j 2 -T "$seconds" -f "$here/one_run.sql" -D monitors=$monitors bench 2>/dev/null |
        sed -n 's/^tps = \([0-9.]*\).*/\1/p')
    echo "{\"pgbench_clients\": $clients, \"transactions_per_second\": $tps}"
done
