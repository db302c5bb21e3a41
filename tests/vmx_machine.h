// A small machine for tests of VT-x: one processor in 64-bit root mode, identity-mapped, whose exceptions
// stop at a HLT that tells the vector. Code is given as bytes.
#ifndef TESTS_VMX_MACHINE_H
#define TESTS_VMX_MACHINE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cpu/system/cpuid.h"
#include "cpu/system/system.h"
#include "cpu/state/trace.h"
#include "tests/rows_run.h"
#include "vmx/checks.h"
#include "vmx/control.h"
#include "vmx/intercept.h"

// clang-format off
enum { // guest-physical layout
    M_GDT = 0x1000, M_IDT = 0x2000, M_TSS = 0x3000, M_PML4 = 0x4000, M_PDPT = 0x5000, M_STACK = 0x9000,
    M_CODE = 0x10000, M_GUEST = 0x20000, M_HOST = 0x21000, M_STUBS = 0x30000, M_VMXON = 0x40000, M_VMCS = 0x41000,
    M_VMCS2 = 0x42000, M_DATA = 0x50000, M_BITMAP = 0x60000, M_EPT = 0x70000, M_GUEST_IDT = 0x80000, M_VAPIC = 0x90000,
    M_MSR_AREA = 0xA0000,
};
// clang-format on

struct vmx_machine {
    struct vcpu *v;
    struct phys phys;
    struct cpu_features features;
    struct trace trace;
    struct vcpu_state entered; // state as the last VM entry left it
    unsigned entries, exits, shutdowns;
    int interrupt; // vector that intr_ack gives
    struct trace_event last_entry, last_exit, last_failure;
    char failed_id[32];
};

static u64 m_port_read(void *o, unsigned cpu, u16 port, unsigned size) { return 0; }
static void m_port_write(void *o, unsigned cpu, u16 port, unsigned size, u64 value) {}
static int m_intr_ack(void *o, unsigned cpu) { return ((struct vmx_machine *)o)->interrupt; }
static u8 m_tpr_get(void *o, unsigned cpu) { return 0; }
static void m_tpr_set(void *o, unsigned cpu, u8 tpr) {}
static bool m_msr_read(void *o, unsigned cpu, u32 msr, u64 *value) { return false; }
static bool m_msr_write(void *o, unsigned cpu, u32 msr, u64 value) { return false; }
static void m_shutdown(void *o, unsigned cpu, const char *why) { ((struct vmx_machine *)o)->shutdowns++; }
// clang-format off
static const struct cpu_board_ops m_board = {.port_read = m_port_read, .port_write = m_port_write, .intr_ack = m_intr_ack,
                                             .tpr_get = m_tpr_get, .tpr_set = m_tpr_set, .msr_read = m_msr_read,
                                             .msr_write = m_msr_write, .shutdown = m_shutdown};
// clang-format on

static void m_event(void *o, const struct trace_event *e)
{
    struct vmx_machine *m = o;
    if (e->kind == TRACE_ENTRY) {
        m->entries++;
        m->last_entry = *e;
        m->entered = m->v->s;
    } else if (e->kind == TRACE_EXIT) {
        m->exits++;
        m->last_exit = *e;
    } else if (e->kind == TRACE_ENTRY_FAILED) {
        m->last_failure = *e;
        snprintf(m->failed_id, sizeof m->failed_id, "%s", e->check && e->check->id ? e->check->id : "");
    }
}

static inline void m_poke(struct vmx_machine *m, paddr a, const void *p, u64 n)
{
    phys_write(&m->phys, 0, a, p, n);
}
static inline void m_poke64(struct vmx_machine *m, paddr a, u64 x) { phys_write64(&m->phys, 0, a, x); }

static inline struct segment m_seg(u16 sel, u32 ar)
{
    return (struct segment){.sel = sel, .limit = 0xFFFFFFFF, .ar = ar};
}

