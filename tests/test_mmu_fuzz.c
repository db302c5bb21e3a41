// Random paging structures, through the walks and through a second, slow reading of the manual written here:
// bit by bit, without masks, on its own copy of memory. Status, error code, qualification, addresses, rights
// and every byte of memory afterwards must agree. The seed is printed; `test_mmu_fuzz SEED COUNT` repeats or
// extends a run.
#include "tests/mmu_tables.h"

#include <stdio.h>
#include <stdlib.h>

#define RAM   0x40000ull
#define PAGES (RAM / 4096)

struct fuzz {
    struct phys p;
    u8 *mem; // the oracle's copy
    u64 rng;
    u64 seed, count;
};

static u64 rnd(struct fuzz *f)
{
    f->rng ^= f->rng << 13, f->rng ^= f->rng >> 7, f->rng ^= f->rng << 17;
    return f->rng * 0x2545F4914F6CDD1Dull;
}
static u64 pick(struct fuzz *f, u64 n) { return (rnd(f) >> 33) % n; }
static bool chance(struct fuzz *f, u64 percent) { return pick(f, 100) < percent; }

// ---- the oracle ----

struct verdict {
    int status;
    u32 error;
    u64 qualification;
    u64 gpa, pa;
    unsigned page_bits;
    bool user, writable, executable, global, dirty, r, w, x, xu, dirty2;
    unsigned key;
};

struct step { // an entry of stage 1 that was read
    u64 at, gpa, value;
    bool page_writable; // by EPT
    u64 page_rights;    // bits 5:3 and 6 as a qualification shows them
};

static u64 mem_read(struct fuzz *f, u64 a, unsigned bytes)
{
    u64 v = 0;
    for (unsigned i = 0; i < bytes; i++) v |= (u64)(a + i < RAM ? f->mem[a + i] : 0xFF) << 8 * i;
    return v;
}
static void mem_set_bit(struct fuzz *f, u64 a, unsigned bit)
{
    if (a + bit / 8 < RAM) f->mem[a + bit / 8] |= (u8)(1 << bit % 8);
}
static bool bit(u64 v, unsigned n) { return v >> n & 1; }
static u64 field(u64 v, unsigned high, unsigned low)
{
    u64 r = 0;
    for (unsigned i = low; i <= high; i++) r |= (v >> i & 1) << (i - low);
    return r;
}

// What the extended page tables say of an address. want: 'r' read, 'w' write, 'm' read and write, 'x', 'u'
// execute.
static bool ept_says(struct fuzz *f, const struct mmu_ctx *c, u64 gpa, char want, struct verdict *v)
{
    unsigned levels = (unsigned)field(c->eptp, 5, 3) + 1;
    u64 at[5], table = field(c->eptp, 51, 12) << 12, value = 0;
    unsigned used = 0, low = 12 + 9 * levels;
    bool R = true, W = true, X = true, XU = true, leaf = false;

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
            for (unsigned b = 12; b < low; b++)
                if (bit(value, b)) return false;
        }
        v->status = WALK_EPT_VIOLATION;
        R = R && er, W = W && ew, X = X && ex, XU = XU && (c->ept_mbec ? eu : ex);
        table = field(value, 51, 12) << 12;
    }
    v->r = R, v->w = W, v->x = X, v->xu = XU;
    if ((want == 'r' || want == 'm') && !R) return false;
    if ((want == 'w' || want == 'm') && !W) return false;
    if (want == 'x' && !X) return false;
    if (want == 'u' && !XU) return false;
    v->dirty2 = !c->ept_ad || bit(value, 9);
    if (c->ept_ad) {
        for (unsigned i = 0; i < used; i++) mem_set_bit(f, at[i], 8);
        if (want == 'w' || want == 'm') mem_set_bit(f, at[used - 1], 9), v->dirty2 = true;
    }
    v->pa = (field(value, 51, low) << low) + (gpa - (gpa >> low << low));
    v->status = WALK_OK;
    return true;
}

static void qualify(const struct mmu_ctx *c, struct verdict *v, char want, bool final)
{
    v->qualification = 0;
    if (v->status != WALK_EPT_VIOLATION) return;
    if (want == 'r' || want == 'm') v->qualification += 1;
    if (want == 'w' || want == 'm') v->qualification += 2;
    if (want == 'x' || want == 'u') v->qualification += 4;
    v->qualification += (v->r ? 8 : 0) + (v->w ? 16 : 0) + (v->x ? 32 : 0) + (v->xu && c->ept_mbec ? 64 : 0);
    v->qualification += 128 + (final ? 256 : 0);
}

