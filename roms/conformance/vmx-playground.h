/*
 * For the tests of what controls add to EPT: a guest behind EPT in 4 KiB pages, a page that nothing else
 * uses (the playground, at the same linear and guest-physical address), and page tables of the guest's own.
 */
#ifndef TESTS_VMX_PLAYGROUND_H
#define TESTS_VMX_PLAYGROUND_H

#include "vmx-common.h"

#define CODE(name, code) \
    asm(".pushsection .text; .balign 16; " #name ": " code "; vmcall; .popsection"); \
    extern const uint8_t name[]

#define GPA   ((uint64_t)playground)
#define R     EPT_QUALIFICATION_READ
#define W     EPT_QUALIFICATION_WRITE
#define X     EPT_QUALIFICATION_FETCH
#define FINAL (EPT_QUALIFICATION_LINEAR_VALID | EPT_QUALIFICATION_FINAL)

static uint8_t *playground; /* two pages */
static struct vmx_vcpu v;
static uint64_t ept_cap;

static inline void playground_init(void)
{
    ept_cap = rdmsr(IA32_VMX_EPT_VPID_CAP);
    playground = page_alloc(2);
}

/* A guest at `code` with RDI at the playground, whose EPT entry is what RWX maps onto itself. */
static inline void start(const void *code)
{
    guest_init_ept(&v, code);
    v.regs = (struct vmx_regs){0};
    v.regs.gpr[RDI] = GPA;
    vmwrite(EXCEPTION_BITMAP, 0);
}

static inline uint64_t leaf(uint64_t rights) { return GPA | EPT_TYPE_WB | rights; }
static inline void set_entry(uint64_t value) { *ept_entry(v.ept, GPA, 1) = value; }

/* The guest's own page tables: 64 MiB in 2 MiB pages, with these rights beside P. */
static uint64_t *guest_tables;

static inline void own_tables(uint64_t rights)
{
    if (!guest_tables) guest_tables = page_alloc(3);
    guest_tables[0] = (uint64_t)(guest_tables + 512) | PTE_P | PTE_W | PTE_U;
    guest_tables[512] = (uint64_t)(guest_tables + 1024) | PTE_P | PTE_W | PTE_U;
    for (unsigned i = 0; i < 32; i++) guest_tables[1024 + i] = (uint64_t)i << 21 | PTE_P | PTE_PS | rights;
    vmwrite(GUEST_CR3, (uint64_t)guest_tables);
}

/* Expects an exit for this reason with the bits of `mask` in the qualification. */
static inline struct vmx_exit exit_with(uint32_t reason, uint64_t qualification, uint64_t mask,
                                        const char *name)
{
    struct vmx_exit e = vmx_run(&v);
    if (!ok(e.status == VMX_SUCCEED && e.reason == reason && (e.qualification & mask) == qualification, "%s",
            name))
        tap_note("  status %d, reason %u (want %u), qualification %lx (want %lx), gpa %lx, rip %lx",
                 (int)e.status, e.reason, reason, e.qualification, qualification,
                 vmread(GUEST_PHYSICAL_ADDRESS), vmread(GUEST_RIP));
    return e;
}

#endif
