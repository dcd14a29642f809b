#!/bin/sh
# The guest's first process: it makes what a test expects of a machine, runs the tests, and ends the guest.
export PATH=/bin HOME=/tmp
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
mount -t tmpfs run /run
mkdir -p /run/netns
mount -t bpf bpf /sys/fs/bpf
for module in /modules/*; do
    insmod "$module"
done
ip link set lo up
export INGEST_AGENT=/ingest/ingest-agent INGEST_LISTENER=/ingest/listener INGEST_CALLER=/ingest/caller
export INGEST_EBPF=/ingest/ebpf/ingest INGEST_BENCH_EBPF=/ingest/ebpf/ingest-bench INGEST_REQUIRE_BPF=1
echo "guest: begins on $(uname -r)"
for test in /tests/*; do
    "$test" --include-ignored --test-threads=1 @FILTER@ || true
done
echo "guest: done"
poweroff -f
