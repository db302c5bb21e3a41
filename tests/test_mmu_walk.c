// The walk of the guest's paging structures without EPT: every mode and page size, access rights against the
// rules of SDM 5.6 written out a second time, error codes, reserved bits, accessed and dirty flags in memory.
#include "tests/mmu_tables.h"

#define MIB (1024ull * 1024)

static const struct shape { // every way to map a page
    u8 paging;
    int leaf_level;
    unsigned shift;
    u64 la;
    u64 to;
    const char *name;
} shapes[] = {
    {PAGING_32, 0, 12, 0xBFC41000, 0x00345000, "32-bit 4K"},
    {PAGING_32, 1, 22, 0xC0400000, 0x01800000, "32-bit 4M"},
    {PAGING_PAE, 0, 12, 0x7FE03000, 0x12345000, "PAE 4K"},
    {PAGING_PAE, 1, 21, 0xFFE00000, 0x12400000, "PAE 2M"},
    {PAGING_4LEVEL, 0, 12, 0xFFFF888012345000, 0x7654321000, "4-level 4K"},
    {PAGING_4LEVEL, 1, 21, 0x00007F1234400000, 0x7654200000, "4-level 2M"},
    {PAGING_4LEVEL, 2, 30, 0xFFFFFF8040000000, 0x4540000000, "4-level 1G"},
    {PAGING_5LEVEL, 0, 12, 0xFF11000012345000, 0x0054321000, "5-level 4K"},
    {PAGING_5LEVEL, 1, 21, 0x00EE7F1234400000, 0x7000200000, "5-level 2M"},
    {PAGING_5LEVEL, 2, 30, 0xFFFFFF8040000000, 0x4540000000, "5-level 1G"},
};

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

static void use_mode(struct tables *t, u8 paging)
{
    u8 m = t->c.maxphyaddr;

    t->next = 0x10000;
    t->c = (struct mmu_ctx){.maxphyaddr = m, .gib_pages = true, .pse = true, .paging = paging};
}

static u64 entry(struct tables *t, int level)
{
    return t->c.paging == PAGING_32 ? get32(t, t->entry[level]) : get64(t, t->entry[level]);
}
static void set_entry(struct tables *t, int level, u64 v)
{
    if (t->c.paging == PAGING_32)
        put32(t, t->entry[level], (u32)v);
    else
        put64(t, t->entry[level], v);
}

static void test_translations(void **state)
{
    struct tables *t = *state;

    for (unsigned i = 0; i < ARRAY_LEN(shapes); i++) {
        const struct shape *s = &shapes[i];
        int top;

        for (u32 acc = ACC_READ; acc <= ACC_FETCH; acc++) {
            for (unsigned variant = 0; variant < 4; variant++) {
                u64 offset = 0x2F5 | (variant * 0x15A5000 & ((1ull << s->shift) - 1));
                bool pge = variant & 1, global = variant & 2;
                struct walk_result r;
                u32 rights = TLB_USER | TLB_WRITE | TLB_EXEC | TLB_S2_READ | TLB_S2_WRITE | TLB_S2_EXEC |
                             TLB_S2_EXEC_USER | TLB_S2_DIRTY;

                use_mode(t, s->paging);
                t->c.pge = pge;
                map_guest(t, s->la, s->to, s->leaf_level, 7, 7 | (global ? 0x100 : 0));
                r = walk_linear(&t->p, &t->c, laddr_of(s->la | offset), acc | ACC_USER);
                assert_int_equal(r.status, WALK_OK);
                assert_true(r.pa == (s->to | offset));
                assert_true(r.gpa.at == r.pa);
                assert_int_equal(r.page_shift, s->shift);
                if (pge && global) rights |= TLB_GLOBAL;
                if (acc == ACC_WRITE) rights |= TLB_DIRTY;
                assert_int_equal(r.rights, rights);

                // Accessed in every entry, dirty in the leaf for a write, nothing else changed.
                top = s->leaf_level + (int)t->levels - 1;
                for (int level = s->leaf_level; level <= top; level++) {
                    u64 low = entry(t, level) & 0xFFF, expect = 7 | 0x20;
                    if (level == s->leaf_level) {
                        if (level) expect |= 0x80;
                        if (global) expect |= 0x100;
                        if (acc == ACC_WRITE) expect |= 0x40;
                    }
                    assert_int_equal(low, expect);
                }
                // A leaf that is dirty already says so, whatever the access.
                r = walk_linear(&t->p, &t->c, laddr_of(s->la), ACC_READ);
                assert_int_equal(!!(r.rights & TLB_DIRTY), acc == ACC_WRITE);
            }
        }
    }
}

