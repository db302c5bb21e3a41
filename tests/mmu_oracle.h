// A second, slow reading of the manual's chapters on paging: bit by bit, without masks, on its own copy of
// memory. What the walks must say, for the tests that hold them against it.
#ifndef TESTS_MMU_ORACLE_H
#define TESTS_MMU_ORACLE_H

#include "mmu/walk.h"

#include <stdio.h>
#include <string.h>

struct oracle {
    struct phys p; // what the walks see
    u8 *mem;       // the oracle's copy of it
};

struct verdict {
    int status;
    u32 error;
    u64 qualification;
    u64 gpa, pa;
    unsigned page_bits;
    bool user, writable, executable, global, dirty, r, w, x, xu, dirty2;
    bool convertible, verification, miss; // of an EPT violation; of an SPP event
    bool bit58, upper_writable;           // of the last EPT leaf; of the entries above it
    unsigned key;
};

struct step { // an entry of stage 1 that was read
    u64 at, gpa, value;
    bool page_writable; // by EPT, for the processor's own writes
    bool bit58, convertible;
    u64 page_rights; // bits 5:3 and 6 as a qualification shows them
};

static u64 mem_read(struct oracle *f, u64 a, unsigned bytes)
{
    u64 v = 0;
    for (unsigned i = 0; i < bytes; i++) v |= (u64)(a + i < f->p.ram_size ? f->mem[a + i] : 0xFF) << 8 * i;
    return v;
}
static void mem_set_bit(struct oracle *f, u64 a, unsigned bit)
{
    if (a + bit / 8 < f->p.ram_size) f->mem[a + bit / 8] |= (u8)(1 << bit % 8);
}
static bool bit(u64 v, unsigned n) { return v >> n & 1; }
static u64 field(u64 v, unsigned high, unsigned low)
{
    u64 r = 0;
    for (unsigned i = low; i <= high; i++) r |= (v >> i & 1) << (i - low);
    return r;
}

static void mem_write(struct oracle *f, u64 a, u64 v, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++)
        if (a + i < f->p.ram_size) f->mem[a + i] = (u8)(v >> 8 * i);
}

// May bytes gpa to gpa + more be written, by the sub-page permission tables? WALK_OK, or what happens.
static int subpages_say(struct oracle *f, const struct mmu_ctx *c, u64 gpa, unsigned more, bool *miss)
{
    u64 table = c->spp_root, v;

    *miss = false;
    for (unsigned low = 39; low > 12; low -= 9) {
        v = mem_read(f, table + 8 * field(gpa, low + 8, low), 8);
        if (!bit(v, 0)) {
            *miss = true;
            return WALK_SPP;
        }
        if (field(v, 11, 1)) return WALK_SPP;
        for (unsigned b = c->maxphyaddr; b < 64; b++)
            if (bit(v, b)) return WALK_SPP;
        table = field(v, 51, 12) << 12;
    }
    v = mem_read(f, table + 8 * field(gpa, 20, 12), 8);
    for (unsigned b = 1; b < 64; b += 2)
        if (bit(v, b)) return WALK_SPP;
    for (unsigned i = 0; i <= more; i++)
        if (!bit(v, 2 * (unsigned)((gpa % 4096 + i) / 128))) return WALK_EPT_VIOLATION;
    return WALK_OK;
}

// What the extended page tables say of an address. want: 'r' read, 'w' write, 'm' read and write, 'x', 'u'
// execute; `p`: as 'm', by the processor in a guest paging structure. `more`: bytes behind the first, -1
// where sub-page permissions do not count; `verify`: a structure was in a page without bit 58.
static bool ept_says(struct oracle *f, const struct mmu_ctx *c, u64 gpa, char want, int more, bool verify,
                     struct verdict *v)
{
    unsigned levels = (unsigned)field(c->eptp, 5, 3) + 1;
    u64 at[5], table = field(c->eptp, 51, 12) << 12, value = 0;
    unsigned used = 0, low = 12 + 9 * levels;
    bool R = true, W = true, X = true, XU = true, leaf = false, upper = true, missing = false, may;
    u64 index = mem_read(f, c->pml_index, 2);

