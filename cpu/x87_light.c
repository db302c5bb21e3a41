// The short way through the common x87 instructions: with every exception masked and no register empty (or full) that must not
// be, only the operands go to the host's x87, not the whole register file. Everything else takes the long way of
// cpu/x87.c; both give the same state, and the silicon test runs both.
//
// The host's x87 is empty with TOP 0 and the default control word before and after each of these.
#include "cpu/x87.h"
#include "cpu/fp.h"

#if FP_HOST_X86
enum { C0 = 0x100, C1 = 0x200, C2 = 0x400, C3 = 0x4000, SIGNALS = 0x3F, COMPARED = C0 | C2 | C3 };
enum { MASKED = 0x3F };

struct __attribute__((packed)) ext {
    u64 m;
    u16 se;
};

static inline struct ext *reg(struct fpu_state *f, unsigned i)
{
    return (struct ext *)&f->r[(x87_top(f) + i) & 7];
}
static inline bool full(const struct fpu_state *f, unsigned i)
{
    return (f->ftw >> 2 * ((x87_top(f) + i) & 7) & 3) != 3;
}
static inline void fill(struct fpu_state *f, unsigned i)
{
    f->ftw &= (u16) ~(3 << 2 * ((x87_top(f) + i) & 7));
}
static inline void pop(struct fpu_state *f)
{
    f->ftw |= (u16)(3 << 2 * x87_top(f));
    f->fsw = (u16)((f->fsw & ~FSW_TOP) | ((f->fsw + 0x800) & FSW_TOP));
}
static inline void push(struct fpu_state *f) // the new register is marked full
{
    f->fsw = (u16)((f->fsw & ~FSW_TOP) | ((f->fsw - 0x800) & FSW_TOP));
    fill(f, 0);
}
static inline void signals(struct fpu_state *f, u16 sw, u16 conditions)
{
    f->fsw = (u16)((f->fsw & ~conditions) | (sw & (SIGNALS | conditions)));
}

#define CALL  "lea -128(%%rsp), %%rsp\n\tcall *%[stub]\n\tlea 128(%%rsp), %%rsp\n\tfnstsw %%ax\n\t"
#define CLOBBERS "memory", "cc", "st", "st(1)", "st(2)", "st(3)", "st(4)", "st(5)", "st(6)", "st(7)"
// Loading the control word and clearing the status are slow: only where they are not already as they should be.
static inline void enter(const struct fpu_state *f)
{
    if (unlikely(f->fcw != FCW_RESET)) asm volatile("fldcw %0" : : "m"(f->fcw));
}
static inline void leave(const struct fpu_state *f, u16 sw)
{
    static const u16 plain = FCW_RESET;
    if (sw & SIGNALS) asm volatile("fnclex");
    if (unlikely(f->fcw != FCW_RESET)) asm volatile("fldcw %0" : : "m"(plain));
}

