#!/bin/bash
# Makes ROOT: an Arm Debian 12 userland that qemu-user runs on this machine, with Python, an sshd and TFLite
# runtimes. `edgecnn count` counts instructions in a 64-bit one; the tests log in to both kinds as if they were
# Raspberry Pis.
#
#   sudo bash arm_root.sh ROOT [arm64|armhf]
#
# It needs: apt-get install qemu-user qemu-user-static mmdebstrap proot python3-pip. It takes a minute or two and
# half a gigabyte. The runtimes lie beside the system's Python, which knows nothing of them, as on a fresh board:
# /opt/litert/python has ai-edge-litert and onnxruntime, /opt/tflite-runtime/python the older tflite-runtime, which
# is the only one for 32 bits (armhf); there numpy and Pillow are the system's, since no wheels of them exist.
set -euo pipefail
usage='arm_root.sh ROOT [arm64|armhf]'
root=${1:?usage: $usage} arch=${2:-arm64}
case $arch in
  arm64) emulator=qemu-aarch64 extra= ;;
  armhf) emulator=qemu-arm extra=,python3-numpy,python3-pil ;;
  *) echo "error: there is no arch $arch; usage: $usage" >&2; exit 2 ;;
esac
[ "$(id -u)" = 0 ] || { echo "error: it must be run as root" >&2; exit 2; }
for tool in mmdebstrap $emulator-static python3; do
  command -v "$tool" > /dev/null || {
    echo "error: there is no $tool: apt-get install qemu-user qemu-user-static mmdebstrap proot" >&2; exit 2; }
done
[ ! -e "$root" ] || { echo "error: $root is there already" >&2; exit 2; }

# The kernel must know which program runs Arm binaries.
binfmt=/proc/sys/fs/binfmt_misc
[ -e $binfmt/register ] || mount -t binfmt_misc binfmt_misc $binfmt
[ -e $binfmt/$emulator ] || cat /usr/lib/binfmt.d/$emulator.conf > $binfmt/register

making=$root.making
rm -rf "$making"
trap 'rm -rf "$making"' EXIT
packages=python3,python3-venv,libstdc++6,libgcc-s1,libgomp1,libatomic1,coreutils,bash,dash,procps,openssh-server
packages+=,openssh-sftp-server,base-files,base-passwd,passwd,login,util-linux,sed,grep,findutils,ca-certificates
# The release alone, without its updates: it stays the same for months, and so do the counts. From where this machine
# takes its own packages, if it is the same release; else from where mmdebstrap looks.
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Codename: bookworm' 'Component: main' \
  2> /dev/null | head -n 1)
mmdebstrap --quiet --arch="$arch" --variant=extract --include="$packages$extra" \
  --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
  --dpkgopt='path-exclude=/usr/share/locale/*' bookworm "$making" ${mirror:+"$mirror"}

# "extract" runs no scripts of packages: what they would have made follows.
ln -sf dash "$making/bin/sh"
for library in blas lapack; do
  for folder in "$making"/usr/lib/*/"$library"; do
    [ ! -d "$folder" ] || ln -sf "$library/lib$library.so.3" "$folder/.."
  done
done
cat > "$making/etc/passwd" <<'END'
root:x:0:0:root:/root:/bin/bash
sshd:x:105:65534::/run/sshd:/usr/sbin/nologin
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
pi:x:1000:1000:pi:/home/pi:/bin/bash
END
printf 'root:x:0:\nnogroup:x:65534:\npi:x:1000:\n' > "$making/etc/group"
printf 'root:*:19000:0:99999:7:::\nsshd:!:19000::::::\npi:*:19000:0:99999:7:::\n' > "$making/etc/shadow"
chmod 640 "$making/etc/shadow"
mkdir -p "$making"/{run/sshd,home/pi,proc,sys,dev,tmp,etc/ssh,etc/ssl/certs}
chmod 1777 "$making/tmp"; chmod 755 "$making/run/sshd"; chown 1000:1000 "$making/home/pi"
echo raspberrypi > "$making/etc/hostname"

# Wheels are unpacked on this machine: pip in emulation would take minutes.
wheels() {
  local folder=$1 machine=$2; shift 2
  local platforms=()
  for glibc in 2_34 2_28 2_27 2_17; do platforms+=(--platform "manylinux_${glibc}_$machine"); done
  python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --no-compile \
    --target "$making/opt/$folder/packages" "${platforms[@]}" --platform "manylinux2014_$machine" \
    --only-binary=:all: --python-version 3.11 --implementation cp "$@"
  printf '#!/bin/sh\nPYTHONPATH=/opt/%s/packages exec /usr/bin/python3 "$@"\n' "$folder" > "$making/opt/$folder/python"
  chmod 755 "$making/opt/$folder/python"
}
if [ "$arch" = arm64 ]; then
  wheels litert aarch64 ai-edge-litert==2.3.0 onnxruntime==1.32.0 pillow==13.0.0
  wheels tflite-runtime aarch64 tflite-runtime==2.14.0 numpy==1.26.4 pillow==13.0.0
else
  wheels tflite-runtime armv7l --no-deps tflite-runtime==2.14.0
fi

# Compiled, as on any board: else every start of Python would compile what it imports. A Python 3.11 of this machine
# writes the same files as the emulated one, and sooner. Templates and tests that do not compile may stay as they are.
modules=(/usr/lib/python3 /usr/lib/python3.11 /opt)
if python3.11 -c '' 2> /dev/null; then
  python3.11 -m compileall -qq -s "$making" "${modules[@]/#/$making}" || true
else
  chroot "$making" /usr/bin/python3 -m compileall -qq "${modules[@]}" || true
fi
mv "$making" "$root"
echo "made $root"
