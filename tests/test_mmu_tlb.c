// The architectural TLB: tags, replacement, every invalidation with what it must drop and what it must leave,
// and a long random run against a plain list of what is still allowed to be found.
#include "mmu/tlb.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <string.h>

#define VIEW_A (0x10000 | 1)
#define VIEW_B (0x20000 | 1)

static int setup(void **state)
{
    struct tlb *t = test_malloc(sizeof(*t));

    memset(t, 0xA5, sizeof(*t));
    tlb_reset(t);
    *state = t;
    return 0;
}
static int teardown(void **state)
{
    test_free(*state);
    return 0;
}

static u64 rnd(u64 *s)
{
    *s ^= *s << 13, *s ^= *s >> 7, *s ^= *s << 17;
    return *s;
}

static struct mmu_ctx ctx(u16 vpid, u16 pcid, u64 view)
{
    return (struct mmu_ctx){.vpid = vpid, .pcid = pcid, .ept_view = view};
}
static void use(struct tlb *t, u16 vpid, u16 pcid, u64 view)
{
    struct mmu_ctx c = ctx(vpid, pcid, view);

    tlb_select(t, &c);
}
static struct tlb_entry *fill(struct tlb *t, u64 la, u64 pa, u32 rights, u8 shift)
{
    struct walk_result r = {
        .page_shift = shift, .rights = rights, .gpa = gpaddr_of(pa ^ 0x40000000), .pa = pa};
    struct tlb_entry evicted;

    return tlb_fill(t, laddr_of(la), &r, &evicted);
}
static bool has(struct tlb *t, u64 la) { return tlb_find(t, laddr_of(la)) != NULL; }

static void test_fill_and_find(void **state)
{
    struct tlb *t = *state;
    struct walk_result r = {.page_shift = 21,
                            .rights = TLB_USER | TLB_WRITE | 9u << TLB_PKEY_SHIFT,
                            .gpa = gpaddr_of(0x7654321ABC),
                            .pa = 0x1234567DEF};
    struct tlb_entry evicted, *e;

    assert_null(tlb_find(t, laddr_of(0)));
    assert_null(tlb_find(t, laddr_of(0xFFFFFFFFFFFFFFFF)));
    e = tlb_fill(t, laddr_of(0xFFFF888000001ABC), &r, &evicted);
    assert_int_equal(evicted.serial, 0);
    assert_ptr_equal(tlb_find(t, laddr_of(0xFFFF888000001000)), e);
    assert_ptr_equal(tlb_find(t, laddr_of(0xFFFF888000001FFF)), e);
    assert_null(tlb_find(t, laddr_of(0xFFFF888000002000))); // one 4 KiB entry, whatever the page size
    assert_null(tlb_find(t, laddr_of(0x0000888000001000)));
    assert_true(e->gpage == 0x7654321);
    assert_true(e->page == 0x1234567);
    assert_int_equal(e->rights, r.rights);
    assert_int_equal(e->page_shift, 21);
    // A second fill of the same page takes its place.
    r.pa = 0x9000;
    assert_ptr_equal(tlb_fill(t, laddr_of(0xFFFF888000001000), &r, &evicted), e);
    assert_true(evicted.page == 0x1234567);
    assert_true(e->page == 9);
    tlb_drop(e);
    assert_null(tlb_find(t, laddr_of(0xFFFF888000001000)));
    tlb_reset(t);
    assert_null(tlb_find(t, laddr_of(0)));
}

