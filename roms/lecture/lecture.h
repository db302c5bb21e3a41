/*
 * What the lecture's programs share: a guest's memory, two small monitors that run it, and a story to tell.
 *
 * The same guest, the same bytes, runs twice. ring.c is a monitor of the time before VT-x: it keeps ring 0
 * and runs the guest's kernel and its applications in ring 3 (the 0/3/3 model), and each privileged
 * instruction faults into it and is emulated. vt.c is a hypervisor with VT-x: the guest has all rings, in VMX
 * non-root operation. Both count what brought them in. story.c prints: each line of the story is a comment of
 * TAP.
 *
 * A guest ends with VMCALL and EAX = 0, which faults (#UD) in ring 3 and exits under VT-x. Another EAX is
 * given to the program's hook.
 */
#ifndef LECTURE_H
#define LECTURE_H

#include "tap.h"
#include "trap.h"
#include "vmx.h"

/* ---- the guest: 2 MiB of its own, at this linear address under either monitor ---- */
#define GUEST_AT    0x40000000ul
#define GUEST_DATA  (GUEST_AT + 0x0000) /* what it found, in 64-bit words: guest_word */
#define GUEST_CODE  (GUEST_AT + 0x1000) /* its kernel */
#define GUEST_APP   (GUEST_AT + 0x4000) /* its application */
#define GUEST_STACK (GUEST_AT + 0x8000) /* the end of its stack */
#define GUEST_PAGES 0x10000             /* offset: page tables, GDT, IDT and TSS, which vt.c makes for it */
#define GUEST_GDT   (GUEST_AT + 0x13000)
#define GUEST_IDT   (GUEST_AT + 0x14000)
#define GUEST_SIZE  0x200000

/* Its code, in assembly. Copied into its memory, so only jumps within it and absolute addresses there. */
#define GUEST(name, code) \
    asm(".pushsection .text; .balign 16; " #name ": " code "; " #name "_end: .popsection"); \
    extern const uint8_t name[], name##_end[]
#define GUEST_ENDS "; xor %eax, %eax; vmcall"

extern uint8_t *guest_memory; /* as the monitors see it */
/* Fresh memory with the kernel in it, and the application. */
void guest_load(const uint8_t *kernel, const uint8_t *kernel_end, const uint8_t *app, const uint8_t *app_end);
#define GUEST_LOAD(kernel)           guest_load(kernel, kernel##_end, NULL, NULL)
#define GUEST_LOAD_BOTH(kernel, app) guest_load(kernel, kernel##_end, app, app##_end)
uint64_t guest_word(unsigned i);

/* ---- what a run came to ---- */
struct outcome {
    bool finished; /* by VMCALL, EAX = 0 */
    unsigned
        vector;   /* else: the exception (ring), or the exit reason (VT-x) that the monitor could not serve */
    uint64_t rip; /* where */
    uint64_t exits; /* how often the monitor was entered, the last VMCALL not counted */
    uint64_t ticks; /* of the time-stamp counter, from the first instruction to the last */
};

/* Counts an entry into the monitor under a name; counted() asks, tell_counts() prints them all. */
void count(const char *name);
uint64_t counted(const char *name);
void tell_counts(void);
void counts_clear(void);

/* ---- the monitor without VT-x ---- */
/* The processor that the guest believes it has. */
struct ring_vcpu {
    bool interrupts;  /* the guest's IF, as its CLI and STI say */
    bool application; /* the guest's application runs, not its kernel */
    uint64_t cr0, cr3, cr4, cr8;
    uint64_t sysenter_cs, sysenter_esp, sysenter_eip;
    uint64_t idt;
    unsigned pending; /* a vector that waits for IF, or 0 */
};
extern struct ring_vcpu ring_vcpu;
/* Asked before the monitor's own emulation; true: served. NULL: none. */
extern bool (*ring_hook)(struct trap_frame *f);
/* Runs the guest that is loaded, with RDI = a and RSI = b. */
struct outcome ring_run(uint64_t a, uint64_t b);
/* The guest's register by its number in instructions. */
uint64_t *ring_register(struct trap_frame *f, unsigned number);
/* An interrupt for the guest: now if its IF allows, else when it does. */
void ring_interrupt(struct trap_frame *f, unsigned vector);

/* ---- the monitor with VT-x ---- */
/* NULL if this machine can, else why not. VMXON is done here, once. */
const char *vt_missing(void);
extern struct vmx_vcpu vt_vcpu;
extern uint8_t *vt_msr_bitmap; /* one page; all 0, so that no MSR exits, until a program sets a bit */
extern bool (*vt_hook)(const struct vmx_exit *e);
/* A VMCS for the guest that is loaded: ring 0, 64-bit mode, its own page tables, EPT. May be changed before
 * vt_run. */
void vt_prepare(void);
struct outcome vt_run(uint64_t a, uint64_t b);

/* The guest's processor as data (move.c): all readable fields of the guest-state area. vt_load makes a new
 * VMCS of it. */
#define VT_SAVED_MAX 96
struct vt_saved {
    unsigned n;
    struct {
        uint32_t encoding;
        uint64_t value;
    } field[VT_SAVED_MAX];
    struct vmx_regs regs;
};
void vt_save(struct vt_saved *s);
void vt_load(const struct vt_saved *s);

/* ---- the story ---- */
/* The first lines. */
void lecture_begin(unsigned number, const char *title);
/* A scene begins. */
extern volatile unsigned lecture_scene;
void scene(const char *title);
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* A figure of this run: "name = value", which tests and pictures read. */
void figure(uint64_t value, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* a / b with two decimals. */
void ratio(uint64_t a, uint64_t b, const char *format, ...) __attribute__((format(printf, 3, 4)));
int lecture_end(void);

#endif