    v->convertible = v->verification = v->bit58 = false;
    v->r = v->w = v->x = v->xu = false;
    v->status = WALK_EPT_VIOLATION;
    v->gpa = gpa;
    if (low < 64 && gpa >= 1ull << low) return false;
    while (!leaf) {
        bool er, ew, ex, eu, large;

        low -= 9;
        at[used] = table + 8 * field(gpa, low + 8, low);
        value = mem_read(f, at[used], 8);
        used++;
        er = bit(value, 0), ew = bit(value, 1), ex = bit(value, 2), eu = c->ept_mbec ? bit(value, 10) : false;
        v->convertible = !bit(value, 63);
        if (!er && !ew && !ex && !eu) return false;
        v->status = WALK_EPT_MISCONFIG;
        if (!er && ew) return false;
        if (!er && ex && !c->ept_exec_only) return false;
        if (!er && eu && !c->ept_exec_only) return false;
        for (unsigned b = c->maxphyaddr; b <= 51; b++)
            if (bit(value, b)) return false;
        large = low != 12 && bit(value, 7);
        leaf = low == 12 || large;
        if (!leaf && field(value, 6, 3)) return false;
        if (large && low == 30 && !c->ept_gib) return false;
        if (large && low > 30) return false;
        if (leaf) {
            u64 type = field(value, 5, 3);
            if (type == 2 || type == 3 || type == 7) return false;
            if (!er && c->ept_paging_write && bit(value, 58)) return false;
            for (unsigned b = 12; b < low; b++)
                if (bit(value, b)) return false;
        }
        v->status = WALK_EPT_VIOLATION;
        if (!leaf) upper = upper && ew;
        R = R && er, W = W && ew, X = X && ex, XU = XU && bit(value, 10);
        table = field(value, 51, 12) << 12;
    }
    v->r = R, v->w = W, v->x = X, v->xu = XU;
    v->bit58 = bit(value, 58), v->upper_writable = upper;
    may = W || (want == 'p' && c->ept_paging_write && upper && v->bit58);
    if ((want == 'r' || want == 'm' || want == 'p') && !R) return false;
    if (want == 'x' && !X) return false;
    if (want == 'u' && !(c->ept_mbec ? XU : X)) return false;
    if ((want == 'm' || want == 'p') && !may) return false;
    if (want == 'w' && !W) {
        if (!c->ept_subpages || more < 0 || low != 12 || !bit(value, 61)) return false;
        v->status = subpages_say(f, c, gpa, (unsigned)more, &v->miss);
        if (v->status != WALK_OK) return false;
        v->status = WALK_EPT_VIOLATION;
    }
    if (verify && c->ept_verify && c->ept_paging_write && bit(value, 57)) {
        v->verification = true;
        return false;
    }
    if (want == 'p') want = 'm';
    v->dirty2 = !c->ept_ad || bit(value, 9);
    if (c->ept_ad) {
        bool write = want == 'w' || want == 'm';
        for (unsigned i = 0; i < used; i++) missing = missing || !bit(mem_read(f, at[i], 8), 8);
        missing = missing || (write && !bit(value, 9));
        if (c->ept_pml && missing && index > 511) {
            v->status = WALK_PML_FULL;
            return false;
        }
        write = write && !bit(mem_read(f, at[used - 1], 8), 9); // makes it dirty
        for (unsigned i = 0; i < used; i++) mem_set_bit(f, at[i], 8);
        if (want == 'w' || want == 'm') mem_set_bit(f, at[used - 1], 9), v->dirty2 = true;
        if (c->ept_pml && write) {
            mem_write(f, c->pml_log + 8 * index, gpa - gpa % 4096, 8);
            mem_write(f, c->pml_index, index - 1, 2);
        }
    }
    v->pa = (field(value, 51, low) << low) + (gpa - (gpa >> low << low));
    v->status = WALK_OK;
    return true;
}

