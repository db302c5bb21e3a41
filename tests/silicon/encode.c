// From a row of the instruction table to bytes and to inputs that make sense for them.
//
// Zydis parses each candidate, for its length and for whether there is a ModRM byte; what the bytes do is for
// the silicon to say.
#include <string.h>

#include <Zydis/Zydis.h>

#include "cpu/system/cpuid.h"
#include "cpu/engine/fp.h"
#include "tests/encode_vex.h"
#include "tests/silicon/silicon.h"

u64 rng_next(struct rng *r) // xorshift64*
{
    r->x ^= r->x >> 12;
    r->x ^= r->x << 25;
    r->x ^= r->x >> 27;
    return r->x * 0x2545F4914F6CDD1Dull;
}

// ---- which rows ----
static bool one_of(const char *name, const char *const *list)
{
    for (; *list; list++) {
        size_t n = strlen(*list);
        bool prefix = n && (*list)[n - 1] == '*';
        if (prefix ? !strncmp(name, *list, n - 1) : !strcmp(name, *list)) return true;
    }
    return false;
}

bool encode_drawn(const struct row *r, unsigned bits)
{
    if (r == &rows[ROW_NM] || r == &rows[ROW_GP0]) return false;
    return !row_held(r) && !(bits == 64 ? r->i64 : r->o64);
}

bool encode_eligible(const struct row *r, unsigned bits)
{
    if (!encode_drawn(r, bits)) return false;
    if (native_possible && r->feature && !cpuid_host((enum feature)r->feature)) return false;
    return !(r->unit & UNIT_AVX) || native_has_ymm();
}

// ---- values ----
static u64 value(struct rng *g)
{
    // clang-format off
    static const u64 edge[] = {0, 1, 2, ~0ull, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF,
                               0x7FFFFFFFFFFFFFFF, 0x8000000000000000, 0x100000000};
    // clang-format on
    switch (rng_below(g, 6)) {
    case 0: return edge[rng_below(g, ARRAY_LEN(edge))];
    case 1: return rng_below(g, 256);
    case 2: return (u64) - (s64)rng_below(g, 256);
    case 3: return (u32)rng_next(g);
    default: return rng_next(g);
    }
}

static u64 float64(struct rng *g)
{
    // clang-format off
    static const u64 edge[] = {0, 1ull << 63, 0x3FF0000000000000, 0xBFF0000000000000, 0x7FF0000000000000, 0xFFF0000000000000,
                               0x7FF8000000000000, 0x7FF0000000000001, 0xFFF8000000000123, 1, 0x000FFFFFFFFFFFFF,
                               0x0010000000000000, 0x7FEFFFFFFFFFFFFF, 0x43E0000000000000, 0x41DFFFFFFFC00000,
                               0x3FE0000000000000, 0x4000000000000000};
    // clang-format on
    if (rng_one_in(g, 2)) return edge[rng_below(g, ARRAY_LEN(edge))];
    return (rng_next(g) & 0x800FFFFFFFFFFFFF) | (u64)(1023 - 40 + rng_below(g, 80)) << 52;
}
static u32 float32(struct rng *g)
{
    static const u32 edge[] = {0,          0x80000000, 0x3F800000, 0xBF800000, 0x7F800000, 0xFF800000,
                               0x7FC00000, 0x7F800001, 0xFFC00123, 1,          0x007FFFFF, 0x00800000,
                               0x7F7FFFFF, 0x4F000000, 0x5F000000, 0x3F000000};
    if (rng_one_in(g, 2)) return edge[rng_below(g, ARRAY_LEN(edge))];
    return ((u32)rng_next(g) & 0x807FFFFF) | (u32)(127 - 30 + rng_below(g, 60)) << 23;
}
static void vector(struct rng *g, u64 x[2])
{
    for (unsigned i = 0; i < 2; i++) {
        switch (rng_below(g, 4)) {
        case 0: x[i] = float64(g); break;
        case 1: x[i] = float32(g) | (u64)float32(g) << 32; break;
        case 2: x[i] = value(g); break;
        default: x[i] = rng_next(g); break;
        }
    }
}
static void extended(struct rng *g, u8 st[10])
{
    u64 m;
    u16 se = (u16)((rng_next(g) & 0x8000) | (16383 - 40 + rng_below(g, 80)));
    m = rng_next(g) | 1ull << 63;
    switch (rng_below(g, 18)) {
    case 0: se &= 0x8000, m = 0; break;
    case 1: se |= 0x7FFF, m = 1ull << 63; break;
    case 2: se |= 0x7FFF, m |= 1ull << 62; break;
    case 3: se |= 0x7FFF, m &= ~(1ull << 62); break;
    case 4: se &= 0x8000, m &= ~(1ull << 63); break; // denormal
    case 5: m &= ~(1ull << 63); break;               // unnormal: unsupported
    case 6: m &= 0xFFFF000000000000; break;
    case 7: se = 0xFFFF; break;                      // as after MMX
    case 8: se &= 0x8000; break;                     // pseudo-denormal
    case 9: se |= 0x7FFF, m &= ~(1ull << 63); break; // pseudo-NaN: unsupported
    case 10: se |= 0x7FFF, m = 0; break;             // pseudo-infinity: unsupported
    case 11:                                         // about the largest and the smallest of each precision
    case 12: {
        static const u16 edge[] = {0,
                                   64,
                                   16383 - 16383 / 2,
                                   16383 - 1022 - 52,
                                   16383 - 1022,
                                   16383 - 126 - 23,
                                   16383 - 126,
                                   16383 + 15,
                                   16383 + 31,
                                   16383 + 63,
                                   16383 + 127,
                                   16383 + 1023,
                                   16383 + 16383 / 2,
                                   0x7FFE - 2};
        se = (u16)((se & 0x8000) | (edge[rng_below(g, ARRAY_LEN(edge))] + rng_below(g, 3)));
        break;
    }
    }
    memcpy(st, &m, 8);
    memcpy(st + 8, &se, 2);
}