static void test_replacement(void **state)
{
    struct tlb *t = *state;
    u64 same_set[8];
    ptrdiff_t home = 0;
    unsigned n = 0;
    struct tlb_entry evicted;
    struct walk_result r = {.page_shift = 12};
    struct tlb_entry *set = (struct tlb_entry *)t->set;

    // Pages that fall into one set, found by looking where a fill lands.
    for (u64 la = 0x1000; n < 8; la += 4096) {
        struct tlb_entry *e = tlb_fill(t, laddr_of(la), &r, &evicted);

        if (n == 0) home = (e - set) / TLB_WAYS;
        if ((e - set) / TLB_WAYS == home) same_set[n++] = la;
        tlb_drop(e);
    }
    tlb_reset(t);
    for (unsigned i = 0; i < 4; i++) {
        tlb_fill(t, laddr_of(same_set[i]), &r, &evicted);
        assert_int_equal(evicted.serial, 0); // free ways first
    }
    for (unsigned i = 0; i < 4; i++) assert_true(has(t, same_set[i]));
    for (unsigned i = 4; i < 8; i++) { // then round-robin, hits do not matter
        for (unsigned j = 0; j < 100; j++) has(t, same_set[i - 4]);
        tlb_fill(t, laddr_of(same_set[i]), &r, &evicted);
        assert_true(evicted.serial != 0);
        assert_true(evicted.lpage == same_set[i - 4] >> 12);
        assert_false(has(t, same_set[i - 4]));
    }
    // Looking changes nothing.
    struct tlb *copy = test_malloc(sizeof(*copy));
    *copy = *t;
    for (unsigned i = 0; i < 8; i++) has(t, same_set[i]);
    use(t, 0, 0, 0);
    assert_memory_equal(copy, t, sizeof(*copy));
    test_free(copy);
}

static void test_tags(void **state)
{
    static const struct {
        u16 vpid, pcid;
        u64 view;
    } keys[] = {{0, 0, 0},      {0, 1, 0},      {1, 0, 0},
                {1, 1, 0},      {0, 0, VIEW_A}, {1, 0, VIEW_A},
                {1, 0, VIEW_B}, {1, 1, VIEW_B}, {0xFFFF, 0xFFF, VIEW_A}};
    struct tlb *t = *state;

    for (unsigned i = 0; i < ARRAY_LEN(keys); i++) {
        use(t, keys[i].vpid, keys[i].pcid, keys[i].view);
        assert_false(has(t, 0x5000 + i * 0x1000));
        fill(t, 0x5000 + i * 0x1000, (i + 1) << 12, 0, 12);
    }
    for (unsigned i = 0; i < ARRAY_LEN(keys); i++) {
        use(t, keys[i].vpid, keys[i].pcid, keys[i].view);
        for (unsigned j = 0; j < ARRAY_LEN(keys); j++) assert_int_equal(has(t, 0x5000 + j * 0x1000), i == j);
    }
    // A global entry is seen by every PCID of its VPID and view, and by no other.
    use(t, 1, 0, VIEW_B);
    fill(t, 0x700000, 0x9000, TLB_GLOBAL, 12);
    for (unsigned i = 0; i < ARRAY_LEN(keys); i++) {
        use(t, keys[i].vpid, keys[i].pcid, keys[i].view);
        assert_int_equal(has(t, 0x700000), keys[i].vpid == 1 && keys[i].view == VIEW_B);
    }
}

// ---- invalidations: a grid of entries, and which of them must be gone ----

enum { NV = 3, NP = 2, NVIEW = 3 };
static const u16 vpids[NV] = {0, 1, 2};
static const u16 pcids[NP] = {0, 7};
static const u64 views[NVIEW] = {0, VIEW_A, VIEW_B};
#define PAGE_X 0x00400000ull // the address of the invalidation
#define PAGE_Y 0x00C00000ull // another
#define GLOB_X 0x01400000ull // global entries; X is also what address invalidations are done on
#define GLOB_Y 0x01C00000ull

// The sets have four ways, so the grid is tried one (vpid, view) at a time.
static void check(struct tlb *t, void (*act)(struct tlb *), u16 cur_vpid, u16 cur_pcid, u64 cur_view,
                  bool (*keeps)(u16 vpid, u16 pcid, u64 view, bool global, bool at_x))
{
    for (unsigned v = 0; v < NV; v++) {
        for (unsigned w = 0; w < NVIEW; w++) {
            tlb_reset(t);
            for (unsigned p = 0; p < NP; p++) {
                use(t, vpids[v], pcids[p], views[w]);
                fill(t, PAGE_X, 0x1000, 0, 12);
                fill(t, PAGE_Y, 0x2000, 0, 12);
            }
            fill(t, GLOB_X, 0x3000, TLB_GLOBAL, 12);
            fill(t, GLOB_Y, 0x4000, TLB_GLOBAL, 12);
            use(t, cur_vpid, cur_pcid, cur_view);
            act(t);
            for (unsigned p = 0; p < NP; p++) {
                use(t, vpids[v], pcids[p], views[w]);
                assert_int_equal(has(t, PAGE_X), keeps(vpids[v], pcids[p], views[w], false, true));
                assert_int_equal(has(t, PAGE_Y), keeps(vpids[v], pcids[p], views[w], false, false));
                assert_int_equal(has(t, GLOB_X), keeps(vpids[v], pcids[p], views[w], true, true));
                assert_int_equal(has(t, GLOB_Y), keeps(vpids[v], pcids[p], views[w], true, false));
            }
        }
    }
}