static void test_paging_off(void **state)
{
    struct tables *t = *state;

    for (u32 acc = ACC_READ; acc <= ACC_FETCH; acc++) {
        for (u32 user = 0; user <= ACC_USER; user += ACC_USER) {
            struct walk_result r;
            use_mode(t, PAGING_OFF);
            t->c.smep = t->c.smap = t->c.wp = t->c.pke = true;
            t->c.pkru = ~0u;
            r = walk_linear(&t->p, &t->c, laddr_of(0xFEE00123), acc | user);
            assert_int_equal(r.status, WALK_OK);
            assert_int_equal(r.pa, 0xFEE00123);
            assert_int_equal(r.gpa.at, 0xFEE00123);
            assert_int_equal(r.page_shift, 12);
            assert_true(walk_rights_permit(&t->c, r.rights, ACC_WRITE | user));
            assert_true(walk_rights_permit(&t->c, r.rights, ACC_FETCH | user));
            assert_false(r.rights & TLB_GLOBAL);
        }
    }
}

static void test_canonical(void **state)
{
    (void)state;
    assert_true(laddr_canonical(0x00007FFFFFFFFFFF, 48));
    assert_false(laddr_canonical(0x0000800000000000, 48));
    assert_true(laddr_canonical(0xFFFF800000000000, 48));
    assert_false(laddr_canonical(0xFFFF7FFFFFFFFFFF, 48));
    assert_true(laddr_canonical(0x0000800000000000, 57));
    assert_true(laddr_canonical(0x00FFFFFFFFFFFFFF, 57));
    assert_false(laddr_canonical(0x0100000000000000, 57));
    assert_true(laddr_canonical(0xFF00000000000000, 57));
}

// ---- access rights: SDM 5.6.1 and 5.6.2 as its list of what is allowed ----

struct rights_case {
    u32 kind; // ACC_READ, ACC_WRITE, ACC_FETCH
    bool user_access, implicit, ac;
    bool wp, smep, smap, pke, pks, nxe;
    bool ad, wd; // of the page's key
    bool user_address, writable, xd;
};

static bool manual_key_permits(const struct rights_case *x)
{
    if (!(x->user_address ? x->pke : x->pks)) return true;
    if (x->ad) return false;                        // no data access at all
    if (x->kind == ACC_READ || !x->wd) return true; // WD stops writes only,
    return !x->user_access && !x->wp;               // and not a supervisor's with CR0.WP = 0
}

static bool manual_permits(const struct rights_case *x)
{
    bool key = manual_key_permits(x);
    bool smap_lets_through = !x->smap || (x->ac && !x->implicit);

    if (!x->user_access) { // supervisor-mode accesses
        switch (x->kind) {
        case ACC_READ:
            if (!x->user_address) return key;
            return key && smap_lets_through;
        case ACC_WRITE:
            if (!x->user_address) return key && (x->wp ? x->writable : true);
            if (!x->wp) return key && smap_lets_through;
            return x->writable && key && smap_lets_through;
        default:
            if (!x->user_address) return x->nxe ? !x->xd : true;
            if (x->smep) return false;
            return x->nxe ? !x->xd : true;
        }
    }
    switch (x->kind) { // user-mode accesses
    case ACC_READ: return x->user_address && key;
    case ACC_WRITE: return x->user_address && x->writable && key;
    default: return x->user_address && (x->nxe ? !x->xd : true);
    }
}

