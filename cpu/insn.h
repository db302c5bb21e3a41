// One decoded instruction, and the row of the table that it came from.
#ifndef CPU_INSN_H
#define CPU_INSN_H

#include "cpu/vcpu.h"

typedef void exec_fn(struct vcpu *v, const struct insn *in);

enum { W8, W16, W32, W64 };                // operand widths (osz, asz; asz is never W8)
#define W_BYTES(w) (1u << (w))
enum { FORM_REG, FORM_B, FORM_X, FORM_S, FORM_SLOW }; // register; base+disp; base+index*s+disp; the same with mask and segment base

struct insn { // 32 bytes
    exec_fn *exec;
    u16 row;   // index in rows[]
    u16 off;   // from the block's start
    u8 len;    // bytes
    u8 idx;    // index in the block
    u8 r;      // ModRM.reg operand: byte offset of a GPR (AH.. are odd offsets), or number of an XMM/MMX/segment/control register
    u8 m;      // ModRM.rm as a register (likewise), or the base register's offset when `mem`
    u8 x;      // index register's offset
    u8 scale : 2, osz : 2, asz : 2, mem : 1, lock : 1;
    u8 seg : 3, rep : 2 /* 0, 2 = F2, 3 = F3 */, term : 1 /* ends the block */, rex : 1, nf : 1 /* flags are dead */;
    u8 op;     // opcode byte (low bits name registers, conditions)
    s32 disp;  // RIP-relative: already relative to the block's start, base GPR_RIP_OFF. Relative branches: target, likewise
    union {
        u64 imm; // sign-extended to 64 bits as the instruction uses it
        struct { u32 imm1, imm2; }; // ENTER, far pointers (offset, selector)
    };
};
_Static_assert(sizeof(struct insn) == 32, "two to a cache line");

// Operand conventions of a row: what `r` and `m` are.
enum {
    RF_BYTE = 1 << 0,   // operand width is 8 bits (r, m are byte registers)
    RF_D64 = 1 << 1,    // operand width defaults to 64 in 64-bit mode (66h: 16)
    RF_F64 = 1 << 2,    // operand width is forced to 64 in 64-bit mode
    RF_M8 = 1 << 3,     // only m is a byte register (MOVZX Gv,Eb)
    RF_M16 = 1 << 4,    // memory operand is 16 bits (MOVZX Gv,Ew, MOV Sw ...): informative
    RF_OPREG = 1 << 5,  // r is in the opcode's low three bits
    RF_RX = 1 << 6, RF_MX = 1 << 7, // r / m number XMM registers
    RF_RM = 1 << 8, RF_MM = 1 << 9, // r / m number MMX registers
    RF_RSEG = 1 << 10,  // r numbers a segment register (6 and 7 are #UD)
    RF_RCR = 1 << 11,   // r numbers a control or debug register (REX.R extends); m is a GPR whatever mod says, width by mode
    RF_TERM = 1 << 12,  // ends the block
    RF_LOCK = 1 << 13,  // LOCK allowed when the destination (rm) is memory
    RF_I64 = 1 << 14,   // #UD in 64-bit mode
    RF_O64 = 1 << 15,   // #UD outside 64-bit mode
    RF_CPL0 = 1 << 16,  // #GP(0) if CPL > 0
    RF_PROT = 1 << 17,  // #UD in real and virtual-8086 mode
    RF_FPU = 1 << 18,   // x87: #NM by CR0.EM/TS
    RF_WAIT = 1 << 19,  // waits for pending x87 exceptions (#MF)
    RF_MMX = 1 << 20,   // #UD by CR0.EM, #NM by TS, #MF pending
    RF_SSE = 1 << 21,   // #UD by CR0.EM or CR4.OSFXSR=0, #NM by TS
    RF_REP = 1 << 22,   // F2/F3 are repeat prefixes
    RF_CC = 1 << 23,    // 16 opcodes: the low four bits are a condition
    RF_READS = 1 << 24, // reads arithmetic flags
    RF_WRITES = 1 << 25, // writes (or leaves undefined) all six arithmetic flags
    RF_REL = 1 << 26,   // immediate is relative to the next instruction
    RF_ALIGN16 = 1 << 27, // memory operand must be 16-byte aligned (#GP)
    RF_MEMONLY = 1 << 28, RF_REGONLY = 1 << 29, // #UD on the other
    RF_PURE = 1 << 30,  // cannot fault, exit or look at the clock in its register form
    RF_XM = 1u << 31,   // may raise #XM: the loop body runs it while MODE_FPUNMASK
};

enum { PFX_ANY, PFX_NONE, PFX_66, PFX_F3, PFX_F2, PFX_NONE_OR_66 /* not F2/F3 */ };
enum { MAP_1, MAP_0F, MAP_0F38, MAP_0F3A };
#define REG_ANY 0xFF // ModRM.reg: digit 0-7 or any; 0x40|rm with digit in bits 5:3: one exact ModRM of mod 3 (0F 01 C1 ...)
#define REG_MODRM(modrm) (0x100 | (modrm))
enum { MOD_ANY, MOD_MEM, MOD_REG };

struct emitter; // cpu/jit/, which does not exist yet

struct body { // what executes a row: the loop body by width, and the tail-threaded wrappers by width and form
    exec_fn *loop[4];
    exec_fn *fast[2][4][4]; // [flags dead][width][FORM_REG..FORM_S]; NULL: exec_slow
    // The JIT's seam: writes host code for the instruction, or is NULL: the code then calls the body.
    bool (*emit)(struct emitter *e, const struct insn *in);
};

struct row {
    const char *name;   // mnemonic, lower case
    const char *operands; // opcode-map notation, for people: "Ev,Gv"
    u8 map, opcode, pfx, mod;
    u16 reg;
    u8 feature;   // enum feature (cpu/cpuid.h); 0: always
    u8 intercept; // enum intercept (vmx/intercept.h); 0: none
    u32 flags;    // RF_*
    u8 undefined; // arithmetic flags left undefined, as FL_* bits 7:0; bit 1 stands for OF
    const struct body *body;
};

extern const struct row rows[];
extern const unsigned rows_n;

struct block {
    paddr pa;        // of the first byte
    u32 mode;
    s32 n_check;     // n, or INT32_MAX when the block has been dropped
    u16 n;           // instructions
    u16 bytes;
    u32 crosses;     // its single instruction goes on at pa2, in another page
    paddr pa2;
    struct block *hash_next, *page_next;
    struct insn in[];
};

// ---- continuing (cpu/exec.c, cpu/block.c) ----
void exec_slow(struct vcpu *v, const struct insn *in); // run the loop body out of line, then go on
exec_fn exec_goto; // s.rip is set (the instruction does not matter): find the block and go on, or return to the run loop
static inline u64 insn_rip(const struct vcpu *v, const struct insn *in) { return v->s.rip + in->off; }
static inline const struct block *insn_block(const struct insn *in)
{
    return (const struct block *)((const u8 *)(in - in->idx) - offsetof(struct block, in));
}

#endif
