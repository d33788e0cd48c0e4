# Runs one machine: run_machine.sh BASE NAME DISK FILES, as root, in a mount namespace and a network
# namespace of its own; the latter is the client host. The directory DISK is /disk in the machine. The
# directory FILES keeps what the machine writes; without it, that is in memory.
# The tests hold the other end of the standard input. It closes when they are done or dead, and then
# the machine is killed.
set -eu
umask 022
base=$1 name=$2 disk=$3 files=${4:-/run}
group=/sys/fs/cgroup/$name

# Hides the host's /run: nspawn would find the host's systemd there.
mount -t tmpfs -o mode=755 tmpfs /run
# FILES outlives the machine, but not this host: nothing waits for its disk. The kernel refuses to use
# the working directory of a volatile mount again.
rm -rf "$files/work"
mkdir -p "$files/upper" "$files/work" /run/root
mount -t overlay -o "lowerdir=$base,upperdir=$files/upper,workdir=$files/work${4:+,volatile}" \
    overlay /run/root
mount -t cgroup2 cgroup2 /sys/fs/cgroup
ip link set lo up

mkdir "$group"
exec 3<&0
{
    read -r _ <&3 || :
    : >/run/over # before the kill: a process that joins the group after it sees this file
    echo 1 >"$group/cgroup.kill"
} &

# If only nspawn dies, the container runs on. If PID 1 of a PID namespace dies, the kernel kills all
# processes in it, and unshare returns only after that. Without CAP_BPF, CAP_PERFMON and the system
# call bpf, the container's systemd ignores IPAddressDeny= and reports nothing.
status=0
unshare --pid --fork --mount-proc \
    sh -c 'echo 0 >"$0/cgroup.procs"; [ ! -e /run/over ] && exec "$@"' "$group" \
    systemd-nspawn --quiet --directory=/run/root --boot --register=no --keep-unit \
        --machine="$name" --console=read-only \
        --link-journal=no --resolv-conf=off --timezone=off \
        --private-network --capability=CAP_BPF,CAP_PERFMON --system-call-filter=bpf \
        ${disk:+"--bind=$disk:/disk"} \
    </dev/null || status=$?

kill $! 2>/dev/null || :
find "$group" -depth -type d -exec rmdir {} +
exit "$status"
