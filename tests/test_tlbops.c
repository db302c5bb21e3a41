// The mirrors of the architectural TLBs: fast tables and fetch generations. Whatever changes (rights,
// contexts, page tables, invalidations, replacement), a fast entry must stay a part of the data TLB under the
// rights of its view, and a link that is still good must go where the instruction TLB goes.
#include "tests/mmu_tables.h"

#include "cpu/engine/access.h"
#include "cpu/system/cpuid.h"
#include "cpu/engine/fast.h"
#include "cpu/state/mode.h"
#include "cpu/engine/tlbops.h"
#include "cpu/system/system.h"

#include <stdio.h>
#include <stdlib.h>

#define MIB   (1024ull * 1024)
#define PAGES 64 // linear pages in play, of them 16 in one 2 MiB page

struct rig {
    struct tables t;
    struct cpu_features features;
    struct vcpu *v;
    u64 rng;
    paddr roots[3];
    paddr leaf[3][PAGES]; // where the leaf entry of each page lies, in each address space
    struct {
        u64 la;
        paddr pa;
        u32 gen;
    } linked[256]; // fetches seen, and the generation that would have linked to them
    unsigned n_linked;
};

static u64 rnd(struct rig *r)
{
    r->rng ^= r->rng << 13, r->rng ^= r->rng >> 7, r->rng ^= r->rng << 17;
    return r->rng * 0x2545F4914F6CDD1Dull;
}
static u64 pick(struct rig *r, u64 n) { return (rnd(r) >> 33) % n; }

static u64 page_la(unsigned n)
{
    return n < 16 ? 0x40000000 + n * 0x21000ull % (2 * MIB) : 0x7F0000000000ull + n * 0x1000ull;
}
// Pages that fall into one set of the TLB, so that replacement happens.
static u64 crowd_la(unsigned n) { return 0x10000000000ull + (u64)n * 0x200000 + ((u64)n << 12 & 0x1FF000); }

static paddr table_at(struct rig *r, paddr entry)
{
    u64 v = get64(&r->t, entry);
    if (!(v & 1)) put64(&r->t, entry, v = new_page(&r->t) | 7);
    return v & 0xFFFFFFFFFF000ull;
}

static paddr map_page(struct rig *r, paddr root, u64 la, paddr to, u64 flags, bool large)
{
    paddr table = root, at;

    for (int level = 3; level > (large ? 1 : 0); level--)
        table = table_at(r, table + (la >> (12 + 9 * level) & 511) * 8);
    at = table + (la >> (large ? 21 : 12) & 511) * 8;
    put64(&r->t, at, to | flags | (large ? 0x80 : 0));
    return at;
}

static void rig_init(struct rig *r)
{
    memset(r, 0, sizeof(*r));
    tables_init(&r->t, 32 * MIB);
    r->features.maxphyaddr = 40;
    r->v = vcpu_new(0, &r->t.p, &r->features);
    assert_non_null(r->v);
    r->rng = 0x9E3779B97F4A7C15ull;
    for (unsigned s = 0; s < 3; s++) {
        r->roots[s] = new_page(&r->t);
        for (unsigned n = 0; n < PAGES; n++) {
            if (n < 16)
                r->leaf[s][n] = map_page(r, r->roots[s], page_la(n), 4 * MIB + s * 2 * MIB, 7, true);
            else
                r->leaf[s][n] = map_page(r, r->roots[s], page_la(n), 16 * MIB + n * 0x1000 + s * MIB,
                                         7 | (n & 1) << 8, false);
        }
        for (unsigned n = 0; n < 12; n++)
            map_page(r, r->roots[s], crowd_la(n), 24 * MIB + n * 0x1000, 7, false);
    }
    struct vcpu_state *st = &r->v->s;
    st->cr0 = CR0_PE | CR0_PG | CR0_WP;
    st->cr3 = r->roots[0];
    st->cr4 = CR4_PAE | CR4_PGE;
    st->msr.efer = EFER_LME | EFER_LMA | EFER_NXE;
    st->seg[SEG_CS].ar = AR_P | AR_S | AR_CODE | AR_READABLE | AR_ACCESSED | AR_L;
    st->seg[SEG_SS].ar = AR_P | AR_S | AR_WRITABLE | AR_ACCESSED | AR_DB;
    cpu_mode_changed(r->v);
}

