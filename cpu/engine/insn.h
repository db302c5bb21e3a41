// One decoded instruction, and the row of the table that it came from.
#ifndef CPU_INSN_H
#define CPU_INSN_H

#include "cpu/state/vcpu.h"

typedef void exec_fn(struct vcpu *v, const struct insn *in);
typedef bool call_fn(struct vcpu *v, const struct insn *in);

enum { W8, W16, W32, W64 }; // operand widths (osz, asz; asz is never W8)
#define W_BYTES(w) (1u << (w))
// clang-format off
enum { FORM_REG, FORM_B, FORM_X, FORM_S }; // register; base+disp; base+index*s+disp; the same with mask and segment base

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
    union {
        u8 op; // opcode byte (low bits name registers, conditions)
        u8 v;  // VEX.vvvv operand, as `r`: a row with VEX needs no opcode (nor an operand size, if VEX.L
               // counts: osz is W32 for 128 bits, W64 for 256)
    };
    s32 disp;  // RIP-relative: already relative to the block's start, base GPR_RIP_OFF. Relative branches: target, likewise
    union {
        u64 imm; // sign-extended to 64 bits as the instruction uses it
        struct { u32 imm1, imm2; }; // ENTER, far pointers (offset, selector)
    };
};
// clang-format on
_Static_assert(sizeof(struct insn) == 32, "two to a cache line");

// ---- operands, in the notation of the manual's opcode maps (SDM volume 2, A.2) ----
// A code of an operand: its kind (where it comes from), its size, and what the instruction does with it.
typedef u16 operand_code;
// clang-format off
enum operand_kind {
    KIND_NONE,
    // general registers: ModRM.reg, ModRM.rm or memory, ModRM.rm only, the opcode's low three bits
    KIND_G, KIND_E, KIND_R, KIND_Z,
    // SSE registers: ModRM.reg, ModRM.rm or memory, ModRM.rm only
    KIND_V, KIND_W, KIND_U,
    // MMX registers: ModRM.reg, ModRM.rm or memory, ModRM.rm only
    KIND_P, KIND_Q, KIND_N,
    KIND_M,                 // memory only, by ModRM
    KIND_S, KIND_C, KIND_D, // ModRM.reg names a segment, control or debug register
    KIND_STI,               // ModRM.rm names a register of the x87 stack
    KIND_I, KIND_J,         // immediate; immediate relative to the next instruction
    KIND_A, KIND_O,         // far pointer, memory offset in the instruction
    KIND_X, KIND_Y,         // memory at DS:rSI, ES:rDI
    KIND_F,                 // FLAGS
    KIND_REG,               // a register that the opcode implies
    KIND_PORT,              // DX as the number of a port
    KIND_B,                 // VEX.vvvv names a general register
    KIND_H, KIND_L,         // VEX.vvvv, the immediate's high half name an SSE register
};
enum operand_size {
    SIZE_NONE,
    SIZE_B, SIZE_W, SIZE_D, SIZE_Q, // 1, 2, 4, 8 bytes
    SIZE_V, SIZE_Z, // operand size; the same but 4 for 8
    SIZE_Y,         // 4, or 8 with REX.W
    SIZE_DQ, SIZE_X, // 16; the vector's length (16 without VEX; other sizes of a vector are those of VEX.L = 0)
    SIZE_T, SIZE_P, SIZE_A, SIZE_S, // 80 bits; far pointer; two of operand size; pseudo-descriptor
    SIZE_D_OR_B, SIZE_D_OR_W,       // 4 in a register, 1 or 2 in memory
};
// clang-format on
#define OPERAND_CODE(kind, size) ((kind) << 5 | (size))
enum { OPERAND_READ = 0, OPERAND_WRITTEN = 1 << 10, OPERAND_MODIFIED = 1 << 11, OPERANDS_MAX = 4 };
static inline enum operand_kind operand_kind(operand_code o) { return (enum operand_kind)(o >> 5 & 31); }
static inline enum operand_size operand_size(operand_code o) { return (enum operand_size)(o & 31); }