// op on ST(0) = *a and ST(1) = *b; the result, in ST(0) or ST(1), to *to.
static u16 run_binary(const struct fpu_state *f, const struct ext *a, const struct ext *b, struct ext *to, const u8 *stub,
                      bool second)
{
    u16 sw;
    enter(f);
    if (second)
        asm volatile("fldt (%[b])\n\tfldt (%[a])\n\t" CALL "fstp %%st(0)\n\tfstpt (%[to])"
                     : "=&a"(sw) : [a] "r"(a), [b] "r"(b), [to] "r"(to), [stub] "r"(stub)
                     : CLOBBERS);
    else
        asm volatile("fldt (%[b])\n\tfldt (%[a])\n\t" CALL "fstpt (%[to])\n\tfstp %%st(0)"
                     : "=&a"(sw) : [a] "r"(a), [b] "r"(b), [to] "r"(to), [stub] "r"(stub)
                     : CLOBBERS);
    leave(f, sw);
    return sw;
}
// op on ST(0) = *a in place, with a memory operand or none.
static u16 run_unary(const struct fpu_state *f, struct ext *a, const u8 *stub, void *mem)
{
    u16 sw;
    enter(f);
    asm volatile("fldt (%[a])\n\t" CALL "fstpt (%[a])"
                 : "=&a"(sw) : [a] "r"(a), [stub] "r"(stub), "D"(mem) : CLOBBERS);
    leave(f, sw);
    return sw;
}
static u16 run_load(const struct fpu_state *f, struct ext *to, const u8 *stub, void *mem)
{
    u16 sw;
    enter(f);
    asm volatile(CALL "fstpt (%[to])" : "=&a"(sw) : [to] "r"(to), [stub] "r"(stub), "D"(mem) : CLOBBERS);
    leave(f, sw);
    return sw;
}
// A store that pops or does not; a compare with memory likewise.
static u16 run_store(const struct fpu_state *f, const struct ext *a, const u8 *stub, void *mem, bool pops)
{
    u16 sw;
    enter(f);
    if (pops)
        asm volatile("fldt (%[a])\n\t" CALL
                     : "=&a"(sw) : [a] "r"(a), [stub] "r"(stub), "D"(mem) : CLOBBERS);
    else
        asm volatile("fldt (%[a])\n\t" CALL "fstp %%st(0)"
                     : "=&a"(sw) : [a] "r"(a), [stub] "r"(stub), "D"(mem) : CLOBBERS);
    leave(f, sw);
    return sw;
}
// A compare of ST(0) = *a with ST(1) = *b that does not pop. *fl: the arithmetic flags in the layout of vcpu_state.fl.
static u16 run_compare(const struct fpu_state *f, const struct ext *a, const struct ext *b, const u8 *stub, u16 *fl)
{
    u32 ax, flags;
    enter(f);
    asm volatile("fldt (%[b])\n\tfldt (%[a])\n\tlea -128(%%rsp), %%rsp\n\tcall *%[stub]\n\tlea 128(%%rsp), %%rsp\n\t"
                 "lahf\n\tseto %%al\n\tmovzwl %%ax, %[flags]\n\tfnstsw %%ax\n\tfstp %%st(0)\n\tfstp %%st(0)"
                 : "=&a"(ax), [flags] "=&r"(flags) : [a] "r"(a), [b] "r"(b), [stub] "r"(stub) : CLOBBERS);
    *fl = (u16)flags;
    leave(f, (u16)ax);
    return (u16)ax;
}

