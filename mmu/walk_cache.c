// Guest-physical mappings and page-directory entries that are kept between walks (SDM 31.4, 5.10.3).
#include "mmu/walk_cache.h"

#include <string.h>

#include "mmu/walk_ept.h"

static struct kept_page *page_slot(struct walk_cache *k, u64 view, u64 gpage)
{
    return &k->page[(gpage ^ gpage >> 10 ^ view >> 12) % KEPT_PAGES];
}

static struct kept_directory *directory_slot(struct walk_cache *k, u64 tag, u64 region)
{
    return &k->directory[(region ^ region >> 6 ^ tag * 7) % KEPT_DIRECTORIES];
}

bool kept_page_find(const struct mmu_ctx *c, gpaddr gpa, u32 need, struct ept_result *out)
{
    u64 gpage = gpa.at >> PAGE_SHIFT;
    const struct kept_page *e = page_slot(c->cache, c->ept_view, gpage);
    u32 want = need & EPT_RIGHTS;

    if (e->view != c->ept_view || e->gpage != gpage) return false;
    if (want & EPT_W && !e->dirty) return false;
    if (need & EPT_PAGING && e->paging_writes) want &= ~(u32)EPT_W;
    if ((e->rights & want) != want) return false;
    *out = (struct ept_result){
        .status = WALK_OK,
        .dirty = e->dirty,
        .paging_writes = e->paging_writes,
        .paging_bit = e->paging_bit,
        .rights = e->rights,
        .pa = e->page << PAGE_SHIFT | (gpa.at & ~PAGE_MASK),
    };
    return true;
}

void kept_page_add(const struct mmu_ctx *c, gpaddr gpa, const struct ept_result *r)
{
    u64 gpage = gpa.at >> PAGE_SHIFT;

    *page_slot(c->cache, c->ept_view, gpage) = (struct kept_page){
        .view = c->ept_view,
        .gpage = gpage,
        .page = r->pa >> PAGE_SHIFT,
        .rights = r->rights,
        .dirty = r->dirty,
        .paging_writes = r->paging_writes,
        .paging_bit = r->paging_bit,
    };
}

const struct kept_directory *kept_directory_find(const struct mmu_ctx *c, laddr la)
{
    u64 region = la.at >> 21;
    const struct kept_directory *e = directory_slot(c->cache, c->cache->tag, region);

    return e->tag == c->cache->tag && e->region == region ? e : NULL;
}

void kept_directory_add(const struct mmu_ctx *c, laddr la, u64 table, u32 rights)
{
    u64 region = la.at >> 21;

    *directory_slot(c->cache, c->cache->tag, region) =
        (struct kept_directory){.region = region, .tag = c->cache->tag, .table = table, .rights = rights};
}

void kept_pages_drop(struct walk_cache *k, u64 view)
{
    for (struct kept_page *e = k->page; e < k->page + KEPT_PAGES; e++)
        if (!view || e->view == view) memset(e, 0, sizeof *e);
}

void kept_page_drop(struct walk_cache *k, u64 view, gpaddr gpa)
{
    struct kept_page *e = page_slot(k, view, gpa.at >> PAGE_SHIFT);

    if (e->view == view && e->gpage == gpa.at >> PAGE_SHIFT) memset(e, 0, sizeof *e);
}

void kept_directories_drop(struct walk_cache *k, u64 tag)
{
    for (struct kept_directory *e = k->directory; e < k->directory + KEPT_DIRECTORIES; e++)
        if (!tag || e->tag == tag) memset(e, 0, sizeof *e);
}

void kept_directory_drop(struct walk_cache *k, u64 tag, laddr la)
{
    struct kept_directory *e = directory_slot(k, tag, la.at >> 21);

    if (e->tag == tag && e->region == la.at >> 21) memset(e, 0, sizeof *e);
}
