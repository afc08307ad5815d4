/* A number below 2048 kept in 16 bits beside bytes that may be damaged: whichever one bit flips, it is read as it was.
 * Hamming's code (Bell System Technical Journal 29, 1950): each of the eleven bits has a column of four with at least two
 * ones, and the four bits above are the sum of the columns of those set. What is missing of that sum names the bit. */
#ifndef MEMVIRT_GUARDED_H
#define MEMVIRT_GUARDED_H

#include <stdint.h>

enum { MEMVIRT_GUARDED = 0x7FF }; /* the largest such number */

static inline uint16_t mv_guard(uint32_t number)
{
    /* Columns 3, 5, 6, 7, 9 .. 15 for bits 0 .. 10; each mask holds the bits whose column has that one set. */
    const uint32_t sum = (uint32_t)__builtin_parity(number & 0x55B) | (uint32_t)__builtin_parity(number & 0x66D) << 1
                         | (uint32_t)__builtin_parity(number & 0x78E) << 2 | (uint32_t)__builtin_parity(number & 0x7F0) << 3;
    return (uint16_t)(number | sum << 11);
}

static inline uint32_t mv_guarded(uint16_t kept)
{
    static const uint16_t flipped[16] = {0, 0, 0, 1, 0, 2, 4, 8, 0, 16, 32, 64, 128, 256, 512, 1024};
    const uint32_t number = kept & MEMVIRT_GUARDED;
    return number ^ flipped[((mv_guard(number) ^ kept) >> 11) & 15];
}

#endif
