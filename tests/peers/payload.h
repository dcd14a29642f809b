/* The verified payload: what the generator and caller.c send and listener.c checks.
 *
 * 1316 bytes (seven MPEG-TS packets' worth, as live SRT sends): "INGT", stream number (u32), counter (u64), send
 * time (u64, ns of CLOCK_MONOTONIC), filler that depends on the counter, CRC-32 (u32) of all before it. Numbers are
 * big-endian. tests/src/traffic.rs writes the same bytes.
 */
#ifndef INGEST_PAYLOAD_H
#define INGEST_PAYLOAD_H

#include <stdint.h>
#include <string.h>
#include <time.h>

enum { PAYLOAD_SIZE = 1316, PAYLOAD_CRC_AT = PAYLOAD_SIZE - 4, PAYLOAD_HEADER = 24 };

static inline uint64_t monotonic_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline uint64_t read_be(const unsigned char *from, int bytes) {
    uint64_t value = 0;
    for (int i = 0; i < bytes; i++) value = value << 8 | from[i];
    return value;
}

static inline uint32_t crc32_of(const unsigned char *data, size_t size) {
    static uint32_t table[256];
    if (table[1] == 0)
        for (uint32_t i = 0; i < 256; i++) {
            uint32_t c = i;
            for (int bit = 0; bit < 8; bit++) c = c & 1 ? c >> 1 ^ 0xedb88320u : c >> 1;
            table[i] = c;
        }
    uint32_t crc = 0xffffffffu;
    for (size_t i = 0; i < size; i++) crc = crc >> 8 ^ table[(crc ^ data[i]) & 0xff];
    return ~crc;
}

#endif
