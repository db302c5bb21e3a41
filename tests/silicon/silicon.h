// The silicon test: the same bytes with the same inputs run natively on the host and in Matryoshka; every
// output is compared.
//
// Both sides see code and data at the same linear addresses. A test is a short run of code that ends in INT3;
// what stops it is an exception in either world, with its vector, error code and address.
#ifndef TESTS_SILICON_H
#define TESTS_SILICON_H

#include <stddef.h>

#include "cpu/system/cpuid.h"
#include "cpu/engine/insn.h"
#include "mmu/types.h"

#define CODE_BASE 0x10000000ull
#define CODE_SIZE 0x2000ull // two pages, nothing behind them
#define DATA_BASE 0x20000000ull
#define DATA_SIZE 0x2000ull // two pages between guards

// 16-bit code: CS covers the code page, DS, ES and SS the data; addresses below are offsets in them.
static inline u64 code_linear(u8 bits, u64 rip) { return bits == 16 ? CODE_BASE + rip : rip; }

// How many of n bytes at a linear address of the code are still in its pages.
static inline unsigned code_room(u64 linear, unsigned n)
{
    u64 left = CODE_BASE + CODE_SIZE - linear;
    return left < n ? (unsigned)left : n;
}

struct side_state { // what goes in and comes out, x87 in stack order
    u64 gpr[16], rip, rflags;
    u64 xmm[16][2], ymm_high[16][2];
    u32 mxcsr;
    u16 fcw, fsw;
    u8 tags; // abridged: a bit a physical register
    u8 st[8][10];
    // of the code: 64; in compatibility mode 32 (flat), or 16 (code and data have segments of their own)
    u8 bits;
    bool supervisor; // guest only: at CPL 0
};

enum { X87_POINTERS = 1, X87_DATA_POINTER = 2 };
struct outcome {
    struct side_state s;
    u32 vector, error;
    u64 cr2;
    // x87: opcode of the last instruction, and where it and its operand are: only what live Intel silicon of
    // 57 linear address bits says (POINTERS, and DATA_POINTER unless it keeps that for exceptions)
    u32 x87_known;
    u16 fop;
    u64 fip, fdp;
};

struct input_pool { // of which inputs are taken when they are to be recorded
    struct side_state *states;
    u8 (*pages)[DATA_SIZE];
    unsigned states_n, pages_n;
    unsigned state, page; // the last ones taken
};

struct rng {
    u64 x;
    struct input_pool *pool; // NULL: inputs are made
};

struct row_set { // the rows of a sequence
    const struct row *row[24];
    unsigned n;
};

struct test {
    const struct row *row; // NULL: a sequence, or unknown
    bool unknown;          // of a recording: there is no such row
    u8 code[160];
    unsigned n;
    struct side_state in;
    u64 undefined, operand;
    struct row_set used;
    u8 data[DATA_SIZE]; // before
};
u64 rng_next(struct rng *r);
static inline u64 rng_below(struct rng *r, u64 n) { return rng_next(r) % n; }
static inline bool rng_one_in(struct rng *r, unsigned n) { return rng_below(r, n) == 0; }

// ---- compare.c: what differs between two outcomes ----
// clang-format off
enum { D_VECTOR = 1, D_ERROR = 2, D_CR2 = 4, D_RIP = 8, D_FLAGS = 0x10, D_GPR = 0x20, D_XMM = 0x40, D_MXCSR = 0x80, D_FCW = 0x100,
       D_FSW = 0x200, D_TAGS = 0x400, D_ST = 0x800, D_DATA = 0x1000, D_YMM = 0x2000 };
// clang-format on
bool compare_state_area(const struct row *r); // FXSAVE, XSAVE and theirs
u32 compare(const struct test *t, const struct outcome *host, const struct outcome *ours, const u8 *host_data,
            const u8 *our_data,
            bool say); // say: print what differs

// ---- native.c ----
bool native_init(const char **why); // false: not possible on this host
bool native_has(unsigned bits);     // whether the kernel lets us run code of so many bits
bool native_has_ymm(void);          // whether the host has YMM registers
extern const bool native_possible;
struct recording_cpu;
void native_cpu(struct recording_cpu *cpu); // zero if the host is not x86-64
void native_run(const u8 *code, unsigned n, const struct side_state *in, struct outcome *out);
u8 *native_data(void);

// ---- guest.c ----
struct guest;
struct guest *guest_new(bool loop_engine);
struct guest *guest_new_cpu(bool loop_engine, const struct cpu_features *f);
void guest_free(struct guest *g);
void guest_run(struct guest *g, const u8 *code, unsigned n, const struct side_state *in, struct outcome *out);
// control registers keep what is written there: cpu_mode_changed comes with each run
struct vcpu *guest_vcpu(struct guest *g);
u8 *guest_data(struct guest *g); // the data pages; guest_data_changed after writing them
void guest_data_changed(struct guest *g);

// ---- held.c ----
struct row_held {
    const char *name, *operands, *why, *by; // `by`: the test's source, from the project's root
};
extern const struct row_held rows_held[];
extern const unsigned rows_held_n;
const struct row_held *row_held(const struct row *r); // NULL: the silicon test draws it
// Prints what holds each row. 1 if nothing holds one, or a line of the table is of no use.
int rows_list(const char *ran);

// ---- encode.c ----
// Whether a row can be run as it is in user mode on both sides with the same meaning.
bool encode_drawn(const struct row *r, unsigned bits);
bool encode_eligible(const struct row *r, unsigned bits); // and the host has its feature
// A random encoding of the row and inputs that go with it. Returns its length, 0 if this choice cannot be
// encoded. *operand: the address of its memory operand, or 0.
unsigned encode_random(const struct row *r, unsigned bits, struct rng *g, u8 *code, struct side_state *in,
                       u64 *undefined_flags, u64 *operand);
void encode_prepare_area(const struct row *r, struct rng *g, u8 *area); // for FXRSTOR and XRSTOR
// A run of such instructions with branches among them. Undefined flags: at its end in the low half, on the
// way in the high half.
unsigned encode_sequence(struct rng *g, unsigned bits, u8 *code, unsigned room, struct side_state *in,
                         u64 *undefined_flags, struct row_set *used);
// and the mnemonic; 0: no instruction
unsigned encode_length(const u8 *code, unsigned n, unsigned bits, char *name, size_t room);
// the operand size of the first instruction, by its prefixes
bool encode_operand16(const u8 *code, unsigned n, unsigned bits);
void inputs_random(struct rng *g, unsigned bits, struct side_state *in);
void inputs_data(struct rng *g, u8 *data); // of DATA_SIZE

#endif
