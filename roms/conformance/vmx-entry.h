/*
 * Tables of VM entries (SDM 29): a VMCS that passes, one thing in it broken, and what must come of it. See
 * vmx-entry-engine.c for what a row is held to, vmx-entry-setups.c for the VMCSs.
 */
#ifndef TESTS_VMX_ENTRY_H
#define TESTS_VMX_ENTRY_H

#include "vmx-common.h"

enum op {
    NOTHING,
    SET,
    OR,
    CLEAR,
    BEYOND /* set the bit at MAXPHYADDR */,
    POKE /* word `field` of the spare page */
};

struct change {
    enum op op;
    uint32_t field;
    uint64_t value;
};

/* Outcomes. */
#define PASS          0
#define FAIL(n)       (n)               /* VMfailValid(n) */
#define EXIT33(q)     (0x100 | (q))     /* entry failure by guest state, exit qualification q */
#define EXIT34(index) (0x200 | (index)) /* entry failure by MSR loading */

struct row {
    const char *id;
    bool (*setup)(struct vmx_vcpu *); /* makes a VMCS that passes; false if the processor cannot */
    uint32_t outcome;
    struct change change[4];
};

/* Runs the rows. Two points each: the broken VMCS, and (unless PASS is what it should) the same one mended.
 */
void entry_rows(const struct row *rows, unsigned count);
#define ENTRY_ROWS(rows) entry_rows(rows, sizeof(rows) / sizeof((rows)[0]))

/* VMLAUNCH of the current VMCS as it is, HOST_RSP and HOST_RIP too: for entries that must fail. */
struct vmx_exit entry_launch(void);

extern uint64_t spare_page;
void entry_begin(void);

/* The set-ups. */
typedef bool entry_setup(struct vmx_vcpu *v);
entry_setup plain, io_bitmaps, msr_bitmaps, tpr_shadow, x2apic_mode, apic_accesses, apic_registers,
    virtual_interrupts, posted_interrupts, ipi_virtualization, apic_timer, virtual_nmis, timer, vpid, ept,
    ept_without_ad, pml, tsc_scaling, vm_functions, shadowing, unrestricted, real_mode, protected_mode,
    v86_mode, pae_paging, entry_efer, entry_pat, entry_debug, exit_efer, exit_pat, msr_load, idle, halted,
    shut_down, strict_error_codes, strict_lengths, with_length, link_pointer, no_mtf, no_nested_exceptions,
    no_shadow_stack_ept, entry_pkrs, exit_pkrs, entry_perf, exit_perf, entry_bndcfgs, entry_spec_ctrl,
    exit_spec_ctrl, tertiary, secondary_exit, link_shadow, pae_in_memory, with_ldt, wait_for_sipi, no_sgx,
    no_rtm, no_bus_lock_detection, virtualization_exceptions, mbec, subpages, hlat, paging_write,
    paging_verification, ept5, ept_without_5;

#define PROC_FIELD   PRIMARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS
#define PROC2_FIELD  SECONDARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS
#define PROC3_FIELD  TERTIARY_PROCESSOR_BASED_VM_EXECUTION_CONTROLS
#define EXIT2_FIELD  SECONDARY_VM_EXIT_CONTROLS
#define PIN_FIELD    PIN_BASED_VM_EXECUTION_CONTROLS
#define EXIT_FIELD   PRIMARY_VM_EXIT_CONTROLS
#define ENTRY_FIELD  VM_ENTRY_CONTROLS
#define INJECT       INJECTED_EVENT_IDENTIFICATION
#define NONCANONICAL 0x8000000000000000ul

#endif
