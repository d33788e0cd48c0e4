# Runs a fresh machine: fresh.sh BASE, as root in new namespaces. The machine is a plain chroot whose
# only network is its loopback. All written files vanish at its end. It ends when its standard input
# closes.
set -eu
mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/upper /run/work /run/root
mount -t overlay -o "lowerdir=$1,upperdir=/run/upper,workdir=/run/work" overlay /run/root
mount -t proc proc /run/root/proc
mount --rbind /dev /run/root/dev
ip link set lo up
exec chroot /run/root sh -c 'echo ready; exec cat'
