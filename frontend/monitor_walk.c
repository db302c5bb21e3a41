// A translation in words: each entry that the walk reads, of both stages, and what comes of it.
#include <stdio.h>
#include <string.h>

#include "frontend/monitor_walk.h"

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

static void json_step(struct monitor *c, const struct walk_step *e, const char *name, const char *words)
{
    json_open(c, NULL, '{');
    json_text(c, "entry", name);
    json_number(c, "stage", e->second ? 2 : 1);
    json_number(c, "level", e->level + 1u);
    json_hex(c, "physical", e->pa);
    if (!e->second && c->d->view.mmu.ept) json_hex(c, "guest_physical", e->gpa.at);
    json_hex(c, "value", e->value);
    json_text(c, "words", words);
    json_close(c);
}

static void first_stage(struct monitor *c, const struct walk_step *e)
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
    const char *name = c->d->view.mmu.paging == PAGING_32 && e->level == 1 ? "PDE"
                       : e->level < ARRAY_LEN(names)                       ? names[e->level]
                                                                           : "?";
    json_step(c, e, name, text);
    if (c->d->view.mmu.ept)
        say(c, "%-6s at guest-physical %#llx (physical %#llx): %#llx  %s\n", name,
            (unsigned long long)e->gpa.at, (unsigned long long)e->pa, (unsigned long long)e->value, text);
    else
        say(c, "%-6s at physical %#llx: %#llx  %s\n", name, (unsigned long long)e->pa,
            (unsigned long long)e->value, text);
}

static void second_stage(struct monitor *c, const struct walk_step *e)
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
    json_step(c, e, e->level < ARRAY_LEN(names) ? names[e->level] : "?", text);
    say(c, "    %-9s at physical %#llx: %#llx  %s%s%s\n", e->level < ARRAY_LEN(names) ? names[e->level] : "?",
        (unsigned long long)e->pa, (unsigned long long)e->value, text, present && leaf ? ", " : "",
        present && leaf ? types[e->value >> 3 & 7] : "");
}

static void page_fault(struct monitor *c, u32 error)
{
    const struct bit words[] = {{0, "the rights forbid it", "a page is not present"},
                                {1, "a write", NULL},
                                {2, "by user", "by supervisor"},
                                {3, "a reserved bit is set", NULL},
                                {4, "a fetch", NULL},
                                {5, "by a protection key", NULL}};
    char text[256];
    bits(text, sizeof text, error, words, ARRAY_LEN(words));
    json_text(c, "outcome", "#PF");
    json_hex(c, "error_code", error);
    json_text(c, "words", text);
    say(c, "#PF, error code %#x: %s\n", error, text);
}

static void violation(struct monitor *c, const struct walk_result *r)
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
    json_text(c, "outcome", "EPT_VIOLATION");
    json_hex(c, "guest_physical", r->gpa.at);
    json_hex(c, "qualification", r->qualification);
    json_text(c, "words", text);
    say(c, "VM exit 48 (EPT violation) at guest-physical %#llx, qualification %#llx: %s\n",
        (unsigned long long)r->gpa.at, (unsigned long long)r->qualification, text);
}

void monitor_walk(struct monitor *c, u64 at, u32 acc)
{
    static const char *const modes[] = {"paging is off", "32-bit paging", "PAE paging", "4-level paging",
                                        "5-level paging"};
    struct mmu_ctx *x = &c->d->view.mmu;
    struct walk_steps steps = {0};
    struct walk_result r = walk_peek(c->d->m->cpu[c->d->cpu]->phys, x, laddr_of(at),
                                     acc | (c->d->view.rflags & FL_AC ? ACC_AC : 0), &steps);
    say(c, "%s of linear %#llx by %s: %s, CR3 %#llx",
        (acc & ACC_KIND) == ACC_WRITE   ? "write"
        : (acc & ACC_KIND) == ACC_FETCH ? "fetch"
                                        : "read",
        (unsigned long long)at, acc & ACC_USER ? "user" : "supervisor", modes[x->paging % 5],
        (unsigned long long)x->cr3);
    if (x->ept) say(c, "; EPT pointer %#llx", (unsigned long long)x->eptp);
    say(c, "\n");
    json_hex(c, "linear", at);
    json_text(c, "paging", modes[x->paging % 5]);
    json_hex(c, "cr3", x->cr3);
    if (x->ept) json_hex(c, "eptp", x->eptp);
    json_open(c, "steps", '[');
    for (unsigned i = 0; i < steps.n; i++) {
        if (steps.step[i].second)
            second_stage(c, &steps.step[i]);
        else
            first_stage(c, &steps.step[i]);
    }
    json_close(c);
    switch (r.status) {
    case WALK_OK:
        json_text(c, "outcome", "physical");
        if (x->ept) json_hex(c, "guest_physical", r.gpa.at);
        json_hex(c, "physical", r.pa);
        json_flag(c, "ram", phys_is_ram(c->d->m->cpu[c->d->cpu]->phys, r.pa));
        json_number(c, "page_bytes", 1ull << r.page_shift);
        if (x->ept) say(c, "guest-physical %#llx, ", (unsigned long long)r.gpa.at);
        say(c, "physical %#llx%s, page of %llu KiB\n", (unsigned long long)r.pa,
            phys_is_ram(c->d->m->cpu[c->d->cpu]->phys, r.pa) ? "" : " (no RAM)",
            (1ull << r.page_shift) / 1024);
        break;
    case WALK_PF: page_fault(c, r.error); break;
    case WALK_EPT_VIOLATION: violation(c, &r); break;
    case WALK_EPT_MISCONFIG:
        json_text(c, "outcome", "EPT_MISCONFIGURATION");
        json_hex(c, "guest_physical", r.gpa.at);
        say(c, "VM exit 49 (EPT misconfiguration) at guest-physical %#llx: the last entry cannot be\n",
            (unsigned long long)r.gpa.at);
        break;
    case WALK_APIC_ACCESS:
        json_text(c, "outcome", "APIC_ACCESS");
        say(c, "VM exit 44 (APIC access): a paging entry lies in the APIC-access page\n");
        break;
    case WALK_PML_FULL:
        json_text(c, "outcome", "PML_FULL");
        say(c, "VM exit 62 (page-modification log full): a flag of an EPT entry would be set\n");
        break;
    case WALK_SPP:
        json_text(c, "outcome", "SPP");
        json_hex(c, "guest_physical", r.gpa.at);
        say(c, "VM exit 66 (SPP %s) at guest-physical %#llx\n",
            r.qualification & SPP_Q_MISS ? "miss" : "misconfiguration", (unsigned long long)r.gpa.at);
        break;
    default:
        json_text(c, "outcome", "not RAM");
        say(c, "an entry does not lie in RAM: to read a device would have consequences\n");
    }
}
