#!/bin/bash
# Starts an emulated Raspberry Pi 4: an sshd in ROOT (made by edgecnn/counting/arm64_root.sh) for the user pi.
#
#   bash start.sh ROOT STATE PORT      as root; it stays in the foreground, and ends when its sshd ends
#
# STATE gets a key, the known hosts and an ssh_config: ssh -F STATE/ssh_config pi4
set -euo pipefail
root=$(realpath "$1") state=$(realpath -m "$2") port=$3
mkdir -p "$state"
[ -f "$state/id_pi" ] || ssh-keygen -q -t ed25519 -N '' -f "$state/id_pi"
[ -f "$root/etc/ssh/ssh_host_ed25519_key" ] || ssh-keygen -q -t ed25519 -N '' -f "$root/etc/ssh/ssh_host_ed25519_key"
mkdir -p "$root/home/pi/.ssh"
cp "$state/id_pi.pub" "$root/home/pi/.ssh/authorized_keys"
chown -R 1000:1000 "$root/home/pi/.ssh"
chmod 700 "$root/home/pi/.ssh"
chmod 600 "$root/home/pi/.ssh/authorized_keys"
cat > "$root/etc/ssh/sshd_pi.conf" <<END
Port $port
ListenAddress 127.0.0.1
HostKey /etc/ssh/ssh_host_ed25519_key
PidFile /run/sshd.pid
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin no
UseDNS no
PrintMotd no
SetEnv QEMU_CPU=cortex-a72 PIP_CERT=/etc/ssl/certs/ca-certificates.crt
END
printf '[127.0.0.1]:%s %s\n' "$port" "$(cut -d' ' -f1,2 "$root/etc/ssh/ssh_host_ed25519_key.pub")" \
  > "$state/known_hosts"
cat > "$state/ssh_config" <<END
Host pi4
  HostName 127.0.0.1
  Port $port
  User pi
  IdentityFile $state/id_pi
  IdentitiesOnly yes
  IdentityAgent none
  UserKnownHostsFile $state/known_hosts
END
for i in 0 1 2 3; do
  printf 'processor\t: %d\nBogoMIPS\t: 108.00\nFeatures\t: fp asimd evtstrm crc32 cpuid\n' $i
  printf 'CPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: 0xd08\nCPU revision\t: 3\n\n'
done > "$state/cpuinfo"
export root state
exec unshare --mount --uts --pid --fork --kill-child --propagation private bash -c '
set -e
hostname raspberrypi
mount -t proc proc "$root/proc"
# The runtimes choose their kernels by what they read here: it must fit QEMU_CPU, or they crash.
mount --bind "$state/cpuinfo" "$root/proc/cpuinfo"
mount -t tmpfs -o mode=755,size=1m tmpfs "$root/sys"
cpu=$root/sys/devices/system/cpu
mkdir -p "$cpu" "$root/sys/class/thermal/thermal_zone0" "$root/sys/firmware/devicetree/base"
echo 0-3 > "$cpu/possible"
echo 0-3 > "$cpu/present"
for i in 0 1 2 3; do
  mkdir -p "$cpu/cpu$i/cpufreq"
  echo ondemand > "$cpu/cpu$i/cpufreq/scaling_governor"
  echo 1500000 > "$cpu/cpu$i/cpufreq/scaling_cur_freq"
  echo 1500000 > "$cpu/cpu$i/cpufreq/cpuinfo_max_freq"
done
echo 47236 > "$root/sys/class/thermal/thermal_zone0/temp"
printf "Raspberry Pi 4 Model B Rev 1.4\0" > "$root/sys/firmware/devicetree/base/model"
mount -t tmpfs -o mode=755,size=1m tmpfs "$root/dev"
while read -r name major minor; do mknod -m 666 "$root/dev/$name" c "$major" "$minor"; done <<END
null 1 3
zero 1 5
random 1 8
urandom 1 9
tty 5 0
END
mkdir -p "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
export QEMU_CPU=cortex-a72
exec chroot "$root" /usr/sbin/sshd -D -e -f /etc/ssh/sshd_pi.conf'