void inputs_random(struct rng *g, unsigned bits, struct side_state *in)
{
    if (g->pool) {
        g->pool->state = (unsigned)rng_below(g, g->pool->states_n);
        *in = g->pool->states[g->pool->state];
        in->bits = (u8)bits;
        for (unsigned i = 0; i < 16 && bits != 64; i++) in->gpr[i] = (u32)in->gpr[i];
        return;
    }
    memset(in, 0, sizeof *in);
    in->bits = (u8)bits;
    for (unsigned i = 0; i < 16; i++) in->gpr[i] = bits == 64 ? value(g) : (u32)value(g);
    for (unsigned i = 0; i < 16; i++) vector(g, in->xmm[i]);
    for (unsigned i = 0; i < 16 && native_has_ymm(); i++) vector(g, in->ymm_high[i]);
    in->rflags = 0x202 | (rng_next(g) & (FL_ARITH)) | (rng_one_in(g, 4) ? FL_DF : 0);
    if (rng_one_in(g, 12)) in->rflags |= FL_AC;
    in->mxcsr = 0x1F80 | (u32)(rng_next(g) & 0x603F);
    if (rng_one_in(g, 4)) in->mxcsr |= MXCSR_DAZ;
    if (rng_one_in(g, 4)) in->mxcsr |= MXCSR_FTZ;
    if (rng_one_in(g, 5)) in->mxcsr &= ~((u32)rng_next(g) & 0x1F80);
    in->fcw = (u16)(0x7F | (rng_next(g) & 0x0C00) | (rng_below(g, 4) == 1 ? 0x300 : (rng_next(g) & 0x300)));
    if (rng_one_in(g, 4)) in->fcw &= (u16) ~(rng_next(g) & 0x3F);
    in->fsw = (u16)(rng_next(g) & 0x7F7F);
    if (!rng_one_in(g, 16)) in->fsw &= (u16) ~(0x3F & ~in->fcw); // mostly no pending exception
    if (in->fsw & 0x3F & ~in->fcw) in->fsw |= 0x8080;
    in->tags = rng_one_in(g, 3) ? (u8)rng_next(g) : 0xFF;
    for (unsigned i = 0; i < 8; i++) extended(g, in->st[i]);
}

void inputs_data(struct rng *g, u8 *d)
{
    if (g->pool) {
        g->pool->page = (unsigned)rng_below(g, g->pool->pages_n);
        memcpy(d, g->pool->pages[g->pool->page], DATA_SIZE);
        return;
    }
    struct side_state s;
    inputs_random(g, 64, &s);
    for (u64 i = 0; i < DATA_SIZE; i += 8) {
        u64 x = rng_below(g, 4) ? rng_next(g) : s.xmm[rng_below(g, 16)][rng_below(g, 2)];
        memcpy(d + i, &x, 8);
    }
}

// ---- addresses ----
// A data address: mostly well inside, sometimes at an edge or across the pages' border, sometimes aligned.
static u64 linear_address(struct rng *g)
{
    switch (rng_below(g, 16)) {
    case 0: return DATA_BASE + DATA_SIZE - rng_below(g, 40); // may run into the guard
    case 1: return DATA_BASE - 8 + rng_below(g, 16);         // may begin in the other guard
    case 2: return DATA_BASE + PAGE_SIZE - rng_below(g, 40); // across the border
    case 3:
    case 4:
    case 5:
    case 6: return DATA_BASE + 256 + rng_below(g, DATA_SIZE - 1024);
    default: return DATA_BASE + 256 + (rng_below(g, DATA_SIZE - 1024) & ~63ull);
    }
}

static u64 data_base(unsigned bits)
{
    return bits == 16 ? DATA_BASE : 0; // of the segments
}
static u64 address(struct rng *g, unsigned bits) { return linear_address(g) - data_base(bits); }

struct modrm { // a memory operand to be
    u8 bytes[6];
    unsigned n;
    bool rip_relative;
};

