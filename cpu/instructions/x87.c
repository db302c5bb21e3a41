// x87: every instruction that computes, loads, stores or compares runs on the host's own x87, by one of two
// ways that give the same state (tests/test_cpu_x87.c). The long way serves always: the whole register file,
// tags, TOP, control word and status go in with FRSTOR and come back with FNSAVE; in between runs the very
// instruction, under the guest's own control word. So empty registers, stack faults, masked and unmasked
// responses are the silicon's. No waiting form follows the instruction, so an unmasked exception shows in the
// status word and never reaches the host. The short way is for what is common.
//
// FIP and FDP are those of the last instruction that was not a control instruction; FOP is stored for
// unmasked exceptions only (SDM Vol. 1, 8.1.9.1). Transcendental results are those of the host's vendor.
// Where the host's floating point is not used (HOST_FP) there is one way, cpu/instructions/portable_x87.c.
#include "cpu/instructions/x87.h"
#include "cpu/engine/fp.h"
#include "cpu/host/x87.h"
#include "cpu/instructions/sse.h"

#if HOST_FP
// ---- the long way ----
static void image_fill(struct x87_image *im, const struct fpu_state *f)
{
    // Still pending here means CR0.NE = 0: the instruction runs as with IGNNE# asserted, and the host must
    // not see it.
    u16 pending = x87_pending(f);
    *im = (struct x87_image){
        .fcw = f->fcw, .fsw = pending ? f->fsw & ~(pending | FSW_ES | FSW_B) : f->fsw, .ftw = f->ftw};
    for (unsigned i = 0; i < 8; i++) {
        unsigned p = (x87_top(f) + i) & 7;
        im->st[i].m = f->r[p].m;
        im->st[i].se = f->r[p].se;
    }
}

static void image_take(const struct x87_image *im, struct fpu_state *f)
{
    f->fsw = im->fsw | x87_pending(f);
    x87_update_es(f);
    f->ftw = x87_tags_normal(im->ftw);
    for (unsigned i = 0; i < 8; i++) {
        unsigned p = (x87_top(f) + i) & 7;
        f->r[p].m = im->st[i].m;
        f->r[p].se = im->st[i].se;
    }
}

void x87_long_reg(struct fpu_state *f, u8 op, u8 modrm, u16 *flags)
{
    struct x87_image im;
    image_fill(&im, f);
    *flags = host_x87_run(&im, x87_reg_stub(op, modrm), NULL, *flags);
    image_take(&im, f);
}
void x87_long_load(struct fpu_state *f, u8 op, u8 digit, void *mem)
{
    struct x87_image im;
    image_fill(&im, f);
    host_x87_run(&im, x87_mem_stub(op, digit), mem, 0);
    image_take(&im, f);
}
bool x87_long_store(struct fpu_state *f, u8 op, u8 digit, void *mem)
{
    struct x87_image im;
    image_fill(&im, f);
    host_x87_run(&im, x87_mem_stub(op, digit), mem, 0);
    bool stores = !(im.fsw & ~im.fcw & 0x1F);
    image_take(&im, f);
    return stores;
}
#else
void x87_long_reg(struct fpu_state *f, u8 op, u8 modrm, u16 *flags) { portable_x87_reg(f, op, modrm, flags); }
void x87_long_load(struct fpu_state *f, u8 op, u8 digit, void *mem) { portable_x87_load(f, op, digit, mem); }
bool x87_long_store(struct fpu_state *f, u8 op, u8 digit, void *mem)
{
    return portable_x87_store(f, op, digit, mem);
}
#endif

// ---- the short way: with every exception masked and no register empty (or full) that must not be, only the
// operands go over ---- The host's x87 is empty with TOP 0 and the default control word before and after each
// of these.
#if HOST_FP
enum { C0 = 0x100, C1 = 0x200, C2 = 0x400, C3 = 0x4000, SIGNALS = 0x3F, COMPARED = C0 | C2 | C3 };
enum { MASKED = 0x3F };