static inline void m_root_state(struct vmx_machine *m)
{
    struct vcpu_state *s = &m->v->s;
    s->cr0 = 0x80000031 | CR0_WP;
    s->cr3 = M_PML4;
    s->cr4 = CR4_PAE | CR4_VMXE;
    s->msr.efer = EFER_LME | EFER_LMA | EFER_NXE | EFER_SCE;
    s->seg[SEG_CS] = m_seg(8, 0xA09B);
    s->seg[SEG_SS] = s->seg[SEG_DS] = s->seg[SEG_ES] = s->seg[SEG_FS] = s->seg[SEG_GS] = m_seg(16, 0xC093);
    s->seg[SEG_TR] = (struct segment){.sel = 24, .base = M_TSS, .limit = 0x67, .ar = 0x8B};
    s->seg[SEG_LDTR] = (struct segment){.ar = AR_UNUSABLE};
    s->gdtr = (struct dtable){.base = M_GDT, .limit = 0x7F};
    s->idtr = (struct dtable){.base = M_IDT, .limit = 0xFFF};
    s->gpr[RSP] = M_STACK;
    s->activity = ACTIVITY_ACTIVE;
    s->blocking = 0;
    cpu_set_rflags(m->v, 2);
    cpu_mode_changed(m->v);
    cpu_attention(m->v);
}

static inline void m_tables(struct vmx_machine *m) // what root operation needs in memory
{
    m_poke64(m, M_PML4, M_PDPT | 7);
    m_poke64(m, M_PDPT, 0x87); // 1 GiB
    m_poke64(m, M_GDT + 8, 0x00AF9B000000FFFF);
    m_poke64(m, M_GDT + 16, 0x00CF93000000FFFF);
    m_poke64(m, M_GDT + 24, 0x00008B0030000067);
    m_poke64(m, M_GDT + 32, 0);
    for (unsigned i = 0; i < 256; i++) { // gate i leads to a HLT at M_STUBS + 16 * i
        u64 at = M_STUBS + 16 * i;
        m_poke64(m, M_IDT + 16 * i, (at & 0xFFFF) | 8 << 16 | 0x8E00ull << 32 | (at >> 16) << 48);
        m_poke64(m, M_IDT + 16 * i + 8, 0);
        m_poke(m, at, "\xF4", 1);
    }
    phys_write32(&m->phys, 0, M_VMXON, VMCS_REVISION);
    phys_write32(&m->phys, 0, M_VMCS, VMCS_REVISION);
    phys_write32(&m->phys, 0, M_VMCS2, VMCS_REVISION);
}

static inline struct vmx_machine *m_new(void)
{
    struct vmx_machine *m = calloc(1, sizeof *m);
    const char *why;
    assert_true(phys_init(&m->phys, 4 << 20, &why));
    cpu_features_max(&m->features);
    m->features.feature_control = 5;
    m->v = vcpu_new(0, &m->phys, &m->features);
    assert_non_null(m->v);
    rows_run_watch(m->v);
    m->v->board = &m_board;
    m->v->board_opaque = m;
    trace_add(&m->trace, &(struct trace_sink){m_event, m, UINT32_MAX});
    m->v->trace = &m->trace;
    m->interrupt = -1;

    m_tables(m);
    m_root_state(m);
    return m;
}

static inline void m_free(struct vmx_machine *m)
{
    vcpu_free(m->v);
    phys_free(&m->phys);
    free(m);
}

// Runs from `rip` until the processor halts; the vector if an exception's stub did it, else -1.
static inline int m_go(struct vmx_machine *m, u64 rip)
{
    struct vcpu_state *s = &m->v->s;
    s->rip = rip;
    s->activity = ACTIVITY_ACTIVE;
    s->rflags &= ~(u64)FL_RF;
    cpu_mode_changed(m->v);
    enum run_exit why = vcpu_run(m->v, 100000);
    if (why == RUN_SHUTDOWN) return -2;
    assert_int_equal(why, RUN_HALTED);
    if (s->rip > M_STUBS && s->rip < M_STUBS + 16 * 256) return (int)((s->rip - M_STUBS) / 16);
    return -1;
}

