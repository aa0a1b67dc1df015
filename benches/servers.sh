#!/bin/sh
# Runs a command beside a durable PostgreSQL and a durable MariaDB, which it starts and stops.
#
#     benches/servers.sh COMMAND [ARGUMENT...]
#
# They listen on ports of loopback that were free, their files are in a temporary folder (TMPDIR: have it on the disk
# that is to be measured), and each has an empty database `bench`. The command finds WB_PG_URL, WB_PG_PID, WB_MY_URL and
# WB_MY_PID in its environment, which are also printed, and `pgbench` and `psql` find the PostgreSQL by PGHOST, PGPORT
# and PGUSER. `fresh` is a command there that empties both databases: `sh -c 'fresh && cargo bench ...'`.
#
# Needs what tests/run installs (Debian: postgresql, mariadb-server), as root or as any user.
set -eu
[ $# -gt 0 ] || { sed -n '2,11s/^# \{0,1\}//p' "$0" >&2; exit 2; }

folder=$(mktemp -d)
chmod 755 "$folder"
WB_PG_PID='' WB_MY_PID=''
cleanup() {
    [ -z "$WB_PG_PID" ] || kill -INT "$WB_PG_PID" 2>/dev/null || true
    [ -z "$WB_MY_PID" ] || kill -TERM "$WB_MY_PID" 2>/dev/null || true
    wait
    rm -rf "$folder"
}
trap cleanup EXIT
trap 'exit 130' INT TERM HUP

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
# Database servers refuse root.
as() {
    user=$1
    shift
    if [ "$(id -u)" = 0 ]; then exec setpriv --reuid="$user" --regid="$user" --clear-groups "$@"; else exec "$@"; fi
}
until_ready() {
    for _ in $(seq 600); do
        grep -q "$2" "$1" && return
        sleep 0.1
    done
    tail -n 40 "$1" >&2
    exit 1
}

PATH=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1):$PATH:/usr/sbin:$folder/bin
mkdir "$folder/pg" "$folder/my" "$folder/bin"
if [ "$(id -u)" = 0 ]; then chown postgres "$folder/pg"; chown mysql "$folder/my"; fi

PGHOST=127.0.0.1 PGPORT=$(free_port) PGUSER=watchbell
(as postgres initdb -D "$folder/pg/data" -U watchbell -A trust -E UTF8 --locale=C.UTF-8 >/dev/null)
(
    as postgres postgres -D "$folder/pg/data" -c listen_addresses=127.0.0.1 -c port="$PGPORT" \
        -c unix_socket_directories="$folder/pg" -c fsync=on -c synchronous_commit=on -c full_page_writes=on \
        -c shared_buffers=1GB -c max_wal_size=8GB -c max_connections=200
) >"$folder/pg.log" 2>&1 &
WB_PG_PID=$!
until_ready "$folder/pg.log" 'ready to accept connections'

port=$(free_port)
(as mysql mariadb-install-db --no-defaults --datadir="$folder/my/data" --auth-root-authentication-method=normal \
    --skip-test-db >/dev/null)
printf "%s;\n" "CREATE USER watchbell@'%' IDENTIFIED BY 'bench'" "GRANT ALL ON *.* TO watchbell@'%'" >"$folder/my/init.sql"
(
    as mysql mariadbd --no-defaults --datadir="$folder/my/data" --bind-address=127.0.0.1 --port="$port" \
        --socket="$folder/my/socket" --pid-file="$folder/my/pid" --init-file="$folder/my/init.sql" \
        --innodb-flush-log-at-trx-commit=1 --innodb-buffer-pool-size=1G --innodb-log-file-size=2G --skip-log-bin \
        --max-connections=200
) >"$folder/my.log" 2>&1 &
WB_MY_PID=$!
until_ready "$folder/my.log" 'ready for connections'

cat >"$folder/bin/fresh" <<FRESH
#!/bin/sh
set -eu
psql -qX -d postgres -c 'DROP DATABASE IF EXISTS bench' -c 'CREATE DATABASE bench' -c CHECKPOINT 2>/dev/null
mariadb --no-defaults -h127.0.0.1 -P$port -uwatchbell -pbench \
    -e 'DROP DATABASE IF EXISTS bench; CREATE DATABASE bench CHARACTER SET utf8mb4'
FRESH
chmod +x "$folder/bin/fresh"

WB_PG_URL=postgres://watchbell@127.0.0.1:$PGPORT/bench
WB_MY_URL=mysql://watchbell:bench@127.0.0.1:$port/bench
export PATH PGHOST PGPORT PGUSER WB_PG_URL WB_PG_PID WB_MY_URL WB_MY_PID
fresh
echo "WB_PG_URL=$WB_PG_URL WB_PG_PID=$WB_PG_PID WB_MY_URL=$WB_MY_URL WB_MY_PID=$WB_MY_PID" >&2
"$@"
