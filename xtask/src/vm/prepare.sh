#!/bin/bash
# Makes the kernel and the first file system of the virtual machine, once. Nothing of it is installed here.
# usage: prepare.sh DIRECTORY KERNEL-META-PACKAGE...     the first package that is to be had is taken
set -euo pipefail
directory=$1
shift
mkdir -p "$directory"
work=$(mktemp -d "$directory/making.XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work"

image=
for package in "$@"; do
    # Nothing at all where there is no such package.
    image=$( (apt-cache depends "$package" 2>/dev/null || true) | awk '/Depends: linux-image-[0-9]/ { print $2 }' | tail -1)
    [ -z "$image" ] || break
done
[ -n "$image" ] || { echo "no kernel package of: $*"; exit 1; }
apt-get download -qq "$image"
dpkg -x "$image"_*.deb kernel
release=$(basename kernel/lib/modules/*)
depmod -b kernel "$release"

mkdir -p root/{bin,modules,proc,sys,dev,newroot}
cp "$(command -v busybox)" root/bin/busybox
# In the order in which they are to be loaded. rxe adds no link without a CRC32 module.
number=100
for module in crc32_generic virtio_pci 9pnet_virtio 9p rdma_rxe rdma_ucm ib_uverbs overlay veth nvme ext4; do
    modprobe -d kernel -S "$release" --show-depends "$module"
done | awk '/^insmod/ && !seen[$2]++ { print $2 }' | while read -r file; do
    number=$((number + 1))
    name=root/modules/$number-$(basename "$file" .xz)
    case $file in
    *.xz) xz -dc "$file" >"$name" ;;
    *) cp "$file" "$name" ;;
    esac
done
cat >root/init <<'INIT'
#!/bin/busybox sh
# The host's files, read only, under a layer that is forgotten.
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
$b mount -t devtmpfs dev /dev
for module in /modules/*; do $b insmod "$module"; done
$b mkdir -p /host /layer
$b mount -t 9p -o trans=virtio,version=9p2000.L,ro,msize=512000,cache=loose host /host
$b mount -t tmpfs layer /layer
$b mkdir -p /layer/upper /layer/work
$b mount -t overlay -o lowerdir=/host,upperdir=/layer/upper,workdir=/layer/work root /newroot
for directory in proc sys dev; do $b mount --move /$directory /newroot/$directory; done
$b cp /guest /newroot/guest
exec $b switch_root /newroot /bin/bash /guest
INIT
chmod +x root/init
(cd root && find . | cpio --quiet -o -H newc) | zstd -q -o initramfs.zst
cp "kernel/boot/vmlinuz-$release" vmlinuz
echo "$release" >release
mv initramfs.zst release "$directory/"
# Last: whoever sees it sees all of it.
mv vmlinuz "$directory/"
