// The walk of the extended page tables: rights, violations with their whole qualification, misconfigurations,
// accessed and dirty flags, and the guest's own paging structures behind it (SDM 30.3).
#include "tests/mmu_tables.h"

#include "mmu/walk_ept.h"

#define MIB (1024ull * 1024)

enum { // exit qualification for EPT violations
    Q_READ = 1 << 0,
    Q_WRITE = 1 << 1,
    Q_FETCH = 1 << 2,
    Q_R = 1 << 3,
    Q_W = 1 << 4,
    Q_X = 1 << 5,
    Q_XU = 1 << 6,
    Q_LINEAR = 1 << 7,
    Q_FINAL = 1 << 8,
};
#define WB (6 << 3)
#define A  0x100
#define D  0x200

static int setup(void **state)
{
    static const struct tables zero;
    struct tables *t = test_malloc(sizeof(*t));

    *t = zero;
    tables_init(t, 16 * MIB);
    *state = t;
    return 0;
}
static int teardown(void **state)
{
    struct tables *t = *state;

    phys_free(&t->p);
    test_free(t);
    return 0;
}

static void start(struct tables *t, u8 paging)
{
    t->next = 0x10000;
    // clang-format off
    t->c = (struct mmu_ctx){.maxphyaddr = 40, .gib_pages = true, .ept_gib = true, .ept_exec_only = true,
                            .pse = true, .nxe = true, .paging = paging};
    // clang-format on
}

static const struct { // leaf level, guest-physical and physical address of a page
    int leaf;
    unsigned shift;
    u64 gpa;
    paddr to;
} pages[] = {
    {0, 12, 0x00007F1234567000, 0x1234567000},
    {1, 21, 0x0000812345600000, 0x1234400000},
    {2, 30, 0x0000FFFFC0000000, 0x40C0000000},
};

static void test_translations(void **state)
{
    struct tables *t = *state;

    for (unsigned i = 0; i < ARRAY_LEN(pages); i++) {
        for (u32 acc = ACC_READ; acc <= ACC_FETCH; acc++) {
            for (unsigned ad = 0; ad < 2; ad++) {
                u64 offset = 0x1A55A3C7 & ((1ull << pages[i].shift) - 1);
                struct walk_result r;

                start(t, PAGING_OFF);
                map_ept(t, pages[i].gpa, pages[i].to, pages[i].leaf, 7, 7 | WB);
                t->c.ept_ad = ad;
                r = walk_linear(&t->p, &t->c, laddr_of(pages[i].gpa + offset), acc);
                assert_int_equal(r.status, WALK_OK);
                assert_true(r.pa == pages[i].to + offset);
                assert_true(r.gpa.at == pages[i].gpa + offset);
                assert_int_equal(r.page_shift, 12); // stage 1 is off: INVLPG knows no larger page
                assert_int_equal(r.rights, TLB_USER | TLB_WRITE | TLB_EXEC | TLB_DIRTY | TLB_S2_READ |
                                               TLB_S2_WRITE | TLB_S2_EXEC |
                                               (!ad || acc == ACC_WRITE ? TLB_S2_DIRTY : 0));
                for (int level = pages[i].leaf; level < 4; level++) {
                    u64 flags = 0;
                    if (ad) flags = level == pages[i].leaf && acc == ACC_WRITE ? A | D : A;
                    assert_int_equal(get64(t, t->ept_entry[level]) & (A | D), flags);
                }
                // Sticky, and a leaf that is dirty says so to a read.
                r = walk_linear(&t->p, &t->c, laddr_of(pages[i].gpa), ACC_READ);
                assert_int_equal(!!(r.rights & TLB_S2_DIRTY), !ad || acc == ACC_WRITE);
            }
        }
    }
}