// INVLPG and the like: VPID 1, PCID 7 in use, in view A. Linear and combined mappings, every view, globals
// too.
static void act_invlpg(struct tlb *t)
{
    tlb_invlpg(t, laddr_of(PAGE_X + 5));
    tlb_invlpg(t, laddr_of(GLOB_X + 5));
}
static bool keep_invlpg(u16 vpid, u16 pcid, u64 view, bool global, bool at_x)
{
    (void)view;
    return !(at_x && vpid == 1 && (global || pcid == 7));
}
static void act_invpcid0(struct tlb *t)
{
    struct mmu_ctx c = ctx(1, 7, VIEW_A);
    tlb_flush_address(t, &c, 0, laddr_of(PAGE_X));
    tlb_flush_address(t, &c, 0, laddr_of(GLOB_X));
}
static bool keep_invpcid0(u16 vpid, u16 pcid, u64 view, bool global, bool at_x)
{
    (void)view;
    return !(at_x && vpid == 1 && !global && pcid == 0);
}
static void act_invpcid1(struct tlb *t)
{
    struct mmu_ctx c = ctx(1, 7, VIEW_A);
    tlb_flush_context(t, &c, 7); // also MOV CR3
}
static bool keep_invpcid1(u16 vpid, u16 pcid, u64 view, bool global, bool at_x)
{
    (void)view, (void)at_x;
    return !(vpid == 1 && !global && pcid == 7);
}
static void act_invpcid2(struct tlb *t)
{
    struct mmu_ctx c = ctx(1, 7, VIEW_A);
    tlb_flush_pcids(t, &c, true);
}
static bool keep_invpcid2(u16 vpid, u16 pcid, u64 view, bool global, bool at_x)
{
    (void)view, (void)at_x, (void)global, (void)pcid;
    return vpid != 1;
}
static void act_invpcid3(struct tlb *t)
{
    struct mmu_ctx c = ctx(1, 7, VIEW_A);
    tlb_flush_pcids(t, &c, false);
}
static bool keep_invpcid3(u16 vpid, u16 pcid, u64 view, bool global, bool at_x)
{
    (void)view, (void)at_x, (void)pcid;
    return vpid != 1 || global;
}
static void act_invvpid0(struct tlb *t)
{
    tlb_invvpid_address(t, 2, laddr_of(PAGE_X));
    tlb_invvpid_address(t, 2, laddr_of(GLOB_X));
}
static bool keep_invvpid0(u16 vpid, u16 pcid, u64 view, bool global, bool at_x)
{
    (void)pcid, (void)view, (void)global;
    return !(vpid == 2 && at_x);
}
static void act_invvpid1(struct tlb *t) { tlb_invvpid(t, 2, false); }
static bool keep_invvpid1(u16 vpid, u16 pcid, u64 view, bool global, bool at_x)
{
    (void)pcid, (void)view, (void)global, (void)at_x;
    return vpid != 2;
}
static void act_invvpid2(struct tlb *t) { tlb_invvpid_all(t); }
static bool keep_invvpid2(u16 vpid, u16 pcid, u64 view, bool global, bool at_x)
{
    (void)pcid, (void)view, (void)global, (void)at_x;
    return vpid == 0;
}
static void act_invvpid3(struct tlb *t) { tlb_invvpid(t, 2, true); }
static bool keep_invvpid3(u16 vpid, u16 pcid, u64 view, bool global, bool at_x)
{
    (void)pcid, (void)view, (void)at_x;
    return vpid != 2 || global;
}
static void act_entry_without_vpid(struct tlb *t) { tlb_invvpid(t, 0, false); }
static bool keep_entry_without_vpid(u16 vpid, u16 pcid, u64 view, bool global, bool at_x)
{
    (void)pcid, (void)view, (void)global, (void)at_x;
    return vpid != 0;
}
static void act_invept1(struct tlb *t) { tlb_invept(t, VIEW_A); }
static bool keep_invept1(u16 vpid, u16 pcid, u64 view, bool global, bool at_x)
{
    (void)pcid, (void)vpid, (void)global, (void)at_x;
    return view != VIEW_A;
}
static void act_invept2(struct tlb *t) { tlb_invept_all(t); }
static bool keep_invept2(u16 vpid, u16 pcid, u64 view, bool global, bool at_x)
{
    (void)pcid, (void)vpid, (void)global, (void)at_x;
    return view == 0;
}
static void act_violation(struct tlb *t)
{
    tlb_drop_page(t, laddr_of(PAGE_X), gpaddr_of(0x123));
    tlb_drop_page(t, laddr_of(GLOB_X), gpaddr_of(0x123));
}
static bool keep_violation(u16 vpid, u16 pcid, u64 view, bool global, bool at_x)
{
    return !(at_x && vpid == 1 && view == VIEW_A && (global || pcid == 7));
}
static void act_nothing(struct tlb *t) { (void)t; }
static bool keep_all(u16 vpid, u16 pcid, u64 view, bool global, bool at_x)
{
    (void)vpid, (void)pcid, (void)view, (void)global, (void)at_x;
    return true;
}

