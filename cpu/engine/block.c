// The engine's life, and the block cache: decoded blocks by physical address and mode, dropped when the lines
// that they were decoded from are written.
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "cpu/engine/exec.h"
#include "cpu/engine/access.h"
#include "cpu/engine/tlbops.h"
#include "cpu/system/cpuid.h"
#include "cpu/system/debug.h"
#include "vmx/intercept.h"

struct engine *engine_new(const struct phys *phys)
{
    // Its tables are empty: from calloc they need no memory of the host yet, as they would from
    // aligned_alloc.
    void *memory = calloc(1, sizeof(struct engine) + 63);
    if (!memory) return NULL;
    struct engine *e = (struct engine *)(((uintptr_t)memory + 63) & ~(uintptr_t)63);
    e->memory = memory;
    void *arena = mmap(NULL, BLOCK_ARENA, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (arena != MAP_FAILED) e->arena = arena;
    e->tables = aligned_alloc(64, FAST_TABLES * sizeof *e->tables);
    e->groups = calloc((phys->pages + GROUP_PAGES - 1) / GROUP_PAGES, sizeof *e->groups);
    e->decoder = decoder_new();
    if (!e->tables || !e->arena || !e->groups || !e->decoder) {
        engine_free(e);
        return NULL;
    }
    *(struct block *)e->looking =
        (struct block){.n_check = BLOCK_DROPPED, .n = 1, .crosses = 1}; // nor linked
    // anything may be in it: cleared when it gets its key
    for (u32 i = 0; i < FAST_TABLES; i++) e->filled[i].n = FAST_NOTED + 1;
    return e;
}

void engine_free(struct engine *e)
{
    if (!e) return;
    for (struct page_group *g = e->grouped, *next; g; g = next) {
        next = g->next;
        free(g);
    }
    free(e->groups);
    if (e->arena) munmap(e->arena, BLOCK_ARENA);
    free(e->tables);
    decoder_free(e->decoder);
    free(e->memory);
}

static inline u32 block_hash(paddr pa, u32 mode)
{
    u64 h = (pa ^ (u64)mode << 20) * 0x9E3779B97F4A7C15ull;
    return (u32)(h >> (64 - BLOCK_HASH_BITS));
}

// NULL: no code of its 2 MiB was ever decoded
static struct page_code *page_code(const struct engine *e, paddr a)
{
    u64 n = a >> PAGE_SHIFT;
    struct page_group *g = e->groups[n / GROUP_PAGES];
    return g ? &g->page[n % GROUP_PAGES] : NULL;
}

static struct page_code *page_code_make(struct engine *e, paddr a)
{
    u64 n = a >> PAGE_SHIFT;
    struct page_group **g = &e->groups[n / GROUP_PAGES];
    if (unlikely(!*g)) {
        *g = calloc(1, sizeof **g);
        if (!*g) panic("out of memory");
        (*g)->start = n / GROUP_PAGES * GROUP_PAGES << PAGE_SHIFT;
        (*g)->next = e->grouped;
        e->grouped = *g;
    }
    return &(*g)->page[n % GROUP_PAGES];
}

u64 block_code_lines(const struct engine *e, paddr page)
{
    const struct page_code *p = page_code(e, page);
    return p ? p->lines : 0;
}

void block_flush(struct engine *e, struct phys *phys)
{
    if (!e->arena_used) return; // and so no memory of the host is touched that nothing has needed yet
    memset(e->hash, 0, sizeof e->hash);
    memset(e->jump, 0, sizeof e->jump);
    for (struct page_group *g = e->grouped; g; g = g->next)
        for (unsigned i = 0; i < GROUP_PAGES; i++) {
            if (!g->page[i].first) continue;
            g->page[i] = (struct page_code){0};
            phys_release(phys, g->start + i * PAGE_SIZE);
        }
    e->arena_used = 0;
    e->flushes++;
}

static u64 block_lines(const struct block *b) // of the page that it begins in
{
    u64 first = PAGE_SIZE - (b->pa & ~PAGE_MASK);
    return phys_lines(b->pa, b->crosses ? first : b->bytes);
}

static void block_kill(struct vcpu *v, struct block *b)
{
    struct engine *e = v->d.engine;
    b->n_check = BLOCK_DROPPED;
    e->blocks_dropped++;
    for (struct block **p = &e->hash[block_hash(b->pa, b->mode)]; *p; p = &(*p)->hash_next)
        if (*p == b) {
            *p = b->hash_next;
            break;
        }
    // the running block ends after this instruction
    if (v->d.in && insn_block(v->d.in) == b) v->d.leave = v->d.attention = true;
}

void block_code_written(struct vcpu *v, paddr a, u64 size)
{
    struct page_code *page = page_code(v->d.engine, a);
    u64 hit = phys_lines(a, size), left = 0;
    if (!page || !(page->lines & hit)) return;
    for (struct block **p = &page->first; *p;) {
        struct block *b = *p;
        u64 lines = b->n_check == BLOCK_DROPPED ? 0 : block_lines(b);
        if (b->n_check == BLOCK_DROPPED || (lines & hit)) {
            if (b->n_check != BLOCK_DROPPED) block_kill(v, b);
            *p = b->page_next;
        } else {
            left |= lines;
            p = &b->page_next;
        }
    }
    page->lines = left;
}

// Bytes of code from a physical address that may be no RAM (device memory, ROM that a device serves).
static void fetch_bytes(struct vcpu *v, paddr pa, u8 *buf, unsigned n)
{
    const u8 *h = phys_host(v->phys, pa);
    if (h)
        memcpy(buf, h, n);
    else
        phys_read(v->phys, v->index, pa, buf, n);
}

static struct block *arena_block(struct vcpu *v)
{
    struct engine *e = v->d.engine;
    size_t need =
        sizeof(struct block) + (BLOCK_INSNS_MAX + 1) * sizeof(struct insn) + sizeof(struct block_end);
    if (unlikely(e->arena_used + need > e->arena_open)) {
        // The host may have no more to give: then what there is must do.
        if (e->arena_open < BLOCK_ARENA &&
            mprotect(e->arena + e->arena_open, BLOCK_ARENA_STEP, PROT_READ | PROT_WRITE) == 0)
            e->arena_open += BLOCK_ARENA_STEP;
        else if (e->arena_open)
            block_flush(e, v->phys);
        else
            panic("out of memory");
    }
    return (struct block *)(e->arena + e->arena_used);
}

// Flags that are dead (written again before anything reads them or can look) need not be stored. Whatever may
// fault, exit or leave the block looks.
static void mark_dead_flags(struct block *b)
{
    bool dead = false; // at the end of the block everything lives
    for (int i = b->n - 1; i >= 0; i--) {
        struct insn *in = &b->in[i];
        const struct row *r = &rows[in->row];
        bool pure = r->pure && !in->mem && !in->term;
        if (r->writes == FL_ARITH && dead && pure) in->nf = 1;
        if (!pure || r->reads)
            dead = false;
        else if (r->writes == FL_ARITH)
            dead = true;
    }
}

static struct block_end *end_of(struct block *b)
{
    const struct insn *last = &b->in[b->n - 1];
    return insn_end(last->term ? last : last + 1);
}

// Makes a new block known: it can be found, and is dropped with its bytes. (Apart from block_build: that may
// raise, and so allocates nothing.)
static __attribute__((noinline)) void block_enter(struct vcpu *v, struct block *b)
{
    struct engine *e = v->d.engine;
    u32 h = block_hash(b->pa, b->mode);
    b->hash_next = e->hash[h];
    e->hash[h] = b;
    struct page_code *page = page_code_make(e, b->pa);
    b->page_next = page->first;
    page->first = b;
    page->lines |= block_lines(b);
    phys_guard_code(v->phys, b->pa, block_lines(b));
}

static struct block *block_build(struct vcpu *v, u64 rip, laddr la, paddr pa)
{
    struct engine *e = v->d.engine;
    u32 mode = v->d.mode;
    u8 buf[PAGE_SIZE + 16];
    unsigned room = (unsigned)(PAGE_SIZE - (pa & ~PAGE_MASK));
    u64 limit = mode_long64(mode) ? UINT64_MAX : v->s.seg[SEG_CS].limit;
    bool ram = phys_host(v->phys, pa) != NULL;
    unsigned window = room < 1024 ? room : 1024;
    if (!ram && window > 16) window = 16;
    fetch_bytes(v, pa, buf, window);