// Every combination of bits 2:0 and 10 at every level, for every access.
static void test_rights(void **state)
{
    struct tables *t = *state;

    for (unsigned i = 0; i < ARRAY_LEN(pages); i++) {
        start(t, PAGING_OFF);
        map_ept(t, pages[i].gpa, pages[i].to, pages[i].leaf, 0x407, 0x407 | WB);
        for (unsigned n = 0; n < 16 * 4 * 2 * 2 * 4; n++) {
            bool R = n & 1, W = n & 2, X = n & 4, XU = n & 8, exec_only = n & 16, mbec = n & 32, ad = n & 64;
            int level = (int)(n >> 7 & 3);
            u32 access = n >> 9; // read, write, supervisor fetch, user fetch
            bool present = R || W || X || (mbec && XU), misconfigured, allowed;
            u64 q, saved;
            struct walk_result r;

            if (level < pages[i].leaf) continue;
            saved = get64(t, t->ept_entry[level]);
            put64(t, t->ept_entry[level], (saved & ~0x407ull) | (n & 7) | (XU ? 0x400 : 0));
            t->c.ept_exec_only = exec_only, t->c.ept_mbec = mbec, t->c.ept_ad = ad;

            misconfigured = !R && (W || (X && !exec_only) || (mbec && XU && !exec_only));
            allowed = access == 0 ? R : access == 1 ? W : access == 2 ? X : mbec ? XU : X;
            r = walk_ept(&t->p, &t->c, gpaddr_of(pages[i].gpa + 0x123),
                         access == 0   ? ACC_READ
                         : access == 1 ? ACC_WRITE
                         : access == 2 ? ACC_FETCH
                                       : ACC_FETCH | ACC_USER,
                         EPT_Q_LINEAR | EPT_Q_FINAL);
            if (present && misconfigured) {
                assert_int_equal(r.status, WALK_EPT_MISCONFIG);
                assert_true(r.gpa.at == pages[i].gpa + 0x123);
            } else if (present && allowed) {
                assert_int_equal(r.status, WALK_OK);
                assert_int_equal(!!(r.rights & TLB_S2_READ), R);
                assert_int_equal(!!(r.rights & TLB_S2_WRITE), W);
                assert_int_equal(!!(r.rights & TLB_S2_EXEC), X);
                assert_int_equal(!!(r.rights & TLB_S2_EXEC_USER), XU);
            } else {
                q = (access == 0 ? Q_READ : access == 1 ? Q_WRITE : Q_FETCH) | Q_LINEAR | Q_FINAL;
                if (present) q |= (R ? Q_R : 0) | (W ? Q_W : 0) | (X ? Q_X : 0) | (mbec && XU ? Q_XU : 0);
                assert_int_equal(r.status, WALK_EPT_VIOLATION);
                assert_int_equal(r.qualification, q);
                assert_true(r.gpa.at == pages[i].gpa + 0x123);
            }
            for (int l = pages[i].leaf; l < 4; l++) { // flags only for an access that is allowed
                if (r.status != WALK_OK || !ad)
                    assert_int_equal(get64(t, t->ept_entry[l]) & (A | D), 0);
                else
                    assert_int_equal(get64(t, t->ept_entry[l]) & (A | D),
                                     l == pages[i].leaf && access == 1 ? A | D : A);
                put64(t, t->ept_entry[l], get64(t, t->ept_entry[l]) & ~(u64)(A | D));
            }
            put64(t, t->ept_entry[level], saved);
        }
    }
}

