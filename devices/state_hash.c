// The state hash.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "devices/machine_state.h"
#include "devices/state_hash.h"

static u64 mix(u64 a, u64 b)
{
    unsigned __int128 p = (unsigned __int128)(a ^ 0x9E3779B97F4A7C15ull) * (b ^ 0xD6E8FEB86659FD93ull);
    return (u64)p ^ (u64)(p >> 64);
}

static u64 hash_bytes(const void *data, u64 n, u64 seed)
{
    const u8 *p = data;
    u64 h = seed ^ n;
    while (n >= 16) {
        u64 a, b;
        memcpy(&a, p, 8);
        memcpy(&b, p + 8, 8);
        h = mix(a ^ h, b + h);
        p += 16, n -= 16;
    }
    u64 tail[2] = {0, 0};
    memcpy(tail, p, n);
    return mix(tail[0] ^ h, tail[1] + h + 1);
}

u64 state_hash_bytes(const void *data, u64 n) { return hash_bytes(data, n, 4); }

u64 state_hash_cpu(const struct vcpu *v)
{
    // One form of equal states: flags materialised, the rest as it is (the struct has no pointers, padding is
    // named). The INTR pin is left out: its level follows from the local APIC's state.
    struct vcpu_state *s = malloc(sizeof *s);
    if (!s) panic("no memory to hash a processor");
    memcpy(s, &v->s, sizeof *s);
    s->rflags = cpu_rflags(v);
    s->fl = 0;
    s->intr_line = false;
    u64 h = hash_bytes(s, sizeof *s, v->index);
    free(s);
    return h;
}

static void ram_update(struct state_hash *h, struct machine *m)
{
    struct phys *p = &m->phys;
    bool first = !h->page;
    u64 *dirty = machine_written(m, PHYS_DIRTY_HASH);
    if (first) {
        h->pages = p->pages;
        h->page = calloc(h->pages, sizeof *h->page);
    }
    if (!dirty || !h->page) panic("no memory for page hashes");
    for (u64 n = 0; n < h->pages; n++) {
        if (!first && !(n % 64) && !dirty[n / 64]) {
            n += 63;
            continue;
        }
        if (first ? !phys_ever_written(p, n) : !(dirty[n / 64] >> (n % 64) & 1)) continue;
        const u8 *host = phys_host(p, n << PAGE_SHIFT);
        if (!host) continue;
        u64 x = phys_page_is_zero(host) ? 0 : hash_bytes(host, PAGE_SIZE, 1) | 1;
        if (h->page[n]) h->sum -= mix(h->page[n], n);
        if (x) h->sum += mix(x, n);
        h->page[n] = x;
    }
    memset(dirty, 0, (p->pages + 63) / 64 * sizeof *dirty);
}

u64 state_hash(struct state_hash *h, struct machine *m)
{
    ram_update(h, m);
    u64 x = h->sum;
    struct state_part part[STATE_PARTS_MAX];
    unsigned n = machine_state_parts(m, part);
    for (unsigned i = 0; i < n; i++) {
        const struct state_part *p = &part[i];
        switch (p->owner) {
        case STATE_OF_CPU: x = mix(x, state_hash_cpu(m->cpu[p->index])); break;
        case STATE_OF_DEVICE: x = mix(x, hash_bytes(p->data, p->size, 2)); break;
        case STATE_OF_BOARD:
            break; // the clock and the turns: how far behind its processors it stands is the slices' doing
        }
    }
    return x;
}

void state_hash_parts(const struct state_hash *h, struct machine *m,
                      void (*put)(void *opaque, const char *name, u64 hash), void *opaque)
{
    char name[64];
    for (unsigned i = 0; i < m->cpus_n; i++) {
        const struct vcpu_state *s = &m->cpu[i]->s;
        // clang-format off
        const struct { const char *name; const void *data; size_t size; } part[] = {
            {"gpr", s->gpr, sizeof s->gpr}, {"rip", &s->rip, sizeof s->rip}, {"segments", s->seg, sizeof s->seg},
            {"control", &s->gdtr, offsetof(struct vcpu_state, blocking) - offsetof(struct vcpu_state, gdtr)},
            {"blocking and time", &s->blocking, offsetof(struct vcpu_state, nmi_pending) - offsetof(struct vcpu_state, blocking)},
            {"pending", &s->nmi_pending, offsetof(struct vcpu_state, xmm) - offsetof(struct vcpu_state, nmi_pending)},
            {"xmm", s->xmm, sizeof s->xmm}, {"ymm_high", s->ymm_high, sizeof s->ymm_high}, {"fpu", &s->fpu, sizeof s->fpu}, {"msr", &s->msr, sizeof s->msr},
            {"vmx", &s->vmx, sizeof s->vmx}, {"itlb", &s->itlb, sizeof s->itlb}, {"dtlb", &s->dtlb, sizeof s->dtlb}};
        // clang-format on
        u64 f = cpu_rflags(m->cpu[i]);
        snprintf(name, sizeof name, "cpu%u rflags", i);
        put(opaque, name, f);
        for (unsigned k = 0; k < ARRAY_LEN(part); k++) {
            snprintf(name, sizeof name, "cpu%u %s", i, part[k].name);
            put(opaque, name, hash_bytes(part[k].data, part[k].size, 3));
        }
    }
    struct state_part part[STATE_PARTS_MAX];
    unsigned parts = machine_state_parts(m, part);
    for (unsigned i = 0; i < parts; i++)
        if (part[i].owner == STATE_OF_DEVICE)
            put(opaque, part[i].name, hash_bytes(part[i].data, part[i].size, 2));
    for (u64 n = 0; n < h->pages; n++)
        if (h->page[n]) {
            snprintf(name, sizeof name, "page %#llx", (unsigned long long)n << PAGE_SHIFT);
            put(opaque, name, h->page[n]);
        }
}

void state_hash_free(struct state_hash *h)
{
    free(h->page);
    h->page = NULL;
}
