# Runs a fresh machine: fresh.sh BASE, as root in namespaces of its own. It is a plain chroot, with
# no network but its own loopback, and nothing that is written in it stays. It ends with its standard
# input.
set -eu
mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/upper /run/work /run/root
mount -t overlay -o "lowerdir=$1,upperdir=/run/upper,workdir=/run/work" overlay /run/root
mount -t proc proc /run/root/proc
mount --rbind /dev /run/root/dev
ip link set lo up
exec chroot /run/root sh -c 'echo ready; exec cat'
