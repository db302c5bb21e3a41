// What walks keep with -tlb lazy: what is granted from it, what is not, what drops it (SDM 31.4.3); and pages
// of paging structures that are noted with -tlb strict.
#include "mmu/walk_ept.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define VIEW_A (0x10000 | 1)
#define VIEW_B (0x20000 | 1)

static struct walk_cache kept;
static struct mmu_ctx in_view(u64 view) { return (struct mmu_ctx){.ept_view = view, .cache = &kept}; }

static bool granted(u64 view, u64 gpa, u32 need, u64 *pa)
{
    struct mmu_ctx c = in_view(view);
    struct ept_result r;
    bool found = kept_page_find(&c, gpaddr_of(gpa), need, &r);

    if (found && pa) *pa = r.pa;
    return found;
}

static void keep(u64 view, u64 gpa, u64 pa, u32 rights, bool dirty)
{
    struct mmu_ctx c = in_view(view);

    kept_page_add(&c, gpaddr_of(gpa), &(struct ept_result){.rights = rights, .dirty = dirty, .pa = pa});
}

static void pages(void **state)
{
    u64 pa = 0;
    (void)state;

    kept = (struct walk_cache){0};
    assert_false(granted(VIEW_A, 0, EPT_R, NULL)); // an empty one has no page 0
    keep(VIEW_A, 0x5123, 0x9123, EPT_R | EPT_W, false);
    assert_true(granted(VIEW_A, 0x5FF8, EPT_R, &pa));
    assert_int_equal(pa, 0x9FF8);
    assert_false(granted(VIEW_B, 0x5000, EPT_R, NULL)); // EP4TA is the tag
    assert_false(granted(VIEW_A, 0x6000, EPT_R, NULL));
    assert_false(granted(VIEW_A, 0x5000, EPT_X, NULL)); // no right: a walk decides
    assert_false(granted(VIEW_A, 0x5000, EPT_W, NULL)); // the dirty flag is to be set
    keep(VIEW_A, 0x5000, 0x9000, EPT_R | EPT_W, true);
    assert_true(granted(VIEW_A, 0x5000, EPT_W, NULL));
    keep(VIEW_B, 0x5000, 0xA000, EPT_R, true);
    keep(VIEW_B, 0x7000, 0xB000, EPT_R, true);
    kept_page_drop(&kept, VIEW_B, gpaddr_of(0x5FFF)); // EPT violation
    assert_false(granted(VIEW_B, 0x5000, EPT_R, NULL));
    assert_true(granted(VIEW_B, 0x7000, EPT_R, NULL));
    keep(VIEW_A, 0x15000, 0x9000, EPT_R, true);
    kept_pages_drop(&kept, VIEW_B); // INVEPT 1
    assert_false(granted(VIEW_B, 0x7000, EPT_R, NULL));
    assert_true(granted(VIEW_A, 0x15000, EPT_R, NULL));
    kept_pages_drop(&kept, 0); // INVEPT 2
    assert_false(granted(VIEW_A, 0x15000, EPT_R, NULL));
}

static bool has(u64 tag, u64 la)
{
    struct mmu_ctx c = in_view(0);

    kept.tag = tag;
    return kept_directory_find(&c, laddr_of(la)) != NULL;
}

static void directories(void **state)
{
    struct mmu_ctx c = in_view(0);
    (void)state;

    kept = (struct walk_cache){0};
    kept.tag = 5;
    kept_directory_add(&c, laddr_of(0x40200000), 0x8000, TLB_USER);
    assert_true(has(5, 0x403FFFFF));
    assert_int_equal(kept_directory_find(&c, laddr_of(0x40200000))->table, 0x8000);
    assert_false(has(5, 0x40400000));
    assert_false(has(6, 0x40200000)); // a context that was flushed has another serial
    kept.tag = 6;
    kept_directory_add(&c, laddr_of(0x60200000), 0x9000, 0);
    kept_directory_drop(&kept, 6, laddr_of(0x60000000)); // a fault elsewhere
    assert_true(has(6, 0x60200000));
    kept_directories_drop(&kept, 5); // INVLPG: those of the context
    assert_false(has(5, 0x40200000));
    assert_true(has(6, 0x60200000));
    kept_directory_drop(&kept, 6, laddr_of(0x602ABCDE));
    assert_false(has(6, 0x60200000));
    kept.tag = 6;
    kept_directory_add(&c, laddr_of(0x60200000), 0x9000, 0);
    kept_directories_drop(&kept, 0);
    assert_false(has(6, 0x60200000));
}

static unsigned told;
static void written(void *opaque, paddr a, u64 size) { told += phys_is_table(opaque, a) && size; }
static void guarded(void *opaque, paddr page) { (void)opaque, (void)page; }
static u64 keeps(void *opaque, paddr page, bool *watched)
{
    (void)opaque, (void)page, (void)watched;
    return 0;
}

static void tables(void **state)
{
    struct phys p;
    const char *why;
    (void)state;

    assert_true(phys_init(&p, 1 << 20, &why));
    struct phys_subscriber s = {&p, written, guarded, keeps, NULL};
    phys_subscribe(&p, &s);
    assert_false(phys_is_table(&p, 0x3000)); // nobody asks yet
    assert_true(phys_tables_begin(&p));
    phys_table(&p, 0x3008);
    assert_true(phys_is_table(&p, 0x3FFF) && phys_watched(&p, 0x3000) && !phys_is_table(&p, 0x4000));
    p.table_flags = true; // a walk's own flags end nothing
    phys_write64(&p, 0, 0x3008, 0x23);
    p.table_flags = false;
    assert_true(phys_is_table(&p, 0x3000));
    phys_release(&p, 0x3000);
    assert_true(phys_watched(&p, 0x3000));
    told = 0;
    phys_write8(&p, 0, 0x3123, 1);
    assert_int_equal(told, 1); // it still is one while subscribers are told, and none afterwards
    assert_false(phys_is_table(&p, 0x3000) || phys_watched(&p, 0x3000));
    phys_unsubscribe(&p, &s);
    phys_free(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(pages), cmocka_unit_test(directories),
                                       cmocka_unit_test(tables)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