static void test_invalidations(void **state)
{
    static const struct {
        void (*act)(struct tlb *);
        bool (*keeps)(u16, u16, u64, bool, bool);
    } rows[] = {
        {act_nothing, keep_all},         {act_invlpg, keep_invlpg},
        {act_invpcid0, keep_invpcid0},   {act_invpcid1, keep_invpcid1},
        {act_invpcid2, keep_invpcid2},   {act_invpcid3, keep_invpcid3},
        {act_invvpid0, keep_invvpid0},   {act_invvpid1, keep_invvpid1},
        {act_invvpid2, keep_invvpid2},   {act_invvpid3, keep_invvpid3},
        {act_invept1, keep_invept1},     {act_invept2, keep_invept2},
        {act_violation, keep_violation}, {act_entry_without_vpid, keep_entry_without_vpid},
    };
    struct tlb *t = *state;

    for (unsigned i = 0; i < ARRAY_LEN(rows); i++) check(t, rows[i].act, 1, 7, VIEW_A, rows[i].keeps);
}

static void test_flushing_another_context_leaves_the_current(void **state)
{
    struct tlb *t = *state;
    struct mmu_ctx c = ctx(0, 0, 0);
    u32 serial, global;

    use(t, 0, 3, 0);
    fill(t, 0x1000, 0x1000, 0, 12);
    serial = t->serial, global = t->global_serial;
    tlb_flush_context(t, &c, 4);
    tlb_invvpid_all(t);
    tlb_invept_all(t);
    assert_int_equal(t->serial, serial);
    assert_int_equal(t->global_serial, global);
    tlb_flush_context(t, &c, 3); // the current one: a new serial at once
    assert_int_not_equal(t->serial, serial);
    assert_int_equal(t->global_serial, global);
    assert_false(has(t, 0x1000));
    fill(t, 0x1000, 0x1000, 0, 12);
    assert_true(has(t, 0x1000));
    use(t, 0, 5, 0);
    use(t, 0, 3, 0);
    assert_true(has(t, 0x1000));
}