    struct block *b = arena_block(v);
    memset(b, 0, sizeof *b);
    b->pa = pa;
    b->mode = mode;
    unsigned n = 0, at = 0, max = ram ? BLOCK_INSNS_MAX : 1;
    if (mode & MODE_STEP) max = 1;
    while (n < max) {
        struct insn *in = &b->in[n];
        in->off = (u16)at;
        in->idx = (u8)n;
        unsigned len = at < window ? decode_insn(v, buf + at, window - at, mode, in) : 0;
        if (len == 0) {
            if (n) break;
            if (window < room) panic("an instruction of over %u bytes at %#lx", window, (unsigned long)pa);
            // The instruction goes on in the next page: only now is that page fetched from.
            laddr next = linear_at(v, (la.at & PAGE_MASK) + PAGE_SIZE);
            if (rip + room - 1 >= limit || !branch_good(v, rip + room)) raise_gp0(v);
            paddr pa2 = tlbops_fetch(v, next);
            fetch_bytes(v, pa2, buf + room, 15);
            len = decode_insn(v, buf, room + 15, mode, in);
            if (!len) panic("an instruction that never ends at %#lx", (unsigned long)pa);
            if (len > room) b->crosses = 1, b->pa2 = pa2;
            if (rip + len - 1 > limit) raise_gp0(v);
            at += len;
            n++;
            break;
        }
        if (rip + at + len - 1 > limit) {
            if (n) break;
            raise_gp0(v);
        }
        at += len;
        n++;
        if (in->term) break;
    }
    INVARIANT(n && n <= BLOCK_INSNS_MAX);
    b->n = (u16)n;
    b->n_check = (s32)n;
    b->bytes = (u16)at;
    mark_dead_flags(b);
    for (unsigned i = 0; i < n; i++)
        if (b->in[i].nf) decode_bind(&b->in[i], mode);
    exec_fn *both = n > 1 ? fused_exec(&b->in[n - 2]) : NULL;
    if (both) b->in[n - 2].exec = both;
    if (!b->in[n - 1].term) {
        struct insn *on = &b->in[n];
        memset(on, 0, sizeof *on);
        on->exec = exec_fallthrough;
        on->off = (u16)at;
        on->idx = (u8)n;
    }
    struct block_end *end = end_of(b);
    memset(end, 0, BLOCK_END_SIZE(b->crosses));
    if (b->crosses) memcpy(end->crossing, buf + room, 15);
    e->arena_used += (size_t)((u8 *)end - (u8 *)b) + BLOCK_END_SIZE(b->crosses);
    e->arena_used = (e->arena_used + 31) & ~31ull;
    e->blocks_built++;
    if (!ram) return b; // never found again