static void qualify(const struct mmu_ctx *c, struct verdict *v, char want, bool final)
{
    v->qualification = v->status == WALK_SPP && v->miss ? 2048 : 0;
    if (v->status != WALK_EPT_VIOLATION) return;
    if (want == 'r' || want == 'm' || want == 'p') v->qualification += 1;
    if (want == 'w' || want == 'm' || want == 'p') v->qualification += 2;
    if (want == 'x' || want == 'u') v->qualification += 4;
    v->qualification += (v->r ? 8 : 0) + (v->w ? 16 : 0) + (v->x ? 32 : 0) + (v->xu && c->ept_mbec ? 64 : 0);
    v->qualification += 128 + (final ? 256 : 0);
    if (final && c->ept_advanced)
        v->qualification += (v->user ? 512 : 0) + (v->writable ? 1024 : 0) + (v->executable ? 0 : 2048);
    if (v->verification) v->qualification += 32768;
}

static struct verdict oracle(struct oracle *f, const struct mmu_ctx *c, u64 la, u32 acc)
{
    struct verdict v = {.user = true, .writable = true, .executable = true, .page_bits = 12};
    bool legacy = c->paging == PAGING_32, write = (acc & 3) == ACC_WRITE, fetch = (acc & 3) == ACC_FETCH;
    bool by_user = acc & ACC_USER, key_stops = false, stop = false;
    unsigned entry_bytes = legacy ? 4 : 8, per = legacy ? 10 : 9, low;
    struct step step[5];
    unsigned steps = 0;
    u64 table = 0, value = 0, gpa = la;
    char want;
    bool hlat = false;
    unsigned most = 64;

    v.error = (write ? 2 : 0) + (by_user ? 4 : 0);
    if (fetch && (c->smep || (c->nxe && !legacy))) v.error += 16;
    v.r = v.w = v.x = v.xu = v.dirty2 = true;

    if (c->paging == PAGING_OFF) {
        v.dirty = true;
        goto second;
    }
    switch (c->paging) {
    case PAGING_32: low = 32, table = field(c->cr3, 31, 12) << 12; break;
    case PAGING_PAE:
        low = 30;
        value = c->pdpte[field(la, 31, 30)];
        if (!bit(value, 0)) {
            v.status = WALK_PF;
            return v;
        }
        table = field(value, c->maxphyaddr - 1u, 12) << 12;
        break;
    default:
        low = c->paging == PAGING_4LEVEL ? 48 : 57;
        hlat = c->hlat &&
               (!c->hlat_upper || bit(la, 63)); // instead of CR3's, and no bit of the address is above
        table = field(hlat ? c->hlatp : c->cr3, c->maxphyaddr - 1u, 12) << 12;
    }
again:
    for (bool leaf = false; !leaf;) {
        struct step *s = &step[steps];
        bool reserved = false, large;

        low -= per;
        s->at = s->gpa = table + entry_bytes * field(la, low + per - 1, low);
        s->page_writable = true;
        if (c->ept) {
            want = c->ept_ad ? 'p' : 'r';
            if (!ept_says(f, c, s->gpa, want, -1, false, &v)) {
                qualify(c, &v, want, false);
                return v;
            }
            s->at = v.pa;
            s->bit58 = v.bit58, s->convertible = v.convertible;
            // The leaf's own right does not count where bit 58 does; all others above it do.
            s->page_writable = v.w || (c->ept_paging_write && v.bit58 && v.upper_writable);
            s->page_rights = (v.r ? 8 : 0) + (v.w ? 16 : 0) + (v.x ? 32 : 0) + (v.xu && c->ept_mbec ? 64 : 0);
        }
        value = s->value = mem_read(f, s->at, entry_bytes);
        steps++;
        v.status = WALK_PF;
        if (!bit(value, 0)) {
            if (hlat) v.error += 128;
            return v;
        }
        if (legacy) {
            large = low == 22 && c->pse && bit(value, 7);
            if (large) {
                unsigned m = c->maxphyaddr > 40 ? 40 : c->maxphyaddr;
                for (unsigned b = 13; b <= 21; b++)
                    if (b + 19 >= m && bit(value, b)) reserved = true;
            }
        } else {
            large = low > 12 && bit(value, 7);
            for (unsigned b = c->maxphyaddr; b < 52; b++)
                if (bit(value, b)) reserved = true;
            if (c->paging == PAGING_PAE)
                for (unsigned b = 52; b < 63; b++)
                    if (bit(value, b)) reserved = true;
            if (bit(value, 63) && !c->nxe) reserved = true;
            if (large && (low > 30 || (low == 30 && !c->gib_pages))) reserved = true;
            if (large)
                for (unsigned b = 13; b < low; b++)
                    if (bit(value, b)) reserved = true;
        }
        if (reserved) {
            v.error += 1 + 8 + (hlat ? 128 : 0);
            return v;
        }
        if (hlat && bit(value, 11)) { // all over again, from CR3
            if (low < most) most = low;
            hlat = false, steps = 0;
            v.user = v.writable = v.executable = true;
            low = c->paging == PAGING_4LEVEL ? 48 : 57;
            table = field(c->cr3, c->maxphyaddr - 1u, 12) << 12;
            goto again;
        }
        if (!bit(value, 1)) v.writable = false;
        if (!bit(value, 2)) v.user = false;
        if (!legacy && bit(value, 63)) v.executable = false;
        leaf = large || low == 12;
        table = field(value, legacy ? 31 : 51, 12) << 12;
    }
    v.page_bits = low < most ? low : most;
    if (legacy && low == 22)
        gpa = (field(value, 31, 22) << 22) + (field(value, 20, 13) << 32);
    else
        gpa = field(value, legacy ? 31 : 51, low) << low;
    gpa += field(la, low - 1, 0);
    v.global = bit(value, 8) && c->pge;
    v.key = c->paging >= PAGING_4LEVEL ? (unsigned)field(value, 62, 59) : 0;