static struct verdict oracle(struct fuzz *f, const struct mmu_ctx *c, u64 la, u32 acc)
{
    struct verdict v = {.user = true, .writable = true, .executable = true, .page_bits = 12};
    bool legacy = c->paging == PAGING_32, write = (acc & 3) == ACC_WRITE, fetch = (acc & 3) == ACC_FETCH;
    bool by_user = acc & ACC_USER, key_stops = false, stop = false;
    unsigned entry_bytes = legacy ? 4 : 8, per = legacy ? 10 : 9, low;
    struct step step[5];
    unsigned steps = 0;
    u64 table = 0, value = 0, gpa = la;
    char want;

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
    case PAGING_4LEVEL: low = 48, table = field(c->cr3, c->maxphyaddr - 1u, 12) << 12; break;
    default: low = 57, table = field(c->cr3, c->maxphyaddr - 1u, 12) << 12; break;
    }
    for (bool leaf = false; !leaf;) {
        struct step *s = &step[steps];
        bool reserved = false, large;

        low -= per;
        s->at = s->gpa = table + entry_bytes * field(la, low + per - 1, low);
        s->page_writable = true;
        if (c->ept) {
            want = c->ept_ad ? 'm' : 'r';
            if (!ept_says(f, c, s->gpa, want, &v)) {
                qualify(c, &v, want, false);
                return v;
            }
            s->at = v.pa;
            s->page_writable = v.w;
            s->page_rights = (v.r ? 8 : 0) + (v.w ? 16 : 0) + (v.x ? 32 : 0) + (v.xu && c->ept_mbec ? 64 : 0);
        }
        value = s->value = mem_read(f, s->at, entry_bytes);
        steps++;
        v.status = WALK_PF;
        if (!bit(value, 0)) return v;
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
            v.error += 1 + 8;
            return v;
        }
        if (!bit(value, 1)) v.writable = false;
        if (!bit(value, 2)) v.user = false;
        if (!legacy && bit(value, 63)) v.executable = false;
        leaf = large || low == 12;
        table = field(value, legacy ? 31 : 51, 12) << 12;
    }
    v.page_bits = low;
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
            v.gpa = step[i].gpa;
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
        want = write ? 'w' : fetch ? (v.user ? 'u' : 'x') : 'r';
        if (!ept_says(f, c, gpa, want, &v)) qualify(c, &v, want, true);
    } else {
        v.r = v.w = v.x = v.xu = v.dirty2 = true;
    }
    return v;
}

// ---- random structures ----

// An entry that is likely, but not sure, to be what a walk can use.
static u64 random_entry(struct fuzz *f, const struct mmu_ctx *c, bool ept)
{
    u64 v = (1 + pick(f, PAGES - 1)) << 12;

    // EPT tables lie on pages of the EPTP's parity, and mostly point there (which of them are leaves is up to
    // the walk).
    if (ept && chance(f, 80)) v = (v & ~0x1000ull) | (c->eptp & 0x1000);
    v |= ept ? (chance(f, 94) ? 7 : pick(f, 8))
             : (chance(f, 92) ? 1 : 0) | (chance(f, 85) ? 6 : pick(f, 8) & 6);
    if (ept && chance(f, 70)) v |= 0x400;
    if (ept && chance(f, 3)) v |= pick(f, 16) << 3;
    if (chance(f, ept ? 4 : 10)) v |= 0x80;           // a large page
    if (chance(f, 5)) v &= ~0x3FFFF000ull;            // aligned for one
    if (chance(f, 30)) v |= pick(f, 64) << 5 & 0xF60; // flags and ignored bits
    if (c->paging == PAGING_32 && !ept) return v;
    if (!ept && chance(f, 8) && c->nxe) v |= 1ull << 63;
    if (chance(f, 15) && (ept || c->paging != PAGING_PAE)) v |= pick(f, 16) << 59;
    if (chance(f, 1)) v |= 1ull << pick(f, 64);
    if (chance(f, 1)) v |= pick(f, 1 << 20) << 32;
    return v;
}

