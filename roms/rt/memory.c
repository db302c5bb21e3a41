/*
 * Memory: the page allocator (a mark that only moves up), the running page table, and the mem* functions that
 * the compiler expects to exist.
 */
#include "rt.h"

extern char rt_image_end[];

static uint64_t next_page;

void *page_alloc_aligned(unsigned count, uint64_t alignment)
{
    if (!next_page) next_page = (uint64_t)rt_image_end;
    /* GRUB leaves the multiboot information below 1 MiB or right behind the image; QEMU too. Copying what we
       need of it is not worth it: skip ahead once, past where either puts it. */
    if (next_page < 0x800000) next_page = 0x800000;
    next_page = (next_page + alignment - 1) & ~(alignment - 1);
    void *p = (void *)next_page;
    next_page += 4096ull * count;
    memset(p, 0, 4096ull * count);
    return p;
}

void *page_alloc(unsigned count) { return page_alloc_aligned(count, 4096); }

uint64_t *paging_entry(uint64_t linear, unsigned level)
{
    uint64_t *table = rt_pml4;
    for (unsigned at = 4;; at--) {
        uint64_t *entry = &table[linear >> (12 + 9 * (at - 1)) & 511];
        if (at == level) return entry;
        if (!(*entry & PTE_P)) *entry = (uint64_t)page_alloc(1) | PTE_P | PTE_W | PTE_U;
        if (*entry & PTE_PS) panic("paging_entry: %lx is mapped by a large page", linear);
        table = (uint64_t *)(*entry & PTE_ADDRESS);
    }
}

void paging_map(uint64_t linear, uint64_t physical, uint64_t flags)
{
    *paging_entry(linear, 1) = physical | flags;
    invlpg(linear);
}

void *memset(void *to, int value, size_t n)
{
    void *d = to;
    asm volatile("rep stosb" : "+D"(d), "+c"(n) : "a"(value) : "memory");
    return to;
}

void *memcpy(void *to, const void *from, size_t n)
{
    void *d = to;
    asm volatile("rep movsb" : "+D"(d), "+S"(from), "+c"(n)::"memory");
    return to;
}

void *memmove(void *to, const void *from, size_t n)
{
    char *d = to;
    const char *s = from;
    if (d <= s || d >= s + n) return memcpy(to, from, n);
    while (n--) d[n] = s[n];
    return to;
}

int memcmp(const void *a, const void *b, size_t n)
{
    const uint8_t *p = a, *q = b;
    for (; n; n--, p++, q++)
        if (*p != *q) return *p - *q;
    return 0;
}

size_t strlen(const char *s)
{
    size_t n = 0;
    while (s[n]) n++;
    return n;
}

int strcmp(const char *a, const char *b)
{
    while (*a && *a == *b) a++, b++;
    return (uint8_t)*a - (uint8_t)*b;
}
