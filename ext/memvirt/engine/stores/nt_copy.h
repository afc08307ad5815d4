/* Copies bytes that nobody will read soon past the caches: a compressed object goes to cold memory, and an ordinary
 * store would first read each line that it overwrites. Elsewhere than on x86-64, a memcpy. */
#ifndef MEMVIRT_STREAM_H
#define MEMVIRT_STREAM_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __SSE2__
#include <emmintrin.h>

static inline void mv_stream(uint8_t *target, const uint8_t *source, size_t bytes)
{
    size_t lead = (64 - ((uintptr_t)target & 63)) & 63;
    if (bytes < 256) {
        memcpy(target, source, bytes);
        return;
    }
    memcpy(target, source, lead);
    target += lead;
    source += lead;
    bytes -= lead;
    for (; bytes >= 64; bytes -= 64, target += 64, source += 64) {
        __m128i a = _mm_loadu_si128((const __m128i *)source);
        __m128i b = _mm_loadu_si128((const __m128i *)source + 1);
        __m128i c = _mm_loadu_si128((const __m128i *)source + 2);
        __m128i d = _mm_loadu_si128((const __m128i *)source + 3);
        _mm_stream_si128((__m128i *)target, a);
        _mm_stream_si128((__m128i *)target + 1, b);
        _mm_stream_si128((__m128i *)target + 2, c);
        _mm_stream_si128((__m128i *)target + 3, d);
    }
    memcpy(target, source, bytes);
}
#else
static inline void mv_stream(uint8_t *target, const uint8_t *source, size_t bytes)
{
    memcpy(target, source, bytes);
}
#endif

#endif