// One combination in one mode, the restriction of each kind placed at one level.
static void check_rights(struct tables *t, const struct shape *s, const struct rights_case *x,
                         int level_of_us, int level_of_rw, int level_of_xd)
{
    u32 acc =
        x->kind | (x->user_access ? ACC_USER : 0) | (x->implicit ? ACC_IMPLICIT : 0) | (x->ac ? ACC_AC : 0);
    bool has_keys = s->paging >= PAGING_4LEVEL;
    unsigned key = (level_of_us * 5 + level_of_rw + 3) & 15;
    struct rights_case y = *x;
    bool allowed;
    struct walk_result r;
    u32 error;

    for (int level = s->leaf_level; level < s->leaf_level + (int)t->levels; level++) {
        u64 v = entry(t, level) & ~(0x66ull | 0xFull << 59 | 1ull << 63);
        v |= 6;
        if (level == level_of_us && !x->user_address) v &= ~4ull;
        if (level == level_of_rw && !x->writable) v &= ~2ull;
        if (level == level_of_xd && x->xd) v |= 1ull << 63;
        if (level == s->leaf_level && has_keys) v |= (u64)key << 59;
        set_entry(t, level, v);
    }
    t->c.wp = x->wp, t->c.smep = x->smep, t->c.smap = x->smap, t->c.pke = x->pke, t->c.pks = x->pks,
    t->c.nxe = x->nxe;
    u32 rights = (x->ad ? 1u : 0) << key * 2 | (x->wd ? 2u : 0) << key * 2;
    t->c.pkru = x->user_address ? rights : ~rights, t->c.pkrs = x->user_address ? ~rights : rights;
    if (!has_keys) y.pke = y.pks = false;
    allowed = manual_permits(&y);

    r = walk_linear(&t->p, &t->c, laddr_of(s->la), acc);
    if (allowed) {
        assert_int_equal(r.status, WALK_OK);
        assert_int_equal(!!(r.rights & TLB_USER), x->user_address);
        assert_int_equal(!!(r.rights & TLB_WRITE), x->writable);
        assert_int_equal(!!(r.rights & TLB_EXEC), !x->xd);
        if (has_keys) assert_int_equal(r.rights >> TLB_PKEY_SHIFT & 15, key);
        assert_true(walk_rights_permit(&t->c, r.rights, acc));
    } else {
        // SDM 5.7, bit by bit.
        error = 1;
        if (x->kind == ACC_WRITE) error |= 2;
        if (x->user_access) error |= 4;
        if (x->kind == ACC_FETCH && (x->smep || (x->nxe && s->paging != PAGING_32))) error |= 16;
        if (x->kind != ACC_FETCH && !manual_key_permits(&y)) error |= 32;
        assert_int_equal(r.status, WALK_PF);
        assert_int_equal(r.error, error);
    }
    for (int level = s->leaf_level; level < s->leaf_level + (int)t->levels; level++) {
        u64 ad = entry(t, level) & 0x60;
        if (!allowed)
            assert_int_equal(ad, 0);
        else
            assert_int_equal(ad, level == s->leaf_level && x->kind == ACC_WRITE ? 0x60 : 0x20);
    }

    // The same rights, found in the TLB, grant the same.
    u32 cached = TLB_DIRTY | TLB_S2_READ | TLB_S2_WRITE | TLB_S2_EXEC | TLB_S2_EXEC_USER | TLB_S2_DIRTY;
    if (x->user_address) cached |= TLB_USER;
    if (x->writable) cached |= TLB_WRITE;
    if (!x->xd) cached |= TLB_EXEC;
    if (has_keys) cached |= key << TLB_PKEY_SHIFT;
    assert_int_equal(walk_rights_permit(&t->c, cached, acc), allowed);
    if (x->kind == ACC_WRITE) {
        assert_false(walk_rights_permit(&t->c, cached & ~TLB_DIRTY, acc));
        assert_false(walk_rights_permit(&t->c, cached & ~TLB_S2_DIRTY, acc));
        assert_false(walk_rights_permit(&t->c, cached & ~TLB_S2_WRITE, acc));
    } else {
        assert_int_equal(walk_rights_permit(&t->c, cached & ~(TLB_DIRTY | TLB_S2_DIRTY | TLB_S2_WRITE), acc),
                         allowed);
    }
    if (x->kind == ACC_READ) assert_false(walk_rights_permit(&t->c, cached & ~TLB_S2_READ, acc));
    if (x->kind == ACC_FETCH) { // by the mode of the address only with mode-based execute control
        assert_false(walk_rights_permit(&t->c, cached & ~TLB_S2_EXEC, acc));
        assert_int_equal(walk_rights_permit(&t->c, cached & ~TLB_S2_EXEC_USER, acc), allowed);
        t->c.ept_mbec = true;
        u32 bit = x->user_address ? TLB_S2_EXEC_USER : TLB_S2_EXEC,
            other = x->user_address ? TLB_S2_EXEC : TLB_S2_EXEC_USER;
        assert_false(walk_rights_permit(&t->c, cached & ~bit, acc));
        assert_int_equal(walk_rights_permit(&t->c, cached & ~other, acc), allowed);
        t->c.ept_mbec = false;
    }
}