static void random_context(struct fuzz *f, struct mmu_ctx *c)
{
    static const u8 widths[] = {36, 39, 40, 46, 52};

    memset(c, 0, sizeof(*c));
    c->paging = (u8)pick(f, 5);
    c->maxphyaddr = widths[pick(f, ARRAY_LEN(widths))];
    c->wp = chance(f, 50), c->smep = chance(f, 30), c->smap = chance(f, 30), c->pke = chance(f, 40),
    c->pks = chance(f, 40);
    c->pse = chance(f, 80), c->nxe = chance(f, 70), c->pge = chance(f, 50), c->gib_pages = chance(f, 70);
    c->pkru = chance(f, 60) ? (u32)(rnd(f) & rnd(f) & rnd(f)) : 0;
    c->pkrs = chance(f, 60) ? (u32)(rnd(f) & rnd(f) & rnd(f)) : 0;
    c->cr3 = (1 + pick(f, PAGES - 1)) << 12 | pick(f, 4096);
    if (c->paging == PAGING_32) c->cr3 = (u32)c->cr3;
    for (unsigned i = 0; i < 4; i++) c->pdpte[i] = (1 + pick(f, PAGES - 1)) << 12 | (chance(f, 90) ? 1 : 0);
    c->ept = chance(f, 60);
    if (c->ept) {
        c->eptp = (1 + pick(f, PAGES - 1)) << 12 | (chance(f, 85) ? 3 : 4) << 3 | 6;
        c->ept_ad = chance(f, 50), c->ept_mbec = chance(f, 40), c->ept_gib = chance(f, 70);
        c->ept_exec_only = chance(f, 50);
    }
}

// A peek changes nothing, and says what the walk says whose flags are all set already. (A walk that sets a
// flag may change an entry that it reads afterwards; and a peek stops where an entry is not in RAM.)
static void check_peek(struct fuzz *f, const struct mmu_ctx *c, u64 la, u32 acc, unsigned *compared)
{
    struct walk_steps steps;
    struct walk_result peek = walk_peek(&f->p, c, la, acc, &steps);

    assert_memory_equal(f->mem, f->p.ram, RAM);
    for (unsigned i = 0; i < steps.n; i++) {
        const struct walk_step *s = &steps.step[i];
        assert_int_equal(mem_read(f, s->pa, c->paging == PAGING_32 && !s->second ? 4 : 8), s->value);
    }
    if (peek.status == WALK_NOT_RAM) return;
    struct walk_result r = walk_linear(&f->p, c, la, acc);
    if (memcmp(f->mem, f->p.ram, RAM)) { // it set flags
        memcpy(f->p.ram, f->mem, RAM);
        return;
    }
    assert_int_equal(peek.status, r.status);
    assert_int_equal(peek.page_shift, r.page_shift);
    assert_int_equal(peek.rights, r.rights);
    assert_int_equal(peek.error, r.error);
    assert_int_equal(peek.qualification, r.qualification);
    assert_int_equal(peek.gpa, r.gpa);
    assert_int_equal(peek.pa, r.pa);
    (*compared)++;
}

static void check_one(struct fuzz *f, const struct mmu_ctx *c, u64 la, u32 acc, unsigned tally[5],
                      unsigned *peeks)
{
    struct verdict v = oracle(f, c, la, acc);
    struct walk_result r = walk_linear(&f->p, c, la, acc);
    u32 rights = 0;
    bool same = r.status == v.status;

    tally[v.status]++;
    if (v.status == WALK_OK && c->ept) tally[4]++; // through both stages
    if (v.status == WALK_PF) same = same && r.error == v.error;
    if (v.status == WALK_EPT_VIOLATION) same = same && r.qualification == v.qualification;
    if (v.status == WALK_EPT_VIOLATION || v.status == WALK_EPT_MISCONFIG) same = same && r.gpa == v.gpa;
    if (v.status == WALK_OK) {
        rights |= v.user ? TLB_USER : 0;
        rights |= v.writable ? TLB_WRITE : 0;
        rights |= v.executable ? TLB_EXEC : 0;
        rights |= v.global ? TLB_GLOBAL : 0;
        rights |= v.dirty ? TLB_DIRTY : 0;
        rights |= v.r ? TLB_S2_READ : 0;
        rights |= v.w ? TLB_S2_WRITE : 0;
        rights |= v.x ? TLB_S2_EXEC : 0;
        rights |= v.xu ? TLB_S2_EXEC_USER : 0;
        rights |= v.dirty2 ? TLB_S2_DIRTY : 0;
        rights |= v.key << TLB_PKEY_SHIFT;
        same = same && r.gpa == v.gpa && r.pa == v.pa && r.rights == rights && r.page_shift == v.page_bits;
        same = same && walk_rights_permit(c, r.rights, acc);
    }
    if (same && chance(f, 6)) check_peek(f, c, la, acc, peeks); // few: each compares all of memory
    if (!same || memcmp(f->mem, f->p.ram, RAM)) {
        printf("paging %u la %#llx acc %#x ept %d: walk says status %u error %#x q %#llx gpa %#llx pa %#llx "
               "rights %#x shift %u, "
               "oracle status %d error %#x q %#llx gpa %#llx pa %#llx rights %#x shift %u\n",
               c->paging, (unsigned long long)la, acc, c->ept, r.status, r.error,
               (unsigned long long)r.qualification, (unsigned long long)r.gpa, (unsigned long long)r.pa,
               r.rights, r.page_shift, v.status, v.error, (unsigned long long)v.qualification,
               (unsigned long long)v.gpa, (unsigned long long)v.pa, rights, v.page_bits);
        fail();
    }
}