// The 16-bit forms.
static void memory_form16(struct rng *g, struct modrm *m, unsigned reg, struct side_state *in, u64 target,
                          u32 pinned, bool no_registers)
{
    static const u8 base[8] = {RBX, RBX, RBP, RBP, RSI, RDI, RBP, RBX},
                    index[8] = {RSI, RDI, RSI, RDI, 16, 16, 16, 16};
    unsigned rm = (unsigned)rng_below(g, 8), mod = (unsigned)rng_below(g, 3);
    u16 disp = (u16)target;
    memset(m, 0, sizeof *m);
    if (no_registers || (pinned >> base[rm] & 1)) rm = 6, mod = 0;
    if (mod != 0 || rm != 6) {
        disp = mod == 0 ? 0 : mod == 1 ? (u16)(s8)rng_next(g) : (u16)rng_next(g);
        u16 offset = disp + (index[rm] < 16 ? (u16)in->gpr[index[rm]] : 0);
        in->gpr[base[rm]] = (in->gpr[base[rm]] & ~0xFFFFull) | (u16)(target - offset);
    }
    m->bytes[0] = (u8)(mod << 6 | reg << 3 | rm);
    memcpy(m->bytes + 1, &disp, 2);
    m->n = mod == 1 ? 2 : mod == 2 || rm == 6 ? 3 : 1;
}

// Chooses a form, and registers in `in` that make its address the target.
static void memory_form(struct rng *g, struct modrm *m, unsigned reg, u8 *rex, struct side_state *in,
                        u64 target, u32 pinned, bool no_registers)
{
    unsigned base, index, scale = (unsigned)rng_below(g, 4);
    s32 disp = 0;
    memset(m, 0, sizeof *m);
    unsigned registers = in->bits == 64 ? 16 : 8;
    // RIP-relative: the displacement is patched when the length is known
    if (rng_one_in(g, no_registers ? 2 : 8)) {
        m->bytes[0] = (u8)(reg << 3 | 5);
        m->n = 5;
        m->rip_relative = true;
        return;
    }
    if (no_registers || rng_one_in(g, 16)) { // absolute, by SIB
        m->bytes[0] = (u8)(reg << 3 | 4);
        m->bytes[1] = 0x25;
        disp = (s32)target;
        memcpy(m->bytes + 2, &disp, 4);
        m->n = 6;
        return;
    }
    do base = (unsigned)rng_below(g, registers);
    while (pinned >> base & 1);
    unsigned mod = (unsigned)rng_below(g, 3);
    if ((base & 7) == 5 && mod == 0) mod = 1;
    if (mod == 1) disp = (s8)rng_next(g);
    if (mod == 2) disp = (s32)rng_next(g) >> (rng_next(g) & 15);
    bool sib = (base & 7) == 4 || rng_one_in(g, 2);
    u64 offset = (u64)(s64)disp;
    index = 4;
    if (sib && !rng_one_in(g, 3)) {
        do index = (unsigned)rng_below(g, registers);
        while (index == base);
        if (index != 4) offset += in->gpr[index] << scale;
    }
    in->gpr[base] = target - offset;
    if (in->bits != 64) in->gpr[base] = (u32)in->gpr[base];
    if (base >= 8) *rex |= 0x41;
    if (index >= 8) *rex |= 0x42;
    m->bytes[m->n++] = (u8)(mod << 6 | reg << 3 | (sib ? 4 : base & 7));
    if (sib) m->bytes[m->n++] = (u8)(scale << 6 | (index & 7) << 3 | (base & 7));
    if (mod == 1) m->bytes[m->n++] = (u8)disp;
    if (mod == 2) {
        memcpy(m->bytes + m->n, &disp, 4);
        m->n += 4;
    }
}

// A base register, and an SSE register whose elements lead from it to data, mostly.
static void vsib_form(struct rng *g, const struct row *r, struct modrm *m, unsigned reg, u8 *rex,
                      struct side_state *in)
{
    unsigned registers = in->bits == 64 ? 16 : 8, base, index = (unsigned)rng_below(g, registers);
    unsigned scale = (unsigned)rng_below(g, 4);
    bool qwords = r->opcode & 1;
    memset(m, 0, sizeof *m);
    do base = (unsigned)rng_below(g, registers);
    while (base == RSP);
    s32 disp = (s8)rng_next(g);
    in->gpr[base] = linear_address(g) - data_base(in->bits) - (u64)(s64)disp;
    if (!rng_one_in(g, 3)) in->gpr[base] = DATA_BASE + DATA_SIZE / 2 - data_base(in->bits) - (u64)(s64)disp;
    if (in->bits != 64) in->gpr[base] = (u32)in->gpr[base];
    for (unsigned i = 0; i < 8; i++) {
        s64 x = ((s64)rng_below(g, DATA_SIZE) - (s64)DATA_SIZE / 2) >> scale;
        u64 *half = i < (qwords ? 2 : 4) ? in->xmm[index] : in->ymm_high[index];
        if (rng_one_in(g, 16))
            // no address; no page, and below 7FFF8000H, where AddressSanitizer has its own
            x = qwords ? 1ll << 50 : (s32)(rng_next(g) & 0x0FFFFFFF) >> scale;
        if (qwords && i < 4) half[i & 1] = (u64)x;
        if (!qwords) memcpy((u8 *)half + 4 * (i & 3), &x, 4);
    }
    if (base >= 8) *rex |= 0x41;
    if (index >= 8) *rex |= 0x42;
    m->bytes[0] = (u8)(0x40 | reg << 3 | 4);
    m->bytes[1] = (u8)(scale << 6 | (index & 7) << 3 | (base & 7));
    m->bytes[2] = (u8)disp;
    m->n = 3;
}