static void test_access_rights(void **state)
{
    struct tables *t = *state;

    for (unsigned i = 0; i < ARRAY_LEN(shapes); i++) {
        const struct shape *s = &shapes[i];
        bool xd_exists = s->paging != PAGING_32;

        use_mode(t, s->paging);
        map_guest(t, s->la, s->to, s->leaf_level, 7, 7);
        for (unsigned n = 0; n < 3u << 14; n++) {
            // clang-format off
            struct rights_case x = {.kind = n >> 14,
                                    .user_access = n & 1, .implicit = n & 2, .ac = n & 4, .wp = n & 8, .smep = n & 16,
                                    .smap = n & 32, .pke = n & 64, .nxe = n & 128, .ad = n & 256, .wd = n & 512,
                                    .user_address = n & 1024, .writable = n & 2048, .xd = n & 4096, .pks = n & 8192};
            // clang-format on
            int low = s->leaf_level, count = (int)t->levels;

            if (x.xd && (!x.nxe || !xd_exists)) continue; // a reserved bit, or no bit at all
            if (x.user_access && x.implicit) continue;    // an implicit access is a supervisor's
            // Each restriction at another level, so that each level is seen to count.
            check_rights(t, s, &x, low + (int)(n % 7) % count, low + (int)(n % 5) % count,
                         low + (int)(n % 3) % count);
        }
    }
}

static void test_rights_at_every_level(void **state)
{
    struct tables *t = *state;

    for (unsigned i = 0; i < ARRAY_LEN(shapes); i++) {
        const struct shape *s = &shapes[i];

        use_mode(t, s->paging);
        map_guest(t, s->la, s->to, s->leaf_level, 7, 7);
        for (int level = s->leaf_level; level < s->leaf_level + (int)t->levels; level++) {
            struct rights_case user_read = {.kind = ACC_READ, .user_access = true, .writable = true};
            struct rights_case user_write = {.kind = ACC_WRITE, .user_access = true, .user_address = true};
            struct rights_case fetch = {
                .kind = ACC_FETCH, .user_access = true, .user_address = true, .nxe = true, .xd = true};

            check_rights(t, s, &user_read, level, level, level);
            check_rights(t, s, &user_write, level, level, level);
            if (s->paging != PAGING_32) check_rights(t, s, &fetch, level, level, level);
        }
    }
}

// ---- absent entries and reserved bits ----

static void expect_fault(struct tables *t, const struct shape *s, u32 base_error)
{
    // clang-format off
    static const u32 accesses[] = {ACC_READ, ACC_WRITE, ACC_FETCH, ACC_READ | ACC_USER, ACC_WRITE | ACC_USER,
                                   ACC_FETCH | ACC_USER, ACC_WRITE | ACC_IMPLICIT};
    // clang-format on
    for (unsigned i = 0; i < ARRAY_LEN(accesses); i++) {
        for (unsigned features = 0; features < 4; features++) {
            struct mmu_ctx c = t->c;
            u32 acc = accesses[i], error = base_error;
            struct walk_result r;

            c.smep = features & 1;
            if (features & 2)
                c.pke = c.pks = true, c.pkru = c.pkrs = ~0u; // an address without translation has no key
            r = walk_linear(&t->p, &c, laddr_of(s->la), acc);
            if ((acc & ACC_KIND) == ACC_WRITE) error |= 2;
            if (acc & ACC_USER) error |= 4;
            if ((acc & ACC_KIND) == ACC_FETCH && (c.smep || (c.nxe && c.paging != PAGING_32))) error |= 16;
            assert_int_equal(r.status, WALK_PF);
            assert_int_equal(r.error, error);
        }
    }
}

static void test_absent(void **state)
{
    struct tables *t = *state;

    for (unsigned i = 0; i < ARRAY_LEN(shapes); i++) {
        const struct shape *s = &shapes[i];

        for (unsigned nxe = 0; nxe < 2; nxe++) {
            use_mode(t, s->paging);
            t->c.nxe = nxe;
            map_guest(t, s->la, s->to, s->leaf_level, 7, 7);
            for (int level = s->leaf_level; level < s->leaf_level + (int)t->levels; level++) {
                u64 v = entry(t, level);

                set_entry(t, level, ~1ull); // every other bit is ignored
                expect_fault(t, s, 0);
                set_entry(t, level, v);
                for (int l = s->leaf_level; l < s->leaf_level + (int)t->levels; l++)
                    assert_int_equal(entry(t, l) & 0x60, 0); // faulting walks set no flag
            }
            if (s->paging == PAGING_PAE) {
                t->c.pdpte[s->la >> 30] &= ~1ull;
                expect_fault(t, s, 0);
            }
        }
    }
}

