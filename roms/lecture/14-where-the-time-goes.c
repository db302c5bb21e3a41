/*
 * 14. Where the time goes: the same three workloads under both monitors. System calls cost the monitor in
 * ring 3 dear and VT-x nothing; page tables are dear for shadow paging, and EPT leaves them to the guest;
 * ports are the hypervisor's business under both, and there VT-x is no better: an exit costs more than a
 * fault.
 *
 * The command line: calls=N, pages=N, ports=N: how many of each (1000).
 */
#include "lecture.h"

/* ---- system calls: as in program 3 ---- */
GUEST(calls_kernel, "xor %edx, %edx; mov $0x174, %ecx; mov $0x08, %eax; wrmsr; mov $0x175, %ecx; mov "
                    "$0x40008000, %eax; wrmsr;"
                    "mov $0x176, %ecx; mov $(0x40001000 + 1f - calls_kernel), %eax; wrmsr;"
                    "mov $0x40004000, %edx; mov $0x40007000, %ecx; sysexitq; 1: incq 0x40000000; sysexitq");
GUEST(calls_application, "1: mov $(0x40004000 + 2f - calls_application), %edx; mov %rsp, %rcx; sysenter; 2: "
                         "dec %rdi; jnz 1b" GUEST_ENDS);

/* ---- page tables: maps one linear page (401F0000h) to one of two pages in turn, and reads through it ----
 */
#define TABLE  0x30000 /* the page table, at this offset of the guest's memory */
#define WINDOW 0x1f0   /* the index of the linear page */
GUEST(pages, "mov $0x40030f80, %ebx; mov $0x401f0000, %esi; mov $0x40067, %r8d; mov $0x50067, %r9d;"
             "1: xchg %r8, %r9; mov %r8, (%rbx); invlpg (%rsi); mov (%rsi), %rax; add %rax, 0x40000000; dec "
             "%rdi; jnz 1b" GUEST_ENDS);

/* ---- ports ---- */
GUEST(ports,
      "mov $0x80, %edx; 1: mov %edi, %eax; out %al, %dx; incq 0x40000000; dec %rdi; jnz 1b" GUEST_ENDS);

/* 4 KiB pages for the guest's 2 MiB. `pt` is the table that the processor walks; base is what its page 0 is.
 */
static void fill(uint64_t *pt, uint64_t base)
{
    for (uint64_t i = 0; i < 512; i++) pt[i] = (base + (i << 12)) | PTE_P | PTE_W | PTE_U;
}
static void two_pages(void)
{
    memset(guest_memory + 0x40000, 0, 0x20000);
    memcpy(guest_memory + 0x40000, "\1", 1);
    memcpy(guest_memory + 0x50000, "\3", 1);
}

/* Shadow paging: the guest's table is write-protected, and what the processor walks is ours. Each write
   faults; we do it to the guest's table and to the shadow. */
static uint64_t *shadow;
static bool shadow_write(struct trap_frame *f)
{
    const uint8_t *at = (const uint8_t *)f->rip;
    if (f->vector != VECTOR_PF || at[0] != 0x4c || at[1] != 0x89 || at[2] != 0x03)
        return false; /* MOV [RBX], R8 */
    uint64_t index = (f->rbx - GUEST_AT - TABLE) / 8;
    if (index >= 512) return false;
    count("write to a page table");
    ((uint64_t *)(guest_memory + TABLE))[index] = f->r8;
    shadow[index] = ((uint64_t)guest_memory + (f->r8 & 0x1ff000)) | (f->r8 & 0xfff);
    invlpg(GUEST_AT + (index << 12));
    f->rip += 3;
    return true;
}

static struct outcome pages_ring(uint64_t n)
{
    uint64_t *pde = paging_entry(GUEST_AT, 2), large = *pde;
    two_pages();
    if (!shadow) shadow = page_alloc(1);
    fill(shadow, (uint64_t)guest_memory);
    shadow[TABLE >> 12] &= ~PTE_W;
    *pde = (uint64_t)shadow | PTE_P | PTE_W | PTE_U;
    write_cr3(read_cr3());
    ring_hook = shadow_write;
    struct outcome o = ring_run(n, 0);
    ring_hook = NULL;
    *pde = large;
    write_cr3(read_cr3());
    return o;
}

static struct outcome pages_vtx(uint64_t n)
{
    two_pages();
    fill((uint64_t *)(guest_memory + TABLE), 0);
    *(uint64_t *)(guest_memory + 0x12000) = TABLE | PTE_P | PTE_W | PTE_U;
    vt_prepare();
    return vt_run(n, 0);
}

static struct outcome plain_vtx(uint64_t n)
{
    vt_prepare();
    vmx_set_proc(PROC_UNCONDITIONAL_IO_EXITING);
    return vt_run(n, 0);
}
static struct outcome plain_ring(uint64_t n) { return ring_run(n, 0); }

static const struct workload {
    const char *name, *word;
    const uint8_t *kernel, *kernel_end, *app, *app_end;
    struct outcome (*ring)(uint64_t), (*vtx)(uint64_t);
    unsigned result; /* for each: what word 0 grows by, on average */
} workloads[] = {
    {"system calls", "calls", calls_kernel, calls_kernel_end, calls_application, calls_application_end,
     plain_ring, plain_vtx, 1},
    {"page tables", "pages", pages, pages_end, NULL, NULL, pages_ring, pages_vtx, 2},
    {"ports", "ports", ports, ports_end, NULL, NULL, plain_ring, plain_vtx, 1},
};

int rom_main(void)
{
    lecture_begin(14, "where the time goes");
    for (unsigned i = 0; i < 3; i++) {
        const struct workload *w = &workloads[i];
        uint64_t n = (cmdline_number(w->word, 1000) + 1) & ~1ul; /* even, for both pages */
        if (!n) n = 2;
        scene(w->name);
        guest_load(w->kernel, w->kernel_end, w->app, w->app_end);
        struct outcome r = w->ring(n), v = {0};
        figure(n, "%s", w->name);
        figure(r.exits, "exits, ring 3, %s", w->name);
        tell_counts();
        ratio(r.ticks, n, "ticks of the TSC for each, ring 3, %s", w->name);
        ok(r.finished && guest_word(0) == n * w->result, "%s: done in ring 3", w->name);
        if (vt_missing()) {
            skip(2, vt_missing());
            continue;
        }
        guest_load(w->kernel, w->kernel_end, w->app, w->app_end);
        v = w->vtx(n);
        figure(v.exits, "exits, VT-x, %s", w->name);
        tell_counts();
        ratio(v.ticks, n, "ticks of the TSC for each, VT-x, %s", w->name);
        ratio(r.ticks, v.ticks, "ring 3 takes so many times as long, %s", w->name);
        ok(v.finished && guest_word(0) == n * w->result, "%s: done under VT-x", w->name);
        is(v.exits, i == 2 ? n : 0, "%s: %s", w->name, i == 2 ? "an exit for each, as before" : "no exit");
    }
    say("What VT-x takes away is what the guest does with its own processor. What it does with devices "
        "remains.");
    return lecture_end();
}