    // May this access be made?
    if (c->pke && c->paging >= PAGING_4LEVEL && v.user && !fetch) {
        if (bit(c->pkru, 2 * v.key)) key_stops = true;
        if (bit(c->pkru, 2 * v.key + 1) && write && (by_user || c->wp)) key_stops = true;
    }
    if (c->pks && c->paging >= PAGING_4LEVEL && !v.user && !fetch) { // supervisor-mode address
        if (bit(c->pkrs, 2 * v.key)) key_stops = true;
        if (bit(c->pkrs, 2 * v.key + 1) && write && (by_user || c->wp)) key_stops = true;
    }
    if (fetch && !v.executable) stop = true;
    if (by_user && !v.user) stop = true;
    if (write && !v.writable && (by_user || c->wp)) stop = true;
    if (!by_user && v.user && fetch && c->smep) stop = true;
    if (!by_user && v.user && !fetch && c->smap && !((acc & ACC_AC) && !(acc & ACC_IMPLICIT))) stop = true;
    if (stop || key_stops) {
        v.error += 1 + (key_stops ? 32 : 0);
        return v;
    }
    for (unsigned i = 0; i < steps; i++) {
        bool last = i == steps - 1, need_a = !bit(step[i].value, 5),
             need_d = last && write && !bit(step[i].value, 6);

        if (!need_a && !need_d) continue;
        if (!step[i].page_writable) {
            v.status = WALK_EPT_VIOLATION;
            v.gpa = step[i].gpa, v.convertible = step[i].convertible;
            v.qualification = 1 + 2 + step[i].page_rights + 128;
            return v;
        }
        mem_set_bit(f, step[i].at, 5);
        if (last && write) mem_set_bit(f, step[i].at, 6);
    }
    v.dirty = write || bit(value, 6);

second:
    v.status = WALK_OK;
    v.gpa = v.pa = gpa;
    if (c->ept) {
        bool verify = false;
        want = write ? 'w' : fetch ? (v.user ? 'u' : 'x') : 'r';
        for (unsigned i = 0; i < steps; i++) verify = verify || !step[i].bit58;
        if (!ept_says(f, c, gpa, want, (int)(acc >> ACC_SPAN_SHIFT), verify, &v)) qualify(c, &v, want, true);
    } else {
        v.r = v.w = v.x = v.xu = v.dirty2 = true;
    }
    return v;
}

// ---- the walks beside it ----

