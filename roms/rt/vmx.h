/*
 * VT-x for guest images: the instructions, VMCS set-up from the capability MSRs, entering a guest, EPT.
 *
 * The flow: vmx_on(), then for each guest vmx_vcpu_init() (a VMCS with valid host state, valid controls and a
 * guest that would run this image's own code at CPL 0), change what you need with vmwrite(), then vmx_run()
 * in a loop.
 *
 * Missing: VMXOFF with several processors, 32-bit hosts.
 */
#ifndef RT_VMX_H
#define RT_VMX_H

#include "rt.h"
#include "vmcs.h"

/* How a VMX instruction ended (SDM 31.2). */
enum vmx_status {
    VMX_SUCCEED = 0,
    VMX_FAIL_INVALID = 1, /* CF: no current VMCS */
    VMX_FAIL_VALID = 2,   /* ZF: see VM_INSTRUCTION_ERROR */
};

/* The guest registers that have no VMCS field. The order is that of the ModRM encoding, as in exit
   qualifications; slot 4 (RSP) is unused. */
struct vmx_regs {
    uint64_t gpr[16];
};
enum { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15 };

struct vmx_vcpu {
    struct vmx_regs regs;
    uint64_t vmcs; /* physical address of the region */
    uint64_t ept;  /* root table, 0 without EPT */
    bool launched;
};

/* What vmx_run came back with. */
struct vmx_exit {
    enum vmx_status
        status;      /* of VMLAUNCH or VMRESUME: anything but VMX_SUCCEED means that no exit happened */
    uint32_t error;  /* VM-instruction error if VMX_FAIL_VALID */
    uint32_t reason; /* with bit 31 if the entry failed */
    uint64_t qualification;
};