// Where the code begins: sometimes so that it runs across the border of its pages, or into the end of the
// second.
static u64 code_start(struct rng *g, unsigned bits)
{
    u64 base = bits == 16 ? 0 : CODE_BASE;
    switch (rng_below(g, 8)) {
    case 0: return base + PAGE_SIZE - rng_below(g, 32);
    case 1: return base + CODE_SIZE - 1 - rng_below(g, rng_one_in(g, 2) ? 16 : 64);
    default: return base + rng_below(g, 64) * 32;
    }
}

// ---- inputs that an instruction has outside its ModRM byte ----
static bool stack_row(const struct row *r)
{
    return !strncmp(r->name, "push", 4) || !strncmp(r->name, "pop", 3) || !strcmp(r->name, "enter") ||
           !strcmp(r->name, "leave");
}
static bool is(const struct row *r, const char *name) { return !strcmp(r->name, name); }

static unsigned area_alignment(const struct row *r) // of FXSAVE, XSAVE and theirs; 0: no such area
{
    if (!strncmp(r->name, "fx", 2) && r->map == MAP_0F) return 16;
    return !strncmp(r->name, "xsave", 5) || !strncmp(r->name, "xrstor", 6) ? 64 : 0;
}

// What a state area needs in order to be loaded, mostly.
void encode_prepare_area(const struct row *r, struct rng *g, u8 *area)
{
    u32 mxcsr = (u32)rng_next(g) & (rng_one_in(g, 12) ? 0x1FFFF : 0xFFFF);
    unsigned components = native_has_ymm() ? 8 : 4;
    u64 header[8] = {rng_below(g, components)};
    memcpy(area + 24, &mxcsr, 4);
    if (area_alignment(r) != 64) return;
    if (rng_one_in(g, 2)) header[1] = 1ull << 63 | header[0] | rng_below(g, components);
    if (rng_one_in(g, 12)) header[rng_below(g, 8)] |= 1ull << (rng_one_in(g, 2) ? 62 : rng_below(g, 2));
    memcpy(area + 512, header, sizeof header);
}

static u32 implicit_inputs(const struct row *r, struct rng *g, struct side_state *in)
{
    u32 pinned = 1u << RSP;
    in->gpr[RSP] = DATA_BASE - data_base(in->bits) + 1024 + (rng_below(g, DATA_SIZE - 2048) & ~7ull);
    if (stack_row(r) && rng_one_in(g, 8)) in->gpr[RSP] = address(g, in->bits);
    if (is(r, "leave") || is(r, "enter")) in->gpr[RBP] = address(g, in->bits), pinned |= 1u << RBP;
    if (is(r, "enter") && in->bits == 16) in->gpr[RBP] = (in->gpr[RBP] & 0xFFFF) | (rng_next(g) & 0xFFFF0000);
    bool by_rdi = !strncmp(r->name, "maskmov", 7) || is(r, "vmaskmovdqu");
    if (r->repeats || by_rdi) {
        in->gpr[RSI] = address(g, in->bits);
        in->gpr[RDI] = address(g, in->bits);
        if (!rng_one_in(g, 16)) in->gpr[RCX] = rng_below(g, 40);
        pinned |= 1u << RSI | 1u << RDI | 1u << RCX;
        if (rng_one_in(g, 4)) in->gpr[RDI] = in->gpr[RSI] + rng_below(g, 32); // overlapping
        // Whether bytes that are masked out can fault, and whether INS and OUTS of nothing check the port, is
        // the processor's choice.
        if (by_rdi) in->gpr[RDI] = DATA_BASE - data_base(in->bits) + rng_below(g, DATA_SIZE - 64);
        if ((is(r, "ins") || is(r, "outs")) && !(u32)in->gpr[RCX]) in->gpr[RCX] = 1;
    }
    if (is(r, "xlat") || is(r, "xlatb"))
        in->gpr[RBX] = DATA_BASE - data_base(in->bits) + 300, pinned |= 1u << RBX;
    if ((is(r, "div") || is(r, "idiv")) && !rng_one_in(g, 4))
        in->gpr[RDX] = is(r, "div") || rng_one_in(g, 2) ? rng_below(g, 3) : ~0ull;
    if (strstr(r->name, "pcmpestr") && !rng_one_in(g, 4))
        in->gpr[RAX] = rng_below(g, 20), in->gpr[RDX] = rng_below(g, 20);
    // #AC or #GP when misaligned: the processor's choice (SDM, FXSAVE)
    if (area_alignment(r)) in->rflags &= ~(u64)FL_AC;
    if (area_alignment(r) == 64) { // the components that both sides have
        in->gpr[RAX] = (rng_next(g) << 32) | rng_below(g, native_has_ymm() ? 8 : 4);
        in->gpr[RDX] = rng_next(g) << 32;
        pinned |= 1u << RAX | 1u << RDX;
        if (rng_one_in(g, 4)) memset(in->xmm, 0, sizeof in->xmm);
        if (rng_one_in(g, 4)) memset(in->ymm_high, 0, sizeof in->ymm_high);
        if (rng_one_in(g, 4)) in->mxcsr = MXCSR_RESET;
        if (rng_one_in(g, 4)) {
            memset(in->st, 0, sizeof in->st);
            in->fcw = 0x37F, in->fsw = 0, in->tags = 0;
        }
    }
    return pinned;
}