// Runs `n` bytes of code and a HLT.
static inline int m_run(struct vmx_machine *m, const char *code, unsigned n)
{
    m_poke(m, M_CODE, code, n);
    m_poke(m, M_CODE + n, "\xF4", 1);
    return m_go(m, M_CODE);
}
#define M_RUN(m, code) m_run(m, code, sizeof(code) - 1)

// What a VMX instruction said: 0 success, 'I' VMfailInvalid, else the number of VMfailValid.
static inline unsigned m_outcome(const struct vmx_machine *m)
{
    u64 f = cpu_rflags(m->v) & FL_ARITH;
    if (f == 0) return 0;
    if (f == FL_CF) return 'I';
    assert_int_equal(f, FL_ZF);
    return (unsigned)vmcs_read(&m->phys, m->v->s.vmx.vmcs_pointer, VMCS_VM_INSTRUCTION_ERROR);
}

static inline void m_operand(struct vmx_machine *m, u64 a, u64 b) // [rdi]
{
    m_poke64(m, M_DATA, a);
    m_poke64(m, M_DATA + 8, b);
    m->v->s.gpr[RDI] = M_DATA;
}

// Memory operand instructions with [rdi]; registers rcx (field or type) and rax.
#define I_VMXON    "\xF3\x0F\xC7\x37"
#define I_VMCLEAR  "\x66\x0F\xC7\x37"
#define I_VMPTRLD  "\x0F\xC7\x37"
#define I_VMPTRST  "\x0F\xC7\x3F"
#define I_VMREAD   "\x0F\x78\xC8" /* vmread rax, rcx */
#define I_VMWRITE  "\x0F\x79\xC8" /* vmwrite rcx, rax */
#define I_INVEPT   "\x66\x0F\x38\x80\x0F"
#define I_INVVPID  "\x66\x0F\x38\x81\x0F"
#define I_VMCALL   "\x0F\x01\xC1"
#define I_VMLAUNCH "\x0F\x01\xC2"
#define I_VMRESUME "\x0F\x01\xC3"
#define I_VMXOFF   "\x0F\x01\xC4"
#define I_VMFUNC   "\x0F\x01\xD4"

static inline unsigned m_vmx(struct vmx_machine *m, const char *code, unsigned n, u64 operand)
{
    m_operand(m, operand, 0);
    assert_int_equal(m_run(m, code, n), -1);
    return m_outcome(m);
}
#define M_VMX(m, code, operand) m_vmx(m, code, sizeof(code) - 1, operand)

static inline void m_write(struct vmx_machine *m, enum vmcs_field f, u64 x)
{
    vmcs_write(&m->phys, 0, M_VMCS, f, x);
}
static inline u64 m_read(struct vmx_machine *m, enum vmcs_field f) { return vmcs_read(&m->phys, M_VMCS, f); }

// Unrestricted guest, not in IA-32e mode, behind EPT that maps the first GiB onto itself. What else the mode
// wants (CR0, segments) is the caller's.
static inline void m_unrestricted(struct vmx_machine *m)
{
    m_poke64(m, M_EPT, (M_EPT + 0x1000) | 7);
    m_poke64(m, M_EPT + 0x1000, 0xB7); // 1 GiB, write-back
    m_write(m, VMCS_PRIMARY_PROC_BASED_CONTROLS,
            m_read(m, VMCS_PRIMARY_PROC_BASED_CONTROLS) | PROC_ACTIVATE_SECONDARY_CONTROLS);
    m_write(m, VMCS_SECONDARY_PROC_BASED_CONTROLS, PROC2_ENABLE_EPT | PROC2_UNRESTRICTED_GUEST);
    m_write(m, VMCS_EPTP, M_EPT | 0x1E);
    m_write(m, VMCS_VM_ENTRY_CONTROLS, m->v->vmx->caps.allowed0[GROUP_ENTRY]);
}

