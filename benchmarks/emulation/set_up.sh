#!/bin/bash
# Rootless emulation of a 64-bit Raspberry Pi on Debian, made once in a folder:  set_up.sh FOLDER
#
#   qemu/      Debian 12's dynamic qemu-user 7.2, the one that takes plugins, unpacked
#   sysroot/   arm64 Debian 12 with python3.11, chosen by apt with an empty status file, unpacked
#   site/      aarch64 wheels of numpy and the two runtimes
#   libcount.so
#
# No root, no mounts, no binfmt. Each part is made under another name and renamed, and one that is
# there is kept.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1" && cd "$1"
suite=bookworm
unpack() { dpkg-deb --fsys-tarfile "$1" | tar -x --no-same-owner --keep-directory-symlink -C "$2" \
    --exclude=./usr/share/doc --exclude=./usr/share/man --exclude=./usr/share/locale; }

if [ ! -d qemu ]; then
    rm -rf qemu.partial && mkdir -p qemu.partial/debs
    (cd qemu.partial/debs && apt-get -qq -o APT::Sandbox::User="$(id -un)" \
        download qemu-user libcapstone4 libnuma1 liburing2)
    for file in qemu.partial/debs/*.deb; do unpack "$file" qemu.partial; done
    rm -r qemu.partial/debs && mv qemu.partial qemu
fi

if [ ! -d sysroot ]; then
    rm -rf sysroot.partial apt && mkdir -p sysroot.partial apt/lists/partial apt/cache/archives/partial
    : > apt/status
    site=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 'Component: main' \
        'Origin: Debian' | head -1)
    key=/usr/share/keyrings/debian-archive-keyring.gpg
    echo "deb [signed-by=$key] $site $suite main" > apt/sources.list
    get() { apt-get -qq -o APT::Architecture=arm64 -o APT::Architectures=arm64 \
        -o Dir::State="$PWD/apt" -o Dir::State::Lists="$PWD/apt/lists" \
        -o Dir::State::status="$PWD/apt/status" -o Dir::Cache="$PWD/apt/cache" \
        -o Dir::Etc::SourceList="$PWD/apt/sources.list" -o Dir::Etc::SourceParts=- \
        -o APT::Sandbox::User="$(id -un)" -o Debug::NoLocking=1 -o APT::Install-Recommends=0 "$@"; }
    get update
    get install --download-only -y python3 libstdc++6 > /dev/null
    for file in apt/cache/archives/*.deb; do unpack "$file" sysroot.partial; done
    for name in lib bin; do [ -e sysroot.partial/$name ] || ln -s usr/$name sysroot.partial/$name; done
    rm -r apt && mv sysroot.partial sysroot
fi

if [ ! -d site ]; then
    rm -rf site.partial pip
    python3 -m venv pip
    pip/bin/python -m pip -q install --upgrade 'pip>=26'  # older ones fail for a foreign Python
    pip/bin/python -m pip -q install --target site.partial --python-version 3.11 --only-binary=:all: \
        --platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64 \
        --platform manylinux2014_aarch64 numpy onnxruntime==1.31.1 ai-edge-litert==2.3.0
    rm -r pip && mv site.partial site
fi

[ libcount.so -nt "$here/count.c" ] || {
    gcc -O2 -Wall -Wextra -shared -fPIC -o libcount.so.partial "$here/count.c"
    mv libcount.so.partial libcount.so
}