static void test_large_pages(void **state)
{
    static const u8 shifts[] = {21, 22, 30};
    struct tlb *t = *state;

    for (unsigned i = 0; i < ARRAY_LEN(shifts); i++) {
        u64 size = 1ull << shifts[i];
        u64 base = 0xFFFF888040000000ull;
        u64 in[3] = {base, base + size / 2 + 0x3000, base + size - 0x1000};

        for (unsigned k = 0; k < 4; k++) { // INVLPG of each piece, and of one that is in no entry
            tlb_reset(t);
            for (unsigned j = 0; j < 3; j++) fill(t, in[j], j << 12, j == 1 ? TLB_GLOBAL : 0, shifts[i]);
            fill(t, base + size, 0x7000, 0, 12);
            fill(t, base - 0x1000, 0x7000, 0, shifts[i]);
            tlb_invlpg(t, laddr_of(k < 3 ? in[k] + 123 : base + size / 4));
            for (unsigned j = 0; j < 3; j++) assert_false(has(t, in[j]));
            assert_true(has(t, base + size));
            assert_true(has(t, base - 0x1000));
            // Another context's pieces stay.
            use(t, 0, 9, 0);
            for (unsigned j = 0; j < 3; j++) fill(t, in[j], j << 12, 0, shifts[i]);
            use(t, 0, 0, 0);
            tlb_invlpg(t, laddr_of(in[0]));
            use(t, 0, 9, 0);
            for (unsigned j = 0; j < 3; j++) assert_true(has(t, in[j]));
        }
    }
    // The note of where large pages may be survives its own renewal.
    tlb_reset(t);
    fill(t, 0x40000000, 0, 0, 21);
    fill(t, 0x40201000, 0, 0, 21);
    tlb_invlpg(t, laddr_of(0x40000000));
    tlb_invlpg(t, laddr_of(0x40200000));
    assert_false(has(t, 0x40201000));
}

static void test_two_entries_for_one_page(void **state)
{
    struct tlb *t = *state;

    // One context's own entry, then a global one filled from another context: both match in the first.
    use(t, 0, 1, 0);
    fill(t, 0x5000, 0x1000, 0, 12);
    use(t, 0, 2, 0);
    fill(t, 0x5000, 0x2000, TLB_GLOBAL, 12);
    use(t, 0, 1, 0);
    tlb_drop_page(t, laddr_of(0x5000), gpaddr_of(0));
    assert_false(has(t, 0x5000));
    use(t, 0, 2, 0);
    assert_false(has(t, 0x5000));
}

// Contexts that have an entry of their own go on with it, wherever in the set the global one finds room.
static void test_own_before_global(void **state)
{
    struct tlb *t = *state;

    for (u64 room = 0; room < TLB_WAYS; room++) {
        tlb_reset(t);
        u64 own = 0;
        for (u64 way = 0; way < TLB_WAYS; way++) {
            u64 other = (way + 1) << 21 | (5 ^ (way + 1)) << 12; // in the set of 5000h
            bool left = way == room || own == 2;
            use(t, 0, left ? 9 : (u16)++own, 0);
            fill(t, left ? other : 0x5000, left ? 0x9000 : own << 12, 0, 12);
        }
        use(t, 0, 9, 0);
        tlb_invlpg(t, laddr_of((room + 1) << 21 | (5 ^ (room + 1)) << 12));
        struct tlb_entry *e = fill(t, 0x5000, 0x3000, TLB_GLOBAL, 12);
        assert_int_equal(e->page, 3);
        assert_ptr_equal(e, tlb_find(t, laddr_of(0x5000)));
        for (u16 pcid = 1; pcid <= 3; pcid++) {
            use(t, 0, pcid, 0);
            assert_int_equal(tlb_find(t, laddr_of(0x5000))->page, pcid);
        }
    }
}

// A global entry is every context's, unless a context that may find it has an entry of its own for the page.
static void test_global_alone(void **state)
{
    struct tlb *t = *state;
    struct mmu_ctx flushed = ctx(1, 1, VIEW_A);
    struct tlb_entry *e;

    use(t, 1, 1, VIEW_A);
    assert_false(tlb_global_alone(t, fill(t, 0x5000, 0x1000, 0, 12)));
    fill(t, 0x6000, 0x1000, 0, 12);
    use(t, 1, 2, VIEW_A);
    assert_false(tlb_global_alone(t, fill(t, 0x5000, 0x2000, TLB_GLOBAL, 12)));
    assert_true(tlb_global_alone(t, fill(t, 0x7000, 0x2000, TLB_GLOBAL, 12)));
    // One of another VPID or view does not find what is global in this one.
    for (unsigned i = 0; i < 2; i++) {
        use(t, i ? 1 : 2, 1, i ? VIEW_B : VIEW_A);
        fill(t, 0x7000, 0x1000, 0, 12);
        use(t, 1, 2, VIEW_A);
        assert_true(tlb_global_alone(t, tlb_find(t, laddr_of(0x7000))));
    }
    // What a flushed one had still stands there, and is nobody's.
    tlb_flush_context(t, &flushed, 1);
    assert_true(tlb_global_alone(t, tlb_find(t, laddr_of(0x5000))));
    use(t, 1, 1, VIEW_A);
    e = tlb_find(t, laddr_of(0x5000));
    assert_non_null(e);
    assert_int_equal(e->page, 2);
    assert_true(tlb_global_alone(t, e));
    assert_false(has(t, 0x6000));
}

