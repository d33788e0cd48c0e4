"""The kernel of a virtual machine, and its first root file system, which mounts the disk."""

import lzma
import subprocess
from dataclasses import dataclass
from pathlib import Path

# In the order in which they can be loaded. Debian 13 has most of them in the kernel itself.
_MODULES = (
    *("virtio_ring", "virtio", "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci"),
    *("virtio_blk", "failover", "net_failover", "virtio_net"),
)
_BUSYBOX = Path("/bin/busybox")

# 10.0.2.15 is the address to which QEMU's user network forwards connections.
_INIT = """\
#!/bin/busybox sh
alias busybox=/bin/busybox
busybox mkdir -p /proc /dev /root
busybox mount -t devtmpfs devtmpfs /dev
for module in /modules/*; do busybox insmod $module; done
busybox ip address add 10.0.2.15/24 dev eth0
busybox ip link set lo up
busybox ip link set eth0 up
busybox mount -t ext4 /dev/vda /root
busybox mount --move /dev /root/dev
exec busybox switch_root /root /sbin/init
"""


@dataclass(frozen=True)
class Kernel:
    """The files with which QEMU boots a machine."""

    image: Path
    initramfs: Path


def make_kernel(root: Path, directory: Path) -> Kernel:
    """Return the kernel of an unpacked package, with an initramfs in the directory."""
    (image,) = root.glob("boot/vmlinuz-*")
    tree = directory / "initramfs"
    (tree / "bin").mkdir(parents=True)
    (tree / "modules").mkdir()
    (tree / "bin" / "busybox").write_bytes(_BUSYBOX.read_bytes())
    (tree / "init").write_text(_INIT)
    for program in ("bin/busybox", "init"):
        (tree / program).chmod(0o755)
    for number, module in enumerate(_MODULES):
        for packed in root.rglob(f"{module}.ko*"):
            (tree / "modules" / f"{number}-{module}.ko").write_bytes(_unpacked(packed))
    return Kernel(image, _pack(tree))


def _unpacked(module: Path) -> bytes:
    data = module.read_bytes()
    return lzma.decompress(data) if module.suffix == ".xz" else data


def _pack(tree: Path) -> Path:
    """Pack the files of a directory in the format that the kernel reads."""
    names = "\n".join(sorted(str(path.relative_to(tree)) for path in tree.rglob("*")))
    command = (str(_BUSYBOX), "cpio", "-o", "-H", "newc")
    done = subprocess.run(command, cwd=tree, input=names.encode(), capture_output=True, check=True)
    archive = tree.with_suffix(".cpio")
    archive.write_bytes(done.stdout)
    return archive
