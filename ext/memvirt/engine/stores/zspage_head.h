/* Looks back from word[at] for the nearest word with its top bit set. Sixteen are seen at once, and no branch depends on
 * where among them it is: there must be fifteen before any that is asked for. Elsewhere than on x86-64, one by one. */
#ifndef MEMVIRT_HEADS_H
#define MEMVIRT_HEADS_H

#include <stdint.h>

#ifdef __SSE2__
#include <emmintrin.h>

static inline uint32_t mv_head(const uint32_t *word, uint32_t at)
{
    for (;; at -= 16) {
        const __m128i *four = (const __m128i *)(word + at - 15);
        __m128i low = _mm_packs_epi32(_mm_loadu_si128(four), _mm_loadu_si128(four + 1));
        __m128i high = _mm_packs_epi32(_mm_loadu_si128(four + 2), _mm_loadu_si128(four + 3));
        uint32_t heads = (uint32_t)_mm_movemask_epi8(_mm_packs_epi16(low, high));   /* bit 15: of word[at] */
        if (heads)
            return at - (uint32_t)__builtin_clz(heads << 16);
    }
}
#else
static inline uint32_t mv_head(const uint32_t *word, uint32_t at)
{
    while (!(word[at] >> 31))
        at--;
    return at;
}
#endif

#endif
