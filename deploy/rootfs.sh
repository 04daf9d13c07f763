#!/bin/sh
# Lays out the root folder of the container image: the receiver and everything that it needs of a system.
#
#   deploy/rootfs.sh BINARY DESTINATION
set -eu
binary=$1
root=$2

install -D -m 0755 "$binary" "$root/plugchat-receiver"

# ldd's lines hold a path each, of the shared libraries and of the loader.
ldd "$binary" | grep -o '/[^ ]*' | while read -r library; do
    install -D -m 0755 "$library" "$root$library"
done

# The certificate authorities that TLS connections of the receiver's own are checked against.
install -D -m 0644 /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"

echo 'receiver:x:65532:65532:plugchat-receiver:/data:/sbin/nologin' >"$root/etc/passwd"
echo 'receiver:x:65532:' >"$root/etc/group"
# Without this file, what is in /etc/hosts might be looked for in the DNS first.
echo 'hosts: files dns' >"$root/etc/nsswitch.conf"

install -d -m 0700 -o 65532 -g 65532 "$root/data"