static void test_reserved_bits(void **state)
{
    static const u8 widths[] = {36, 40, 46, 52};
    struct tables *t = *state;

    for (unsigned i = 0; i < ARRAY_LEN(pages); i++) {
        for (unsigned w = 0; w < ARRAY_LEN(widths); w++) {
            start(t, PAGING_OFF);
            t->c.maxphyaddr = widths[w];
            map_ept(t, pages[i].gpa, pages[i].to & 0xFFFFFFFFF, pages[i].leaf, 7, 7); // type 0: UC
            for (int level = pages[i].leaf; level < 4; level++) {
                u64 v = get64(t, t->ept_entry[level]);
                bool leaf = level == pages[i].leaf;

                for (unsigned bit = 3; bit < 64; bit++) {
                    bool bad = bit >= widths[w] && bit <= 51;
                    struct walk_result r;

                    if (v & 1ull << bit) continue;
                    if (!leaf) {
                        if (bit >= 3 && bit <= 6) bad = true;
                        if (bit == 7 && level != 3) continue; // turns it into a large page: see below
                        if (bit == 7) bad = true;
                        if (!bad && bit >= 12 && bit < 52) continue; // another table
                    } else {
                        if (bit >= 12 && bit < pages[i].shift) bad = true;
                        if (bit == 4) bad = true; // type 2
                    }
                    put64(t, t->ept_entry[level], v | 1ull << bit);
                    r = walk_linear(&t->p, &t->c, laddr_of(pages[i].gpa), ACC_READ);
                    assert_int_equal(r.status, bad ? WALK_EPT_MISCONFIG : WALK_OK);
                    assert_true(r.gpa.at == pages[i].gpa);
                    // The same in an entry that is not present is nothing but a violation.
                    put64(t, t->ept_entry[level], (v | 1ull << bit) & ~7ull);
                    r = walk_linear(&t->p, &t->c, laddr_of(pages[i].gpa), ACC_READ);
                    assert_int_equal(r.status, WALK_EPT_VIOLATION);
                    assert_int_equal(r.qualification, Q_READ | Q_LINEAR | Q_FINAL);
                    put64(t, t->ept_entry[level], v);
                }
                if (leaf) {
                    for (u64 type = 0; type < 8; type++) {
                        struct walk_result r;
                        put64(t, t->ept_entry[level], v | type << 3);
                        r = walk_linear(&t->p, &t->c, laddr_of(pages[i].gpa), ACC_READ);
                        assert_int_equal(r.status,
                                         type == 2 || type == 3 || type == 7 ? WALK_EPT_MISCONFIG : WALK_OK);
                    }
                    put64(t, t->ept_entry[level], v);
                }
            }
        }
    }
    // A 1 GiB leaf where there are none.
    start(t, PAGING_OFF);
    map_ept(t, 0, 0, 2, 7, 7 | WB);
    assert_int_equal(walk_linear(&t->p, &t->c, laddr_of(0x123), ACC_READ).status, WALK_OK);
    t->c.ept_gib = false;
    assert_int_equal(walk_linear(&t->p, &t->c, laddr_of(0x123), ACC_READ).status, WALK_EPT_MISCONFIG);
    // A PML4 entry with bit 7, however well aligned.
    start(t, PAGING_OFF);
    map_ept(t, 0, 0, 0, 7, 7 | WB);
    put64(t, t->ept_entry[3], 0x87);
    assert_int_equal(walk_linear(&t->p, &t->c, laddr_of(0x123), ACC_READ).status, WALK_EPT_MISCONFIG);
}

static void test_priority_in_the_walk(void **state)
{
    struct tables *t = *state;
    struct walk_result r;

    // A missing right above does not hide a misconfiguration or an absent entry below.
    start(t, PAGING_OFF);
    map_ept(t, 0x5000, 0x5000, 0, 7, 7 | WB);
    put64(t, t->ept_entry[2], get64(t, t->ept_entry[2]) & ~2ull);
    r = walk_linear(&t->p, &t->c, laddr_of(0x5000), ACC_WRITE);
    assert_int_equal(r.status, WALK_EPT_VIOLATION);
    assert_int_equal(r.qualification, Q_WRITE | Q_R | Q_X | Q_LINEAR | Q_FINAL);
    put64(t, t->ept_entry[0], 2);
    assert_int_equal(walk_linear(&t->p, &t->c, laddr_of(0x5000), ACC_WRITE).status, WALK_EPT_MISCONFIG);
    put64(t, t->ept_entry[0], 0);
    r = walk_linear(&t->p, &t->c, laddr_of(0x5000), ACC_WRITE);
    assert_int_equal(r.status, WALK_EPT_VIOLATION);
    assert_int_equal(r.qualification, Q_WRITE | Q_LINEAR | Q_FINAL); // 5:3 are 0 with an absent entry
    // The rights are the AND of all levels.
    put64(t, t->ept_entry[0], 0x5000 | WB | 1);
    put64(t, t->ept_entry[2], get64(t, t->ept_entry[2]) | 2);
    r = walk_linear(&t->p, &t->c, laddr_of(0x5000), ACC_FETCH);
    assert_int_equal(r.qualification, Q_FETCH | Q_R | Q_LINEAR | Q_FINAL);
}

