// An instruction of the guest's x87 run on the host's, under the guest's control word and with every
// exception masked or, in x87_image, as the guest has them. The host's x87 is empty with TOP 0 and the
// default control word before and after each of these; they return the status word. Included by
// cpu/instructions/x87.c alone, since the stubs are here.
#ifndef CPU_HOST_X87_H
#define CPU_HOST_X87_H

#include "cpu/engine/fast.h"
#include "cpu/host/host.h"
#include "cpu/instructions/x87.h"

struct __attribute__((packed)) x87_image { // of FRSTOR and FNSAVE, 32-bit protected-mode format
    u16 fcw, pad0, fsw, pad1, ftw, pad2;
    u32 fip;
    u16 fcs, fop;
    u32 fdp;
    u16 fds, pad3;
    struct __attribute__((packed)) {
        u64 m;
        u16 se;
    } st[8];
};
_Static_assert(sizeof(struct x87_image) == 108, "SDM Vol. 1, figure 8-9 and eight registers");

struct __attribute__((packed)) x87_ext {
    u64 m;
    u16 se;
};

#if HOST_FP
// Four bytes a stub, an instruction and a return: register forms D8 C0 to DF FF, memory forms D8 /0 to DF /7
// on (%rdi).
extern const u8 x87_reg_stubs[] __attribute__((visibility("hidden")));
extern const u8 x87_mem_stubs[] __attribute__((visibility("hidden")));
static inline const u8 *x87_reg_stub(u8 op, u8 modrm)
{
    return x87_reg_stubs + 4 * ((op & 7) * 64 + (modrm & 63));
}
static inline const u8 *x87_mem_stub(u8 op, u8 digit) { return x87_mem_stubs + 4 * ((op & 7) * 8 + digit); }
asm(".pushsection .text\n\t.balign 4\n\t.globl x87_reg_stubs, x87_mem_stubs\n\t.hidden x87_reg_stubs, "
    "x87_mem_stubs\n"
    "x87_reg_stubs:\n\t.set x87_op, 0xD8\n\t.rept 8\n\t.set x87_rm, 0xC0\n\t.rept 64\n\t"
    ".byte x87_op, x87_rm, 0xC3, 0xCC\n\t.set x87_rm, x87_rm + 1\n\t.endr\n\t.set x87_op, x87_op + "
    "1\n\t.endr\n"
    "x87_mem_stubs:\n\t.set x87_op, 0xD8\n\t.rept 8\n\t.set x87_rm, 0x07\n\t.rept 8\n\t"
    ".byte x87_op, x87_rm, 0xC3, 0xCC\n\t.set x87_rm, x87_rm + 8\n\t.endr\n\t.set x87_op, x87_op + "
    "1\n\t.endr\n\t.popsection");

// Returns the arithmetic flags afterwards, in the layout of vcpu_state.fl.
static u16 host_x87_run(struct x87_image *im, const u8 *stub, void *mem, u16 fl)
{
    u32 ax = fl;
    asm volatile("frstor %[im]\n\taddb $0x7F, %%al\n\tsahf\n\tlea -128(%%rsp), %%rsp\n\tcall *%[stub]\n\t"
                 "lea 128(%%rsp), %%rsp\n\tlahf\n\tseto %%al\n\tfnsave (%[out])"
                 : "+a"(ax)
                 : [im] "m"(*im), [out] "r"(im), [stub] "r"(stub), "D"(mem)
                 : "memory", "cc", "st", "st(1)", "st(2)", "st(3)", "st(4)", "st(5)", "st(6)", "st(7)");
    return (u16)ax;
}

// ---- with operands alone ----
#define CALL_STUB    "lea -128(%%rsp), %%rsp\n\tcall *%[stub]\n\tlea 128(%%rsp), %%rsp\n\tfnstsw %%ax\n\t"
#define X87_CLOBBERS "memory", "cc", "st", "st(1)", "st(2)", "st(3)", "st(4)", "st(5)", "st(6)", "st(7)"
// Loading the control word and clearing the status are slow: only where they are not already as they should
// be.
static inline void host_x87_enter(const struct fpu_state *f)
{
    if (unlikely(f->fcw != FCW_RESET)) asm volatile("fldcw %0" : : "m"(f->fcw));
}
static inline void host_x87_leave(const struct fpu_state *f, u16 sw)
{
    static const u16 plain = FCW_RESET;
    if (sw & 0x3F) asm volatile("fnclex");
    if (unlikely(f->fcw != FCW_RESET)) asm volatile("fldcw %0" : : "m"(plain));
}