static void test_many_contexts(void **state)
{
    struct tlb *t = *state;
    u64 seed = 88172645463325252ull;

    // More contexts than the table holds: an old one may be forgotten, never confused with another.
    for (unsigned round = 0; round < 3; round++) {
        for (u16 pcid = 0; pcid < 4000; pcid += 7) {
            struct tlb_entry *e;
            use(t, pcid & 3, pcid, pcid & 8 ? VIEW_A : 0);
            assert_int_not_equal(t->serial, t->global_serial);
            e = tlb_find(t, laddr_of(0x5000));
            if (e) assert_int_equal(e->page, pcid);
            fill(t, 0x5000, (u64)pcid << 12, 0, 12);
            e = tlb_find(t, laddr_of(0x5000));
            assert_non_null(e);
            assert_int_equal(e->page, pcid);
        }
    }
    // In no order: the two of the context in use are always its own.
    for (unsigned i = 0; i < 20000; i++) {
        u64 x = rnd(&seed);
        u16 vpid = x & 3, pcid = x >> 2 & 15;
        u64 view = x >> 6 & 1 ? VIEW_A : 0;

        use(t, vpid, pcid, view);
        assert_int_equal(t->context[t->current].serial, t->serial);
        assert_int_equal(t->context[t->current].vpid, vpid);
        assert_int_equal(t->context[t->current].pcid, pcid);
        assert_true(t->context[t->current].ept_view == view);
        assert_int_equal(t->context[t->current_global].serial, t->global_serial);
        assert_int_equal(t->context[t->current_global].vpid, vpid);
        assert_int_equal(t->context[t->current_global].pcid, TLB_GLOBAL_PCID);
        assert_true(t->context[t->current_global].ept_view == view);
    }
    for (unsigned i = 0; i < TLB_CONTEXTS; i++) {
        for (unsigned j = 0; j < i; j++) {
            if (t->context[i].serial) assert_int_not_equal(t->context[i].serial, t->context[j].serial);
        }
    }
}

// Killing one context kills no other, wherever in the table they are: all of its places are in use here.
static void test_one_of_many_contexts(void **state)
{
    struct tlb *t = *state;
    enum { VPIDS = 100 };

    for (u16 killed = 1; killed < VPIDS; killed++) {
        tlb_reset(t);
        for (u16 vpid = 1; vpid < VPIDS; vpid++) {
            use(t, vpid, 0, 0);
            fill(t, (u64)vpid << 12, 0x1000, 0, 12);
        }
        for (unsigned i = 0; i < TLB_CONTEXTS; i++) assert_int_not_equal(t->context[i].serial, 0);
        tlb_invvpid(t, killed, false);
        for (unsigned i = 0; i < TLB_CONTEXTS; i++) {
            const struct tlb_context *x = &t->context[i];
            if (x->vpid != killed) assert_int_not_equal(x->serial, 0);
        }
        use(t, killed, 0, 0);
        assert_false(has(t, (u64)killed << 12));
    }
    // By EPT view, and all: every place of the table is looked at.
    for (unsigned what = 0; what < 4; what++) {
        tlb_reset(t);
        for (u16 vpid = 1; vpid < VPIDS; vpid++) use(t, vpid, 0, vpid & 1 ? VIEW_A : VIEW_B);
        if (what < 2) tlb_invept(t, what ? VIEW_B : VIEW_A);
        if (what == 2) tlb_invept_all(t);
        if (what == 3) tlb_invvpid_all(t);
        for (unsigned i = 0; i < TLB_CONTEXTS; i++) {
            if (i == t->current || i == t->current_global) continue; // these have new serials
            assert_int_equal(t->context[i].serial == 0,
                             what > 1 || t->context[i].ept_view == (what ? VIEW_B : VIEW_A));
        }
    }
}