static void test_wide_addresses(void **state)
{
    struct tables *t = *state;
    struct walk_result r;
    paddr pml4;

    start(t, PAGING_OFF);
    t->c.maxphyaddr = 52;
    map_ept(t, 0, 0, 0, 7, 7 | WB);
    r = walk_ept(&t->p, &t->c, gpaddr_of(1ull << 48), ACC_WRITE, EPT_Q_LINEAR | EPT_Q_FINAL);
    assert_int_equal(r.status, WALK_EPT_VIOLATION);
    assert_int_equal(r.qualification, Q_WRITE | Q_LINEAR | Q_FINAL);
    assert_true(r.gpa.at == 1ull << 48);
    // The same address through five levels.
    pml4 = t->c.eptp & ~0xFFFull;
    t->c.eptp = new_page(t) | 4 << 3 | 6;
    put64(t, (t->c.eptp & ~0xFFFull) + 8, pml4 | 7);
    r = walk_ept(&t->p, &t->c, gpaddr_of((1ull << 48) + 0x321), ACC_WRITE, 0);
    assert_int_equal(r.status, WALK_OK);
    assert_int_equal(r.pa, 0x321);
    put64(t, (t->c.eptp & ~0xFFFull) + 8, pml4 | 0x87);
    assert_int_equal(walk_ept(&t->p, &t->c, gpaddr_of(1ull << 48), ACC_READ, 0).status, WALK_EPT_MISCONFIG);
}

static void test_no_ept(void **state)
{
    struct tables *t = *state;
    struct walk_result r;

    start(t, PAGING_OFF);
    r = walk_ept(&t->p, &t->c, gpaddr_of(0x123456789), ACC_WRITE, 0);
    assert_int_equal(r.status, WALK_OK);
    assert_true(r.pa == 0x123456789);
    assert_int_equal(r.rights, TLB_S2_READ | TLB_S2_WRITE | TLB_S2_EXEC | TLB_S2_EXEC_USER | TLB_S2_DIRTY);
}

// ---- guest paging under EPT ----

#define LA 0x00007F1234567000ull

// Makes the EPT leaf of a page grant everything again, and says where it is.
static paddr ept_leaf_of(struct tables *t, u64 gpa)
{
    map_ept(t, gpa & ~0xFFFull, gpa & ~0xFFFull, 0, 7, 7 | WB);
    return t->ept_entry[0];
}

// A guest mapping of LA in the mode given, behind an identity EPT map.
static void guest(struct tables *t, u8 paging)
{
    start(t, paging);
    map_guest(t, paging >= PAGING_4LEVEL ? LA : (u32)LA, 0x9000, 0, 7, 7);
    map_ept_identity(t, MIB);
}

