/* The limit loop for the buddy allocator: the classic design with doubly linked free lists, one per order, threaded
   through an array of (prev, next) per page, and an order byte per page. LIFO lists, full coalescing, no checks. */
#ifndef LIMITS_BUDDY_H
#define LIMITS_BUDDY_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { CLASSIC_ORDERS = 11, CLASSIC_END = -1, CLASSIC_TAKEN = 0xFF };

typedef struct { int32_t prev, next; } ClassicNode;

typedef struct {
    uint32_t nr_pages, nr_free;
    int32_t head[CLASSIC_ORDERS];
    uint32_t nr_blocks[CLASSIC_ORDERS];
    ClassicNode *node;      /* valid for the first page of a free block */
    uint8_t *order;         /* of the free block that starts here, else CLASSIC_TAKEN */
} Classic;

static inline void classic_link(Classic *c, uint32_t page, int order)
{
    int32_t head = c->head[order];
    c->node[page].prev = CLASSIC_END;
    c->node[page].next = head;
    if (head != CLASSIC_END)
        c->node[head].prev = (int32_t)page;
    c->head[order] = (int32_t)page;
    c->order[page] = (uint8_t)order;
    c->nr_blocks[order]++;
}

static inline void classic_unlink(Classic *c, uint32_t page, int order)
{
    ClassicNode node = c->node[page];
    if (node.prev == CLASSIC_END)
        c->head[order] = node.next;
    else
        c->node[node.prev].next = node.next;
    if (node.next != CLASSIC_END)
        c->node[node.next].prev = node.prev;
    c->order[page] = CLASSIC_TAKEN;
    c->nr_blocks[order]--;
}

static inline int classic_take(Classic *c, int order, uint32_t *page)
{
    int from = order;
    while (from < CLASSIC_ORDERS && c->head[from] == CLASSIC_END)
        from++;
    if (from == CLASSIC_ORDERS)
        return 1;
    uint32_t block = (uint32_t)c->head[from];
    classic_unlink(c, block, from);
    while (from > order) {
        from--;
        classic_link(c, block + (1u << from), from);
    }
    c->nr_free -= 1u << order;
    *page = block;
    return 0;
}

static inline void classic_give(Classic *c, uint32_t page, int order)
{
    c->nr_free += 1u << order;
    while (order < CLASSIC_ORDERS - 1) {
        uint32_t buddy = page ^ (1u << order);
        if (buddy >= c->nr_pages || c->order[buddy] != order)
            break;
        classic_unlink(c, buddy, order);
        page &= ~(1u << order);
        order++;
    }
    classic_link(c, page, order);
}

static inline int classic_new(Classic *c, uint32_t nr_pages)
{
    memset(c, 0, sizeof *c);
    c->nr_pages = nr_pages;
    c->node = malloc(nr_pages * sizeof *c->node);
    c->order = malloc(nr_pages);
    if (!c->node || !c->order)
        return -1;
    memset(c->node, 0, nr_pages * sizeof *c->node);
    memset(c->order, CLASSIC_TAKEN, nr_pages);
    memset(c->head, 0xFF, sizeof c->head);
    uint32_t last = nr_pages >> (CLASSIC_ORDERS - 1) << (CLASSIC_ORDERS - 1);
    for (uint32_t page = last; page < nr_pages; page++)
        classic_give(c, page, 0);
    while (last) {      /* so that the lowest block is at the head */
        last -= 1u << (CLASSIC_ORDERS - 1);
        classic_give(c, last, CLASSIC_ORDERS - 1);
    }
    return 0;
}

static inline void classic_delete(Classic *c)
{
    free(c->node);
    free(c->order);
}

static inline int64_t limits_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

/* A fixed permutation and fixed draws, the same for both sides. */
static inline uint64_t limits_draw(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static inline void limits_shuffle(uint32_t *items, uint32_t n)
{
    uint64_t state = 0x9E3779B97F4A7C15;
    for (uint32_t i = n; i > 1; i--) {
        uint32_t j = (uint32_t)(limits_draw(&state) % i), item = items[i - 1];
        items[i - 1] = items[j];
        items[j] = item;
    }
}

#endif
