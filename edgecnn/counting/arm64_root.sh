#!/bin/bash
# Makes ROOT: an arm64 Debian 12 userland that qemu-user runs on this machine, with Python, an sshd and TFLite
# runtimes. `edgecnn count` counts instructions in it; the tests log in to it as if it were a Raspberry Pi.
#
#   sudo bash arm64_root.sh ROOT
#
# It needs: apt-get install qemu-user qemu-user-static mmdebstrap proot python3-pip. It takes a minute or two and
# half a gigabyte. The runtimes lie beside the system's Python, which knows nothing of them, as on a fresh board:
# /opt/litert/python has ai-edge-litert and onnxruntime, /opt/tflite-runtime/python the older tflite-runtime.
set -euo pipefail
root=${1:?usage: arm64_root.sh ROOT}
[ "$(id -u)" = 0 ] || { echo "error: it must be run as root" >&2; exit 2; }
for tool in mmdebstrap qemu-aarch64-static python3; do
  command -v "$tool" > /dev/null || {
    echo "error: there is no $tool: apt-get install qemu-user qemu-user-static mmdebstrap proot" >&2; exit 2; }
done
[ ! -e "$root" ] || { echo "error: $root is there already" >&2; exit 2; }

# The kernel must know which program runs arm64 binaries.
binfmt=/proc/sys/fs/binfmt_misc
[ -e $binfmt/register ] || mount -t binfmt_misc binfmt_misc $binfmt
[ -e $binfmt/qemu-aarch64 ] || cat /usr/lib/binfmt.d/qemu-aarch64.conf > $binfmt/register

making=$root.making
rm -rf "$making"
trap 'rm -rf "$making"' EXIT
packages=python3,python3-venv,libstdc++6,libgcc-s1,libgomp1,libatomic1,coreutils,bash,dash,procps,openssh-server
packages+=,openssh-sftp-server,base-files,base-passwd,passwd,login,util-linux,sed,grep,findutils,ca-certificates
mmdebstrap --quiet --arch=arm64 --variant=extract --include=$packages \
  --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
  --dpkgopt='path-exclude=/usr/share/locale/*' bookworm "$making"

# "extract" runs no scripts of packages: what they would have made follows.
ln -sf dash "$making/bin/sh"
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

# pip there reaches the package index as it does here.
cat /etc/hosts > "$making/etc/hosts"
cat /etc/resolv.conf > "$making/etc/resolv.conf"
bundle=${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}
[ ! -f "$bundle" ] || cat "$bundle" > "$making/etc/ssl/certs/ca-certificates.crt"

# Wheels are unpacked on this machine: pip in emulation would take minutes.
wheels() {
  local folder=$1; shift
  local platforms=()
  for glibc in 2_34 2_28 2_27 2_17; do platforms+=(--platform "manylinux_${glibc}_aarch64"); done
  python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --no-compile \
    --target "$making/opt/$folder/packages" "${platforms[@]}" --platform manylinux2014_aarch64 \
    --only-binary=:all: --python-version 3.11 --implementation cp "$@"
  printf '#!/bin/sh\nPYTHONPATH=/opt/%s/packages exec /usr/bin/python3 "$@"\n' "$folder" > "$making/opt/$folder/python"
  chmod 755 "$making/opt/$folder/python"
}
wheels litert ai-edge-litert==2.3.0 onnxruntime==1.32.0 pillow==13.0.0
wheels tflite-runtime tflite-runtime==2.14.0 numpy==1.26.4 pillow==13.0.0
mv "$making" "$root"
echo "made $root"