static void test_guest_structures(void **state)
{
    static const u8 modes[] = {PAGING_32, PAGING_PAE, PAGING_4LEVEL, PAGING_5LEVEL};
    // What an access to a guest paging structure meets, by the EPT rights of its page and by the flags that
    // its entry has already: as kvm-unit-tests' ept_access_test_paddr_* expect it of hardware.
    static const struct {
        u8 rights, flags, acc;
        bool ad;
        u16 qualification; // 0: allowed
    } cases[] = {
        {0, 0x60, ACC_READ, false, Q_READ},
        {0, 0x60, ACC_WRITE, false, Q_READ},
        {0, 0x60, ACC_FETCH, false, Q_READ},
        {0, 0x60, ACC_READ, true, Q_READ | Q_WRITE},
        {0, 0x60, ACC_WRITE, true, Q_READ | Q_WRITE},
        {0, 0x60, ACC_FETCH, true, Q_READ | Q_WRITE},
        {1, 0, ACC_READ, false, Q_READ | Q_WRITE | Q_R},
        {1, 0, ACC_WRITE, false, Q_READ | Q_WRITE | Q_R},
        {1, 0, ACC_FETCH, false, Q_READ | Q_WRITE | Q_R},
        {1, 0x20, ACC_READ, false, 0},
        {1, 0x20, ACC_WRITE, false, Q_READ | Q_WRITE | Q_R}, // the leaf's dirty flag only: see below
        {1, 0x20, ACC_FETCH, false, 0},
        {1, 0x60, ACC_READ, false, 0},
        {1, 0x60, ACC_WRITE, false, 0},
        {1, 0x60, ACC_FETCH, false, 0},
        {1, 0, ACC_READ, true, Q_READ | Q_WRITE | Q_R},
        {1, 0x60, ACC_READ, true, Q_READ | Q_WRITE | Q_R},
        {1, 0x60, ACC_WRITE, true, Q_READ | Q_WRITE | Q_R},
        {1, 0x60, ACC_FETCH, true, Q_READ | Q_WRITE | Q_R},
        {3, 0, ACC_READ, false, 0},
        {3, 0, ACC_WRITE, false, 0},
        {3, 0, ACC_READ, true, 0},
        {3, 0, ACC_FETCH, true, 0}, // a structure need not be executable
        {4, 0, ACC_READ, false, Q_READ | Q_X},
        {4, 0x60, ACC_FETCH, true, Q_READ | Q_WRITE | Q_X},
        {5, 0, ACC_READ, false, Q_READ | Q_WRITE | Q_R | Q_X},
        {5, 0x60, ACC_READ, false, 0},
        {5, 0x60, ACC_READ, true, Q_READ | Q_WRITE | Q_R | Q_X},
    };
    struct tables *t = *state;

    for (unsigned m = 0; m < ARRAY_LEN(modes); m++) {
        u64 la = modes[m] >= PAGING_4LEVEL ? LA : (u32)LA;
        unsigned levels;

        guest(t, modes[m]);
        levels = t->levels;
        for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
            for (unsigned level = 0; level < levels; level++) {
                paddr at = t->entry[level], leaf;
                u64 q = cases[i].qualification;
                struct walk_result r;

                // Dirty is a flag of the leaf alone: above it nothing is missing once accessed is set.
                if (level > 0 && cases[i].flags == 0x20) q = 0;

                for (unsigned l = 0; l < levels; l++) {
                    u32 low = 7 | (l == level ? cases[i].flags & (l ? 0x20 : 0x60) : 0);
                    put32(t, t->entry[l], (get32(t, t->entry[l]) & ~0xFFFu) | low);
                    leaf = ept_leaf_of(t, t->entry[l]);
                }
                leaf = ept_leaf_of(t, at);
                put64(t, leaf, (get64(t, leaf) & ~7ull) | cases[i].rights);
                t->c.ept_ad = cases[i].ad;
                r = walk_linear(&t->p, &t->c, laddr_of(la), cases[i].acc);
                if (q) {
                    assert_int_equal(r.status, WALK_EPT_VIOLATION);
                    assert_int_equal(r.qualification, q | Q_LINEAR);
                    assert_true(r.gpa.at == at);
                    assert_int_equal(get32(t, at) & 0x60, cases[i].flags & (level ? 0x20 : 0x60));
                } else {
                    assert_int_equal(r.status, WALK_OK);
                    assert_int_equal(r.pa, 0x9000);
                    assert_int_equal(get32(t, at) & 0x20, 0x20);
                    // An access to a structure counts as a write of its page when EPT keeps flags.
                    assert_int_equal(get64(t, leaf) & (A | D), cases[i].ad ? A | D : 0);
                }
            }
        }
    }
}

static void test_structures_misconfigured(void **state)
{
    struct tables *t = *state;

    guest(t, PAGING_4LEVEL);
    for (unsigned level = 0; level < 4; level++) {
        paddr leaf = ept_leaf_of(t, t->entry[level]);
        struct walk_result r;

        put64(t, leaf, get64(t, leaf) & ~1ull);
        r = walk_linear(&t->p, &t->c, laddr_of(LA), ACC_READ);
        assert_int_equal(r.status, WALK_EPT_MISCONFIG);
        assert_true(r.gpa.at == t->entry[level]);
        put64(t, leaf, get64(t, leaf) | 1);
    }
}

