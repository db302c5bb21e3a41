// A translation in words: each entry that the walk reads, of both stages, and what comes of it.
#include <stdio.h>
#include <string.h>

#include "frontend/gdb_server.h"

struct bit {
    u8 n;
    const char *set, *clear;
};

static void bits(char *to, size_t size, u64 value, const struct bit *b, unsigned n)
{
    size_t at = 0;
    *to = 0;
    for (unsigned i = 0; i < n; i++) {
        const char *text = value >> b[i].n & 1 ? b[i].set : b[i].clear;
        if (!text) continue;
        int k = snprintf(to + at, size - at, "%s%s", at ? ", " : "", text);
        if (k < 0 || (size_t)k >= size - at) return;
        at += (size_t)k;
    }
}

static void first_stage(struct gdb_server *s, const struct walk_step *e)
{
    static const char *const names[] = {"PTE", "PDE", "PDPTE", "PML4E", "PML5E"};
    const struct bit rights[] = {{0, NULL, "not present"},
                                 {1, "writable", "read-only"},
                                 {2, "user", "supervisor"},
                                 {63, "no execution", NULL},
                                 {5, "accessed", NULL},
                                 {6, "dirty", NULL},
                                 {7, e->level ? "maps a page" : "PAT", NULL},
                                 {8, "global", NULL}};
    char text[256];
    bits(text, sizeof text, e->value, rights, e->value & 1 ? ARRAY_LEN(rights) : 1);
    const char *name = s->view.mmu.paging == PAGING_32 && e->level == 1 ? "PDE"
                       : e->level < ARRAY_LEN(names)                    ? names[e->level]
                                                                        : "?";
    if (s->view.mmu.ept)
        gdb_sayf(s, "%-6s at guest-physical %#llx (physical %#llx): %#llx  %s\n", name,
                 (unsigned long long)e->gpa.at, (unsigned long long)e->pa, (unsigned long long)e->value,
                 text);
    else
        gdb_sayf(s, "%-6s at physical %#llx: %#llx  %s\n", name, (unsigned long long)e->pa,
                 (unsigned long long)e->value, text);
}

static void second_stage(struct gdb_server *s, const struct walk_step *e)
{
    static const char *const names[] = {"EPT PTE", "EPT PDE", "EPT PDPTE", "EPT PML4E", "EPT PML5E"};
    static const char *const types[] = {"UC", "WC", "reserved type", "reserved type", "WT",
                                        "WP", "WB", "reserved type"};
    bool present = e->value & 7, leaf = e->level == 0 || e->value >> 7 & 1;
    const struct bit rights[] = {
        {0, "read", "no read"}, {1, "write", "no write"},         {2, "execute", "no execution"},
        {8, "accessed", NULL},  {9, leaf ? "dirty" : NULL, NULL}, {7, e->level ? "maps a page" : NULL, NULL}};
    char text[256] = "not present";
    if (present) bits(text, sizeof text, e->value, rights, ARRAY_LEN(rights));
    gdb_sayf(s, "    %-9s at physical %#llx: %#llx  %s%s%s\n",
             e->level < ARRAY_LEN(names) ? names[e->level] : "?", (unsigned long long)e->pa,
             (unsigned long long)e->value, text, present && leaf ? ", " : "",
             present && leaf ? types[e->value >> 3 & 7] : "");
}

static void page_fault(struct gdb_server *s, u32 error)
{
    const struct bit words[] = {{0, "the rights forbid it", "a page is not present"},
                                {1, "a write", NULL},
                                {2, "by user", "by supervisor"},
                                {3, "a reserved bit is set", NULL},
                                {4, "a fetch", NULL},
                                {5, "by a protection key", NULL}};
    char text[256];
    bits(text, sizeof text, error, words, ARRAY_LEN(words));
    gdb_sayf(s, "#PF, error code %#x: %s\n", error, text);
}

static void violation(struct gdb_server *s, const struct walk_result *r)
{
    const struct bit words[] = {{0, "a read", NULL},
                                {1, "a write", NULL},
                                {2, "a fetch", NULL},
                                {3, "readable", "not readable"},
                                {4, "writable", "not writable"},
                                {5, "executable", "not executable"},
                                {8, "of the final address", "of a paging entry"}};
    char text[256];
    bits(text, sizeof text, r->qualification, words, ARRAY_LEN(words));
    gdb_sayf(s, "VM exit 48 (EPT violation) at guest-physical %#llx, qualification %#llx: %s\n",
             (unsigned long long)r->gpa.at, (unsigned long long)r->qualification, text);
}

void gdb_monitor_walk(struct gdb_server *s, u64 at, u32 acc)
{
    static const char *const modes[] = {"paging is off", "32-bit paging", "PAE paging", "4-level paging",
                                        "5-level paging"};
    struct mmu_ctx *c = &s->view.mmu;
    struct walk_steps steps = {0};
    struct walk_result r = walk_peek(s->m->cpu[s->cpu]->phys, c, laddr_of(at),
                                     acc | (s->view.rflags & FL_AC ? ACC_AC : 0), &steps);
    gdb_sayf(s, "%s of linear %#llx by %s: %s, CR3 %#llx",
             (acc & ACC_KIND) == ACC_WRITE   ? "write"
             : (acc & ACC_KIND) == ACC_FETCH ? "fetch"
                                             : "read",
             (unsigned long long)at, acc & ACC_USER ? "user" : "supervisor", modes[c->paging % 5],
             (unsigned long long)c->cr3);
    if (c->ept) gdb_sayf(s, "; EPT pointer %#llx", (unsigned long long)c->eptp);
    gdb_say(s, "\n");
    for (unsigned i = 0; i < steps.n; i++) {
        if (steps.step[i].second)
            second_stage(s, &steps.step[i]);
        else
            first_stage(s, &steps.step[i]);
    }
    switch (r.status) {
    case WALK_OK:
        if (c->ept) gdb_sayf(s, "guest-physical %#llx, ", (unsigned long long)r.gpa.at);
        gdb_sayf(s, "physical %#llx%s, page of %llu KiB\n", (unsigned long long)r.pa,
                 phys_is_ram(s->m->cpu[s->cpu]->phys, r.pa) ? "" : " (no RAM)",
                 (1ull << r.page_shift) / 1024);
        break;
    case WALK_PF: page_fault(s, r.error); break;
    case WALK_EPT_VIOLATION: violation(s, &r); break;
    case WALK_EPT_MISCONFIG:
        gdb_sayf(s, "VM exit 49 (EPT misconfiguration) at guest-physical %#llx: the last entry cannot be\n",
                 (unsigned long long)r.gpa.at);
        break;
    default: gdb_say(s, "an entry does not lie in RAM: to read a device would have consequences\n");
    }
}