// In VMX operation with M_VMCS current and clear.
static inline struct vmx_machine *m_vmx_new(void)
{
    struct vmx_machine *m = m_new();
    assert_int_equal(M_VMX(m, I_VMXON, M_VMXON), 0);
    assert_int_equal(M_VMX(m, I_VMCLEAR, M_VMCS), 0);
    assert_int_equal(M_VMX(m, I_VMPTRLD, M_VMCS), 0);
    return m;
}

// A VMCS that enters a 64-bit guest at M_GUEST with the root's page tables and comes back to a HLT at M_HOST.
static inline void m_vmcs_64(struct vmx_machine *m)
{
    const struct vcpu_state *s = &m->v->s;
    const struct vmx_caps *c = &m->v->vmx->caps;
    m_poke(m, M_HOST, "\xF4", 1);
    m_write(m, VMCS_PIN_BASED_CONTROLS, c->true_allowed0[GROUP_PIN]);
    m_write(m, VMCS_PRIMARY_PROC_BASED_CONTROLS, c->true_allowed0[GROUP_PROC] | PROC_HLT_EXITING);
    m_write(m, VMCS_PRIMARY_VM_EXIT_CONTROLS,
            c->allowed0[GROUP_EXIT] | EXIT_HOST_ADDRESS_SPACE_SIZE | EXIT_SAVE_IA32_EFER |
                EXIT_LOAD_IA32_EFER | EXIT_SAVE_IA32_PAT | EXIT_LOAD_IA32_PAT);
    m_write(m, VMCS_VM_ENTRY_CONTROLS,
            c->allowed0[GROUP_ENTRY] | ENTRY_IA32E_MODE_GUEST | ENTRY_LOAD_IA32_EFER | ENTRY_LOAD_IA32_PAT);
    m_write(m, VMCS_VMCS_LINK_POINTER, UINT64_MAX);
    m_write(m, VMCS_HOST_CR0, s->cr0), m_write(m, VMCS_GUEST_CR0, s->cr0);
    m_write(m, VMCS_HOST_CR3, s->cr3), m_write(m, VMCS_GUEST_CR3, s->cr3);
    m_write(m, VMCS_HOST_CR4, s->cr4), m_write(m, VMCS_GUEST_CR4, s->cr4);
    m_write(m, VMCS_HOST_IA32_EFER, s->msr.efer), m_write(m, VMCS_GUEST_IA32_EFER, s->msr.efer);
    m_write(m, VMCS_HOST_IA32_PAT, s->msr.pat), m_write(m, VMCS_GUEST_IA32_PAT, s->msr.pat);
    m_write(m, VMCS_HOST_RIP, M_HOST), m_write(m, VMCS_HOST_RSP, M_STACK - 0x100);
    m_write(m, VMCS_GUEST_RIP, M_GUEST), m_write(m, VMCS_GUEST_RSP, M_STACK - 0x800);
    m_write(m, VMCS_GUEST_RFLAGS, 2), m_write(m, VMCS_GUEST_DR7, 0x400);
    static const enum vmcs_field host_sel[] = {VMCS_HOST_ES_SELECTOR, VMCS_HOST_SS_SELECTOR,
                                               VMCS_HOST_DS_SELECTOR, VMCS_HOST_FS_SELECTOR,
                                               VMCS_HOST_GS_SELECTOR};
    for (unsigned i = 0; i < ARRAY_LEN(host_sel); i++) m_write(m, host_sel[i], 16);
    m_write(m, VMCS_HOST_CS_SELECTOR, 8), m_write(m, VMCS_HOST_TR_SELECTOR, 24);
    m_write(m, VMCS_HOST_TR_BASE, M_TSS), m_write(m, VMCS_HOST_GDTR_BASE, M_GDT),
        m_write(m, VMCS_HOST_IDTR_BASE, M_IDT);
    static const enum vmcs_field sel[] = {
        VMCS_GUEST_ES_SELECTOR, VMCS_GUEST_CS_SELECTOR, VMCS_GUEST_SS_SELECTOR,   VMCS_GUEST_DS_SELECTOR,
        VMCS_GUEST_FS_SELECTOR, VMCS_GUEST_GS_SELECTOR, VMCS_GUEST_LDTR_SELECTOR, VMCS_GUEST_TR_SELECTOR};
    // the four fields of a segment lie at the same index of their groups
    for (unsigned i = 0; i < SEG_COUNT; i++) {
        m_write(m, sel[i], s->seg[i].sel);
        m_write(m, (enum vmcs_field)(VMCS_GUEST_ES_BASE + i), s->seg[i].base);
        m_write(m, (enum vmcs_field)(VMCS_GUEST_ES_LIMIT + i), s->seg[i].limit);
        m_write(m, (enum vmcs_field)(VMCS_GUEST_ES_ACCESS_RIGHTS + i), s->seg[i].ar);
    }
    m_write(m, VMCS_GUEST_GDTR_BASE, M_GDT), m_write(m, VMCS_GUEST_GDTR_LIMIT, 0x7F);
    m_write(m, VMCS_GUEST_IDTR_BASE, M_IDT), m_write(m, VMCS_GUEST_IDTR_LIMIT, 0xFFF);
}