static void test_final_access(void **state)
{
    struct tables *t = *state;

    for (unsigned ad = 0; ad < 2; ad++) {
        for (u32 acc = ACC_READ; acc <= ACC_FETCH; acc++) {
            for (u64 rights = 0; rights < 8; rights++) {
                static const u64 need[] = {1, 2, 4}, q_of[] = {Q_READ, Q_WRITE, Q_FETCH};
                paddr leaf;
                struct walk_result r;

                if ((rights & 3) == 2) continue;
                guest(t, PAGING_4LEVEL);
                t->c.ept_ad = ad;
                leaf = ept_leaf_of(t, 0x9000);
                put64(t, leaf, (get64(t, leaf) & ~7ull) | rights);
                r = walk_linear(&t->p, &t->c, laddr_of(LA + 0xABC), acc | ACC_USER);
                if (rights & need[acc]) {
                    assert_int_equal(r.status, WALK_OK);
                    assert_int_equal(get64(t, leaf) & (A | D), !ad ? 0 : acc == ACC_WRITE ? A | D : A);
                } else {
                    assert_int_equal(r.status, WALK_EPT_VIOLATION);
                    assert_int_equal(r.qualification, q_of[acc] | rights << 3 | Q_LINEAR | Q_FINAL);
                    assert_int_equal(r.gpa.at, 0x9ABC);
                    assert_int_equal(get64(t, leaf) & (A | D), 0);
                }
                // Stage 1 was complete either way, so its flags are there.
                assert_int_equal(get64(t, t->entry[0]) & 0x60, acc == ACC_WRITE ? 0x60 : 0x20);
                assert_int_equal(get64(t, t->entry[3]) & 0x60, 0x20);
            }
        }
    }
}

static void test_order_of_stages(void **state)
{
    struct tables *t = *state;
    struct walk_result r;
    paddr pt_leaf, final_leaf, pd_leaf;

    guest(t, PAGING_4LEVEL);
    pd_leaf = ept_leaf_of(t, t->entry[1]);
    pt_leaf = ept_leaf_of(t, t->entry[0]);
    final_leaf = ept_leaf_of(t, 0x9000);

    // An absent guest entry: #PF before anything is asked of the table it would have named.
    put64(t, pt_leaf, 0);
    put64(t, t->entry[1], get64(t, t->entry[1]) & ~1ull);
    r = walk_linear(&t->p, &t->c, laddr_of(LA), ACC_READ);
    assert_int_equal(r.status, WALK_PF);
    assert_int_equal(r.error, 0);
    // Reading the entry comes before its present bit.
    put64(t, pd_leaf, 0);
    r = walk_linear(&t->p, &t->c, laddr_of(LA), ACC_READ);
    assert_int_equal(r.status, WALK_EPT_VIOLATION);
    assert_true(r.gpa.at == t->entry[1]);
    pd_leaf = ept_leaf_of(t, t->entry[1]);
    put64(t, t->entry[1], get64(t, t->entry[1]) | 1);
    // A right that stage 1 refuses higher up does not hide an EPT violation on the way down.
    put64(t, t->entry[3], get64(t, t->entry[3]) & ~4ull);
    r = walk_linear(&t->p, &t->c, laddr_of(LA), ACC_READ | ACC_USER);
    assert_int_equal(r.status, WALK_EPT_VIOLATION);
    assert_true(r.gpa.at == t->entry[0]);
    // But it comes before the EPT rights of the final access, and before the write of flags.
    ept_leaf_of(t, t->entry[0]);
    put64(t, pt_leaf, get64(t, pt_leaf) & ~2ull);
    put64(t, final_leaf, 0);
    r = walk_linear(&t->p, &t->c, laddr_of(LA), ACC_READ | ACC_USER);
    assert_int_equal(r.status, WALK_PF);
    assert_int_equal(r.error, 5);
    // The write of flags comes before the final access.
    put64(t, t->entry[3], get64(t, t->entry[3]) | 4);
    r = walk_linear(&t->p, &t->c, laddr_of(LA), ACC_READ | ACC_USER);
    assert_int_equal(r.status, WALK_EPT_VIOLATION);
    assert_true(r.gpa.at == t->entry[0]);
    assert_int_equal(r.qualification, Q_READ | Q_WRITE | Q_R | Q_X | Q_LINEAR);
    ept_leaf_of(t, t->entry[0]);
    r = walk_linear(&t->p, &t->c, laddr_of(LA), ACC_READ | ACC_USER);
    assert_int_equal(r.status, WALK_EPT_VIOLATION);
    assert_int_equal(r.gpa.at, 0x9000);
    assert_int_equal(r.qualification, Q_READ | Q_LINEAR | Q_FINAL);
}