// Opcode maps, mandatory prefixes. NONE: no 66h, F2h or F3h. NO_REP: no F2h or F3h.
enum { MAP_1, MAP_0F, MAP_0F38, MAP_0F3A };
enum { PFX_ANY, PFX_NONE, PFX_66, PFX_F3, PFX_F2, PFX_NO_REP };
// What the row asks of ModRM beside its operands: a digit in its reg field, or the whole byte.
enum { MODRM_ANY, MODRM_DIGIT = 0x100, MODRM_EXACT = 0x200 };

// The state that an instruction works on, which CR0.EM, CR0.TS and CR4.OSFXSR guard.
enum {
    UNIT_X87 = 1,       // #NM by EM or TS
    UNIT_X87_WAITS = 2, // the same, and it waits for a pending exception (#MF)
    UNIT_MMX = 4,       // #UD by EM, #NM by TS, #MF pending
    UNIT_SSE = 8,       // #UD by EM or OSFXSR=0, #NM by TS
    UNIT_AVX = 16,      // #UD by OSXSAVE=0 or XCR0, #NM by TS
};

struct emitter; // of a translator, which does not exist yet; tests/test_cpu_seam.c has one by hand

// What executes a row: one body in three forms.
struct body {
    exec_fn *checked[4];    // checked, by width: may raise
    exec_fn *fast[2][4][4]; // tail-threaded: [flags dead][width][FORM_REG..FORM_S]; NULL: exec_slow
    // Callable, by width and form, for emitted code: false if it cannot go on; then nothing has happened, and
    // the checked form (exec_checked) is to be run. Never raises. decode_callable says which one an
    // instruction has.
    call_fn *call[4][4];
    // The JIT's seam: writes host code for the instruction, or is NULL: the code then calls the body.
    bool (*emit)(struct emitter *e, const struct insn *in);
};

struct row {
    const char *name; // mnemonic, lower case
    // as the manual lists them; the first that is no operand ends the list
    operand_code operand[OPERANDS_MAX];
    u8 map, prefix, opcode;
    u16 modrm;  // MODRM_*
    u8 feature; // enum feature (cpu/system/cpuid.h); 0: always
    u8 wide;    // with VEX.L = 1 this one instead, unless 0
    // VMX non-root operation (vmx/intercept.h): the control without which the instruction is #UD (1 + enum
    // vmx_control_id, or 0); the exit's reason, on what condition and at which stage it is taken, and the
    // control that the condition names.
    u8 needs, exit_reason, exit_when, exit_stage, exit_control;
    u8 guard; // enum guard_kind
    u8 unit;  // UNIT_*
    // Arithmetic flags, as FL_* bits: read; always stored; stored or not by the operands' values (a shift by
    // 0, a REP of 0); and those whose value afterwards the manual leaves open.
    u16 reads, writes, changes, undefined;
    // 64-bit mode, the manual's superscripts: invalid in it, only in it, operand size 64 by default, or
    // whatever the prefixes say.
    u8 i64 : 1, o64 : 1, d64 : 1, f64 : 1;
    u8 register_form : 1; // ModRM names a register though no operand says so: #UD with memory
    u8 vex : 1; // its encoding is VEX: none without protected mode. What L and W must be is Zydis's to say,
                // but where they tell rows apart
    u8 l : 2, w : 2; // only with VEX.L, VEX.W of this value less 1; 0: any
    u8 lig : 1;      // VEX.L is ignored
    u8 vsib : 1;     // the index of its memory operand is an SSE register
    // its memory operand of 16 bytes need not be aligned, with VEX one of any size (no #AC); with VEX: must
    // be, on its size
    u8 unaligned : 1, aligned : 1;
    u8 conditions : 1;     // 16 opcodes: the low four bits are a condition
    u8 repeats : 1;        // F2h and F3h are repeat prefixes
    u8 lockable : 1;       // LOCK is allowed when the destination is memory
    u8 cpl0 : 1;           // #GP(0) if CPL > 0
    u8 protected_mode : 1; // #UD in real and virtual-8086 mode
    u8 ends_block : 1;     // the mode, the translation or RIP may be another after it
    u8 pure : 1;           // cannot fault, exit or look at the clock in its register form
    u8 xm : 1;             // may raise #XM: the checked body runs it while MODE_FPUNMASK
    const struct body *body;
};