// Results that the manual leaves undefined beyond flags.
static bool undefined_result(const struct row *r, const u8 *code, const ZydisDecodedInstruction *z,
                             const struct side_state *in)
{
    bool word = z->operand_width == 16;
    if ((is(r, "shld") || is(r, "shrd")) && word) {
        unsigned count = row_has(r, 1 << KIND_REG) ? (unsigned)in->gpr[RCX] : code[z->length - 1];
        return (count & 31) > 16;
    }
    return is(r, "bswap") && word;
}

bool encode_operand16(const u8 *code, unsigned n, unsigned bits)
{
    static const u8 prefix[] = {0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65, 0x66, 0x67, 0xF0, 0xF2, 0xF3};
    bool p66 = false;
    unsigned i = 0;
    for (; i < n && memchr(prefix, code[i], sizeof prefix); i++) p66 |= code[i] == 0x66;
    if (bits == 64 && i < n && (code[i] & 0xF8) == 0x48) return false; // REX.W
    return p66 != (bits == 16);
}

static void decoder(ZydisDecoder *d, unsigned bits)
{
    if (bits == 16)
        ZydisDecoderInit(d, ZYDIS_MACHINE_MODE_LONG_COMPAT_16, ZYDIS_STACK_WIDTH_16);
    else if (bits == 32)
        ZydisDecoderInit(d, ZYDIS_MACHINE_MODE_LONG_COMPAT_32, ZYDIS_STACK_WIDTH_32);
    else
        ZydisDecoderInit(d, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
}

static ZyanStatus parse(const u8 *code, unsigned n, unsigned bits, ZydisDecodedInstruction *z)
{
    ZydisDecoder d;
    ZydisDecoderContext ctx;
    decoder(&d, bits);
    ZydisDecoderEnableMode(&d, ZYDIS_DECODER_MODE_LZCNT, ZYAN_FALSE);
    ZydisDecoderEnableMode(&d, ZYDIS_DECODER_MODE_TZCNT, ZYAN_FALSE);
    return ZydisDecoderDecodeInstruction(&d, &ctx, code, n, z);
}

unsigned encode_length(const u8 *code, unsigned n, unsigned bits, char *name, size_t room)
{
    ZydisDecodedInstruction z;
    if (!ZYAN_SUCCESS(parse(code, n, bits, &z))) return 0;
    const char *s = ZydisMnemonicGetString(z.mnemonic);
    size_t k = strlen(s) < room ? strlen(s) : room - 1;
    memcpy(name, s, k);
    name[k] = 0;
    return z.length;
}

// Names RSP among its visible operands, or writes RCX: not within a sequence that keeps its stack and its
// loop counter.
static bool disturbs(const u8 *code, unsigned n, unsigned bits, bool stack_only)
{
    ZydisDecoder d;
    ZydisDecodedInstruction z;
    ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
    decoder(&d, bits);
    if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&d, code, n, &z, op))) return true;
    for (unsigned i = 0; i < z.operand_count; i++) {
        if (op[i].type != ZYDIS_OPERAND_TYPE_REGISTER) continue;
        ZydisRegister full = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, op[i].reg.value);
        if (full == ZYDIS_REGISTER_RSP && op[i].visibility != ZYDIS_OPERAND_VISIBILITY_HIDDEN) return true;
        if (!stack_only && full == ZYDIS_REGISTER_RCX && (op[i].actions & ZYDIS_OPERAND_ACTION_MASK_WRITE))
            return true;
    }
    return false;
}

