// Contents of a page at checkpoint c: its newest version that is not newer than c. A version is made when the
// page was written between two checkpoints, so a page that nobody writes has one, of the first. The newest
// one may have its bytes in RAM yet: then the page was not written since, and they are copied when it is
// going to be (phys_mark_dirty). A version of zeros has no bytes.
#include "devices/history_pages.h"

#include <stdlib.h>
#include <string.h>

#include "devices/machine_state.h"

struct page_version {
    struct page_version *older;
    const u64 *of; // its checkpoint's number
    u8 *bytes;     // NULL: zeros, or in RAM
};

static void *take_piece(struct history *h, struct pool *p)
{
    void *at = pool_take(p);
    if (at) h->used += p->size;
    return at;
}

static void give_piece(struct history *h, struct pool *p, void *at)
{
    if (at) h->used -= p->size;
    pool_give(p, at);
}

static void free_version(struct history *h, struct page_version *v)
{
    give_piece(h, &h->copies, v->bytes);
    give_piece(h, &h->versions, v);
}

u64 history_pages_words(const struct history *h) { return (h->m->phys.pages + 63) / 64; }

u64 *history_pages_written(struct history *h) { return machine_written(h->m, PHYS_DIRTY_HISTORY); }

static bool in_ram(const struct history *h, u64 n) { return h->in_ram[n / 64] >> (n % 64) & 1; }

static void copy(struct history *h, struct page_version *v, u64 n)
{
    const u8 *host = phys_host(&h->m->phys, n << PAGE_SHIFT);
    if (phys_page_is_zero(host)) return;
    v->bytes = take_piece(h, &h->copies);
    h->lost |= !v->bytes;
    if (!v->bytes) return;
    memcpy(v->bytes, host, PAGE_SIZE);
    h->copied++;
}

// The page is written: what it holds is copied now.
static void copy_newest(void *opaque, u64 n)
{
    struct history *h = opaque;
    copy(h, h->page[n], n);
}

bool history_pages_begin(struct history *h)
{
    h->versions = (struct pool){.size = sizeof(struct page_version)};
    h->copies = (struct pool){.size = PAGE_SIZE};
    h->page = calloc(h->m->phys.pages, sizeof *h->page);
    h->in_ram = calloc(history_pages_words(h), sizeof *h->in_ram);
    if (!h->page || !h->in_ram) return false;
    h->m->phys.kept = copy_newest, h->m->phys.kept_opaque = h;
    h->m->phys.keep = h->in_ram;
    return true;
}

void history_pages_end(struct history *h)
{
    h->m->phys.keep = NULL;
    pool_forget(&h->versions);
    pool_forget(&h->copies);
    free(h->page);
    free(h->in_ram);
    h->page = NULL, h->in_ram = NULL;
}

bool history_page_add(struct history *h, u64 n, const u64 *of, bool *added)
{
    if (in_ram(h, n) || !phys_is_ram(&h->m->phys, n << PAGE_SHIFT)) return true; // not written since
    struct page_version *v = take_piece(h, &h->versions), **at = &h->page[n];
    if (!v) return false;
    while (*at && *(*at)->of > *of) at = &(*at)->older;
    *v = (struct page_version){.older = *at, .of = of};
    *at = v;
    *added = true;
    if (h->page[n] == v)
        h->in_ram[n / 64] |= BIT(n % 64);
    else
        copy(h, v, n);
    return true;
}

void history_page_forget(struct history *h, u64 n)
{
    struct page_version *v = h->page[n];
    h->page[n] = v->older;
    h->in_ram[n / 64] &= ~BIT(n % 64);
    free_version(h, v);
}

bool history_page_hand_on(struct history *h, u64 n, const u64 *of, const u64 *next)
{
    struct page_version **at = &h->page[n];
    bool newer = false;
    for (; (*at)->of != of; at = &(*at)->older) newer |= (*at)->of == next;
    struct page_version *v = *at;
    if (newer) {
        *at = v->older;
        free_version(h, v);
    } else
        v->of = next;
    return !newer;
}

void history_page_put_back(struct history *h, u64 n, u64 number)
{
    const struct page_version *v = h->page[n];
    u8 *host = phys_host(&h->m->phys, n << PAGE_SHIFT);
    if (!host || (in_ram(h, n) && *v->of <= number)) return; // is there
    phys_mark_dirty(&h->m->phys, n << PAGE_SHIFT);           // which copies what is there
    while (v && *v->of > number) v = v->older;
    if (v && v->bytes)
        memcpy(host, v->bytes, PAGE_SIZE);
    else
        memset(host, 0, PAGE_SIZE);
}