static void rig_free(struct rig *r)
{
    vcpu_free(r->v);
    phys_free(&r->t.p);
}

static void set_cpl(struct rig *r, unsigned cpl)
{
    u32 *ss = &r->v->s.seg[SEG_SS].ar;

    *ss = (*ss & ~(3u << 5)) | cpl << 5;
    cpu_mode_changed(r->v);
}

// The access that an instruction makes: the fast path if it is open, else the slow one. True if it went
// through.
static bool access_memory(struct rig *r, u64 la, u32 kind, bool *fast)
{
    struct vcpu *v = r->v;

    *fast = (kind == ACC_READ ? fast_read(v, laddr_of(la), 8) : fast_write(v, laddr_of(la), 8)) != NULL;
    if (*fast) return true;
    if (_setjmp(v->d.landing)) return false;
    if (kind == ACC_READ)
        (void)lin_load(v, laddr_of(la), 8);
    else
        lin_store(v, laddr_of(la), 8, 0x55);
    return true;
}

static bool fetch(struct rig *r, u64 la)
{
    struct vcpu *v = r->v;
    paddr pa;

    if (_setjmp(v->d.landing)) return false;
    pa = tlbops_fetch(v, laddr_of(la));
    r->linked[r->n_linked % ARRAY_LEN(r->linked)].la = la;
    r->linked[r->n_linked % ARRAY_LEN(r->linked)].pa = pa;
    r->linked[r->n_linked++ % ARRAY_LEN(r->linked)].gen =
        v->d.fetch_global ? v->d.fetch_gen_global : v->d.fetch_gen;
    return true;
}

// What the fast table in use and the links of the present generation say is what the architectural TLBs say.
static unsigned check_mirrors(struct rig *r)
{
    struct vcpu *v = r->v;
    unsigned seen = 0;

    for (unsigned i = 0; i < FAST_SIZE; i++) {
        const struct fast_entry *f = &v->d.ft->e[i];
        u64 tags[2] = {f->read, f->write};
        for (unsigned k = 0; k < 2; k++) {
            struct tlb_entry *e;
            if (tags[k] == FAST_NONE) continue;
            e = tlb_find(&v->s.dtlb, laddr_of(tags[k]));
            assert_non_null(e);
            assert_ptr_equal(f->host + tags[k], v->phys->ram + (e->page << PAGE_SHIFT));
            assert_true(
                walk_rights_permit(&v->d.mmu, e->rights, acc_current(v) | (k ? ACC_WRITE : ACC_READ)));
            seen++;
        }
    }
    for (unsigned i = 0; i < ARRAY_LEN(r->linked) && i < r->n_linked; i++) {
        struct tlb_entry *e;
        if (!fetch_gen_good(v, r->linked[i].gen)) continue;
        e = tlb_find(&v->s.itlb, laddr_of(r->linked[i].la));
        assert_non_null(e);
        assert_int_equal(e->page, r->linked[i].pa >> PAGE_SHIFT);
        assert_true(walk_rights_permit(&v->d.mmu, e->rights, ACC_FETCH | (v->d.cpl == 3 ? ACC_USER : 0)));
        seen++;
    }
    return seen;
}

static u64 any_page(struct rig *r)
{
    if (pick(r, 2)) return page_la(12 + (unsigned)pick(r, 8)); // some are used more
    return pick(r, 4) ? page_la((unsigned)pick(r, PAGES)) : crowd_la((unsigned)pick(r, 12));
}