// Enters with guest code (ended by a HLT, which exits); back in root at M_HOST. Returns the exit reason, or
// -1 if the entry failed without an exit.
static inline s64 m_enter(struct vmx_machine *m, const char *code, unsigned n)
{
    unsigned exits = m->exits;
    bool launched = phys_read32(&m->phys, 0, M_VMCS + 8) == VMCS_LAUNCH_LAUNCHED;
    m_poke(m, M_GUEST, code, n);
    m_poke(m, M_GUEST + n, "\xF4", 1);
    int x = launched ? M_RUN(m, I_VMRESUME) : M_RUN(m, I_VMLAUNCH);
    assert_int_equal(x, -1);
    if (m->v->s.rip != M_HOST + 1) return -1;
    u32 reason = (u32)m_read(m, VMCS_EXIT_REASON);
    assert_int_equal(m->exits, exits + !(reason >> 31));
    if (!(reason >> 31)) { // the log says what the VMCS does
        const struct trace_event *t = &m->last_exit;
        assert_int_equal(t->reason, reason);
        assert_int_equal(t->qualification, m_read(m, VMCS_EXIT_QUALIFICATION));
        assert_int_equal(t->intr_info, m_read(m, VMCS_EXITING_EVENT_IDENTIFICATION));
        assert_int_equal(t->original_event, m_read(m, VMCS_ORIGINAL_EVENT_IDENTIFICATION));
        assert_int_equal(t->rip, m_read(m, VMCS_GUEST_RIP));
        assert_int_equal(t->has_error, t->intr_info >> 11 & 1);
        if (t->has_error) assert_int_equal(t->error, m_read(m, VMCS_EXITING_EVENT_ERROR_CODE));
        if (t->insn_len_valid) assert_int_equal(t->insn_len, m_read(m, VMCS_VM_EXIT_INSTRUCTION_LENGTH));
        if (t->gpa_valid) assert_int_equal(t->gpa, m_read(m, VMCS_GUEST_PHYSICAL_ADDRESS));
        if (t->gla_valid) assert_int_equal(t->gla, m_read(m, VMCS_GUEST_LINEAR_ADDRESS));
        assert_int_equal(t->gpa_valid, reason == EXIT_REASON_EPT_VIOLATION ||
                                           reason == EXIT_REASON_EPT_MISCONFIGURATION ||
                                           reason == EXIT_REASON_SPP);
    }
    return reason;
}
#define M_ENTER(m, code) m_enter(m, code, sizeof(code) - 1)

#endif
