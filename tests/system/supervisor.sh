# Runs one machine: supervisor.sh BASE NAME, as root, in a mount and a network namespace of its own;
# the latter is the client host's. Standard input is the lifeline: the tests hold its other end, and
# when that closes, because they are done or dead, the machine goes.
set -eu
umask 022
base=$1 name=$2
group=/sys/fs/cgroup/$name

# nspawn would meet the host's systemd, where there is one, under /run.
mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/upper /run/work /run/root
mount -t overlay -o "lowerdir=$base,upperdir=/run/upper,workdir=/run/work" overlay /run/root
mount -t cgroup2 cgroup2 /sys/fs/cgroup
ip link set lo up

mkdir "$group"
exec 3<&0
{
    read -r _ <&3 || :
    : >/run/over # first: nspawn may be about to join the group, and then finds this
    echo 1 >"$group/cgroup.kill"
} &

# nspawn's death alone leaves the container running. The death of a PID namespace's PID 1 ends all
# that is in it, and unshare returns only after that. Without CAP_BPF, CAP_PERFMON and the system
# call, the container's systemd ignores IPAddressDeny= in silence.
status=0
unshare --pid --fork --mount-proc \
    sh -c 'echo 0 >"$0/cgroup.procs"; [ ! -e /run/over ] && exec "$@"' "$group" \
    systemd-nspawn --quiet --directory=/run/root --boot --register=no --keep-unit \
        --machine="$name" --console=read-only \
        --link-journal=no --resolv-conf=off --timezone=off \
        --private-network --capability=CAP_BPF,CAP_PERFMON --system-call-filter=bpf \
    </dev/null || status=$?

kill $! 2>/dev/null || :
find "$group" -depth -type d -exec rmdir {} +
exit "$status"