static void one_step(struct rig *r, unsigned tally[4])
{
    struct vcpu *v = r->v;
    struct vcpu_state *st = &v->s;
    u64 la = any_page(r) + pick(r, 500) * 8;
    unsigned space = (unsigned)pick(r, 3), page = (unsigned)pick(r, PAGES);
    bool fast;

    switch (pick(r, 70)) {
    case 0: // new page tables, as software leaves them before it invalidates
        put64(&r->t, r->leaf[space][page],
              (get64(&r->t, r->leaf[space][page]) & 0xFFFFFFFFFF180ull) | (pick(r, 8) != 0) |
                  pick(r, 4) << 1 | (pick(r, 6) == 0 ? 1ull << 63 : 0) | pick(r, 3) << 59);
        if (pick(r, 4) == 0) // global here, a context's own there
            put64(&r->t, r->leaf[space][page], get64(&r->t, r->leaf[space][page]) ^ 1 << 8);
        break;
    case 1:
        put64(&r->t, r->leaf[space][page],
              get64(&r->t, r->leaf[space][page]) ^ (page < 16 ? 2 * MIB : 0x80000));
        break;
    case 2:
    case 3:
        tlb_invlpg(&st->itlb, laddr_of(la)), tlb_invlpg(&st->dtlb, laddr_of(la));
        cpu_tlb_flushed(v);
        break;
    case 4:
    case 5: // MOV CR3 without a flush
        st->cr3 = r->roots[space] | (st->cr4 & CR4_PCIDE ? space + 1 : 0);
        if (!(st->cr4 & CR4_PCIDE))
            tlb_flush_context(&st->itlb, &v->d.mmu, 0), tlb_flush_context(&st->dtlb, &v->d.mmu, 0);
        cpu_tlb_flushed(v);
        break;
    case 6: // and with one
        st->cr3 = r->roots[space] | (st->cr4 & CR4_PCIDE ? space + 1 : 0);
        tlb_flush_context(&st->itlb, &v->d.mmu, st->cr3 & 0xFFF),
            tlb_flush_context(&st->dtlb, &v->d.mmu, st->cr3 & 0xFFF);
        cpu_tlb_flushed(v);
        break;
    case 7: // as a VM entry may: the rights change, nothing is flushed
        st->cr0 ^= pick(r, 2) ? CR0_WP : 0;
        st->cr4 ^= (pick(r, 2) ? CR4_SMEP : 0) | (pick(r, 2) ? CR4_SMAP : 0) | (pick(r, 2) ? CR4_PKE : 0) |
                   (pick(r, 2) ? CR4_PKS : 0);
        cpu_mode_changed(v);
        break;
    case 8:
        st->pkru = (u32)(rnd(r) & rnd(r)) & 0x3F;
        st->msr.pkrs = (u32)(rnd(r) & rnd(r)) & 0x3F;
        cpu_context_changed(v);
        break;
    case 9:
    case 10: set_cpl(r, pick(r, 2) ? 3 : 0); break;
    case 11:
        st->rflags ^= FL_AC;
        cpu_mode_changed(v);
        break;
    case 12:
        if (pick(r, 8)) break;
        tlb_flush_pcids(&st->itlb, &v->d.mmu, true), tlb_flush_pcids(&st->dtlb, &v->d.mmu, true);
        cpu_tlb_flushed(v);
        break;
    case 13:
        if (pick(r, 10)) break;
        st->itlb.next_serial = st->dtlb.next_serial = 0u - (u32)pick(r, 3); // as after 2^32 flushes
        break;
    case 14:
        if (pick(r, 40)) break;
        cpu_drop_derived(v);
        break;
    case 15: // more pages than the set has ways
        for (unsigned k = 0; k < 6; k++) fetch(r, crowd_la((unsigned)pick(r, 12)));
        break;
    case 16:
    case 17:
    case 18: tally[fetch(r, la) ? 0 : 1]++; break;
    default:
        if (access_memory(r, la, pick(r, 2) ? ACC_WRITE : ACC_READ, &fast))
            tally[fast ? 2 : 0]++;
        else
            tally[1]++;
    }
    tally[3] += check_mirrors(r);
}

static void test_mirrors(void **state)
{
    struct rig *r = test_malloc(sizeof(*r));
    unsigned tally[4] = {0};

    (void)state;
    rig_init(r);
    for (unsigned n = 0; n < 40000; n++) {
        if (n % 4000 == 2000) { // PCIDs, from CR3[11:0] = 0
            r->v->s.cr3 = r->roots[0];
            r->v->s.cr4 |= CR4_PCIDE;
            tlb_reset(&r->v->s.itlb), tlb_reset(&r->v->s.dtlb);
            cpu_drop_derived(r->v);
        }
        one_step(r, tally);
    }
    printf("%u walked, %u refused, %u fast, %u mirrored entries checked\n", tally[0], tally[1], tally[2],
           tally[3]);
    assert_true(tally[0] > 1000 && tally[1] > 1000 && tally[2] > 1500 && tally[3] > 20000);
    rig_free(r);
    test_free(r);
}