// op on ST(0) = *a and ST(1) = *b; the result, in ST(0) or ST(1), to *to.
static u16 host_x87_binary(const struct fpu_state *f, const struct x87_ext *a, const struct x87_ext *b,
                           struct x87_ext *to, const u8 *stub, bool second)
{
    u16 sw;
    host_x87_enter(f);
#define BINARY(result) \
    asm volatile("fldt (%[b])\n\tfldt (%[a])\n\t" CALL_STUB result \
                 : "=&a"(sw) \
                 : [a] "r"(a), [b] "r"(b), [to] "r"(to), [stub] "r"(stub) \
                 : X87_CLOBBERS)
    if (second)
        BINARY("fstp %%st(0)\n\tfstpt (%[to])");
    else
        BINARY("fstpt (%[to])\n\tfstp %%st(0)");
#undef BINARY
    host_x87_leave(f, sw);
    return sw;
}
// op on ST(0) = *a in place, with a memory operand or none.
static u16 host_x87_unary(const struct fpu_state *f, struct x87_ext *a, const u8 *stub, void *mem)
{
    u16 sw;
    host_x87_enter(f);
    asm volatile("fldt (%[a])\n\t" CALL_STUB "fstpt (%[a])"
                 : "=&a"(sw)
                 : [a] "r"(a), [stub] "r"(stub), "D"(mem)
                 : X87_CLOBBERS);
    host_x87_leave(f, sw);
    return sw;
}
static u16 host_x87_load(const struct fpu_state *f, struct x87_ext *to, const u8 *stub, void *mem)
{
    u16 sw;
    host_x87_enter(f);
    asm volatile(CALL_STUB "fstpt (%[to])"
                 : "=&a"(sw)
                 : [to] "r"(to), [stub] "r"(stub), "D"(mem)
                 : X87_CLOBBERS);
    host_x87_leave(f, sw);
    return sw;
}
// A store that pops or does not; a compare with memory likewise.
static u16 host_x87_store(const struct fpu_state *f, const struct x87_ext *a, const u8 *stub, void *mem,
                          bool pops)
{
    u16 sw;
    host_x87_enter(f);
#define STORE(behind) \
    asm volatile("fldt (%[a])\n\t" CALL_STUB behind \
                 : "=&a"(sw) \
                 : [a] "r"(a), [stub] "r"(stub), "D"(mem) \
                 : X87_CLOBBERS)
    if (pops)
        STORE("");
    else
        STORE("fstp %%st(0)");
#undef STORE
    host_x87_leave(f, sw);
    return sw;
}
// A compare of ST(0) = *a with ST(1) = *b that does not pop. *fl: the arithmetic flags in the layout of
// vcpu_state.fl.
static u16 host_x87_compare(const struct fpu_state *f, const struct x87_ext *a, const struct x87_ext *b,
                            const u8 *stub, u16 *fl)
{
    u32 ax, flags;
    host_x87_enter(f);
    asm volatile(
        "fldt (%[b])\n\tfldt (%[a])\n\tlea -128(%%rsp), %%rsp\n\tcall *%[stub]\n\tlea 128(%%rsp), %%rsp\n\t"
        "lahf\n\tseto %%al\n\tmovzwl %%ax, %[flags]\n\tfnstsw %%ax\n\tfstp %%st(0)\n\tfstp %%st(0)"
        : "=&a"(ax), [flags] "=&r"(flags)
        : [a] "r"(a), [b] "r"(b), [stub] "r"(stub)
        : X87_CLOBBERS);
    *fl = (u16)flags;
    host_x87_leave(f, (u16)ax);
    return (u16)ax;
}
#endif

#endif