// Which bits of a present entry are reserved, from SDM figures 5-4, 5-7, 5-11 and the tables beside them.
static bool manual_reserved(const struct shape *s, int level, unsigned bit, unsigned m, bool nxe, bool gib)
{
    bool large = level == s->leaf_level && level > 0;

    if (s->paging == PAGING_32) {
        unsigned limit = m < 40 ? m : 40;
        return large && bit <= 21 && bit >= limit - 19;
    }
    if (bit == 63) return !nxe;
    if (bit >= 52) return s->paging == PAGING_PAE; // 62:52: ignored or key in IA-32e formats
    if (bit >= m) return true;
    if (bit == 7) return level >= 3 || (level == 2 && !gib);
    if (large) return bit >= 13 && bit < s->shift;
    return false;
}

static void test_reserved_bits(void **state)
{
    static const u8 widths[] = {32, 36, 39, 40, 46, 52};
    struct tables *t = *state;

    for (unsigned i = 0; i < ARRAY_LEN(shapes); i++) {
        for (unsigned w = 0; w < ARRAY_LEN(widths); w++) {
            for (unsigned variant = 0; variant < 4; variant++) {
                const struct shape *s = &shapes[i];
                struct shape low = *s;
                bool nxe = variant & 1, gib = variant & 2;
                int levels;

                // cannot be mapped: seen below at the level above a leaf
                if (s->leaf_level == 2 && !gib) continue;
                t->c.maxphyaddr = widths[w];
                low.to &= 0xFFFFFFFF >> (widths[w] < 36);
                use_mode(t, s->paging);
                t->c.nxe = nxe;
                t->c.gib_pages = gib;
                map_guest(t, low.la, low.to, low.leaf_level, 7, 7);
                levels = (int)t->levels;
                for (int level = low.leaf_level; level < low.leaf_level + levels; level++) {
                    u64 v = entry(t, level);
                    unsigned width = s->paging == PAGING_32 ? 32 : 64;

                    for (unsigned bit = 5; bit < width; bit++) {
                        bool reserved = manual_reserved(&low, level, bit, widths[w], nxe, gib);

                        if (v & 1ull << bit) continue;
                        if (!reserved && level != low.leaf_level && (bit >= 12 || bit == 7) && bit < 52)
                            continue; // a legal bit of the address, or of the format: another walk
                        set_entry(t, level, v | 1ull << bit);
                        if (reserved) {
                            expect_fault(t, &low, 1 | 8);
                        } else {
                            struct walk_result r = walk_linear(&t->p, &t->c, laddr_of(low.la), ACC_READ);
                            assert_int_equal(r.status, WALK_OK);
                        }
                        set_entry(t, level, v);
                    }
                    // A reserved bit matters only if the entry is present, and only where the walk comes
                    // along.
                    if (level > 0 && manual_reserved(&low, level, 51, widths[w], nxe, gib)) {
                        set_entry(t, level, (v | 1ull << 51) & ~1ull);
                        expect_fault(t, &low, 0);
                        set_entry(t, level, v);
                    }
                }
            }
        }
    }
    t->c.maxphyaddr = 40;
}

static void test_large_bit_without_large_pages(void **state)
{
    struct tables *t = *state;
    struct walk_result r;

    // 32-bit paging with CR4.PSE = 0 ignores bit 7 of a PDE.
    use_mode(t, PAGING_32);
    t->c.pse = false;
    map_guest(t, 0x00C05000, 0x00777000, 0, 0x87, 7);
    r = walk_linear(&t->p, &t->c, laddr_of(0x00C05123), ACC_READ);
    assert_int_equal(r.status, WALK_OK);
    assert_int_equal(r.pa, 0x00777123);
    assert_int_equal(r.page_shift, 12);
    // PAE does not look at CR4.PSE.
    use_mode(t, PAGING_PAE);
    t->c.pse = false;
    map_guest(t, 0x00C00000, 0x00800000, 1, 7, 7);
    r = walk_linear(&t->p, &t->c, laddr_of(0x00C05123), ACC_READ);
    assert_int_equal(r.status, WALK_OK);
    assert_int_equal(r.pa, 0x00805123);
    // No 1 GiB pages: bit 7 of a PDPTE is reserved.
    use_mode(t, PAGING_4LEVEL);
    map_guest(t, 0x40000000, 0, 2, 7, 7);
    t->c.gib_pages = false;
    expect_fault(t, &(struct shape){.la = 0x40000000}, 9);
    // In PML4E and PML5E it is reserved however well the address would be aligned.
    for (int level = 3; level <= 4; level++) {
        use_mode(t, PAGING_5LEVEL);
        map_guest(t, 0x40000000, 0, 0, 7, 7);
        put64(t, t->entry[level], 0x87);
        expect_fault(t, &(struct shape){.la = 0x40000000}, 9);
    }
}

