#!/usr/bin/env bash
# Run a command beside a Slurm of its own: munge, slurmctld and two nodes of slurmd on this machine.
#
# usage: scripts/with_slurm.sh COMMAND [ARGUMENT ...]
#
# Needs root and Debian's slurm-wlm and munge (ACCOUNTING=1: slurmdbd and mariadb-server too, and sacct
# answers). Configuration, key, logs and state lie in a new folder, named to COMMAND as SLURM_CONF; a
# Slurm that the machine has is left alone. Jobs and daemons are ended after COMMAND, whose exit code
# is this one's.
#
# example:
#   scripts/with_slurm.sh sinfo
set -euo pipefail
case ${1:-} in '' | --help | -h) sed -n '2,/^[^#]/s/^#\( \|$\)//p' "$0"; exit ;; esac

PATH=$PATH:/usr/sbin:/sbin
fail() { echo "error: $*" >&2; exit 2; }
[ "$(id -u)" = 0 ] || fail "Slurm starts jobs as their users: run this as root"
needed=(munged slurmctld slurmd sbatch)
[ -z "${ACCOUNTING:-}" ] || needed+=(slurmdbd mariadbd mariadb-install-db)
for program in "${needed[@]}"; do
    command -v "$program" >/dev/null ||
        fail "$program is missing; on Debian: apt-get install slurm-wlm munge" \
            "${ACCOUNTING:+slurmdbd mariadb-server}"
done

folder=$(mktemp -d "${TMPDIR:-/tmp}/slurm.XXXXXX")
chmod 755 "$folder" # munge refuses a socket that others cannot reach
mkdir "$folder/state" "$folder/log"
daemons=()

stop() {
    local code=$? pid
    trap - EXIT INT TERM
    if [ -e "$folder/is-up" ]; then
        scancel --user root || true
        for _ in {1..50}; do
            [ -n "$(squeue --noheader 2>&1)" ] || break
            sleep 0.2
        done
    fi
    # The last started first: slurmd still tells slurmctld, slurmctld still asks munge.
    for pid in $(printf '%s\n' ${daemons[@]+"${daemons[@]}"} | tac); do
        kill "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    rm -rf "$folder"
    exit "$code"
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# start NAME COMMAND [ARGUMENT ...]: a daemon in the foreground of a background process
start() {
    local name=$1
    shift
    "$@" >"$folder/log/$name" 2>&1 </dev/null &
    daemons+=($!)
}

# until_it COMMAND ...: wait for it to succeed; the logs say why it does not
until_it() {
    local end=$((SECONDS + 60))
    while [ "$SECONDS" -lt "$end" ]; do
        if "$@" >/dev/null 2>&1; then return; fi
        sleep 0.2
    done
    tail -n 20 "$folder"/log/* >&2
    fail "$* did not succeed within a minute"
}

# Ports below those that the system gives to outgoing connections, free now.
free_ports() {
    local port found=0
    for port in $(shuf -i 17000-31000 -n 200); do
        if (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then continue; fi
        echo "$port"
        found=$((found + 1))
        [ "$found" -lt "$1" ] || return 0
    done
}
mapfile -t ports < <(free_ports 4)

head -c 1024 /dev/urandom >"$folder/munge.key"
chmod 400 "$folder/munge.key"
start munged munged --foreground --num-threads 2 --key-file "$folder/munge.key" \
    --socket "$folder/munge.socket" --pid-file "$folder/state/munged.pid" \
    --seed-file "$folder/state/munged.seed" --log-file "$folder/log/munged.log"
until_it test -S "$folder/munge.socket"

accounting=(AccountingStorageType=accounting_storage/none)
if [ -n "${ACCOUNTING:-}" ]; then
    export MYSQL_UNIX_PORT=$folder/database.socket # no network: this machine's root alone
    mariadb-install-db --no-defaults --user=root --datadir="$folder/database" \
        >"$folder/log/install-database" 2>&1
    start mariadbd mariadbd --no-defaults --user=root --datadir="$folder/database" --skip-networking \
        --skip-grant-tables --socket="$MYSQL_UNIX_PORT" --pid-file="$folder/state/mariadbd.pid"
    until_it test -S "$MYSQL_UNIX_PORT"
    cat >"$folder/slurmdbd.conf" <<END
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket
DbdHost=localhost
DbdPort=${ports[3]}
SlurmUser=root
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=slurm
PidFile=$folder/state/slurmdbd.pid
END
    chmod 600 "$folder/slurmdbd.conf"
    accounting=(
        AccountingStorageType=accounting_storage/slurmdbd
        AccountingStorageHost=localhost
        AccountingStoragePass="$folder/munge.socket" # where munge answers, in spite of its name
        AccountingStoragePort="${ports[3]}"
        JobAcctGatherType=jobacct_gather/linux
    )
fi

# The first node has this machine's name, which the second one finds it by. CPUs that it does not
# have do no harm: nothing is bound to any.
host=$(hostname -s)
cat >"$folder/slurm.conf" <<END
ClusterName=scl
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket
SlurmctldPort=${ports[0]}
SlurmctldPidFile=$folder/state/slurmctld.pid
SlurmdPidFile=$folder/state/slurmd.%n.pid
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/state/%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=5,bf_interval=5
KillWait=5
CompleteWait=0
ReturnToService=2
$(printf '%s\n' "${accounting[@]}")
NodeName=$host NodeAddr=127.0.0.1 Port=${ports[1]} CPUs=4 State=UNKNOWN
NodeName=$host-2 NodeAddr=127.0.0.1 Port=${ports[2]} CPUs=4 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
END
# Newer ones (Debian 13) want cgroups otherwise, which containers lack; older ones do not know it.
version=$(slurmctld -V | grep -oE '[0-9]+' | head -n 1)
[ "$version" -lt 23 ] || echo CgroupPlugin=disabled >"$folder/cgroup.conf"
export SLURM_CONF=$folder/slurm.conf SLURM_OF_ITS_OWN=1
if [ -n "${ACCOUNTING:-}" ]; then
    start slurmdbd slurmdbd -D
    until_it sacctmgr show cluster
    sacctmgr --immediate add cluster scl >"$folder/log/add-cluster"
fi
start slurmctld slurmctld -D -i
start slurmd slurmd -D -N "$host"
start slurmd-2 slurmd -D -N "$host-2"
both_are_idle() { [ "$(sinfo --noheader --Node --states idle | wc -l)" = 2 ]; }
until_it both_are_idle
touch "$folder/is-up"

"$@"