// One instruction at `rip`. `pinned` registers are no base registers; within a sequence no register is, since
// it may have changed by then.
static unsigned encode_one(const struct row *r, struct rng *g, u8 *code, struct side_state *in, u64 rip,
                           u32 pinned, bool sequence, u64 *undefined_flags, u64 *operand)
{
    unsigned n = 0;
    u8 rex = 0;

    // Prefixes. FS is the host's thread pointer: never.
    static const u8 segments[] = {0x26, 0x2E, 0x36, 0x3E, 0x65};
    bool wide = in->bits == 64;
    // 16-bit: not CS
    if (rng_one_in(g, 12))
        code[n++] = segments[in->bits == 16 ? 2 * rng_below(g, 2) : rng_below(g, wide ? 5 : 4)];

    // no 16-bit addresses in flat segments
    bool p67 = rng_one_in(g, in->bits == 16 ? 3 : 16) && (in->bits != 32 || is(r, "lea"));
    if (p67) code[n++] = 0x67;
    bool free66 = r->prefix == PFX_ANY || r->prefix == PFX_NO_REP;
    if (free66 && rng_one_in(g, 4)) code[n++] = 0x66;
    if (!r->vex) {
        if (r->prefix == PFX_66) code[n++] = 0x66;
        // 66h beside F2h or F3h is no mandatory prefix (and the operand size of POPCNT and CRC32).
        if ((r->prefix == PFX_F2 || r->prefix == PFX_F3) && rng_one_in(g, 8)) code[n++] = 0x66;
        if (r->prefix == PFX_F2) code[n++] = 0xF2;
        if (r->prefix == PFX_F3) code[n++] = 0xF3;
    }
    if (r->repeats && rng_one_in(g, 2)) code[n++] = rng_one_in(g, 2) ? 0xF2 : 0xF3;
    bool mem = row_mod(r) == MOD_MEM || (row_mod(r) == MOD_ANY && rng_one_in(g, 2));
    if ((r->lockable && mem && rng_one_in(g, 6)) || (!r->vex && rng_one_in(g, 200))) code[n++] = 0xF0;
    if (wide && rng_one_in(g, 2)) rex = (u8)(0x40 | (rng_next(g) & (rng_one_in(g, 2) ? 0xC : 4)));

    unsigned reg = (unsigned)rng_below(g, 8);
    if (r->modrm != MODRM_ANY) {
        reg = row_digit(r);
        rex &= 0xFB;
    }
    if (!wide) rex = 0;
    struct modrm m = {.n = 1};
    u64 target = address(g, in->bits);
    if (area_alignment(r) && !rng_one_in(g, 12)) target &= ~(u64)(area_alignment(r) - 1);
    *operand = mem ? target + data_base(in->bits) : 0;
    if (mem) {
        if (r->vsib)
            vsib_form(g, r, &m, reg, &rex, in);
        else if (in->bits == 16 && !p67)
            memory_form16(g, &m, reg, in, target, pinned | (r->map == MAP_0F ? 1u << RCX : 0), sequence);
        else
            memory_form(g, &m, reg, &rex, in, target, pinned | (r->map == MAP_0F ? 1u << RCX : 0), sequence);
    } else {
        unsigned rm = r->modrm & MODRM_EXACT ? r->modrm & 7 : (unsigned)rng_below(g, 8);
        if (rex && rng_one_in(g, 2) && !(r->unit & UNIT_X87)) rex |= 1;
        m.bytes[0] = (u8)(0xC0 | reg << 3 | rm);
    }
    if (r->vex) {
        n += encode_vex(r, rex,
                        row_has(r, 1 << KIND_B | 1 << KIND_H) ? (unsigned)rng_below(g, wide ? 16 : 8) : 0,
                        rng_one_in(g, 2), code + n);
    } else {
        if (wide && rex) code[n++] = rex;
        if (r->map != MAP_1) code[n++] = 0x0F;
        if (r->map == MAP_0F38) code[n++] = 0x38;
        if (r->map == MAP_0F3A) code[n++] = 0x3A;
    }
    code[n++] = (u8)(r->opcode + (row_span(r) > 1 ? rng_below(g, row_span(r)) : 0));
    unsigned modrm_at = n;
    memcpy(code + n, m.bytes, m.n);
    n += m.n;
    for (unsigned i = 0; i < 8; i++) code[n++] = (u8)(rng_one_in(g, 2) ? rng_next(g) : rng_below(g, 8));

    // MOV with an absolute address in the instruction.
    if (r->map == MAP_1 && r->opcode >= 0xA0 && r->opcode <= 0xA3) memcpy(code + modrm_at, &target, 8);

    ZydisDecodedInstruction z;
    if (!ZYAN_SUCCESS(parse(code, n, in->bits, &z)) ||
        z.encoding != (r->vex ? ZYDIS_INSTRUCTION_ENCODING_VEX : ZYDIS_INSTRUCTION_ENCODING_LEGACY))
        return 0;
    bool modrm = z.attributes & ZYDIS_ATTRIB_HAS_MODRM;
    if (modrm && m.rip_relative) {
        s32 disp = wide ? (s32)(target - (rip + z.length)) : (s32)target;
        memcpy(code + modrm_at + 1, &disp, 4);
    }
    // A bit offset in a register reaches far from the operand: keep it near.
    if (modrm && mem && r->map == MAP_0F && (r->opcode & 0xC7) == 0x83 && r->opcode >= 0xA3 &&
        r->opcode <= 0xBB) {
        unsigned q = z.raw.modrm.reg | z.raw.rex.R << 3, b = z.raw.modrm.rm | z.raw.rex.B << 3;
        bool sib = z.raw.modrm.rm == 4;
        if (sequence) return 0;
        unsigned sb = z.raw.sib.base | z.raw.rex.B << 3, sx = z.raw.sib.index | z.raw.rex.X << 3;
        if (q == RSP || (sib ? q == sb || q == sx : q == b)) return 0;
        in->gpr[q] = (u64)(s64)(s16)(rng_next(g) & 0x83FF);
        if (z.operand_width == 16) in->gpr[q] = (in->gpr[q] & 0xFFFF) | (rng_next(g) & ~0xFFFFull);
        if (z.operand_width == 32 && wide) in->gpr[q] = (u32)in->gpr[q] | (rng_next(g) & ~0xFFFFFFFFull);
    }
    bool by_cl = row_has(r, 1 << KIND_REG) && (is(r, "shld") || is(r, "shrd"));
    if (undefined_result(r, code, &z, in) || (sequence && by_cl)) return 0; // RCX may have changed by then
    *undefined_flags = r->undefined;
    // The kernel gives back only SP to 16-bit stacks.
    if (in->bits == 16 && (disturbs(code, z.length, 16, true) || (is(r, "pusha") && memchr(code, 0x66, n))))
        return 0;
    return z.length;
}