// False, and the difference is printed, if the walk says or does to memory anything else.
static bool walk_agrees(struct oracle *f, const struct mmu_ctx *c, u64 la, u32 acc, struct verdict *v)
{
    *v = oracle(f, c, la, acc);
    struct walk_result r = walk_linear(&f->p, c, laddr_of(la), acc);
    u32 rights = 0;
    bool same = r.status == (unsigned)v->status;

    if (v->status == WALK_PF) same = same && r.error == v->error;
    if (v->status == WALK_EPT_VIOLATION)
        same = same && r.qualification == v->qualification && r.convertible == v->convertible;
    if (v->status == WALK_SPP) same = same && r.qualification == v->qualification && r.gpa.at == v->gpa;
    if (v->status == WALK_EPT_VIOLATION || v->status == WALK_EPT_MISCONFIG) same = same && r.gpa.at == v->gpa;
    if (v->status == WALK_OK) {
        rights |= v->user ? TLB_USER : 0;
        rights |= v->writable ? TLB_WRITE : 0;
        rights |= v->executable ? TLB_EXEC : 0;
        rights |= v->global ? TLB_GLOBAL : 0;
        rights |= v->dirty ? TLB_DIRTY : 0;
        rights |= v->r ? TLB_S2_READ : 0;
        rights |= v->w ? TLB_S2_WRITE : 0;
        rights |= v->x ? TLB_S2_EXEC : 0;
        rights |= v->xu ? TLB_S2_EXEC_USER : 0;
        rights |= v->dirty2 ? TLB_S2_DIRTY : 0;
        rights |= v->key << TLB_PKEY_SHIFT;
        same =
            same && r.gpa.at == v->gpa && r.pa == v->pa && r.rights == rights && r.page_shift == v->page_bits;
        // a write that sub-page permissions grant is granted anew each time
        same = same && walk_rights_permit(c, r.rights, acc) == (v->w || (acc & 3) != ACC_WRITE);
    }
    if (same && memcmp(f->mem, f->p.ram, f->p.ram_size) == 0) return true;
    printf("paging %u la %#llx acc %#x ept %d: walk says status %u error %#x q %#llx gpa %#llx pa %#llx "
           "rights %#x shift %u, "
           "oracle status %d error %#x q %#llx gpa %#llx pa %#llx rights %#x shift %u\n",
           c->paging, (unsigned long long)la, acc, c->ept, r.status, r.error,
           (unsigned long long)r.qualification, (unsigned long long)r.gpa.at, (unsigned long long)r.pa,
           r.rights, r.page_shift, v->status, v->error, (unsigned long long)v->qualification,
           (unsigned long long)v->gpa, (unsigned long long)v->pa, rights, v->page_bits);
    return false;
}

// A peek changes nothing, and says what the walk says whose flags are all set already. (A walk that sets a
// flag may change an entry that it reads afterwards; and a peek stops where an entry is not in RAM.) The two
// memories are the same before and after. Returns 1 agreed, 0 not to be compared, -1 they differ.
static int peek_agrees(struct oracle *f, const struct mmu_ctx *c, u64 la, u32 acc)
{
    struct walk_steps steps;
    struct walk_result peek = walk_peek(&f->p, c, laddr_of(la), acc, &steps);

    if (memcmp(f->mem, f->p.ram, f->p.ram_size) != 0) return -1;
    for (unsigned i = 0; i < steps.n; i++) {
        const struct walk_step *s = &steps.step[i];
        if (mem_read(f, s->pa, c->paging == PAGING_32 && !s->second ? 4 : 8) != s->value) return -1;
    }
    if (peek.status == WALK_NOT_RAM) return 0;
    struct walk_result r = walk_linear(&f->p, c, laddr_of(la), acc);
    if (memcmp(f->mem, f->p.ram, f->p.ram_size) != 0) { // it set flags
        memcpy(f->p.ram, f->mem, f->p.ram_size);
        return 0;
    }
    bool same = peek.status == r.status && peek.page_shift == r.page_shift && peek.rights == r.rights &&
                peek.error == r.error && peek.qualification == r.qualification && peek.gpa.at == r.gpa.at &&
                peek.pa == r.pa;
    return same ? 1 : -1;
}

#endif
