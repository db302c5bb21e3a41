// Memory types: the tables of the SDM's memory-cache-control chapter, written out by hand.
#include "mmu/mtype.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <string.h>

enum { UC = MTYPE_UC, WC = MTYPE_WC, WT = MTYPE_WT, WP = MTYPE_WP, WB = MTYPE_WB, UCM = MTYPE_UC_MINUS };

static void test_combine(void **state)
{
    // SDM table "Effective Page-Level Memory Types": a row for each MTRR type, columns UC UC- WC WT WB WP.
    static const u8 columns[6] = {UC, UCM, WC, WT, WB, WP};
    static const struct {
        u8 range;
        u8 effective[6];
    } rows[] = {
        {UC, {UC, UC, WC, UC, UC, UC}}, {WC, {UC, WC, WC, UC, WC, UC}}, {WT, {UC, UC, WC, WT, WT, WP}},
        {WB, {UC, UC, WC, WT, WB, WP}}, {WP, {UC, WC, WC, WT, WP, WP}},
    };

    (void)state;
    for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
        for (unsigned j = 0; j < 6; j++) {
            assert_int_equal(mtype_combine(rows[i].range, columns[j]), rows[i].effective[j]);
            // Through EPT: the leaf's type stands for the MTRRs unless it ignores the PAT; CR0.CD = 1 is UC.
            u64 leaf = 0x1000 | (u64)rows[i].range << 3 | 7;
            assert_int_equal(mtype_of_ept(leaf, columns[j], false), rows[i].effective[j]);
            assert_int_equal(mtype_of_ept(leaf | 0x40, columns[j], false), rows[i].range);
            assert_int_equal(mtype_of_ept(leaf, columns[j], true), UC);
            assert_int_equal(mtype_of_ept(leaf | 0x40, columns[j], true), UC);
        }
    }
}

static void test_pat(void **state)
{
    // Reset value: WB, WT, UC-, UC, and the same again; index is PAT:PCD:PWT.
    static const u8 reset[8] = {WB, WT, UCM, UC, WB, WT, UCM, UC};
    u64 pat = 0x0001040500010406ull; // WB WT WC UC WP WT WC UC

    (void)state;
    for (unsigned i = 0; i < 8; i++) {
        u64 low = (u64)(i & 3) << 3;
        assert_int_equal(mtype_of_pat(MTYPE_PAT_RESET, low | (i & 4 ? 1 << 7 : 0), false), reset[i]);
        assert_int_equal(mtype_of_pat(MTYPE_PAT_RESET, low | (i & 4 ? 1 << 12 : 0), true), reset[i]);
        assert_int_equal(mtype_of_pat(pat, low | (i & 4 ? 1 << 7 : 0), false), pat >> i * 8 & 0xFF);
        assert_int_equal(mtype_of_pat(pat, low | 0x80 | (i & 4 ? 1 << 12 : 0), true), pat >> i * 8 & 0xFF);
    }
    for (unsigned v = 0; v < 256; v++) {
        bool pat_type = v == 0 || v == 1 || (v >= 4 && v <= 7), range_type = pat_type && v != 7;
        for (unsigned i = 0; i < 8; i++) {
            u64 value = (0x0606060606060606ull & ~(0xFFull << i * 8)) | (u64)v << i * 8;
            assert_int_equal(mtype_pat_valid(value), pat_type);
            assert_int_equal(mtype_fixed_valid(value), range_type);
        }
        assert_int_equal(mtype_def_type_valid(v), range_type);
        assert_int_equal(mtype_def_type_valid(v | 0xC00), range_type);
        assert_int_equal(mtype_base_valid(0x80000000ull | v, 36), range_type);
    }
    for (unsigned bit = 0; bit < 64; bit++) {
        if (bit >= 8) assert_int_equal(mtype_def_type_valid(1ull << bit), bit == 10 || bit == 11);
        if (bit >= 8) assert_int_equal(mtype_base_valid(1ull << bit | 6, 39), bit >= 12 && bit < 39);
        assert_int_equal(mtype_mask_valid(1ull << bit, 39), bit >= 11 && bit < 39);
    }
}

static void test_fixed_ranges(void **state)
{
    // SDM table "Address Mapping for Fixed-Range MTRRs": first address and size of each byte, in MSR order.
    struct mtype_mtrrs m;
    paddr a = 0;

    (void)state;
    for (unsigned reg = 0; reg < 11; reg++) {
        paddr size = reg == 0 ? 0x10000 : reg < 3 ? 0x4000 : 0x1000;
        for (unsigned byte = 0; byte < 8; byte++, a += size) {
            memset(&m, 0, sizeof(m));
            m.def_type = 0xC00 | WB;
            for (unsigned r = 0; r < 11; r++) m.fixed[r] = 0x0606060606060606ull;
            m.fixed[reg] = (m.fixed[reg] & ~(0xFFull << byte * 8)) | (u64)WP << byte * 8;
            assert_int_equal(mtype_of_mtrrs(&m, a, 40), WP);
            assert_int_equal(mtype_of_mtrrs(&m, a + size - 1, 40), WP);
            if (a) assert_int_equal(mtype_of_mtrrs(&m, a - 1, 40), WB);
            assert_int_equal(mtype_of_mtrrs(&m, a + size, 40), WB);
            m.def_type = 0x800 | WT; // FE = 0: the fixed ranges say nothing
            assert_int_equal(mtype_of_mtrrs(&m, a, 40), WT);
            m.def_type = 0x400 | WT; // E = 0: all is UC
            assert_int_equal(mtype_of_mtrrs(&m, a, 40), UC);
        }
    }
    assert_int_equal(a, 0x100000);
}

static void test_variable_ranges(void **state)
{
    struct mtype_mtrrs m = {.def_type = 0x800 | WB};
    u64 mask_of_256m = 0xFFF0000000ull; // 40 address bits

    (void)state;
    m.base[3] = 0xC0000000 | WC;
    m.mask[3] = mask_of_256m;
    assert_int_equal(mtype_of_mtrrs(&m, 0xC0000000, 40), WB); // not valid yet
    m.mask[3] |= 0x800;
    assert_int_equal(mtype_of_mtrrs(&m, 0xC0000000, 40), WC);
    assert_int_equal(mtype_of_mtrrs(&m, 0xCFFFFFFF, 40), WC);
    assert_int_equal(mtype_of_mtrrs(&m, 0xBFFFFFFF, 40), WB);
    assert_int_equal(mtype_of_mtrrs(&m, 0xD0000000, 40), WB);
    assert_int_equal(mtype_of_mtrrs(&m, 0x1C0000000, 40), WB);
    // Overlaps: UC wins; WT and WB give WT; equal types stay.
    m.base[5] = 0xC0000000 | UC;
    m.mask[5] = mask_of_256m | 0x800;
    assert_int_equal(mtype_of_mtrrs(&m, 0xC8000000, 40), UC);
    m.base[3] = 0xC0000000 | WT;
    m.base[5] = 0xC0000000 | WB;
    assert_int_equal(mtype_of_mtrrs(&m, 0xC8000000, 40), WT);
    m.base[3] = 0xC0000000 | WB;
    m.base[5] = 0xC0000000 | WT;
    assert_int_equal(mtype_of_mtrrs(&m, 0xC8000000, 40), WT);
    m.base[3] = m.base[5] = 0xC0000000 | WP;
    assert_int_equal(mtype_of_mtrrs(&m, 0xC8000000, 40), WP);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_combine),
        cmocka_unit_test(test_pat),
        cmocka_unit_test(test_fixed_ranges),
        cmocka_unit_test(test_variable_ranges),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