static void test_structures_moved_by_ept(void **state)
{
    struct tables *t = *state;
    struct walk_result r;
    paddr real;

    // The guest's tables are found, and their flags written, where EPT says they are.
    guest(t, PAGING_4LEVEL);
    real = new_page(t);
    memcpy(t->p.ram + real, t->p.ram + (t->entry[0] & ~0xFFFull), 4096);
    map_ept(t, t->entry[0] & ~0xFFFull, real, 0, 7, 7 | WB);
    map_ept(t, 0x9000, 0xD000, 0, 7, 7 | WB);
    r = walk_linear(&t->p, &t->c, laddr_of(LA + 5), ACC_WRITE);
    assert_int_equal(r.status, WALK_OK);
    assert_int_equal(r.gpa.at, 0x9005);
    assert_int_equal(r.pa, 0xD005);
    assert_int_equal(get64(t, t->entry[0]) & 0x60, 0);
    assert_int_equal(get64(t, real + (t->entry[0] & 0xFFF)) & 0x60, 0x60);
}

static void test_an_entry_of_both_stages(void **state)
{
    struct tables *t = *state;
    struct walk_result r;
    paddr root, table, ept_pt, pt;
    u64 la;

    // The guest's page directory is the EPT page table: its entry for the guest's page table is the EPT leaf
    // of that very page. The flags of both stages end up in it.
    start(t, PAGING_4LEVEL);
    root = new_page(t), table = new_page(t), pt = new_page(t);
    for (u64 a = 0; a < MIB; a += 4096) map_ept(t, a, a, 0, 7, 7); // type 0, so that bit 5 is clear
    ept_pt = t->ept_entry[0] & ~0xFFFull;
    la = (pt >> 12) << 21;
    t->c.cr3 = root;
    put64(t, root, table | 7);
    put64(t, table, ept_pt | 7);
    put64(t, pt, 0x9000 | 7);
    t->c.ept_ad = true;
    r = walk_linear(&t->p, &t->c, laddr_of(la), ACC_READ);
    assert_int_equal(r.status, WALK_OK);
    assert_int_equal(r.pa, 0x9000);
    assert_int_equal(get64(t, ept_pt + (pt >> 12) * 8), pt | 7 | 0x20 | A | D);
}

static void test_large_guest_page_in_small_ept_pages(void **state)
{
    struct tables *t = *state;
    struct walk_result r;

    start(t, PAGING_4LEVEL);
    map_guest(t, 0x40000000, 0x200000, 1, 7, 7);
    map_ept_identity(t, 4 * MIB);
    r = walk_linear(&t->p, &t->c, laddr_of(0x40123456), ACC_READ);
    assert_int_equal(r.status, WALK_OK);
    assert_int_equal(r.pa, 0x323456);
    assert_int_equal(r.page_shift, 21);
}

static void test_mode_based_execute(void **state)
{
    struct tables *t = *state;

    // Execution is judged by the mode of the linear address, not by the CPL of the access.
    for (unsigned user_page = 0; user_page < 2; user_page++) {
        for (unsigned xu = 0; xu < 2; xu++) {
            for (unsigned xs = 0; xs < 2; xs++) {
                paddr leaf;
                struct walk_result r;
                bool allowed = user_page ? xu : xs;

                guest(t, PAGING_4LEVEL);
                if (!user_page) put64(t, t->entry[2], get64(t, t->entry[2]) & ~4ull);
                t->c.ept_mbec = true;
                for (u64 a = 0; a < MIB; a += 4096) map_ept(t, a, a, 0, 7, 7 | WB);
                for (int level = 1; level < 4; level++)
                    put64(t, t->ept_entry[level], get64(t, t->ept_entry[level]) | 0x400);
                leaf = ept_leaf_of(t, 0x9000);
                put64(t, leaf, 0x9000 | WB | 3 | (xs ? 4 : 0) | (xu ? 0x400 : 0));
                r = walk_linear(&t->p, &t->c, laddr_of(LA), ACC_FETCH); // CPL < 3, SMEP off
                if (allowed) {
                    assert_int_equal(r.status, WALK_OK);
                } else {
                    assert_int_equal(r.status, WALK_EPT_VIOLATION);
                    assert_int_equal(r.qualification, Q_FETCH | Q_R | Q_W | (xs ? Q_X : 0) | (xu ? Q_XU : 0) |
                                                          Q_LINEAR | Q_FINAL);
                }
            }
        }
    }
    // With CR0.PG = 0 every linear address counts as a user-mode one.
    start(t, PAGING_OFF);
    t->c.ept_mbec = true;
    map_ept(t, 0x9000, 0x9000, 0, 0x407, 3 | 0x400 | WB);
    assert_int_equal(walk_linear(&t->p, &t->c, laddr_of(0x9000), ACC_FETCH).status, WALK_OK);
    put64(t, t->ept_entry[0], 0x9000 | WB | 7);
    assert_int_equal(walk_linear(&t->p, &t->c, laddr_of(0x9000), ACC_FETCH).status, WALK_EPT_VIOLATION);
}