// What an instruction is refused for by its mode beyond CPL 0: asked before its privilege check, its exit and
// its operands.
// clang-format off
enum guard_kind {
    GUARD_NONE,
    GUARD_CR, GUARD_DR,                         // a register number that there is
    GUARD_OSXSAVE, GUARD_FSGSBASE, GUARD_PKE,   // #UD unless the bit of CR4 is 1
    GUARD_MONITOR,                              // #UD above CPL 0, and when IA32_MISC_ENABLE has MONITOR off
    GUARD_NOT_COMPATIBILITY,                    // #UD in compatibility mode
    GUARD_TSD, GUARD_PCE, GUARD_UMIP,           // #GP(0) above CPL 0 by the bit of CR4
};
// clang-format on
enum verdict { VERDICT_PASS, VERDICT_UD, VERDICT_GP0 };
// reg: ModRM.reg with REX.R (cpu/engine/guard.c)
enum verdict row_guard(const struct row *r, u32 mode, unsigned reg);
// XCHG with memory locks without the prefix.
static inline bool insn_is_xchg(const struct insn *in, const struct row *r)
{
    return r->map == MAP_1 && (in->op | 1) == 0x87;
}
// the guard asks in non-root operation
static inline bool row_intercepted(const struct row *r) { return r->needs | r->exit_when; }

// clang-format off
enum { ROW_UD, ROW_NM, ROW_GP0, ROW_FIXED }; // the first rows are faults, which decoding chooses and no opcode is looked up in
// clang-format on
extern const struct row rows[];
extern const unsigned rows_n;

// ---- what follows from a row's operands ----
bool row_has(const struct row *r, u32 kinds); // an operand of one of the kinds (bits 1 << KIND_*)
// its operand size is 8 bits: the first operand that is no immediate is a byte
bool row_is_byte(const struct row *r);
bool row_aligned(const struct row *r); // its memory operand must be aligned on its size (of a vector): #GP
enum row_mod { MOD_ANY, MOD_MEM, MOD_REG };
enum row_mod row_mod(const struct row *r); // whether ModRM may name memory, a register, or both
const char *row_operands(const struct row *r, char *buf, size_t n); // "Ev,Gv", in buf
// how many opcodes it covers: 1, 8 (register in the opcode) or 16 (condition)
unsigned row_span(const struct row *r);
static inline bool row_matches_modrm(const struct row *r, u8 modrm)
{
    if (r->modrm & MODRM_EXACT) return modrm == (u8)r->modrm;
    return !(r->modrm & MODRM_DIGIT) || (modrm >> 3 & 7) == (r->modrm & 7);
}
static inline unsigned row_digit(const struct row *r)
{
    return r->modrm & MODRM_EXACT ? r->modrm >> 3 & 7 : r->modrm & 7;
}

#define BLOCK_DROPPED INT32_MAX // more than any slice's budget: nothing enters the block any more
struct block {
    paddr pa; // of the first byte
    u32 mode;
    s32 n_check; // n, or BLOCK_DROPPED
    u16 n;       // instructions
    u16 bytes;
    u32 crosses; // its single instruction goes on at pa2, in another page
    paddr pa2;
    struct block *hash_next, *page_next;
    _Alignas(32) struct insn in[]; // none lies in two lines of the host's cache
};

// ---- continuing (cpu/engine/exec.c, cpu/engine/block.c) ----
RAISES void exec_slow(struct vcpu *v, const struct insn *in); // run the checked body out of line, then go on
// s.rip is set (the instruction does not matter): find the block and go on, or return to the run loop
exec_fn exec_goto;
static inline u64 insn_rip(const struct vcpu *v, const struct insn *in) { return v->s.rip + in->off; }
static inline const struct block *insn_block(const struct insn *in)
{
    return (const struct block *)((const u8 *)(in - in->idx) - offsetof(struct block, in));
}

#endif
