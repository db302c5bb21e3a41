/*
 * What the VMX tests share: a guest that is a snippet of this image, and an IDT whose handlers are VMCALLs,
 * so that "the guest took vector 13" is something the test can read off.
 */
#ifndef TESTS_VMX_COMMON_H
#define TESTS_VMX_COMMON_H

#include "tap.h"
#include "trap.h"
#include "vmx.h"

/* Prints the TAP head. False (and a plan that skips everything) where there is no VMX. */
bool vmx_test_begin(const char *what);

/* A fresh guest that begins at `code`, in 64-bit mode at CPL 0 in our address space, on its own stack, with
   the IDT of VMCALLs; all exceptions exit. The VMCS region is the same each time. */
void guest_init(struct vmx_vcpu *v, const void *code);
/* The same with EPT that maps the first 64 MiB one to one. */
void guest_init_ept(struct vmx_vcpu *v, const void *code);
/* Puts 16-bit code at 8000h and makes the guest real-mode (after guest_init_ept): IP 8000h, all segments 0,
   and an IVT at 0 whose handlers are VMCALLs too. */
void guest_real_mode(struct vmx_vcpu *v, const void *code, size_t size);

/* Runs and expects an exit with this basic reason (or, with EXIT_REASON_ENTRY_FAILURE set, that failure). */
struct vmx_exit exit_is(struct vmx_vcpu *v, uint32_t reason, const char *name);
/* Runs and expects the vector to arrive in the guest's IDT. Returns the guest's RSP (the frame). */
uint64_t *delivery_is(struct vmx_vcpu *v, unsigned vector, const char *name);
/* The RIP of that exit, in a 64-bit guest. */
uint64_t guest_handler(unsigned vector);
/* Runs and expects the VMCALL with which every snippet ends. */
void done(struct vmx_vcpu *v, const char *name);

/* Expects the entry to be refused: VMfailValid with this number. */
void entry_fails(struct vmx_vcpu *v, unsigned error, const char *name);

/* By an IRET: NMIs are blocked from the delivery of one, or an exit by one, to the next. */
void unblock_nmis(void);

uint8_t maxphyaddr(void);

#endif