/* The instructions. */
#define VMX_POINTER_INSTRUCTION(name) \
    static inline enum vmx_status name(uint64_t physical) \
    { \
        bool cf, zf; \
        asm volatile(#name " %2" : "=@ccc"(cf), "=@ccz"(zf) : "m"(physical) : "memory"); \
        return cf ? VMX_FAIL_INVALID : zf ? VMX_FAIL_VALID : VMX_SUCCEED; \
    }
VMX_POINTER_INSTRUCTION(vmxon)
VMX_POINTER_INSTRUCTION(vmclear)
VMX_POINTER_INSTRUCTION(vmptrld)

static inline uint64_t vmptrst(void)
{
    uint64_t v;
    asm volatile("vmptrst %0" : "=m"(v)::"cc", "memory");
    return v;
}

static inline enum vmx_status vmxoff(void)
{
    bool cf, zf;
    asm volatile("vmxoff" : "=@ccc"(cf), "=@ccz"(zf)::"memory");
    return cf ? VMX_FAIL_INVALID : zf ? VMX_FAIL_VALID : VMX_SUCCEED;
}

static inline enum vmx_status vmread_status(uint64_t field, uint64_t *value)
{
    bool cf, zf;
    uint64_t v = *value;
    asm volatile("vmread %3, %2" : "=@ccc"(cf), "=@ccz"(zf), "+r"(v) : "r"(field) : "memory");
    *value = v;
    return cf ? VMX_FAIL_INVALID : zf ? VMX_FAIL_VALID : VMX_SUCCEED;
}

static inline enum vmx_status vmwrite_status(uint64_t field, uint64_t value)
{
    bool cf, zf;
    asm volatile("vmwrite %3, %2" : "=@ccc"(cf), "=@ccz"(zf) : "r"(field), "rm"(value) : "memory");
    return cf ? VMX_FAIL_INVALID : zf ? VMX_FAIL_VALID : VMX_SUCCEED;
}

/* The same where failure would be a bug of the image. */
uint64_t vmread(uint64_t field);
void vmwrite(uint64_t field, uint64_t value);

enum vmx_status invept(uint64_t type, uint64_t eptp);
enum vmx_status invvpid(uint64_t type, uint16_t vpid, uint64_t linear);

/* CPUID reports VMX, and IA32_FEATURE_CONTROL lets us in (we lock it if nobody did). If not, *why says so. */
bool vmx_available(const char **why);
/* Sets CR0 and CR4 as VMX wants them and executes VMXON. */
bool vmx_on(void);
void vmx_off(void);
/* The VMXON region. */
uint64_t vmx_on_region(void);
/* A zeroed region with the revision identifier. */
uint64_t vmx_new_region(void);

/* Which of `bits` the capability MSR lets be 1 (`msr` is the plain one; the TRUE one is used where it
 * exists). */
uint32_t vmx_allowed(uint32_t msr, uint32_t bits);
/* `wanted` with what must be 1 added; bits that may not be 1 are left out, so ask vmx_allowed first. */
uint32_t vmx_adjust(uint32_t msr, uint32_t wanted);
/* Are all these secondary controls there? */
bool vmx_has_secondary(uint32_t bits);
/* All these tertiary controls, all these secondary VM-exit controls? */
bool vmx_has_tertiary(uint64_t bits);
bool vmx_has_exit2(uint64_t bits);

/* A fresh VMCS, made current: host state from the running state, no optional control set, and a guest that is
   the running state at `rip` with `rsp` (64-bit, CPL 0, this address space, IF=0). */
void vmx_vcpu_init(struct vmx_vcpu *v, uint64_t rip, uint64_t rsp);
/* Guest segments and control registers for the modes; the rest of the guest state stays. Real mode wants
   unrestricted guest (and so EPT). Segments get `selector` << 4 as their base. */
void vmx_guest_real_mode(uint16_t selector);
/* 32-bit protected mode, flat, paging off (unrestricted guest). */
void vmx_guest_protected_mode(void);

/* VMLAUNCH or VMRESUME. The VMCS must be current. */
struct vmx_exit vmx_run(struct vmx_vcpu *v);
/* Moves the guest past the instruction that exited. */
void vmx_skip_instruction(void);

/* "CPUID", "EPT violation" ...: the basic exit reason in words. */
const char *vmx_exit_name(uint32_t reason);

/* Control helpers on the current VMCS: they panic if the processor does not offer the bits. */
void vmx_set_pin(uint32_t bits);
void vmx_set_proc(uint32_t bits);
void vmx_set_proc2(uint32_t bits);
void vmx_set_proc3(uint64_t bits);
void vmx_set_exit2(uint64_t bits);
void vmx_clear_proc(uint32_t bits);

/* EPT. Rights are EPT_R | EPT_W | EPT_X; memory type is write-back. */
#define EPT_R           1ull
#define EPT_W           2ull
#define EPT_X           4ull
#define EPT_RWX         7ull
#define EPT_LARGE       (1ull << 7)
#define EPT_A           (1ull << 8)
#define EPT_D           (1ull << 9)
#define EPT_XU          (1ull << 10) /* with mode-based execute control */
#define EPT_TYPE_WB     (6ull << 3)
#define EPT_SUBPAGES    (1ull << 61) /* sub-page write permissions */
#define EPT_SUPPRESS_VE (1ull << 63)

/* A new empty root table. */
uint64_t ept_new(void);
/* Maps `size` bytes (all multiples of 4 KiB) with 4 KiB entries. */
void ept_map(uint64_t root, uint64_t guest_physical, uint64_t physical, uint64_t size, uint64_t rights);
/* One 2 MiB entry. */
void ept_map_large(uint64_t root, uint64_t guest_physical, uint64_t physical, uint64_t rights);
/* The entry for an address at a level (1 = PTE .. 4), making the levels above. */
uint64_t *ept_entry(uint64_t root, uint64_t guest_physical, unsigned level);
/* The EPTP: write-back if offered, 4 levels, no accessed/dirty flags. */
uint64_t ept_pointer(uint64_t root);

#endif