// What was read from outside fits together, or is refused.
static void test_possible(void **state)
{
    struct tlb *t = *state, before;

    tlb_reset(t);
    assert_true(tlb_possible(t));
    for (u16 vpid = 1; vpid < 20; vpid++) use(t, vpid, vpid & 3, vpid & 4 ? VIEW_A : 0);
    tlb_invvpid(t, 7, false);
    assert_true(tlb_possible(t));
    before = *t;
    for (unsigned how = 0; how < 7; how++) {
        *t = before;
        if (how == 0) t->current = TLB_CONTEXTS;
        if (how == 1) t->current_global = 255;
        if (how == 2) t->current = t->current_global;
        if (how == 3) t->context[t->current].serial = 0, t->live &= ~BIT(t->current);
        if (how == 4) t->context[t->current_global].serial = 0, t->live &= ~BIT(t->current_global);
        if (how == 5) t->live |= t->live + 1;
        if (how == 6) t->live &= t->live - 1;
        assert_false(tlb_possible(t));
    }
}

static void test_serials_run_out(void **state)
{
    struct tlb *t = *state;
    struct mmu_ctx c = ctx(1, 3, VIEW_A);

    for (unsigned k = 0; k < 6; k++) { // at every point of a sequence of flushes and switches
        tlb_reset(t);
        use(t, 1, 2, VIEW_A);
        fill(t, 0x1000, 0x1000, 0, 12);
        use(t, 1, 3, VIEW_A);
        fill(t, 0x2000, 0x2000, 0, 12);
        fill(t, 0x3000, 0x3000, TLB_GLOBAL, 12);
        t->next_serial = 0u - k;
        tlb_flush_context(t, &c, 3);
        assert_false(has(t, 0x2000));
        use(t, 2, 9, VIEW_B);
        assert_int_equal(has(t, 0x1000), false);
        fill(t, 0x4000, 0x4000, 0, 12);
        use(t, 1, 3, VIEW_A);
        tlb_flush_pcids(t, &c, true);
        assert_false(has(t, 0x3000));
        use(t, 2, 9, VIEW_B);
        if (t->restarts == 0) assert_true(has(t, 0x4000));
        assert_true(t->restarts <= 1);
        assert_int_not_equal(t->serial, 0);
        assert_int_not_equal(t->global_serial, 0);
        assert_int_not_equal(t->serial, t->global_serial);
        fill(t, 0x5000, 0x5000, 0, 12);
        assert_true(has(t, 0x5000));
        use(t, 3, 9, VIEW_B);
        assert_false(has(t, 0x5000));
        for (unsigned i = 0; i < TLB_CONTEXTS; i++) {
            for (unsigned j = 0; j < i; j++) {
                if (t->context[i].serial) assert_int_not_equal(t->context[i].serial, t->context[j].serial);
            }
        }
    }
}

// ---- a random run against a list ----

struct allowed { // a translation that was filled and not invalidated since
    u64 lpage, page, view;
    u16 vpid, pcid;
    u8 shift;
    bool global, live;
};
struct model {
    struct allowed a[4096];
    unsigned n;
};

static void model_kill(struct model *m, int vpid, int pcid, s64 view, int globals, s64 lpage)
{
    // -1: any. globals: 0 only non-global, 1 both (a global one then whatever its pcid).
    for (unsigned i = 0; i < m->n; i++) {
        struct allowed *a = &m->a[i];
        if (vpid == -2 ? a->vpid == 0 : vpid >= 0 && a->vpid != vpid) continue;
        if (view == -2 ? a->view == 0 : view >= 0 && a->view != (u64)view) continue;
        if (a->global ? !globals : pcid >= 0 && a->pcid != pcid) continue;
        if (lpage >= 0 && (a->lpage ^ (u64)lpage) >> (a->shift - 12)) continue;
        a->live = false;
    }
}