static void test_rights_that_change_in_place(void **state)
{
    struct rig *r = test_malloc(sizeof(*r));
    u64 la = page_la(20);
    bool fast;

    (void)state;
    rig_init(r);
    struct vcpu_state *st = &r->v->s;
    // CR0.WP = 0: the supervisor writes a read-only page, then WP is set with nothing flushed.
    put64(&r->t, r->leaf[0][20], get64(&r->t, r->leaf[0][20]) & ~2ull);
    st->cr0 &= ~(u64)CR0_WP;
    cpu_mode_changed(r->v);
    assert_true(access_memory(r, la, ACC_WRITE, &fast));
    assert_false(fast);
    assert_true(access_memory(r, la, ACC_WRITE, &fast));
    assert_true(fast);
    st->cr0 |= CR0_WP;
    cpu_mode_changed(r->v);
    assert_false(access_memory(r, la, ACC_WRITE, &fast));
    assert_int_equal(r->v->d.event.vector, VEC_PF);
    assert_int_equal(r->v->d.event.error, 3);
    // SMAP, then AC.
    la = page_la(22);
    assert_true(access_memory(r, la, ACC_READ, &fast));
    st->cr4 |= CR4_SMAP;
    cpu_mode_changed(r->v);
    assert_false(access_memory(r, la, ACC_READ, &fast));
    st->rflags |= FL_AC;
    cpu_mode_changed(r->v);
    assert_true(access_memory(r, la, ACC_READ, &fast));
    st->rflags &= ~(u64)FL_AC;
    cpu_mode_changed(r->v);
    assert_false(access_memory(r, la, ACC_READ, &fast));
    // PKRU.
    st->cr4 &= ~(u64)CR4_SMAP;
    st->cr4 |= CR4_PKE;
    cpu_mode_changed(r->v);
    assert_true(access_memory(r, la, ACC_READ, &fast));
    assert_true(access_memory(r, la, ACC_READ, &fast));
    assert_true(fast);
    st->pkru = 1;
    cpu_context_changed(r->v);
    assert_false(access_memory(r, la, ACC_READ, &fast));
    assert_int_equal(r->v->d.event.error, 0x21);
    // IA32_PKRS, of a supervisor-mode address.
    st->pkru = 0;
    r->features.bits[FEATURE_PKS / 64] |= BIT(FEATURE_PKS % 64);
    put64(&r->t, r->leaf[0][26], get64(&r->t, r->leaf[0][26]) & ~4ull);
    st->cr4 |= CR4_PKS;
    cpu_mode_changed(r->v);
    for (unsigned user = 0; user < 2; user++) {
        la = page_la(user ? 22 : 26);
        assert_true(msr_write(r->v, 0x6E1, 0));
        assert_true(access_memory(r, la, ACC_WRITE, &fast));
        assert_true(access_memory(r, la, ACC_WRITE, &fast));
        assert_true(fast);
        assert_true(msr_write(r->v, 0x6E1, 3));
        assert_int_equal(access_memory(r, la, ACC_READ, &fast), user);
        if (!user) assert_int_equal(r->v->d.event.error, 0x21);
    }
    st->cr4 &= ~(u64)CR4_PKS;
    cpu_mode_changed(r->v);
    // SMEP, for links.
    u32 gen;
    la = page_la(24);
    assert_true(fetch(r, la));
    gen = r->v->d.fetch_gen;
    st->cr4 |= CR4_SMEP;
    cpu_mode_changed(r->v);
    assert_int_not_equal(r->v->d.fetch_gen, gen);
    assert_false(fetch(r, la));
    rig_free(r);
    test_free(r);
}