unsigned encode_random(const struct row *r, unsigned bits, struct rng *g, u8 *code, struct side_state *in,
                       u64 *undefined_flags, u64 *operand)
{
    inputs_random(g, bits, in);
    in->rip = code_start(g, bits);
    u32 pinned = implicit_inputs(r, g, in);
    for (unsigned i = 0; i < 16 && bits != 64; i++) in->gpr[i] = (u32)in->gpr[i];
    return encode_one(r, g, code, in, in->rip, pinned, false, undefined_flags, operand);
}

// ---- sequences ----
static bool sequence_row(const struct row *r, unsigned bits)
{
    static const char *const no[] = {"ud",     "in",       "out",       "popa",       "bound",   "into",
                                     "xlat*",  "maskmov*", "vmaskmov*", "vpmaskmov*", "enter",   "leave",
                                     "popf*",  "hlt",      "fx*",       "xsave*",     "xrstor*", "fnsave",
                                     "frstor", "fnstenv",  "fldenv",    NULL};
    return encode_eligible(r, bits) && !r->repeats && !r->vsib && !one_of(r->name, no);
}

struct flag_taint { // arithmetic flags whose values the manual leaves open, at a point of the sequence
    u64 now, ever;
    struct row_set *used; // the rows so far
};

static unsigned sequence_insn(struct rng *g, u8 *code, struct side_state *in, u64 rip, struct flag_taint *t,
                              bool loop)
{
    for (unsigned tries = 0; tries < 1000 && t->used->n < ARRAY_LEN(t->used->row); tries++) {
        const struct row *r = &rows[rng_below(g, rows_n)];
        bool wide = r->unit;
        if ((wide && !rng_one_in(g, 6)) || !sequence_row(r, in->bits)) continue;
        if (r->reads && t->now) continue;
        u64 undefined = 0, operand;
        unsigned n = encode_one(r, g, code, in, rip, ~0u, true, &undefined, &operand);
        if (!n || disturbs(code, n, in->bits, false)) continue;
        if (loop && (undefined & FL_CF)) continue; // the DEC that closes the loop would carry it to the top
        t->now = (r->writes == FL_ARITH ? 0 : t->now) | undefined;
        t->ever |= undefined;
        t->used->row[t->used->n++] = r;
        return n;
    }
    code[0] = 0x90;
    return 1;
}

// A branch of some kind, and one instruction that it skips, reaches or calls.
static unsigned branch_over(struct rng *g, u8 *code, struct side_state *in, u64 rip, struct flag_taint *t,
                            bool loop)
{
    u8 body[32]; // encode_one writes more bytes than the instruction that it keeps
    unsigned n = 0;
    s32 far;
    u64 target;
    switch (rng_below(g, loop ? 6 : 7)) {
    case 0: // Jcc rel32
        code[n++] = 0x0F;
        code[n++] = (u8)(0x80 + rng_below(g, 16));
        far = (s32)sequence_insn(g, code + n + 4, in, rip + n + 4, t, loop);
        memcpy(code + n, &far, 4);
        return n + 4 + (u32)far;
    case 1: // JMP rel32
        code[n++] = 0xE9;
        far = (s32)sequence_insn(g, code + n + 4, in, rip + n + 4, t, loop);
        memcpy(code + n, &far, 4);
        return n + 4 + (u32)far;
    case 2: // CALL L; JMP end; L: body; RET [Iw]; end:
        n = sequence_insn(g, body, in, rip + 7, t, loop);
        for (unsigned i = 0; i < n; i++) { // PUSH: RET would go anywhere
            if ((body[i] & 0xF0) == 0x50 || body[i] == 0x60 || (body[i] & 0xFD) == 0x68 || body[i] == 0x9C ||
                body[i] == 0xFF || body[i] == 0x8F)
                n = 0, t->now |= t->ever;
        }
        memcpy(code, (const u8[]){0xE8, 2, 0, 0, 0, 0xEB}, 6);
        memcpy(code + 7, body, n);
        if (rng_one_in(g, 2)) {
            code[6] = (u8)(n + 1);
            code[7 + n] = 0xC3;
            return n + 8;
        }
        code[6] = (u8)(n + 3);
        memcpy(code + 7 + n, (const u8[]){0xC2, in->bits / 8, 0}, 3);
        return n + 10;
    case 3:                   // MOV R11, L; JMP or CALL R11; body; L:
        if (in->bits == 32) { // EDI there
            n = sequence_insn(g, code + 7, in, rip + 7, t, loop);
            u32 to = (u32)rip + 7 + n;
            code[0] = 0xBF;
            memcpy(code + 1, &to, 4);
            memcpy(code + 5, (const u8[]){0xFF, rng_one_in(g, 2) ? 0xE7 : 0xD7}, 2);
            return n + 7;
        }
        n = sequence_insn(g, code + 13, in, rip + 13, t, loop);
        target = rip + 13 + n;
        memcpy(code, (const u8[]){0x49, 0xBB}, 2);
        memcpy(code + 2, &target, 8);
        memcpy(code + 10, (const u8[]){0x41, 0xFF, rng_one_in(g, 2) ? 0xE3 : 0xD3}, 3);
        return n + 13;
    case 6: // LOOPNE, LOOPE, LOOP, JRCXZ, with and without 67h
        if (in->bits == 64 && rng_one_in(g, 3)) code[n++] = 0x67, rip++;
        code[n] = (u8)(0xE0 + rng_below(g, 4));
        code[n + 1] = (u8)sequence_insn(g, code + n + 2, in, rip + 2, t, loop);
        return n + 2u + code[n + 1];
    default: // Jcc rel8
        code[0] = (u8)(0x70 + rng_below(g, 16));
        code[1] = (u8)sequence_insn(g, code + 2, in, rip + 2, t, loop);
        return 2u + code[1];
    }
}