static inline struct x87_ext *reg(struct fpu_state *f, unsigned i)
{
    return (struct x87_ext *)&f->r[(x87_top(f) + i) & 7];
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

bool x87_short_reg(struct fpu_state *f, u8 op, u8 modrm, u16 *flags)
{
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
            signals(f, host_x87_compare(f, reg(f, 0), reg(f, i), x87_reg_stub(0xD8, 0xD1), &fl) & ~C1,
                    COMPARED | C1);
            if (digit == 3) pop(f);
            return true;
        }
        if (op == 0xD8)
            signals(f,
                    host_x87_binary(f, reg(f, 0), reg(f, i), reg(f, 0),
                                    x87_reg_stub(op, (u8)((modrm & 0xF8) | 1)), false),
                    C1);
        else
            signals(f,
                    host_x87_binary(f, reg(f, 0), reg(f, i), reg(f, i),
                                    x87_reg_stub(0xDC, (u8)((modrm & 0xF8) | 1)), true),
                    C1);
        if (op == 0xDE) pop(f);
        return true;
    case 0xD9:
        if (digit == 0) { // FLD ST(i)
            if (!full(f, i) || full(f, 7)) return false;
            struct x87_ext x = *reg(f, i);
            push(f);
            *reg(f, 0) = x;
        } else if (digit == 1) { // FXCH
            if (!full(f, 0) || !full(f, i)) return false;
            struct x87_ext x = *reg(f, i);
            *reg(f, i) = *reg(f, 0);
            *reg(f, 0) = x;
        } else if (modrm == 0xE0 || modrm == 0xE1) { // FCHS, FABS
            if (!full(f, 0)) return false;
            reg(f, 0)->se = modrm == 0xE0 ? reg(f, 0)->se ^ 0x8000 : reg(f, 0)->se & 0x7FFF;
        } else if (modrm == 0xE8 || modrm == 0xEE) { // FLD1, FLDZ
            if (full(f, 7)) return false;
            push(f);
            *reg(f, 0) = modrm == 0xE8 ? (struct x87_ext){1ull << 63, 0x3FFF} : (struct x87_ext){0, 0};
        } else if (modrm == 0xFA || modrm == 0xFC) { // FSQRT, FRNDINT
            if (!full(f, 0)) return false;
            signals(f, host_x87_unary(f, reg(f, 0), x87_reg_stub(op, modrm), NULL), C1);
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
        // FUCOM, FUCOMP
        signals(f, host_x87_compare(f, reg(f, 0), reg(f, i), x87_reg_stub(0xDD, 0xE1), &fl) & ~C1,
                COMPARED | C1);
        if (digit == 5) pop(f);
        return true;
    case 0xDB:
    case 0xDF:
        // What becomes of C1 is the vendor's choice: the long way shows it.
        if ((digit != 5 && digit != 6) || !full(f, 0) || !full(f, i) || (f->fsw & C1)) return false;
        signals(f,
                host_x87_compare(f, reg(f, 0), reg(f, i), x87_reg_stub(0xDB, (u8)((modrm & 0xF8) | 1)), &fl),
                0);
        *flags = fl & (0x200 | AX_ZF | AX_PF | AX_CF);
        if (op == 0xDF) pop(f);
        return true;
    default: return false;
    }
}

// `mem` holds the operand.
bool x87_short_load(struct fpu_state *f, u8 op, u8 digit, void *mem)
{
    if ((f->fcw & MASKED) != MASKED) return false;
    if (!(op & 1)) { // D8, DA, DC, DE: arithmetic and compares
        if (!full(f, 0)) return false;
        if (digit == 2 || digit == 3) {
            signals(f, host_x87_store(f, reg(f, 0), x87_mem_stub(op, digit), mem, digit == 3) & ~C1,
                    COMPARED | C1);
            if (digit == 3) pop(f);
        } else {
            signals(f, host_x87_unary(f, reg(f, 0), x87_mem_stub(op, digit), mem), C1);
        }
        return true;
    }
    if (full(f, 7) || (op == 0xDF && digit == 4)) return false;
    struct x87_ext x;
    u16 sw = host_x87_load(f, &x, x87_mem_stub(op, digit), mem);
    push(f);
    *reg(f, 0) = x;
    signals(f, sw & ~C1, C1);
    return true;
}

// Leaves in `mem` what is to be stored and changes nothing; x87_short_stored follows when memory has it.
bool x87_short_store(struct fpu_state *f, u8 op, u8 digit, void *mem, u16 *sw)
{
    if ((f->fcw & MASKED) != MASKED || !full(f, 0) || (op == 0xDF && digit == 6)) return false;
    *sw = host_x87_store(f, reg(f, 0), x87_mem_stub(op, digit), mem, digit != 2);
    return true;
}
void x87_short_stored(struct fpu_state *f, u8 digit, u16 sw)
{
    signals(f, sw, C1);
    if (digit != 2) pop(f);
}

#else
bool x87_short_reg(struct fpu_state *f, u8 op, u8 modrm, u16 *flags) { return false; }
bool x87_short_load(struct fpu_state *f, u8 op, u8 digit, void *mem) { return false; }
bool x87_short_store(struct fpu_state *f, u8 op, u8 digit, void *mem, u16 *sw) { return false; }
void x87_short_stored(struct fpu_state *f, u8 digit, u16 sw) {}
#endif

// ---- bodies ----
void x87_wait(struct vcpu *v)
{
    if (!(v->s.fpu.fsw & FSW_ES)) return;
    if (v->s.cr0 & CR0_NE) raise_fault(v, VEC_MF);
    // FERR# tells the board, which raises IRQ 13; without IGNNE# the processor stops here until an interrupt
    // comes (SDM 2.5, CR0.NE; volume 1, appendix D).
    struct event e = {.kind = EVENT_WAITING};
    if (!v->board || !v->board->ferr || v->board->ferr(v->board_opaque, v->index, true)) return;
    v->s.activity = ACTIVITY_HLT;
    raise_event(v, &e);
}

void x87_error_gone(struct vcpu *v)
{
    if (v->board && v->board->ferr) v->board->ferr(v->board_opaque, v->index, false);
}

