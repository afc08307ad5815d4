/* Bit tricks on one 64-bit word whose bit i says "unit i is free". A block of order o is 2^o units, aligned to its size. */
#ifndef MEMVIRT_BITS_H
#define MEMVIRT_BITS_H

#include <stdint.h>

static inline int bits_lowest(uint64_t word) { return __builtin_ctzll(word); }   /* word != 0 */
static inline int bits_highest(uint64_t word) { return 63 - __builtin_clzll(word); }   /* word != 0 */
static inline int bits_count(uint64_t word) { return __builtin_popcountll(word); }
static inline int bits_unlikely(int condition) { return __builtin_expect(condition, 0); }

/* The block of 2^order bits that starts at bit 0, order 0 .. 6. */
static inline uint64_t bits_block(int order) { return ~0ULL >> (64 - (1 << order)); }

/* Where blocks of each order start. */
static const uint64_t bits_starts[7] = {
    ~0ULL, 0x5555555555555555, 0x1111111111111111, 0x0101010101010101, 0x0001000100010001, 0x0000000100000001, 1};

/* Starts of the blocks of this order that are wholly free, merged further or not. */
static inline uint64_t bits_whole(uint64_t word, int order)
{
    for (int k = 0; k < order; k++)
        word &= word >> (1 << k);
    return word & bits_starts[order];
}

/* Starts of the free blocks of exactly this order, that is: whole, and with a buddy that is not. In a layer whose
   largest order is `top`, blocks of that order have no buddy to merge with. */
static inline uint64_t bits_maximal(uint64_t word, int order, int top)
{
    uint64_t whole = bits_whole(word, order);
    if (order == top)
        return whole;
    uint64_t parents = whole & whole >> (1 << order) & bits_starts[order + 1];
    return whole & ~(parents | parents << (1 << order));
}

#endif
