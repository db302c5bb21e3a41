// The silicon test: the same bytes with the same inputs run natively on the host and in Matryoshka; every output is compared.
//
// Both sides see code and data at the same linear addresses. A test is a short run of code that ends in INT3; what stops
// it is an exception in either world, with its vector, error code and address.
#ifndef TESTS_SILICON_H
#define TESTS_SILICON_H

#include "cpu/insn.h"
#include "mmu/types.h"

#define CODE_BASE  0x10000000ull
#define CODE_SIZE  0x2000ull // two pages, nothing behind them
#define DATA_BASE  0x20000000ull
#define DATA_SIZE  0x2000ull // two pages between guards

// 16-bit code: CS covers the code page, DS, ES and SS the data; addresses below are offsets in them.
static inline u64 code_linear(u8 bits, u64 rip)
{
    return bits == 16 ? CODE_BASE + rip : rip;
}

// How many of n bytes at a linear address of the code are still in its pages.
static inline unsigned code_room(u64 linear, unsigned n)
{
    u64 left = CODE_BASE + CODE_SIZE - linear;
    return left < n ? (unsigned)left : n;
}

struct side_state { // what goes in and comes out, x87 in stack order
    u64 gpr[16], rip, rflags;
    u64 xmm[16][2];
    u32 mxcsr;
    u16 fcw, fsw;
    u8 tags; // abridged: a bit a physical register
    u8 st[8][10];
    u8 bits; // of the code: 64; in compatibility mode 32 (flat), or 16 (code and data have segments of their own)
    bool supervisor; // guest only: at CPL 0
};

struct outcome {
    struct side_state s;
    u32 vector, error;
    u64 cr2;
};

struct rng {
    u64 x;
};
u64 rng_next(struct rng *r);
static inline u64 rng_below(struct rng *r, u64 n)
{
    return rng_next(r) % n;
}
static inline bool rng_one_in(struct rng *r, unsigned n)
{
    return rng_below(r, n) == 0;
}

// ---- native.c ----
bool native_init(const char **why); // false: not possible on this host
bool native_has_16bit(void);      // whether the kernel gives 16-bit segments
extern const bool native_possible;
void native_run(const u8 *code, unsigned n, const struct side_state *in, struct outcome *out);
u8 *native_data(void);

// ---- guest.c ----
struct guest;
struct guest *guest_new(bool loop_engine);
void guest_free(struct guest *g);
void guest_run(struct guest *g, const u8 *code, unsigned n, const struct side_state *in, struct outcome *out);
struct vcpu *guest_vcpu(struct guest *g); // control registers keep what is written there: cpu_mode_changed comes with each run
u8 *guest_data(struct guest *g); // the data pages; guest_data_changed after writing them
void guest_data_changed(struct guest *g);

// ---- encode.c ----
// Whether a row can be run as it is in user mode on both sides with the same meaning.
bool encode_eligible(const struct row *r, unsigned bits);
// A random encoding of the row and inputs that go with it. Returns its length, 0 if this choice cannot be encoded.
// *operand: the address of its memory operand, or 0.
unsigned encode_random(const struct row *r, unsigned bits, struct rng *g, u8 *code, struct side_state *in, u64 *undefined_flags,
                       u64 *operand);
void encode_prepare_area(const struct row *r, struct rng *g, u8 *area); // for FXRSTOR and XRSTOR
// A run of such instructions with branches among them. Undefined flags: at its end in the low half, on the way in the high half.
unsigned encode_sequence(struct rng *g, unsigned bits, u8 *code, unsigned room, struct side_state *in, u64 *undefined_flags);
bool encode_operand16(const u8 *code, unsigned n, unsigned bits); // the operand size of the first instruction, by its prefixes
void inputs_random(struct rng *g, unsigned bits, struct side_state *in);

#endif
