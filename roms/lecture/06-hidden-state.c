/*
 * 6. Hidden state: a segment register has a base, a limit and rights that no instruction reads. They were
 * loaded from a descriptor that may have changed since, so a monitor that saves the selector and loads it
 * again does not give back what was there. "Unreal mode" is the proof: real mode with a limit of 4 GiB, which
 * real mode cannot load.
 *
 * The guest reads at 1 MiB, beyond the 64 KiB of real mode, before and after a monitor has been in between.
 */
#include "../conformance/low.h"
#include "lecture.h"

/* In 16-bit code, DS = selector 8 (4 GiB) or 10h (64 KiB) of the GDT at 7100h, then real mode and DS = 0
 * again. */
#define LOAD_DS(selector) \
    "mov %cr0, %eax; or $1, %al; mov %eax, %cr0; jmp 9f; 9: mov $" selector ", %bx; mov %bx, %ds;" \
    "and $0xfe, %al; mov %eax, %cr0; jmp 9f; 9: xor %bx, %bx; mov %bx, %ds;"
#define READ_FAR "mov $0x100000, %edi; mov (%edi), %ecx;"
#define TABLE    0x7100

/* Without VT-x. At 7000h: what the read gave before unreal mode, in it, and after a monitor was there; #GP
 * leaves 13. */
LOW_CODE(unreal, 16,
         "sgdtl 0x7200; mov $13, %ecx; " READ_FAR "mov %ecx, 0x7000; lgdtl 0x7100;" LOAD_DS(
             "8") "mov $13, %ecx; " READ_FAR
                  "mov %ecx, 0x7004; mov %ds, %si;" /* here a monitor comes: it saves the selector, loads its
                                                       own, */
         LOAD_DS("0x10") "mov %si, %ds;"            /* and gives the selector back */
                         "mov $13, %ecx; " READ_FAR "mov %ecx, 0x7008; lgdtl 0x7200");
/* #GP of the read, which is 4 bytes long: it is left out. */
LOW_CODE(skip_read, 16, "mov %sp, %bp; addw $4, (%bp); iret");

/* With VT-x: the same in a guest; VMCALL with EAX = 1 where the monitor comes. */
GUEST(unreal_guest, ".code16; lgdtl 0x7100;" LOAD_DS("8") READ_FAR
      "mov %ecx, 0; mov $1, %eax; vmcall;" READ_FAR "mov %ecx, 8; xor %eax, %eax; vmcall; .code64");

static void make_table(uint8_t *memory)
{
    static const uint64_t gdt[3] = {0, 0x00cf93000000ffff, 0x000093000000ffff};
    const uint32_t base = TABLE + 16;
    memcpy(memory + TABLE, "\x17\0", 2);
    memcpy(memory + TABLE + 2, &base, 4);
    memcpy(memory + TABLE + 16, gdt, sizeof(gdt));
}

enum way { NONE, SELECTOR, WHOLE }; /* what the monitor saves and restores of DS */
static enum way way;
static uint64_t limit_seen;
static bool serve(const struct vmx_exit *e)
{
    static struct vt_saved saved;
    if (e->reason != EXIT_REASON_VMCALL) return false;
    vmx_skip_instruction();
    limit_seen = vmread(GUEST_DS_LIMIT);
    vt_save(&saved);
    vmclear(vt_vcpu.vmcs);
    vt_load(&saved);
    if (way == SELECTOR)
        vmwrite(GUEST_DS_LIMIT, 0xffff); /* what a load in real mode could give, had we only that */
    return true;
}

static struct outcome move_guest(enum way how)
{
    way = how;
    guest_load(unreal_guest, unreal_guest_end, NULL, NULL);
    make_table(guest_memory);
    memcpy(guest_memory + 0x100000, "1234", 4);
    vt_vcpu.vmcs = 0;
    vt_prepare();
    vmx_set_proc2(PROC2_UNRESTRICTED_GUEST);
    vmx_guest_real_mode(0);
    vmwrite(GUEST_RIP, GUEST_CODE - GUEST_AT);
    vmwrite(GUEST_RSP, GUEST_STACK - GUEST_AT);
    vt_hook = serve;
    struct outcome o = vt_run(0, 0);
    vt_hook = NULL;
    return o;
}

int rom_main(void)
{
    lecture_begin(6, "access to hidden state");
    scene("without VT-x: real mode, and a read at 1 MiB");
    uint32_t there = *(volatile uint32_t *)0x100000;
    make_table(NULL);
    memcpy((void *)0x8800, skip_read, (size_t)(skip_read_end - skip_read));
    low_vector(13, 0, 0x8800);
    LOW_RUN(LOW_REAL, unreal);
    const volatile uint32_t *found = low_data();
    const char *unchecked = found[0] != 13 ? "this machine does not check segment limits" : NULL;
    say("  real mode as it is, DS limit 64 KiB: %s", found[0] == 13 ? "#GP" : "it reads");
    say("  unreal mode, DS limit 4 GiB from a descriptor: %s %x", found[1] == 13 ? "#GP" : "it reads",
        found[1]);
    say("  a monitor saved DS's selector, used DS, and loaded the selector again: %s",
        found[2] == 13 ? "#GP" : "it reads");
    say("LSL reads limits from the table, not from the register: nothing reads what DS really has.");
    is(found[1], there, "with the hidden limit of 4 GiB the guest reads at 1 MiB");
    if (unchecked)
        skip(2, unchecked);
    else {
        is(found[0], 13, "with real mode's own limit it cannot");
        is(found[2], 13, "nor after a monitor that saved what can be saved");
    }

    scene("with VT-x: the guest-state area has the hidden parts, and the guest is moved to another VMCS");
    if (vt_missing() || !vmx_has_secondary(PROC2_UNRESTRICTED_GUEST)) {
        skip(4, vt_missing() ? vt_missing() : "the processor has no unrestricted guest");
        return lecture_end();
    }
    struct outcome o = move_guest(SELECTOR);
    say("  moved with DS as software could load it: %s", o.finished ? "it reads" : "#GP");
    is(vmread(EXITING_EVENT_IDENTIFICATION) & 0xff, VECTOR_GP,
       "moved by the selector alone the guest faults");
    o = move_guest(WHOLE);
    say("  GUEST_DS_LIMIT = %lx: the VM exit wrote down what no instruction reads", limit_seen);
    say("  moved with all of the guest-state area: %s", o.finished ? "it reads" : "#GP");
    ok(o.finished, "moved with its hidden state the guest goes on");
    is(limit_seen, 0xffffffff, "the limit of 4 GiB was in the guest-state area");
    is((uint32_t)guest_word(1), (uint32_t)guest_word(0), "and it reads the same as before");
    return lecture_end();
}