bool x87_light_reg(struct vcpu *v, u8 op, u8 modrm)
{
    struct fpu_state *f = &v->s.fpu;
    unsigned digit = modrm >> 3 & 7, i = modrm & 7;
    bool compares = digit == 2 || digit == 3;
    u16 fl;
    if ((f->fcw & MASKED) != MASKED) return false;
    switch (op) {
    case 0xD8:
    case 0xDC:
    case 0xDE:
        if (!full(f, 0) || !full(f, i) || (compares && op != 0xD8)) return false;
        if (compares) {
            signals(f, run_compare(f, reg(f, 0), reg(f, i), x87_reg_stub(0xD8, 0xD1), &fl) & ~C1, COMPARED | C1);
            if (digit == 3) pop(f);
            return true;
        }
        if (op == 0xD8)
            signals(f, run_binary(f, reg(f, 0), reg(f, i), reg(f, 0), x87_reg_stub(op, (u8)((modrm & 0xF8) | 1)), false), C1);
        else
            signals(f, run_binary(f, reg(f, 0), reg(f, i), reg(f, i), x87_reg_stub(0xDC, (u8)((modrm & 0xF8) | 1)), true), C1);
        if (op == 0xDE) pop(f);
        return true;
    case 0xD9:
        if (digit == 0) { // FLD ST(i)
            if (!full(f, i) || full(f, 7)) return false;
            struct ext x = *reg(f, i);
            push(f);
            *reg(f, 0) = x;
        } else if (digit == 1) { // FXCH
            if (!full(f, 0) || !full(f, i)) return false;
            struct ext x = *reg(f, i);
            *reg(f, i) = *reg(f, 0);
            *reg(f, 0) = x;
        } else if (modrm == 0xE0 || modrm == 0xE1) { // FCHS, FABS
            if (!full(f, 0)) return false;
            reg(f, 0)->se = modrm == 0xE0 ? reg(f, 0)->se ^ 0x8000 : reg(f, 0)->se & 0x7FFF;
        } else if (modrm == 0xE8 || modrm == 0xEE) { // FLD1, FLDZ
            if (full(f, 7)) return false;
            push(f);
            *reg(f, 0) = modrm == 0xE8 ? (struct ext){1ull << 63, 0x3FFF} : (struct ext){0, 0};
        } else if (modrm == 0xFA || modrm == 0xFC) { // FSQRT, FRNDINT
            if (!full(f, 0)) return false;
            signals(f, run_unary(f, reg(f, 0), x87_reg_stub(op, modrm), NULL), C1);
            return true;
        } else {
            return false;
        }
        f->fsw &= (u16)~C1;
        return true;
    case 0xDD:
        if (!full(f, 0)) return false;
        if (compares) { // FST, FSTP ST(i)
            *reg(f, i) = *reg(f, 0);
            fill(f, i);
            f->fsw &= (u16)~C1;
            if (digit == 3) pop(f);
            return true;
        }
        if (digit != 4 && digit != 5) return false;
        if (!full(f, i)) return false;
        signals(f, run_compare(f, reg(f, 0), reg(f, i), x87_reg_stub(0xDD, 0xE1), &fl) & ~C1, COMPARED | C1); // FUCOM, FUCOMP
        if (digit == 5) pop(f);
        return true;
    case 0xDB:
    case 0xDF:
        // What becomes of C1 is the vendor's choice: the long way shows it.
        if ((digit != 5 && digit != 6) || !full(f, 0) || !full(f, i) || (f->fsw & C1)) return false;
        signals(f, run_compare(f, reg(f, 0), reg(f, i), x87_reg_stub(0xDB, (u8)((modrm & 0xF8) | 1)), &fl), 0);
        v->s.fl = fl & (0x200 | F_ZF | F_PF | F_CF);
        if (op == 0xDF) pop(f);
        return true;
    default: return false;
    }
}

// `mem` holds the operand.
bool x87_light_load(struct vcpu *v, u8 op, u8 digit, void *mem)
{
    struct fpu_state *f = &v->s.fpu;
    if ((f->fcw & MASKED) != MASKED) return false;
    if (!(op & 1)) { // D8, DA, DC, DE: arithmetic and compares
        if (!full(f, 0)) return false;
        if (digit == 2 || digit == 3) {
            signals(f, run_store(f, reg(f, 0), x87_mem_stub(op, digit), mem, digit == 3) & ~C1, COMPARED | C1);
            if (digit == 3) pop(f);
        } else {
            signals(f, run_unary(f, reg(f, 0), x87_mem_stub(op, digit), mem), C1);
        }
        return true;
    }
    if (full(f, 7) || (op == 0xDF && digit == 4)) return false;
    struct ext x;
    u16 sw = run_load(f, &x, x87_mem_stub(op, digit), mem);
    push(f);
    *reg(f, 0) = x;
    signals(f, sw & ~C1, C1);
    return true;
}

// Leaves in `mem` what is to be stored and changes nothing; x87_light_stored follows when memory has it.
bool x87_light_store(struct vcpu *v, u8 op, u8 digit, void *mem, u16 *sw)
{
    struct fpu_state *f = &v->s.fpu;
    if ((f->fcw & MASKED) != MASKED || !full(f, 0) || (op == 0xDF && digit == 6)) return false;
    *sw = run_store(f, reg(f, 0), x87_mem_stub(op, digit), mem, digit != 2);
    return true;
}
void x87_light_stored(struct vcpu *v, u8 digit, u16 sw)
{
    signals(&v->s.fpu, sw, C1);
    if (digit != 2) pop(&v->s.fpu);
}

#else
bool x87_light_reg(struct vcpu *v, u8 op, u8 modrm)
{
    return false;
}
bool x87_light_load(struct vcpu *v, u8 op, u8 digit, void *mem)
{
    return false;
}
bool x87_light_store(struct vcpu *v, u8 op, u8 digit, void *mem, u16 *sw)
{
    return false;
}
void x87_light_stored(struct vcpu *v, u8 digit, u16 sw)
{
}
#endif
