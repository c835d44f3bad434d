#!/bin/bash
# Starts an emulated Raspberry Pi: an sshd in ROOT (made by edgecnn/counting/arm_root.sh) for the user pi.
#
#   bash start.sh ROOT STATE PORT pi4|pi2      as root; it stays in the foreground, and ends when its sshd ends
#
# pi4 is a Raspberry Pi 4 with a 64-bit system (ROOT is arm64), pi2 a Raspberry Pi 2 with a 32-bit one (armhf).
# STATE gets a key, the known hosts and an ssh_config: ssh -F STATE/ssh_config pi4
set -euo pipefail
root=$(realpath "$1") state=$(realpath -m "$2") port=$3 board=$4
case $board in
  pi4) cpu=cortex-a72 khz=1500000 model='Raspberry Pi 4 Model B Rev 1.4' core='BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm crc32 cpuid
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: 0xd08
CPU revision\t: 3' ;;
  pi2) cpu=cortex-a7 khz=900000 model='Raspberry Pi 2 Model B Rev 1.1' core='model name\t: ARMv7 Processor rev 5 (v7l)
BogoMIPS\t: 38.40
Features\t: half thumb fastmult vfp edsp neon vfpv3 tls vfpv4 idiva idivt vfpd32 lpae evtstrm
CPU implementer\t: 0x41
CPU architecture: 7
CPU variant\t: 0x0
CPU part\t: 0xc07
CPU revision\t: 5' ;;
  *) echo "error: there is no board $board here" >&2; exit 2 ;;
esac
mkdir -p "$state"
[ -f "$state/id_pi" ] || ssh-keygen -q -t ed25519 -N '' -f "$state/id_pi"
[ -f "$root/etc/ssh/ssh_host_ed25519_key" ] || ssh-keygen -q -t ed25519 -N '' -f "$root/etc/ssh/ssh_host_ed25519_key"
mkdir -p "$root/home/pi/.ssh"
cp "$state/id_pi.pub" "$root/home/pi/.ssh/authorized_keys"
chown -R 1000:1000 "$root/home/pi/.ssh"
chmod 700 "$root/home/pi/.ssh"
chmod 600 "$root/home/pi/.ssh/authorized_keys"
# pip there reaches the package index as it does here.
cat /etc/hosts > "$root/etc/hosts"
cat /etc/resolv.conf > "$root/etc/resolv.conf"
bundle=${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}
[ ! -f "$bundle" ] || cat "$bundle" > "$root/etc/ssl/certs/ca-certificates.crt"
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
Subsystem sftp internal-sftp
SetEnv QEMU_CPU=$cpu PIP_CERT=/etc/ssl/certs/ca-certificates.crt
END
printf '[127.0.0.1]:%s %s\n' "$port" "$(cut -d' ' -f1,2 "$root/etc/ssh/ssh_host_ed25519_key.pub")" \
  > "$state/known_hosts"
cat > "$state/ssh_config" <<END
Host $board
  HostName 127.0.0.1
  Port $port
  User pi
  IdentityFile $state/id_pi
  IdentitiesOnly yes
  IdentityAgent none
  UserKnownHostsFile $state/known_hosts
END
for i in 0 1 2 3; do printf "processor\t: $i\n$core\n\n"; done > "$state/cpuinfo"
export root state cpu khz model
exec unshare --mount --uts --pid --fork --kill-child --propagation private bash -c '
set -e
hostname raspberrypi
mount -t proc proc "$root/proc"
# The runtimes choose their kernels by what they read here: it must fit QEMU_CPU, or they crash.
mount --bind "$state/cpuinfo" "$root/proc/cpuinfo"
mount -t tmpfs -o mode=755,size=1m tmpfs "$root/sys"
cores=$root/sys/devices/system/cpu
mkdir -p "$cores" "$root/sys/class/thermal/thermal_zone0" "$root/sys/firmware/devicetree/base"
echo 0-3 > "$cores/possible"
echo 0-3 > "$cores/present"
for i in 0 1 2 3; do
  mkdir -p "$cores/cpu$i/cpufreq"
  echo ondemand > "$cores/cpu$i/cpufreq/scaling_governor"
  echo "$khz" > "$cores/cpu$i/cpufreq/scaling_cur_freq"
  echo "$khz" > "$cores/cpu$i/cpufreq/cpuinfo_max_freq"
done
echo 47236 > "$root/sys/class/thermal/thermal_zone0/temp"
printf "%s\0" "$model" > "$root/sys/firmware/devicetree/base/model"
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
export QEMU_CPU=$cpu
exec chroot "$root" /usr/sbin/sshd -D -e -f /etc/ssh/sshd_pi.conf'