static void test_pdpte_loads(void **state)
{
    struct tables *t = *state;
    struct walk_result r;
    u64 out[4];
    paddr leaf;

    start(t, PAGING_PAE);
    map_ept(t, 0x5000, 0x7000, 0, 7, 7 | WB);
    leaf = t->ept_entry[0];
    t->c.ept_ad = true;
    for (unsigned i = 0; i < 4; i++) put64(t, 0x7020 + i * 8, 0x1000 * i | 1);
    assert_true(walk_load_pdptes(&t->p, &t->c, 0x5020, out, &r));
    assert_int_equal(r.status, WALK_OK);
    for (unsigned i = 0; i < 4; i++) assert_int_equal(out[i], 0x1000 * i | 1);
    assert_int_equal(get64(t, leaf) & (A | D), A); // reads, even where the walk's accesses would be writes
    put64(t, 0x7028, 1 | 2);
    assert_false(walk_load_pdptes(&t->p, &t->c, 0x5020, out, &r));
    assert_int_equal(r.status, WALK_OK);

    put64(t, leaf, 0x7000 | WB | 4);
    assert_false(walk_load_pdptes(&t->p, &t->c, 0x5020, out, &r));
    assert_int_equal(r.status, WALK_EPT_VIOLATION);
    assert_int_equal(r.qualification, Q_READ | Q_X); // no linear address: bit 7 is 0
    assert_int_equal(r.gpa.at, 0x5020);
    put64(t, leaf, 0x7000 | WB | 2);
    assert_false(walk_load_pdptes(&t->p, &t->c, 0x5020, out, &r));
    assert_int_equal(r.status, WALK_EPT_MISCONFIG);

    // What was kept of that page (-tlb lazy) goes with an EPT violation (SDM 31.4.3.1).
    static struct walk_cache kept;
    struct ept_result x;
    put64(t, leaf, 0x7000 | WB | 4);
    t->c.cache = &kept, t->c.ept_view = 1;
    kept_page_add(&t->c, gpaddr_of(0x5000), &(struct ept_result){.rights = EPT_X, .pa = 0x6000});
    assert_true(kept_page_find(&t->c, gpaddr_of(0x5000), EPT_X, &x));
    assert_false(walk_load_pdptes(&t->p, &t->c, 0x5020, out, &r));
    assert_int_equal(r.status, WALK_EPT_VIOLATION);
    assert_false(kept_page_find(&t->c, gpaddr_of(0x5000), EPT_X, &x));
    t->c.cache = NULL;

    // The registers hold guest-physical addresses; a walk starts from them.
    start(t, PAGING_PAE);
    map_guest(t, 0xC0000000, 0x9000, 0, 7, 7);
    map_ept_identity(t, MIB);
    r = walk_linear(&t->p, &t->c, laddr_of(0xC0000010), ACC_READ);
    assert_int_equal(r.status, WALK_OK);
    assert_int_equal(r.pa, 0x9010);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_translations),
        T(test_rights),
        T(test_reserved_bits),
        T(test_priority_in_the_walk),
        T(test_wide_addresses),
        T(test_no_ept),
        T(test_guest_structures),
        T(test_structures_misconfigured),
        T(test_final_access),
        T(test_order_of_stages),
        T(test_structures_moved_by_ept),
        T(test_an_entry_of_both_stages),
        T(test_large_guest_page_in_small_ept_pages),
        T(test_mode_based_execute),
        T(test_pdpte_loads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
