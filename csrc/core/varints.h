/*
 * Integers of variable length, as nodes and entries of trees have them; in a header, so that each user has them inline.
 */
#ifndef VARINTS_H
#define VARINTS_H

#include <stdbool.h>
#include <stdint.h>

enum { VARINT_BYTES = 10 }; /* longest unsigned LEB128 integer of 64 bits */

/* Reads the integer at *at, which is not behind end, and moves *at past it; false when it is torn or too large. */
static inline bool read_varint(const uint8_t **at, const uint8_t *end, uint64_t *value)
{
    *value = 0;
    for (int shift = 0; *at < end && shift < 64; shift += 7) {
        uint8_t byte = *(*at)++;
        uint64_t bits = byte & 0x7f;
        if (shift == 63 && bits > 1)
            return false;
        *value |= bits << shift;
        if (byte < 0x80)
            return true;
    }
    return false;
}

/* Writes an integer at `at`, which has room for VARINT_BYTES; returns where it ends. */
static inline uint8_t *write_varint(uint8_t *at, uint64_t value)
{
    for (; value >= 0x80; value >>= 7)
        *at++ = (uint8_t)(value | 0x80);
    *at++ = (uint8_t)value;
    return at;
}

#endif