    block_enter(v, b);
    return b;
}

// A block whose one instruction goes on in another page is never linked: each time it is found, the second
// half is compared with what it was decoded from, so a remapped or rewritten second page is seen.
static bool crossing_valid(struct vcpu *v, struct block *b, laddr la)
{
    u8 now[16];
    laddr next = linear_at(v, (la.at & PAGE_MASK) + PAGE_SIZE);
    if (tlbops_fetch(v, next) != b->pa2) return false;
    unsigned n = b->bytes - (unsigned)(PAGE_SIZE - (b->pa & ~PAGE_MASK));
    fetch_bytes(v, b->pa2, now, n);
    return memcmp(now, end_of(b)->crossing, n) == 0;
}

// `j`: where to remember it, or NULL.
static struct block *look_up(struct vcpu *v, struct jump_entry *j)
{
    struct engine *e = v->d.engine;
    u64 rip = v->s.rip;
    e->lookups++;
    u32 mode = v->d.mode;
    if (!branch_good(v, rip)) raise_gp0(v);
    laddr la = rip_linear(v);
    paddr pa = tlbops_fetch(v, la);
    struct block *b = e->hash[block_hash(pa, mode)];
    while (b && (b->pa != pa || b->mode != mode)) b = b->hash_next;
    if (b && b->crosses && !crossing_valid(v, b, la)) {
        block_kill(v, b);
        b = NULL;
    }
    if (b && !mode_long64(mode) && rip + b->bytes - 1 > v->s.seg[SEG_CS].limit) {
        block_kill(v, b); // decoded under another limit
        b = NULL;
    }
    INVARIANT(!b || (block_is_at_rip(v, b) && b->n_check == b->n));
    if (!b) {
        b = block_build(v, rip, la, pa);
        if (!phys_is_ram(v->phys, pa)) return b;
    }
    v->d.found_gen = v->d.fetch_global ? v->d.fetch_gen_global : v->d.fetch_gen;
    if (j && !b->crosses && (mode & MODE_FLAT)) *j = (struct jump_entry){rip, b, v->d.found_gen, 0, 0};
    return b;
}

struct block *block_find(struct vcpu *v)
{
    struct engine *e = v->d.engine;
    u64 rip = v->s.rip;
    INVARIANT(!v->d.in && v->d.mode == mode_compute(v));
    if (unlikely(e->next_gen >= GEN_LAST)) tlbops_restart_generations(v);
    struct jump_entry *j = &e->jump[jump_hash(rip)];
    if (j->rip == rip && (j->gen == v->d.fetch_gen || j->gen == v->d.fetch_gen_global) &&
        j->b->n_check != BLOCK_DROPPED) {
        v->d.found_gen = j->gen;
        INVARIANT(block_is_at_rip(v, j->b));
        return j->b;
    }
    if (unlikely(v->d.breaks.code) && debug_code_page(v)) return (struct block *)e->looking;
    return look_up(v, j);
}

struct block *block_here(struct vcpu *v)
{
    INVARIANT(!v->d.in && v->d.mode == mode_compute(v));
    return look_up(v, NULL);
}
