// x87: every instruction that computes, loads, stores or compares runs on the host's own x87. The whole register file,
// tags, TOP, control word and status go in with FRSTOR and come back with FNSAVE; in between runs the very instruction, under the
// guest's own control word. So empty registers, stack faults, masked and unmasked responses are the silicon's. No
// waiting form follows the instruction, so an unmasked exception shows in the status word and never reaches the host.
//
// FIP and FDP are those of the last instruction that was not a control instruction; FOP is stored for unmasked exceptions
// only (SDM Vol. 1, 8.1.9.1). Transcendental results are those of the host's vendor.
// Missing: FERR# (CR0.NE = 0: counted and named), hosts that are not x86-64.
#include "cpu/x87.h"
#include "cpu/fp.h"
#include "cpu/sse.h"

// ---- the host's side ----
struct __attribute__((packed)) image { // of FRSTOR and FNSAVE, 32-bit protected-mode format
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
_Static_assert(sizeof(struct image) == 108, "SDM Vol. 1, figure 8-9 and eight registers");

#if FP_HOST_X86
asm(".pushsection .text\n\t.balign 4\n\t.globl x87_reg_stubs, x87_mem_stubs\n\t.hidden x87_reg_stubs, x87_mem_stubs\n"
    "x87_reg_stubs:\n\t.set x87_op, 0xD8\n\t.rept 8\n\t.set x87_rm, 0xC0\n\t.rept 64\n\t"
    ".byte x87_op, x87_rm, 0xC3, 0xCC\n\t.set x87_rm, x87_rm + 1\n\t.endr\n\t.set x87_op, x87_op + 1\n\t.endr\n"
    "x87_mem_stubs:\n\t.set x87_op, 0xD8\n\t.rept 8\n\t.set x87_rm, 0x07\n\t.rept 8\n\t"
    ".byte x87_op, x87_rm, 0xC3, 0xCC\n\t.set x87_rm, x87_rm + 8\n\t.endr\n\t.set x87_op, x87_op + 1\n\t.endr\n\t.popsection");

// Returns the arithmetic flags afterwards, in the layout of vcpu_state.fl.
static u16 host_run(struct image *im, const u8 *stub, void *mem, u16 fl)
{
    u32 ax = fl;
    asm volatile("frstor %[im]\n\taddb $0x7F, %%al\n\tsahf\n\tlea -128(%%rsp), %%rsp\n\tcall *%[stub]\n\t"
                 "lea 128(%%rsp), %%rsp\n\tlahf\n\tseto %%al\n\tfnsave (%[out])"
                 : "+a"(ax)
                 : [im] "m"(*im), [out] "r"(im), [stub] "r"(stub), "D"(mem)
                 : "memory", "cc", "st", "st(1)", "st(2)", "st(3)", "st(4)", "st(5)", "st(6)", "st(7)");
    return (u16)ax;
}
#else
static u16 host_run(struct image *im, const u8 *stub, void *mem, u16 fl)
{
    panic("no host x87");
}
#define x87_reg_stub(op, modrm) NULL
#define x87_mem_stub(op, digit) NULL
#endif

static void image_fill(struct image *im, const struct fpu_state *f)
{
    // Still pending here means CR0.NE = 0: the instruction runs as with IGNNE# asserted, and the host must not see it.
    u16 pending = x87_pending(f);
    *im = (struct image){.fcw = f->fcw, .fsw = pending ? f->fsw & ~(pending | FSW_ES | FSW_B) : f->fsw, .ftw = f->ftw};
    for (unsigned i = 0; i < 8; i++) {
        unsigned p = (x87_top(f) + i) & 7;
        im->st[i].m = f->r[p].m;
        im->st[i].se = f->r[p].se;
    }
}

static void image_take(const struct image *im, struct fpu_state *f)
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

// ---- the state ----
void x87_init(struct fpu_state *f)
{
    f->fcw = FCW_RESET;
    f->fsw = 0;
    f->ftw = 0xFFFF;
    f->fop = f->fcs = f->fds = 0;
    f->fip = f->fdp = 0;
}

u16 x87_tags(const struct fpu_state *f)
{
    u16 x = 0;
    for (unsigned i = 0; i < 8; i++) {
        unsigned tag = 0, exponent = f->r[i].se & 0x7FFF;
        if ((f->ftw >> 2 * i & 3) == 3) tag = 3;
        else if (exponent == 0 && f->r[i].m == 0) tag = 1;
        else if (exponent == 0 || exponent == 0x7FFF || !(f->r[i].m >> 63)) tag = 2;
        x |= (u16)(tag << 2 * i);
    }
    return x;
}

void x87_wait(struct vcpu *v)
{
    if (!(v->s.fpu.fsw & FSW_ES)) return;
    if (v->s.cr0 & CR0_NE) raise_fault(v, VEC_MF);
    unimplemented(v, "FERR#", v->s.fpu.fsw);
}

// The two opcode bytes as FOP holds them. `in` does not keep ModRM, the block's page does; 67h, 66h, segment and REX
// prefixes are no D8-DF.
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

static void commit(struct vcpu *v, const struct insn *in, const struct image *im)
{
    image_take(im, &v->s.fpu);
    note_pointers(v, in);
    if (v->s.fpu.fsw & FSW_ES) v->s.fpu.fop = opcode_bytes(v, in);
}

// ---- bodies ----
static u8 row_modrm(const struct insn *in)
{
    const struct row *r = &rows[in->row];
    return r->modrm & MODRM_EXACT ? (u8)r->modrm : (u8)(0xC0 | row_digit(r) << 3 | in->m);
}

void op_x87_reg(struct vcpu *v, const struct insn *in)
{
    struct image im;
    x87_wait(v);
    if (x87_light_reg(v, in->op, row_modrm(in))) {
        note_pointers(v, in);
        return;
    }
    image_fill(&im, &v->s.fpu);
    v->s.fl = host_run(&im, x87_reg_stub(in->op, row_modrm(in)), NULL, v->s.fl);
    commit(v, in, &im);
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
    struct image im;
    u8 buf[16];
    unsigned digit = row_digit(&rows[in->row]), size = mem_size(in->op, digit);
    x87_wait(v);
    operand_load(v, in, buf, size);
    if (x87_light_load(v, in->op, (u8)digit, buf)) {
        note_pointers(v, in);
        return;
    }
    image_fill(&im, &v->s.fpu);
    host_run(&im, x87_mem_stub(in->op, (u8)digit), buf, v->s.fl);
    commit(v, in, &im);
}

void op_x87_store(struct vcpu *v, const struct insn *in)
{
    struct image im;
    u8 buf[16] = {0};
    unsigned digit = row_digit(&rows[in->row]), size = mem_size(in->op, digit);
    x87_wait(v);
    u16 sw;
    if (x87_light_store(v, in->op, (u8)digit, buf, &sw)) {
        operand_store(v, in, buf, size);
        x87_light_stored(v, (u8)digit, sw);
        note_pointers(v, in);
        return;
    }
    image_fill(&im, &v->s.fpu);
    host_run(&im, x87_mem_stub(in->op, (u8)digit), buf, v->s.fl);
    // With an unmasked exception other than precision nothing is stored (SDM Vol. 1, 8.5), and nothing about the operand's address can fault.
    if (!(im.fsw & ~im.fcw & 0x1F)) operand_store(v, in, buf, size);
    commit(v, in, &im);
}

void op_fwait(struct vcpu *v, const struct insn *in)
{
    if ((v->s.cr0 & (CR0_MP | CR0_TS)) == (CR0_MP | CR0_TS)) raise_fault(v, VEC_NM);
    x87_wait(v);
}