static void test_pse36(void **state)
{
    struct tables *t = *state;
    struct walk_result r;

    // PDE bits 20:13 are address bits 39:32; 22 bits of offset; bit 12 is the PAT.
    use_mode(t, PAGING_32);
    map_guest(t, 0x80000000, 0, 1, 7, 0);
    put32(t, t->entry[1], 0x40000000 | 0xA5 << 13 | 0x1000 | 0x87);
    r = walk_linear(&t->p, &t->c, laddr_of(0x803FFFFF), ACC_READ);
    assert_int_equal(r.status, WALK_OK);
    assert_true(r.pa == 0xA5403FFFFFull);
    assert_int_equal(r.page_shift, 22);
    t->c.maxphyaddr = 52; // still 40 bits
    put32(t, t->entry[1], 0x40000000 | 1 << 21 | 0x87);
    expect_fault(t, &(struct shape){.la = 0x80000000}, 9);
    t->c.maxphyaddr = 36;
    put32(t, t->entry[1], 0x40000000 | 0xF << 13 | 0x87);
    r = walk_linear(&t->p, &t->c, laddr_of(0x80000000), ACC_READ);
    assert_int_equal(r.status, WALK_OK);
    assert_true(r.pa == 0xF40000000ull);
    t->c.maxphyaddr = 40;
}

static void test_cr3_bits_that_do_not_count(void **state)
{
    struct tables *t = *state;

    for (unsigned i = 0; i < ARRAY_LEN(shapes); i++) {
        const struct shape *s = &shapes[i];

        use_mode(t, s->paging);
        map_guest(t, s->la, s->to, s->leaf_level, 7, 7);
        t->c.cr3 |= s->paging == PAGING_32 ? 0x18 : s->paging >= PAGING_4LEVEL ? 0x8000000000000FFFull : 0;
        assert_int_equal(walk_linear(&t->p, &t->c, laddr_of(s->la), ACC_READ).status, WALK_OK);
    }
}

// ---- the rest ----

static void test_flag_writes_are_told(void **state)
{
    struct tables *t = *state;
    paddr leaf_page;

    use_mode(t, PAGING_4LEVEL);
    map_guest(t, 0x400000, 0x5000, 0, 7, 7);
    leaf_page = t->entry[0] >> 12;
    phys_dirty_clear(&t->p);
    walk_linear(&t->p, &t->c, laddr_of(0x400000), ACC_READ);
    for (int level = 0; level < 4; level++) {
        u64 page = t->entry[level] >> 12;
        assert_true(t->p.dirty[page / 64] >> (page % 64) & 1);
    }
    phys_dirty_clear(&t->p);
    walk_linear(&t->p, &t->c, laddr_of(0x400000), ACC_READ); // nothing left to set: nothing written
    for (u64 i = 0; i < (t->p.pages + 63) / 64; i++) assert_int_equal(t->p.dirty[i], 0);
    walk_linear(&t->p, &t->c, laddr_of(0x400000), ACC_WRITE);
    for (u64 page = 0; page < t->p.pages; page++)
        assert_int_equal(t->p.dirty[page / 64] >> (page % 64) & 1, page == leaf_page);
}

static void test_tables_outside_ram(void **state)
{
    struct tables *t = *state;
    struct walk_result r;

    // An empty bus reads as ones: present, and with reserved bits set unless the format has none.
    use_mode(t, PAGING_4LEVEL);
    t->c.cr3 = 0x80000000;
    r = walk_linear(&t->p, &t->c, laddr_of(0), ACC_READ);
    assert_int_equal(r.status, WALK_PF);
    assert_int_equal(r.error, 9);
}