static void test_what_a_flush_leaves(void **state)
{
    struct rig *r = test_malloc(sizeof(*r));
    bool fast;

    (void)state;
    rig_init(r);
    struct vcpu *v = r->v;
    v->s.cr4 |= CR4_PCIDE;
    v->s.cr3 = r->roots[0] | 1;
    cpu_mode_changed(v);
    access_memory(r, page_la(20), ACC_READ, &fast);
    access_memory(r, page_la(22), ACC_READ, &fast);
    // INVLPG of one page leaves the other.
    tlb_invlpg(&v->s.itlb, laddr_of(page_la(20))), tlb_invlpg(&v->s.dtlb, laddr_of(page_la(20)));
    cpu_tlb_flushed(v);
    assert_non_null(fast_read(v, laddr_of(page_la(22)), 8));
    assert_null(fast_read(v, laddr_of(page_la(20)), 8));
    // A flush of another PCID leaves this one.
    v->s.cr3 = r->roots[1] | 2;
    cpu_context_changed(v);
    access_memory(r, page_la(20), ACC_READ, &fast);
    tlb_flush_context(&v->s.itlb, &v->d.mmu, 2), tlb_flush_context(&v->s.dtlb, &v->d.mmu, 2);
    cpu_tlb_flushed(v);
    assert_null(fast_read(v, laddr_of(page_la(20)), 8));
    v->s.cr3 = r->roots[0] | 1;
    cpu_context_changed(v);
    assert_non_null(fast_read(v, laddr_of(page_la(22)), 8));
    // A piece of a large page: all of it goes.
    access_memory(r, page_la(0), ACC_READ, &fast);
    access_memory(r, page_la(1), ACC_READ, &fast);
    assert_non_null(fast_read(v, laddr_of(page_la(1)), 8));
    tlb_invlpg(&v->s.itlb, laddr_of(page_la(0))), tlb_invlpg(&v->s.dtlb, laddr_of(page_la(0)));
    cpu_tlb_flushed(v);
    assert_null(fast_read(v, laddr_of(page_la(0)), 8));
    assert_null(fast_read(v, laddr_of(page_la(1)), 8));
    rig_free(r);
    test_free(r);
}

static void test_a20(void **state)
{
    struct rig *r = test_malloc(sizeof(*r));
    bool fast;

    (void)state;
    rig_init(r);
    struct vcpu *v = r->v;
    v->s.cr0 &= ~(u64)(CR0_PG | CR0_PE);
    v->s.msr.efer = 0;
    v->s.seg[SEG_CS].ar &= ~(u32)AR_L;
    tlb_reset(&v->s.itlb), tlb_reset(&v->s.dtlb);
    cpu_drop_derived(v);
    cpu_mode_changed(v);
    put64(&r->t, 0x1000, 0x1111), put64(&r->t, 0x101000, 0x2222);
    assert_int_equal(lin_load(v, laddr_of(0x101000), 8), 0x2222);
    v->phys->a20_masked = true;
    cpu_a20_changed(v);
    assert_int_equal(lin_load(v, laddr_of(0x101000), 8), 0x1111);
    lin_store(v, laddr_of(0x101000), 8, 0x3333);
    assert_int_equal(get64(&r->t, 0x1000), 0x3333);
    assert_int_equal(get64(&r->t, 0x101000), 0x2222);
    v->phys->a20_masked = false;
    cpu_a20_changed(v);
    assert_true(access_memory(r, 0x101000, ACC_READ, &fast));
    assert_int_equal(lin_load(v, laddr_of(0x101000), 8), 0x2222);
    rig_free(r);
    test_free(r);
}

// Whether the page of the last fetch is global, and links to it outlive the context: said by each fetch,
// found or walked.
static void test_global_fetches(void **state)
{
    struct rig *r = test_malloc(sizeof(*r));

    (void)state;
    rig_init(r);
    struct vcpu *v = r->v;
    for (unsigned n = 16; n < PAGES; n++) {
        for (unsigned again = 0; again < 2; again++) {
            v->d.fetch_global = !(n & 1);
            tlbops_fetch(v, laddr_of(page_la(n)));
            assert_int_equal(v->d.fetch_global, n & 1);
        }
    }
    rig_free(r);
    test_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rights_that_change_in_place),
        cmocka_unit_test(test_what_a_flush_leaves),
        cmocka_unit_test(test_a20),
        cmocka_unit_test(test_global_fetches),
        cmocka_unit_test(test_mirrors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
