/* What the kernel does, timed: first touches, COW breaks after fork, fork itself, reads and writes past the page cache. */
#ifndef LIMITS_KERNEL_H
#define LIMITS_KERNEL_H

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <linux/io_uring.h>

static inline int64_t kernel_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

/* Private anonymous memory, small or huge pages, nothing touched; aligned to 2 MiB. NULL: errno says why. */
static uint8_t *kernel_map(size_t bytes, int huge)
{
    const size_t align = 2 << 20;
    uint8_t *at = mmap(NULL, bytes + align, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED)
        return NULL;
    uint8_t *start = (uint8_t *)(((uintptr_t)at + align - 1) & ~(align - 1));
    if (start > at)
        munmap(at, start - at);
    munmap(start + bytes, align - (start - at));
    madvise(start, bytes, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
    return start;
}

/* A store to each page, in order: ns in total. */
static int64_t kernel_touch(uint8_t *start, size_t bytes)
{
    int64_t began = kernel_now_ns();
    for (size_t at = 0; at < bytes; at += 4096)
        start[at] = 1;
    return kernel_now_ns() - began;
}

/* Stores to random pages: ns in total. */
static int64_t kernel_stores(uint8_t *start, const uint32_t *pages, uint32_t n)
{
    int64_t began = kernel_now_ns();
    for (uint32_t i = 0; i < n; i++)
        *(uint64_t *)(start + (size_t)pages[i] * 4096 + (pages[i] * 2654435761u >> 7 & 511) * 8) = i | 1;
    return kernel_now_ns() - began;
}

/* A child writes every page that it shares with its parent: ns in total, or -1. */
static int64_t kernel_cow(uint8_t *start, size_t bytes)
{
    int64_t *spent = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0), result;
    if (spent == MAP_FAILED)
        return -1;
    *spent = -1;
    pid_t child = fork();
    if (child == 0) {
        *spent = kernel_touch(start, bytes);
        _exit(0);
    }
    if (child > 0)
        waitpid(child, NULL, 0);
    result = *spent;
    munmap(spent, 4096);
    return result;
}

/* fork() as the parent sees it: ns, or -1. */
static int64_t kernel_fork(void)
{
    int64_t began = kernel_now_ns(), spent;
    pid_t child = fork();
    if (child == 0)
        _exit(0);
    spent = kernel_now_ns() - began;
    if (child < 0)
        return -1;
    waitpid(child, NULL, 0);
    return spent;
}

/* Transfers of `bytes` at offsets[i] * bytes, one after the other: ns in total, or -1 with errno. */
static int64_t kernel_transfer(int fd, int writing, uint8_t *buffer, size_t bytes, const uint32_t *offsets, uint32_t n)
{
    int64_t began = kernel_now_ns();
    for (uint32_t i = 0; i < n; i++) {
        off_t at = (off_t)offsets[i] * (off_t)bytes;
        ssize_t done = writing ? pwrite(fd, buffer, bytes, at) : pread(fd, buffer, bytes, at);
        if (done != (ssize_t)bytes) {
            errno = done < 0 ? errno : EIO;
            return -1;
        }
    }
    return kernel_now_ns() - began;
}

typedef struct { uint8_t *submit, *complete; struct io_uring_sqe *entry; size_t submit_bytes, complete_bytes; int fd; } Ring;

static int ring_open(Ring *ring, uint32_t depth, struct io_uring_params *p)
{
    memset(p, 0, sizeof *p);
    ring->fd = (int)syscall(SYS_io_uring_setup, depth, p);
    if (ring->fd < 0)
        return -1;
    ring->submit_bytes = p->sq_off.array + p->sq_entries * sizeof(uint32_t);
    ring->complete_bytes = p->cq_off.cqes + p->cq_entries * sizeof(struct io_uring_cqe);
    ring->submit = mmap(NULL, ring->submit_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, ring->fd, IORING_OFF_SQ_RING);
    ring->complete = mmap(NULL, ring->complete_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, ring->fd, IORING_OFF_CQ_RING);
    ring->entry = mmap(NULL, p->sq_entries * sizeof *ring->entry, PROT_READ | PROT_WRITE, MAP_SHARED, ring->fd,
                       IORING_OFF_SQES);
    return ring->submit == MAP_FAILED || ring->complete == MAP_FAILED || ring->entry == MAP_FAILED ? -1 : 0;
}

/* 4 KiB reads at offsets[i] pages, `depth` in flight: ns in total, or -1 with errno. buffer: depth pages. */
static int64_t kernel_ring_reads(int fd, uint8_t *buffer, const uint32_t *offsets, uint32_t n, uint32_t depth)
{
    struct io_uring_params p;
    Ring ring;
    if (ring_open(&ring, depth, &p))
        return -1;
    uint32_t *tail = (uint32_t *)(ring.submit + p.sq_off.tail), mask = *(uint32_t *)(ring.submit + p.sq_off.ring_mask);
    uint32_t *array = (uint32_t *)(ring.submit + p.sq_off.array);
    uint32_t *head = (uint32_t *)(ring.complete + p.cq_off.head), *end = (uint32_t *)(ring.complete + p.cq_off.tail);
    uint32_t last = *(uint32_t *)(ring.complete + p.cq_off.ring_mask), sent = 0, done = 0, slot[256], free_slots = 0;
    struct io_uring_cqe *completed = (struct io_uring_cqe *)(ring.complete + p.cq_off.cqes);
    int failed = 0;
    while (free_slots < depth && free_slots < 256) {
        slot[free_slots] = free_slots;
        free_slots++;
    }
    int64_t began = kernel_now_ns();
    while (done < n && !failed) {
        uint32_t fresh = 0;
        while (sent < n && free_slots) {
            uint32_t at = *tail & mask, buffer_of = slot[--free_slots];
            struct io_uring_sqe *entry = &ring.entry[at];
            memset(entry, 0, sizeof *entry);
            entry->opcode = IORING_OP_READ;
            entry->fd = fd;
            entry->addr = (uint64_t)(buffer + (size_t)buffer_of * 4096);
            entry->len = 4096;
            entry->off = (uint64_t)offsets[sent++] * 4096;
            entry->user_data = buffer_of;
            array[at] = at;
            __atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
            fresh++;
        }
        if (syscall(SYS_io_uring_enter, ring.fd, fresh, 1, IORING_ENTER_GETEVENTS, NULL, 0) < 0 && errno != EINTR)
            failed = errno;
        while (*head != __atomic_load_n(end, __ATOMIC_ACQUIRE)) {
            struct io_uring_cqe *event = &completed[*head & last];
            if (event->res != 4096)
                failed = event->res < 0 ? -event->res : EIO;
            slot[free_slots++] = (uint32_t)event->user_data;
            done++;
            __atomic_store_n(head, *head + 1, __ATOMIC_RELEASE);
        }
    }
    began = kernel_now_ns() - began;
    munmap(ring.entry, p.sq_entries * sizeof *ring.entry);
    munmap(ring.submit, ring.submit_bytes);
    munmap(ring.complete, ring.complete_bytes);
    close(ring.fd);
    errno = failed;
    return failed ? -1 : began;
}

#endif
