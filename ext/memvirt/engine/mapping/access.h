/*
 * The hit path: serve accesses from the translation cache until one of them misses.
 *
 * Three things are far away for a large guest: the cached translation, the page's word, and, for a busy write, the
 * region's permission byte. The loop asks for the translation AHEAD_ENTRY accesses early and, once that has arrived, for
 * the word AHEAD_WORD accesses early, so that by the time an access is served both are near.
 */
#ifndef MEMVIRT_ACCESS_H
#define MEMVIRT_ACCESS_H

#include <stdint.h>

/* Not inlined: it wants all the registers. */
#define MEMVIRT_APART __attribute__((noinline))
#define MEMVIRT_AHEAD_ENTRY 32
#define MEMVIRT_AHEAD_WORD 12
#define MEMVIRT_TC_VALID 0x80000000u
#define MEMVIRT_TC_WRITABLE 0x40000000u
#define MEMVIRT_TC_FRAME 0x0FFFFFFFu

struct mv_hits {
    const uint32_t *entry;      /* translation cache of the VM */
    const uint8_t *writes;      /* per 2 MiB: 1: cached write permission counts */
    uint8_t *arena;             /* bytes of the host's frames, or NULL */
    uint64_t *ids;              /* fingerprints of the frames, or NULL */
    uint32_t tag_base;          /* first tag of this VM */
    uint64_t sequence;          /* writes the VM has done so far */
    uint64_t loaded;            /* what the loads saw, summed: keeps them from being optimised away */
};

/* Which 8-byte word of its page an access touches. */
static inline uint32_t mv_word(uint32_t vpn)
{
    return (vpn * 2654435761u >> 7) & 511;
}

/* The value the VM's sequence-th write stores; never 0. */
static inline uint32_t mv_tag(uint32_t base, uint64_t sequence)
{
    uint32_t tag = (base + (uint32_t)sequence) & 0x7fffffffu;

    return tag ? tag : 1;
}

static inline uint64_t *mv_word_address(const struct mv_hits *hits, uint32_t entry, uint32_t vpn)
{
    return (uint64_t *)(hits->arena + (uint64_t)(entry & MEMVIRT_TC_FRAME) * 4096) + mv_word(vpn);
}

/* A fingerprint after a write: the source stays, word and tag are new. */
static inline uint64_t mv_tagged(uint64_t id, uint32_t word, uint32_t tag)
{
    return (id & ~0xFFFFFFFFFFull) | (uint64_t)word << 31 | tag;
}

/*
 * Serve accesses first .. last - 1; ops: 0 read, 1 write, anything else is not a plain access. Returns the index of the
 * first one that the cache cannot serve.
 */
MEMVIRT_APART static uint32_t mv_serve_hits(struct mv_hits *hits, const uint32_t *pages, const uint8_t *ops,
                                            uint32_t first, uint32_t last, uint32_t end)
{
    static const uint32_t needed[2] = { MEMVIRT_TC_VALID, MEMVIRT_TC_VALID | MEMVIRT_TC_WRITABLE };
    uint64_t sequence = hits->sequence, loaded = 0;
    uint32_t i;

    for (i = first; i < last; i++) {
        uint32_t vpn = pages[i], op = ops[i], entry;

        if (i + MEMVIRT_AHEAD_ENTRY < end)
            __builtin_prefetch(&hits->entry[pages[i + MEMVIRT_AHEAD_ENTRY]]);
        if (hits->arena && i + MEMVIRT_AHEAD_WORD < end) {
            uint32_t ahead = pages[i + MEMVIRT_AHEAD_WORD];

            __builtin_prefetch(mv_word_address(hits, hits->entry[ahead], ahead), 1);
        }
        entry = hits->entry[vpn];
        if (op > 1 || (entry & needed[op]) != needed[op])
            break;
        if (op) {
            if (!hits->writes[vpn >> 9])
                break;
            sequence++;
            if (hits->arena)
                *mv_word_address(hits, entry, vpn) = mv_tag(hits->tag_base, sequence);
            else if (hits->ids)
                hits->ids[entry & MEMVIRT_TC_FRAME] = mv_tagged(hits->ids[entry & MEMVIRT_TC_FRAME],
                                                                     mv_word(vpn),
                                                                     mv_tag(hits->tag_base, sequence));
        } else if (hits->arena) {
            loaded += *mv_word_address(hits, entry, vpn);
        }
    }
    hits->sequence = sequence;
    hits->loaded += loaded;
    return i;
}

#endif
