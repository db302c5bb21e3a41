// Random paging structures, through the walks and through a second, slow reading of the manual
// (tests/mmu_oracle.h). Status, error code, qualification, addresses, rights
// and every byte of memory afterwards must agree. The seed is printed; `test_mmu_fuzz SEED COUNT` repeats or
// extends a run.
#include "tests/mmu_oracle.h"
#include "tests/mmu_tables.h"

#include <stdio.h>
#include <stdlib.h>

#define RAM        0x40000ull
#define PAGES      (RAM / 4096)

// The last pages: sub-page-permission tables that lead somewhere, most of the time.
#define SPP_TABLES (RAM - 4 * PAGE_SIZE)

struct fuzz {
    struct oracle o;
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
    if (ept && c->ept_subpages && chance(f, 30)) v = (v & ~2ull) | 1 | 1ull << 61;
    if (chance(f, 15) && (ept || c->paging != PAGING_PAE)) v |= pick(f, 16) << 59;
    if (chance(f, 1)) v |= 1ull << pick(f, 64);
    if (chance(f, 1)) v |= pick(f, 1 << 20) << 32;
    return v;
}

static void random_subpages(struct fuzz *f)
{
    for (u64 a = SPP_TABLES; a < RAM; a += 8) {
        u64 next = (a & ~0xFFFull) + 0x1000,
            v = next < RAM ? next | 1 : (rnd(f) | rnd(f)) & 0x5555555555555555;
        if (chance(f, 20)) v ^= 1ull << (chance(f, 50) ? 0 : pick(f, 64));
        memcpy(f->o.mem + a, &v, 8);
    }
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
    if (chance(f, 30)) { // all or half of the addresses begin at another root
        c->hlat = true, c->hlat_upper = chance(f, 50);
        c->hlatp = (1 + pick(f, PAGES - 1)) << 12 | pick(f, 4) << 3;
    }
    c->ept = chance(f, 60);
    if (c->ept) {
        c->eptp = (1 + pick(f, PAGES - 1)) << 12 | (chance(f, 85) ? 3 : 4) << 3 | 6;
        c->ept_ad = chance(f, 50), c->ept_mbec = chance(f, 40), c->ept_gib = chance(f, 70);
        c->ept_exec_only = chance(f, 50), c->ept_advanced = chance(f, 50);
        c->ept_pml = chance(f, 40), c->ept_subpages = chance(f, 40);
        c->ept_paging_write = chance(f, 30), c->ept_verify = chance(f, 30);
        c->pml_log = pick(f, PAGES) << 12, c->pml_index = pick(f, RAM / 8) * 8;
        c->spp_root = SPP_TABLES;
    }
}

static void check_one(struct fuzz *f, const struct mmu_ctx *c, u64 la, u32 acc, unsigned tally[9],
                      unsigned *peeks)
{
    struct verdict v;

    if (!walk_agrees(&f->o, c, la, acc, &v)) fail();
    tally[v.status]++;
    if (v.status == WALK_OK && c->ept) tally[8]++; // through both stages
    if (!chance(f, 6)) return;
    int peek = peek_agrees(&f->o, c, la, acc);
    assert_int_not_equal(peek, -1);
    *peeks += (unsigned)peek;
}

static void test_fuzz(void **state)
{
    struct fuzz *f = *state;
    unsigned tally[5][9] = {{0}}, peeks = 0, full = 0, subpages = 0;
    const char *why;

    printf("seed %#llx count %llu\n", (unsigned long long)f->seed, (unsigned long long)f->count);
    f->rng = f->seed;
    assert_true(phys_init(&f->o.p, RAM, &why));
    f->o.mem = test_malloc(RAM);
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
            memcpy(f->o.mem + a, &v, 8);
        }
        if (c.ept_subpages) random_subpages(f);
        u16 index = (u16)(chance(f, 60) ? pick(f, 512) : pick(f, 0x10000));
        if (c.ept_pml) memcpy(f->o.mem + c.pml_index, &index, 2);
        memcpy(f->o.p.ram, f->o.mem, RAM);
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
            if (acc == ACC_WRITE) acc |= acc_span(1 + (unsigned)pick(f, 0x1000 - (la & 0xFFF)));
            check_one(f, &c, la, acc, tally[c.paging], &peeks);
        }
    }
    for (unsigned m = 0; m < 5; m++) { // the run met everything there is to meet
        printf(
            "mode %u: ok %u (%u of them through EPT), #PF %u, EPT violation %u, EPT misconfiguration %u, log "
            "full %u, sub-page event %u\n",
            m, tally[m][WALK_OK], tally[m][8], tally[m][WALK_PF], tally[m][WALK_EPT_VIOLATION],
            tally[m][WALK_EPT_MISCONFIG], tally[m][WALK_PML_FULL], tally[m][WALK_SPP]);
        full += tally[m][WALK_PML_FULL], subpages += tally[m][WALK_SPP];
        for (unsigned s = 0; s < 9; s++) {
            if (s == WALK_NOT_RAM || s == WALK_APIC_ACCESS || (s == WALK_PF && m == PAGING_OFF))
                assert_int_equal(tally[m][s], 0);
            else if (s != WALK_PML_FULL && s != WALK_SPP)
                assert_true(tally[m][s] > f->count / 10);
        }
    }
    assert_true(full > f->count / 10 && subpages > f->count / 10);
    printf("%u peeks compared\n", peeks);
    assert_true(peeks > f->count * 10);
    test_free(f->o.mem);
    phys_free(&f->o.p);
}

int main(int argc, char **argv)
{
    struct fuzz f = {.seed = argc > 1 ? strtoull(argv[1], NULL, 0) : 0x4D6174727973686Bull,
                     .count = argc > 2 ? strtoull(argv[2], NULL, 0) : 300};
    const struct CMUnitTest tests[] = {cmocka_unit_test_prestate(test_fuzz, &f)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
