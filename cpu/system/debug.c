// Which breakpoints of the debug registers an instruction meets: see cpu/system/debug.h.
//
// A breakpoint of a data access strikes after the instruction (or the iteration of a REP) that made it, on
// whatever bytes both have in common; accesses of the processor itself to descriptor tables, TSS and stacks
// count, those of page walks do not. What the manual leaves open: B0-B3 stay 0 for breakpoints that are not
// enabled; R/W = 10 with CR4.DE = 0 meets nothing; the length of an instruction breakpoint says nothing.
#include "cpu/system/debug.h"

#include <string.h>

#include "cpu/engine/access.h"
#include "cpu/engine/tlbops.h"
#include "cpu/state/mode.h"
#include "cpu/system/stops.h"

enum { ON_EXECUTION, ON_WRITE, ON_PORT, ON_ACCESS }; // R/W of DR7

static struct breakpoints decode(const struct vcpu *v)
{
    static const u8 sizes[] = {1, 2, 8, 4}; // by LEN
    struct breakpoints b = {0};
    u64 dr7 = v->s.dr[7];
    for (unsigned i = 0; i < 4; i++) {
        u8 bit = (u8)(1 << i);
        if (!(dr7 >> 2 * i & 3)) continue;
        unsigned kind = dr7 >> (16 + 4 * i) & 3;
        b.size[i] = kind == ON_EXECUTION ? 1 : sizes[dr7 >> (18 + 4 * i) & 3];
        b.address[i] = v->s.dr[i] & ~(u64)(b.size[i] - 1);
        if (kind == ON_EXECUTION) b.code |= bit;
        if (kind == ON_WRITE || kind == ON_ACCESS) b.write |= bit;
        if (kind == ON_ACCESS) b.read |= bit;
        if (kind == ON_PORT && v->s.cr4 & CR4_DE) b.port |= bit;
    }
    b.any = b.code | b.write | b.port; // of the guest's own
    stops_derive(v, &b);
    return b;
}

void debug_changed(struct vcpu *v)
{
    struct breakpoints b = decode(v), old = v->d.breaks;
    if (memcmp(&b, &old, sizeof b) == 0) return;
    v->d.breaks = b;
    if (b.code | old.code) tlbops_drop_links(v);
    for (unsigned i = 0; i < 4; i++)
        if (b.write >> i & 1) tlbops_drop_linear(v, laddr_of(b.address[i]));
}

// Those of `which` that have bytes in common with [a, a + size).
static u8 met(const struct vcpu *v, u8 which, u64 a, u64 size, u64 wrap)
{
    const struct breakpoints *b = &v->d.breaks;
    u8 hit = 0;
    for (unsigned i = 0; i < 4; i++)
        if (which >> i & 1 &&
            (((b->address[i] - a) & wrap) < size || ((a - b->address[i]) & wrap) < b->size[i]))
            hit |= (u8)(1 << i);
    return hit;
}

static u8 on_page(const struct vcpu *v, u8 which, laddr la)
{
    return met(v, which, la.at & PAGE_MASK, PAGE_SIZE, ~0ull);
}

bool debug_code_page(const struct vcpu *v)
{
    u8 which = v->d.breaks.code;
    return on_page(v, which, rip_linear(v)) || (which & BREAKS_HOST && stops_code_page(v, rip_linear(v)));
}

bool debug_data_page(const struct vcpu *v, laddr la, paddr pa, u32 acc)
{
    u8 which = (acc & ACC_KIND) == ACC_WRITE ? v->d.breaks.write : v->d.breaks.read;
    return on_page(v, which, la) || (which & BREAKS_HOST && stops_data_page(v, la, pa, acc));
}

// Neither RF nor the shadow of a MOV to SS lets one through (SDM 19.3.1.1, 7.8.3).
void debug_before_instruction(struct vcpu *v)
{
    if (v->s.rflags & FL_RF || v->s.blocking & BLOCKING_BY_MOV_SS) return;
    u8 hit = met(v, v->d.breaks.code, rip_linear(v).at, 1, ~0ull);
    if (!hit) return;
    struct event e = {.kind = EVENT_INTERRUPTION, .vector = VEC_DB, .type = EVT_HW_EXCEPTION, .dr6 = hit};
    raise_event(v, &e);
}

static void note(struct vcpu *v, u8 hit)
{
    if (!hit) return;
    v->d.break_hit |= hit;
    v->d.attention = true;
}

void debug_access(struct vcpu *v, laddr la, u64 size, u32 acc)
{
    u8 which = (acc & ACC_KIND) == ACC_WRITE ? v->d.breaks.write : v->d.breaks.read;
    u64 wrap = cpu_lma(v) ? ~0ull : 0xFFFFFFFF;
    u8 hit = met(v, which, la.at, size, wrap);
    if (which & BREAKS_HOST && stops_access(v, la, size, acc, wrap)) hit |= BREAKS_HOST;
    note(v, hit);
}

void debug_port(struct vcpu *v, u16 port, unsigned size)
{
    note(v, met(v, v->d.breaks.port, port, size, ~0ull));
}

void debug_completed(struct vcpu *v)
{
    u8 hit = v->d.break_hit;
    v->d.break_hit = 0;
    if (hit & BREAKS_HOST) stops_completed(v);
    hit &= (u8)~BREAKS_HOST;
    if (hit) v->s.pending_dbg |= hit | PENDING_ENABLED;
}