static void test_a20(void **state)
{
    struct tables *t = *state;
    struct walk_result r;

    // The walk's own accesses pass the gate, and so does the translation.
    use_mode(t, PAGING_32);
    map_guest(t, 0x00400000, 0x00300000, 0, 7, 7);
    t->p.a20_masked = true;
    t->c.cr3 |= BIT(20);
    r = walk_linear(&t->p, &t->c, laddr_of(0x00400000), ACC_READ);
    assert_int_equal(r.status, WALK_OK);
    assert_int_equal(r.gpa.at, 0x00300000);
    assert_int_equal(r.pa, 0x00200000);
    use_mode(t, PAGING_OFF);
    // the wrap that real mode expects
    assert_int_equal(walk_linear(&t->p, &t->c, laddr_of(0x00100000), ACC_READ).pa, 0);
    t->p.a20_masked = false;
}

static void test_load_pdptes(void **state)
{
    struct tables *t = *state;
    struct walk_result r;
    u64 out[4];
    paddr a;

    use_mode(t, PAGING_PAE);
    a = new_page(t) + 0x7E0;
    // PWT, PCD, ignored bits
    for (unsigned i = 0; i < 4; i++) put64(t, a + i * 8, (i + 1) * 0x1000 | (i != 2) | 0xE18);
    // CR3 bits 31:5 count
    assert_true(walk_load_pdptes(&t->p, &t->c, a | 0x1F | 0xFFFFFFFF00000000ull, out, &r));
    assert_int_equal(r.status, WALK_OK);
    for (unsigned i = 0; i < 4; i++) assert_int_equal(out[i], (i + 1) * 0x1000 | (i != 2) | 0xE18);
    for (unsigned i = 0; i < 4; i++) {
        u64 v = get64(t, a + i * 8);
        for (unsigned bit = 1; bit < 64; bit++) {
            bool reserved = bit == 1 || bit == 2 || (bit >= 5 && bit <= 8) || bit >= 40;

            put64(t, a + i * 8, v | 1ull << bit);
            assert_int_equal(walk_load_pdptes(&t->p, &t->c, a, out, &r), !reserved || i == 2);
            assert_int_equal(r.status, WALK_OK);
        }
        put64(t, a + i * 8, v);
    }
}

// What a debugger sees of a walk: each entry with its level and place, no flag set, no device read.
static void test_peek(void **state)
{
    struct tables *t = *state;

    for (unsigned i = 0; i < ARRAY_LEN(shapes); i++) {
        const struct shape *s = &shapes[i];
        struct walk_steps steps;
        struct walk_result r;

        use_mode(t, s->paging);
        map_guest(t, s->la, s->to, s->leaf_level, 7, 7);
        r = walk_peek(&t->p, &t->c, laddr_of(s->la | 0x123), ACC_WRITE | ACC_USER, &steps);
        assert_int_equal(r.status, WALK_OK);
        assert_true(r.pa == (s->to | 0x123));
        assert_int_equal(steps.n, t->levels);
        for (unsigned k = 0; k < steps.n; k++) {
            int level = s->leaf_level + (int)(steps.n - 1 - k);
            assert_false(steps.step[k].second);
            assert_int_equal(steps.step[k].level, level);
            assert_true(steps.step[k].pa == t->entry[level] && steps.step[k].gpa.at == t->entry[level]);
            assert_true(steps.step[k].value == entry(t, level));
            assert_int_equal(entry(t, level) & 0x60, 0);
        }
        assert_int_equal(walk_peek(&t->p, &t->c, laddr_of(s->la ^ 0x80000000), ACC_READ, NULL).status,
                         WALK_PF);
    }
    use_mode(t, PAGING_4LEVEL);
    t->c.cr3 = 0xFE000000; // no RAM there
    assert_int_equal(walk_peek(&t->p, &t->c, laddr_of(0), ACC_READ, NULL).status, WALK_NOT_RAM);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_translations),
        T(test_paging_off),
        T(test_canonical),
        T(test_access_rights),
        T(test_rights_at_every_level),
        T(test_absent),
        T(test_reserved_bits),
        T(test_large_bit_without_large_pages),
        T(test_pse36),
        T(test_cr3_bits_that_do_not_count),
        T(test_flag_writes_are_told),
        T(test_tables_outside_ram),
        T(test_a20),
        T(test_load_pdptes),
        T(test_peek),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