static void test_random(void **state)
{
    struct tlb *t = *state;
    struct model *m = test_calloc(1, sizeof(*m));
    struct mmu_ctx c = ctx(0, 0, 0);
    u64 seed = 0x2545F4914F6CDD1Dull;
    unsigned hits = 0, expected = 0;
    static const u8 shifts[] = {12, 12, 12, 21, 30};

    tlb_reset(t);
    for (unsigned step = 0; step < 60000; step++) {
        u64 x = rnd(&seed);
        u64 la = ((x >> 8 & 3) << 30 | (x >> 10 & 3) << 21 | (x >> 12 & 7) << 12) + 0x100000000ull;
        s64 lpage = (s64)(la >> 12);
        u16 vpid = x >> 20 & 3, pcid = x >> 22 & 3;
        u64 view = (x >> 24 & 3) == 0 ? 0 : (x >> 24 & 1) ? VIEW_A : VIEW_B;

        switch (x % 64) {
        case 0: tlb_invlpg(t, laddr_of(la)), model_kill(m, c.vpid, c.pcid, -1, 1, lpage); break;
        case 1: tlb_flush_context(t, &c, pcid), model_kill(m, c.vpid, pcid, -1, 0, -1); break;
        case 2: tlb_flush_pcids(t, &c, x >> 30 & 1), model_kill(m, c.vpid, -1, -1, x >> 30 & 1, -1); break;
        case 3:
            tlb_flush_address(t, &c, pcid, laddr_of(la)), model_kill(m, c.vpid, pcid, -1, 0, lpage);
            break;
        case 4: tlb_invvpid_address(t, vpid, laddr_of(la)), model_kill(m, vpid, -1, -1, 1, lpage); break;
        case 5: tlb_invvpid(t, vpid, x >> 30 & 1), model_kill(m, vpid, -1, -1, !(x >> 30 & 1), -1); break;
        case 6:
            if (x >> 32 & 7) break;
            tlb_invvpid_all(t), model_kill(m, -2, -1, -1, 1, -1);
            break;
        case 7: tlb_invept(t, VIEW_A), model_kill(m, -1, -1, VIEW_A, 1, -1); break;
        case 8:
            if (x >> 32 & 7) break;
            tlb_invept_all(t), model_kill(m, -1, -1, -2, 1, -1);
            break;
        case 9:
            // Only the piece at this address need go, so the list is not shortened; none may be found right
            // after.
            tlb_drop_page(t, laddr_of(la), gpaddr_of(0));
            assert_false(has(t, la));
            break;
        case 10:
        case 11:
        case 12:
        case 13:
        case 14:
        case 15:
            c = ctx(vpid, pcid, view);
            tlb_select(t, &c);
            break;
        default: {
            struct tlb_entry *e = tlb_find(t, laddr_of(la));
            bool found = false, may = false;

            for (unsigned i = 0; i < m->n; i++) {
                struct allowed *a = &m->a[i];
                if (!a->live || a->lpage != (u64)lpage || a->vpid != c.vpid || a->view != c.ept_view)
                    continue;
                if (!a->global && a->pcid != c.pcid) continue;
                may = true;
                if (e && a->page == e->page) found = true;
            }
            if (e) assert_true(found); // nothing is found that is not allowed
            hits += e != NULL;
            expected += may;
            if (!e || (x >> 40) % 4 == 0) {
                u8 shift = shifts[(x >> 44) % ARRAY_LEN(shifts)];
                bool global = x >> 48 & 1;
                if (e) tlb_drop(e);
                fill(t, la, (u64)step << 12, global ? TLB_GLOBAL : 0, shift);
                if (m->n == ARRAY_LEN(m->a)) { // forget the dead
                    unsigned k = 0;
                    for (unsigned i = 0; i < m->n; i++)
                        if (m->a[i].live) m->a[k++] = m->a[i];
                    m->n = k;
                    assert_true(k < ARRAY_LEN(m->a));
                }
                // clang-format off
                m->a[m->n++] = (struct allowed){.lpage = (u64)lpage, .page = step, .view = c.ept_view, .vpid = c.vpid,
                                                .pcid = c.pcid, .shift = shift, .global = global, .live = true};
                // clang-format on
            }
        }
        }
    }
    assert_true(hits > expected / 2); // and what is allowed is mostly found
    test_free(m);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_fill_and_find),
        T(test_replacement),
        T(test_tags),
        T(test_invalidations),
        T(test_flushing_another_context_leaves_the_current),
        T(test_large_pages),
        T(test_two_entries_for_one_page),
        T(test_own_before_global),
        T(test_global_alone),
        T(test_many_contexts),
        T(test_one_of_many_contexts),
        T(test_possible),
        T(test_serials_run_out),
        T(test_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