// MOV r32, imm32 beside an instruction that writes a byte of that immediate: before it, or, seen by the next
// turn of a loop, after it.
static unsigned self_modifying(struct rng *g, u8 *code, const struct side_state *in, u64 rip,
                               struct flag_taint *t)
{
    static const u8 regs[] = {RAX, RDX, RBX, RSI, RDI};
    u8 mov[5] = {(u8)(0xB8 + regs[rng_below(g, 5)])};
    u32 value = (u32)rng_next(g);
    unsigned k = (unsigned)rng_below(g, 4);
    memcpy(mov + 1, &value, 4);
    if (rng_one_in(g, 2)) { // MOV byte [imm], Ib; MOV r32, imm32
        u32 at = in->bits == 64 ? 1 + k : (u32)rip + 8 + k;
        memcpy(code, (const u8[]){0xC6, 0x05}, 2);
        memcpy(code + 2, &at, 4);
        code[6] = (u8)rng_next(g);
        memcpy(code + 7, mov, 5);
        return 12;
    }
    u32 at = in->bits == 64 ? (u32)-10 + k : (u32)rip + 1 + k; // MOV r32, imm32; INC byte [imm]
    memcpy(code, mov, 5);
    memcpy(code + 5, (const u8[]){0xFE, 0x05}, 2);
    memcpy(code + 7, &at, 4);
    t->now &= FL_CF;
    return 11;
}

// A few instructions, some jumped over, and perhaps all of it three times.
unsigned encode_sequence(struct rng *g, unsigned bits, u8 *code, unsigned room, struct side_state *in,
                         u64 *undefined_flags, struct row_set *used)
{
    struct flag_taint t = {.used = used};
    used->n = 0;
    unsigned n = 0, count = 2 + (unsigned)rng_below(g, 6);
    bool loop = rng_one_in(g, 3);
    inputs_random(g, bits, in);
    in->rip = code_start(g, bits);
    // A taken branch whose own end is the limit of CS was seen to fault at its second turn on AMD's silicon:
    // not there.
    if (bits == 16 && in->rip + room > CODE_SIZE) in->rip = 64;
    // where address() seldom points: return addresses live there
    in->gpr[RSP] = DATA_BASE - data_base(bits) + DATA_SIZE - 256 - 8 * rng_below(g, 4);
    in->gpr[RCX] = loop ? 3 : rng_below(g, 4);
    // In a loop flags come around: what is undefined anywhere is undefined at the top.
    for (unsigned i = 0; i < count && n + 48 < room; i++) {
        if (bits != 16 && rng_one_in(g, 12)) {
            n += self_modifying(g, code + n, in, in->rip + n, &t);
        } else if (!t.now && !(loop && t.ever) && rng_one_in(g, 4)) {
            struct flag_taint before = t;
            if (bits == 16) { // the other branches are written for wider code
                code[n] = (u8)(0x70 + rng_below(g, 16));
                code[n + 1] = (u8)sequence_insn(g, code + n + 2, in, in->rip + n + 2, &t, loop);
                n += 2u + code[n + 1];
            } else {
                n += branch_over(g, code + n, in, in->rip + n, &t, loop);
            }
            t.now |= before.now;
        } else {
            n += sequence_insn(g, code + n, in, in->rip + n, &t, loop);
        }
    }
    if (loop) { // DEC ECX; JNZ
        static const u8 dec[] = {0xFF, 0xC9};
        memcpy(code + n, dec, 2);
        n += 2;
        code[n] = 0x75;
        code[n + 1] = (u8) - (s32)(n + 2);
        n += 2;
        t.now &= FL_CF; // DEC writes all others
    }
    *undefined_flags = loop ? t.ever : t.now;
    // An exception may stop it anywhere; the caller then takes all that were undefined at some point.
    *undefined_flags |= t.ever << 32;
    return n;
}
