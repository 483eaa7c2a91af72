#!/bin/bash
# boot.sh BINARY UNIT: the host's own root as an overlay, its systemd as PID 1 of fresh namespaces; the unit runs there
set -eu
BIN=$(readlink -f "$1"); UNIT=$(readlink -f "$2"); W=$(mktemp -d /tmp/hepguard-boot.XXXXXX)
mkdir -p $W/t; mount -t tmpfs tmpfs $W/t; mkdir -p $W/t/u $W/t/w $W/m
mount -t overlay -o lowerdir=/,upperdir=$W/t/u,workdir=$W/t/w overlay $W/m
trap 'umount -l $W/m; umount -l $W/t; rm -rf $W' EXIT
rm -rf $W/m/run/* 2>/dev/null || true
install -m 755 $BIN $W/m/usr/bin/hepguard; install -m 644 $UNIT $W/m/etc/systemd/system/hepguard.service
mkdir -p $W/m/etc/systemd/system/basic.target.wants; ln -sf ../hepguard.service $W/m/etc/systemd/system/basic.target.wants/
for u in console-getty.service systemd-modules-load.service systemd-sysctl.service systemd-udevd.service systemd-udev-trigger.service; do ln -sf /dev/null $W/m/etc/systemd/system/$u; done
printf 'x' >/dev/null; touch $W/m/var/log/syslog; chgrp adm $W/m/var/log/syslog; chmod 640 $W/m/var/log/syslog
CG=hepguardtest.$$
for h in /sys/fs/cgroup/unified /sys/fs/cgroup; do
  [ -e $h/cgroup.procs ] && [ "$(stat -f -c %T $h)" = cgroup2fs ] && { mkdir -p $h/$CG; echo $$ > $h/$CG/cgroup.procs; break; }
done
unshare --fork --pid --mount --uts --ipc --net --cgroup --propagation private --kill-child=SIGKILL -- bash -euc 'R=$1; mount --bind $R $R; cd $R
  mount -t proc proc proc; mount -t sysfs -o ro,nosuid,nodev,noexec sysfs sys; mount -t cgroup2 cgroup2 sys/fs/cgroup
  mount -t tmpfs -o mode=755 tmpfs dev; mount -t tmpfs -o mode=755 tmpfs run; mount -t tmpfs -o mode=1777 tmpfs tmp
  mkdir dev/pts dev/shm; mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts dev/pts; ln -s pts/ptmx dev/ptmx
  mount -t tmpfs -o mode=1777 tmpfs dev/shm; touch dev/console
  for d in null zero full random urandom tty; do touch dev/$d; mount --bind /dev/$d dev/$d; done
  ln -s /proc/self/fd dev/fd; for i in 0:stdin 1:stdout 2:stderr; do ln -s /proc/self/fd/${i%:*} dev/${i#*:}; done
  ip link set lo up; hostname sdtest; mkdir -p mnt; pivot_root . mnt; umount -l /mnt; mount --make-rshared /
  exec env -i container=sdtest PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --system systemd.unit=basic.target' _ $W/m </dev/null >$W/t/console 2>&1 &
U=$!
P=; for i in $(seq 200); do P=$(pgrep -P $U -x systemd || true); [ -n "$P" ] && [ -S /proc/$P/root/run/systemd/private ] && break; sleep .1; done
[ -n "$P" ] || { cat $W/t/console >&2; exit 77; }
E="nsenter -t $P -a"
finish() { $E systemctl poweroff 2>/dev/null || true; for i in $(seq 50); do kill -0 $P 2>/dev/null || break; sleep .1; done; kill -9 $P 2>/dev/null || true; wait $U 2>/dev/null || true; }
trap 'finish; umount -l $W/m; umount -l $W/t; rm -rf $W; rmdir /sys/fs/cgroup/unified/$CG /sys/fs/cgroup/$CG 2>/dev/null || true' EXIT
for i in $(seq 100); do [ "$($E systemctl is-active hepguard 2>/dev/null)" = active ] && break; sleep .2; done
$E bash -c "${3:-systemctl status hepguard --no-pager; sleep 3; hepguard status; journalctl -u hepguard -o cat --no-pager | tail -30}"