// The two opcode bytes as FOP holds them. `in` does not keep ModRM, the block's page does; 67h, 66h, segment
// and REX prefixes are no D8-DF.
static u16 opcode_bytes(struct vcpu *v, const struct insn *in)
{
    const struct block *b = insn_block(in);
    u8 bytes[16];
    u64 here = PAGE_SIZE - ((b->pa + in->off) & (PAGE_SIZE - 1));
    u64 first = here < in->len ? here : in->len;
    phys_read(v->phys, v->index, b->pa + in->off, bytes, first);
    if (first < in->len) phys_read(v->phys, v->index, b->pa2, bytes + first, in->len - first);
    for (unsigned i = 0; i + 1 < in->len; i++) {
        if ((bytes[i] & 0xF8) == 0xD8) return (u16)((bytes[i] & 7) << 8 | bytes[i + 1]);
    }
    return 0;
}

static void note_pointers(struct vcpu *v, const struct insn *in)
{
    struct fpu_state *f = &v->s.fpu;
    f->fip = insn_rip(v, in);
    f->fcs = v->s.seg[SEG_CS].sel;
    if (in->mem) {
        f->fdp = insn_ea(v, in);
        f->fds = v->s.seg[in->seg].sel;
    }
}

// After the long way.
static void note_all(struct vcpu *v, const struct insn *in)
{
    note_pointers(v, in);
    if (v->s.fpu.fsw & FSW_ES) v->s.fpu.fop = opcode_bytes(v, in);
}

static u8 row_modrm(const struct insn *in)
{
    const struct row *r = &rows[in->row];
    return r->modrm & MODRM_EXACT ? (u8)r->modrm : (u8)(0xC0 | row_digit(r) << 3 | in->m);
}

void op_x87_reg(struct vcpu *v, const struct insn *in)
{
    u8 modrm = row_modrm(in);
    x87_wait(v);
    if (x87_short_reg(&v->s.fpu, in->op, modrm, &v->s.fl)) {
        note_pointers(v, in);
        return;
    }
    x87_long_reg(&v->s.fpu, in->op, modrm, &v->s.fl);
    note_all(v, in);
}

// Bytes of the memory operand, by opcode and digit.
static unsigned mem_size(u8 op, unsigned digit)
{
    static const u8 size[8] = {4, 4, 4, 4, 8, 8, 2, 2};
    if (op == 0xDB && digit >= 4) return 10;
    if (op == 0xDF && digit >= 4) return digit & 1 ? 8 : 10;
    return size[op & 7];
}

// Ten bytes are two accesses, of eight and of two: what the first does stays when the second faults.
RAISES static void operand_load(struct vcpu *v, const struct insn *in, u8 *buf, unsigned size)
{
    unsigned first = size < 8 ? size : 8;
    u64 x = lin_load(v, insn_linear(v, in, first, ACC_READ), first);
    memcpy(buf, &x, first);
    if (size <= 8) return;
    lin_load_n(v, seg_linear(v, in->seg, insn_ea(v, in) + 8, 2, ACC_READ), buf + 8, 2);
}
RAISES static void operand_store(struct vcpu *v, const struct insn *in, const u8 *buf, unsigned size)
{
    unsigned first = size < 8 ? size : 8;
    u64 x = 0;
    memcpy(&x, buf, first);
    lin_store(v, insn_linear(v, in, first, ACC_WRITE), first, x);
    if (size <= 8) return;
    lin_store_n(v, seg_linear(v, in->seg, insn_ea(v, in) + 8, 2, ACC_WRITE), buf + 8, 2);
}

void op_x87_load(struct vcpu *v, const struct insn *in)
{
    u8 buf[16], digit = (u8)row_digit(&rows[in->row]);
    x87_wait(v);
    operand_load(v, in, buf, mem_size(in->op, digit));
    if (x87_short_load(&v->s.fpu, in->op, digit, buf)) {
        note_pointers(v, in);
        return;
    }
    x87_long_load(&v->s.fpu, in->op, digit, buf);
    note_all(v, in);
}

void op_x87_store(struct vcpu *v, const struct insn *in)
{
    u8 buf[16] = {0}, digit = (u8)row_digit(&rows[in->row]);
    unsigned size = mem_size(in->op, digit);
    x87_wait(v);
    u16 sw;
    if (x87_short_store(&v->s.fpu, in->op, digit, buf, &sw)) {
        operand_store(v, in, buf, size);
        x87_short_stored(&v->s.fpu, digit, sw);
        note_pointers(v, in);
        return;
    }
    struct fpu_state after = v->s.fpu;
    // With an unmasked exception other than precision nothing is stored (SDM Vol. 1, 8.5), and nothing about
    // the operand's address can fault.
    if (x87_long_store(&after, in->op, digit, buf)) operand_store(v, in, buf, size);
    v->s.fpu = after;
    note_all(v, in);
}

// FWAIT
void op_fwait(struct vcpu *v, const struct insn *in)
{
    if ((v->s.cr0 & (CR0_MP | CR0_TS)) == (CR0_MP | CR0_TS)) raise_fault(v, VEC_NM);
    x87_wait(v);
}
