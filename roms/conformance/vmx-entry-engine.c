/*
 * How a row of a table of VM entries is tried. See vmx-entry.h.
 *
 * A VMfailValid changes the VM-instruction error and nothing else: no field of the VMCS, no register of the
 * host (SDM 31.2). A failure of 33 or 34 (SDM 29.8) loads the host's state as every exit does, and leaves the
 * guest-state area, the controls, the injected event and the launch state as they were; what it does to the
 * other exit-information fields is vmx-entry.c's.
 */
#include "vmx-entry.h"

uint64_t spare_page;

PROBE(p_launch, "vmlaunch; pushfq; pop %rax");

void entry_begin(void) { spare_page = (uint64_t)page_alloc(1); }

struct vmx_exit entry_launch(void)
{
    struct trap t = trap_catch(p_launch, 0, 0);
    struct vmx_exit e = {.status = VMX_SUCCEED};
    if (t.vector == TRAP_NONE)
        e.status = t.rax & RFLAGS_CF ? VMX_FAIL_INVALID : t.rax & RFLAGS_ZF ? VMX_FAIL_VALID : VMX_SUCCEED;
    if (e.status == VMX_FAIL_VALID) e.error = (uint32_t)vmread(VM_INSTRUCTION_ERROR);
    return e;
}

/* ---- nothing else has changed ---- */

/* Ranges of encodings: the control fields and the guest-state area. VM exits write none of the first, failed
 * entries none at all. */
static const struct {
    uint32_t first, last;
} watched[] = {{0x0000, 0x000a}, {0x0800, 0x0814}, {0x2000, 0x2034}, {0x2800, 0x282e},
               {0x4000, 0x4026}, {0x4800, 0x482e}, {0x6000, 0x600e}, {0x6800, 0x6834}};

struct fields {
    uint64_t value[256];
};

static void read_fields(struct fields *f)
{
    static bool absent[256];
    unsigned n = 0;
    for (unsigned r = 0; r < sizeof(watched) / sizeof(watched[0]); r++)
        for (uint32_t field = watched[r].first; field <= watched[r].last; field += 2, n++) {
            f->value[n] = 0;
            if (!absent[n]) absent[n] = vmread_status(field, &f->value[n]) != VMX_SUCCEED;
        }
    if (n > 256) panic("%u fields", n);
}

/* The first field that differs, 0xffff for none. */
static uint32_t changed_field(const struct fields *a, const struct fields *b)
{
    unsigned n = 0;
    for (unsigned r = 0; r < sizeof(watched) / sizeof(watched[0]); r++)
        for (uint32_t field = watched[r].first; field <= watched[r].last; field += 2, n++)
            if (a->value[n] != b->value[n]) return field;
    return 0xffff;
}

/* What loading of host state makes of these whatever the VMCS says (SDM 30.5.1, 30.5.2), and what they are
 * before. */
struct __attribute__((packed)) table {
    uint16_t limit;
    uint64_t base;
};

static uint16_t gdt_limit(void) { return (uint16_t)((uint8_t *)rt_gdt_end - (uint8_t *)rt_gdt - 1); }

static void before_entry(void)
{
    struct table t = {gdt_limit(), (uint64_t)rt_gdt};
    asm volatile("lgdt %0" ::"m"(t));
    write_dr7(0x500);
}

static bool host_loaded(bool loaded)
{
    struct table t;
    asm volatile("sgdt %0" : "=m"(t));
    uint64_t dr7 = read_dr7();
    write_dr7(0x400);
    return t.base == (uint64_t)rt_gdt && t.limit == (loaded ? 0xffff : gdt_limit()) &&
           dr7 == (loaded ? 0x400 : 0x500);
}

/* ---- a row ---- */

/* Makes the change; false if the field does not keep it (reserved bits of access rights may be dropped by
 * VMWRITE, SDM 27.4.1). */
static bool apply(struct change *c)
{
    if (c->op == POKE) {
        uint64_t *word = (uint64_t *)spare_page + c->field, old = *word;
        *word = c->value;
        c->value = old;
        return true;
    }
    uint64_t old = c->op == NOTHING ? 0 : vmread(c->field), v = old;
    switch (c->op) {
    case NOTHING: return true;
    case POKE: break;
    case SET: v = c->value; break;
    case OR: v |= c->value; break;
    case CLEAR: v &= ~c->value; break;
    case BEYOND: v |= 1ul << maxphyaddr(); break;
    }
    vmwrite(c->field, v);
    bool kept = vmread(c->field) == v;
    c->value = old;
    if (c->op != NOTHING) c->op = SET; /* what undoes it */
    return kept;
}

static bool outcome_is(uint32_t outcome, const struct vmx_exit *e)
{
    if (outcome == PASS) return e->status == VMX_SUCCEED && e->reason == EXIT_REASON_VMCALL;
    if (outcome < 0x100) return e->status == VMX_FAIL_VALID && e->error == outcome;
    uint32_t reason =
        outcome & 0x200 ? EXIT_REASON_ENTRY_FAILURE_MSR_LOADING : EXIT_REASON_ENTRY_FAILURE_GUEST_STATE;
    return e->status == VMX_SUCCEED && e->reason == (EXIT_REASON_ENTRY_FAILURE | reason) &&
           e->qualification == (outcome & 0xff);
}

static void try(const struct row *r)
{
    static struct vmx_vcpu v;
    static struct fields before, after;
    struct change change[4];
    memcpy(change, r->change, sizeof(change));
    bool host_rip = false;
    for (unsigned c = 0; c < 4; c++) {
        host_rip |= change[c].op == SET && change[c].field == HOST_RIP;
        if (!apply(&change[c])) {
            skip_one(r->id, "VMWRITE drops the reserved bits");
            return;
        }
    }
    v = (struct vmx_vcpu){.vmcs = vmptrst()};
    read_fields(&before);
    before_entry();
    struct vmx_exit e = host_rip ? entry_launch() : vmx_run(&v);
    bool loaded = host_loaded(e.status == VMX_SUCCEED);
    read_fields(&after);
    if (r->outcome == PASS) {
        if (!ok(outcome_is(PASS, &e), "%s", r->id)) goto explain;
        return;
    }
    uint32_t field = changed_field(&before, &after);
    if (!ok(outcome_is(r->outcome, &e) && loaded && field == 0xffff, "%s", r->id)) {
        if (outcome_is(r->outcome, &e) && !loaded)
            tap_note("  GDTR's limit or DR7 are not as they should be");
        if (outcome_is(r->outcome, &e) && field != 0xffff) tap_note("  field %x has changed", field);
    explain:
        tap_note("  want %x; got status %d, error %u, reason %x, qualification %lx, rip %lx", r->outcome,
                 (int)e.status, e.error, e.reason, e.qualification, vmread(GUEST_RIP));
    }
    if (r->outcome == PASS || host_rip) return;
    if (e.status == VMX_SUCCEED && !(e.reason & EXIT_REASON_ENTRY_FAILURE))
        return; /* it ran: the guest has moved on */
    for (unsigned c = 4; c--;) apply(&change[c]);
    e = vmx_run(&v);
    if (!ok(outcome_is(PASS, &e), "%s, mended: passes", r->id))
        tap_note("  got status %d, error %u, reason %x, qualification %lx", (int)e.status, e.error, e.reason,
                 e.qualification);
}

void entry_rows(const struct row *rows, unsigned count)
{
    static struct vmx_vcpu v;
    for (const struct row *r = rows; r < rows + count; r++) {
        memset((void *)spare_page, 0, 4096);
        if (r->setup(&v))
            try(r);
        else
            skip_one(r->id, "not offered by this processor");
    }
}