static void test_fuzz(void **state)
{
    struct fuzz *f = *state;
    unsigned tally[5][5] = {{0}}, peeks = 0;
    const char *why;

    printf("seed %#llx count %llu\n", (unsigned long long)f->seed, (unsigned long long)f->count);
    f->rng = f->seed;
    assert_true(phys_init(&f->p, RAM, &why));
    f->mem = test_malloc(RAM);
    for (u64 n = 0; n < f->count; n++) {
        struct mmu_ctx c;

        random_context(f, &c);
        // All memory is entries, of guest tables on half of the pages and EPT tables on the others, but
        // nothing keeps a walk to its half: a table that is both, or points to itself, must be read the same
        // way too.
        for (u64 a = 0; a < RAM; a += 8) {
            bool ept = c.ept && (c.eptp >> 12 & 1) == (a >> 12 & 1);
            u64 v = random_entry(f, &c, ept);

            if (c.paging == PAGING_32 && !ept) v = (u32)v | random_entry(f, &c, false) << 32;
            memcpy(f->mem + a, &v, 8);
        }
        memcpy(f->p.ram, f->mem, RAM);
        for (unsigned k = 0; k < 400; k++) {
            u64 la = rnd(f);
            u32 acc = (u32)pick(f, 3);

            if (c.paging == PAGING_4LEVEL)
                la = (u64)((s64)(la << 16) >> 16);
            else if (c.paging == PAGING_5LEVEL)
                la = (u64)((s64)(la << 7) >> 7);
            else if (c.paging == PAGING_OFF)
                la = chance(f, 50) ? la % RAM : (u32)la;
            else
                la = (u32)la;
            if (chance(f, 40))
                acc |= ACC_USER;
            else if (chance(f, 30))
                acc |= ACC_IMPLICIT;
            if (chance(f, 40)) acc |= ACC_AC;
            check_one(f, &c, la, acc, tally[c.paging], &peeks);
        }
    }
    for (unsigned m = 0; m < 5; m++) { // the run met everything there is to meet
        printf("mode %u: ok %u (%u of them through EPT), #PF %u, EPT violation %u, EPT misconfiguration %u\n",
               m, tally[m][WALK_OK], tally[m][4], tally[m][WALK_PF], tally[m][WALK_EPT_VIOLATION],
               tally[m][WALK_EPT_MISCONFIG]);
        for (unsigned s = 0; s < 5; s++) {
            if (s == WALK_PF && m == PAGING_OFF)
                assert_int_equal(tally[m][s], 0);
            else
                assert_true(tally[m][s] > f->count / 10);
        }
    }
    printf("%u peeks compared\n", peeks);
    assert_true(peeks > f->count * 10);
    test_free(f->mem);
    phys_free(&f->p);
}

int main(int argc, char **argv)
{
    struct fuzz f = {.seed = argc > 1 ? strtoull(argv[1], NULL, 0) : 0x4D6174727973686Bull,
                     .count = argc > 2 ? strtoull(argv[2], NULL, 0) : 300};
    const struct CMUnitTest tests[] = {cmocka_unit_test_prestate(test_fuzz, &f)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
