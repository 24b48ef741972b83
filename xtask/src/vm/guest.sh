# What the machine does before the command that follows here: a network of its own, and a card made of software on it.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8
mount -t tmpfs run /run
mkdir -p /dev/shm
mount -t tmpfs shm /dev/shm
# Not over /tmp: the tree may be there.
mkdir /run/tmp
export TMPDIR=/run/tmp
ip link set lo up
ip link add card0 type veth peer name card1
ip address add 10.9.0.1/24 dev card0
# Packets of RDMA are then 4096 bytes.
ip link set card0 mtu 9000 up
ip link set card1 mtu 9000 up
rdma link add rxe0 type rxe netdev card0
# A second card, on a network of its own.
ip link add other0 type veth peer name other1
ip address add 10.8.0.1/24 dev other0
ip link set other0 mtu 1500 up
ip link set other1 mtu 1500 up
rdma link add rxe1 type rxe netdev other0
ulimit -l unlimited
export CROSSDOCK_TEST_INTERFACE=card0 CROSSDOCK_TEST_DISK=/dev/nvme0n1
