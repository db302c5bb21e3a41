// The table of registers. The first features have the names, the order and the types that gdb wants of an
// x86-64 target; the others are ours.
#include "frontend/gdb_registers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/system/debug.h"
#include "cpu/system/system.h"
#include "devices/machine.h"
#include "vmx/control.h"

// clang-format off
enum kind {
    K_GPR, K_RIP, K_EIP, K_ESP, K_FLAGS, K_SELECTOR, K_ST, K_FCTRL, K_FSTAT, K_FTAG, K_FISEG, K_FIOFF, K_FOSEG, K_FOOFF, K_FOP, K_XMM, K_MXCSR,
    K_YMMH, K_BASE, K_LIMIT, K_RIGHTS, K_GDTR_BASE, K_GDTR_LIMIT, K_IDTR_BASE, K_IDTR_LIMIT, K_CR0, K_CR2, K_CR3, K_CR4, K_CR8,
    K_EFER, K_XCR0, K_DR, K_VMX_MODE, K_VMCS_POINTER, K_FIELD,
};

#define CORE     "org.gnu.gdb.i386.core"
#define SSE      "org.gnu.gdb.i386.sse"
#define AVX      "org.gnu.gdb.i386.avx"
#define SEGMENTS "org.gnu.gdb.i386.segments"
#define HIDDEN   "matryoshka.segments"
#define CONTROL  "matryoshka.control"
#define DEBUG    "matryoshka.debug"
#define VMX      "matryoshka.vmx"

static const struct gdb_register fixed[] = {
    {"rax", "int64", CORE, "general", K_GPR, 8, RAX}, {"rbx", "int64", CORE, "general", K_GPR, 8, RBX},
    {"rcx", "int64", CORE, "general", K_GPR, 8, RCX}, {"rdx", "int64", CORE, "general", K_GPR, 8, RDX},
    {"rsi", "int64", CORE, "general", K_GPR, 8, RSI}, {"rdi", "int64", CORE, "general", K_GPR, 8, RDI},
    {"rbp", "int64", CORE, "general", K_GPR, 8, RBP}, {"rsp", "int64", CORE, "general", K_GPR, 8, RSP},
    {"r8", "int64", CORE, "general", K_GPR, 8, R8}, {"r9", "int64", CORE, "general", K_GPR, 8, R9},
    {"r10", "int64", CORE, "general", K_GPR, 8, R10}, {"r11", "int64", CORE, "general", K_GPR, 8, R11},
    {"r12", "int64", CORE, "general", K_GPR, 8, R12}, {"r13", "int64", CORE, "general", K_GPR, 8, R13},
    {"r14", "int64", CORE, "general", K_GPR, 8, R14}, {"r15", "int64", CORE, "general", K_GPR, 8, R15},
    {"rip", "int64", CORE, "general", K_RIP, 8, 0}, {"eflags", "i386_eflags", CORE, "general", K_FLAGS, 4, 0},
    {"cs", "int32", CORE, "general", K_SELECTOR, 4, SEG_CS}, {"ss", "int32", CORE, "general", K_SELECTOR, 4, SEG_SS},
    {"ds", "int32", CORE, "general", K_SELECTOR, 4, SEG_DS}, {"es", "int32", CORE, "general", K_SELECTOR, 4, SEG_ES},
    {"fs", "int32", CORE, "general", K_SELECTOR, 4, SEG_FS}, {"gs", "int32", CORE, "general", K_SELECTOR, 4, SEG_GS},
    {"st0", "i387_ext", CORE, "float", K_ST, 10, 0}, {"st1", "i387_ext", CORE, "float", K_ST, 10, 1},
    {"st2", "i387_ext", CORE, "float", K_ST, 10, 2}, {"st3", "i387_ext", CORE, "float", K_ST, 10, 3},
    {"st4", "i387_ext", CORE, "float", K_ST, 10, 4}, {"st5", "i387_ext", CORE, "float", K_ST, 10, 5},
    {"st6", "i387_ext", CORE, "float", K_ST, 10, 6}, {"st7", "i387_ext", CORE, "float", K_ST, 10, 7},
    {"fctrl", "int", CORE, "float", K_FCTRL, 4, 0}, {"fstat", "int", CORE, "float", K_FSTAT, 4, 0},
    {"ftag", "int", CORE, "float", K_FTAG, 4, 0}, {"fiseg", "int", CORE, "float", K_FISEG, 4, 0},
    {"fioff", "int", CORE, "float", K_FIOFF, 4, 0}, {"foseg", "int", CORE, "float", K_FOSEG, 4, 0},
    {"fooff", "int", CORE, "float", K_FOOFF, 4, 0}, {"fop", "int", CORE, "float", K_FOP, 4, 0},
    // What gdb takes them from after "set architecture i8086" or i386. Its addresses are linear, so those of code and stack are, too.
    {"eax", "int32", CORE, "general", K_GPR, 4, RAX}, {"ecx", "int32", CORE, "general", K_GPR, 4, RCX},
    {"edx", "int32", CORE, "general", K_GPR, 4, RDX}, {"ebx", "int32", CORE, "general", K_GPR, 4, RBX},
    {"esp", "int32", CORE, "general", K_ESP, 4, 0}, {"ebp", "int32", CORE, "general", K_GPR, 4, RBP},
    {"esi", "int32", CORE, "general", K_GPR, 4, RSI}, {"edi", "int32", CORE, "general", K_GPR, 4, RDI},
    {"eip", "int32", CORE, "general", K_EIP, 4, 0},
};
static const struct gdb_register more[] = {
    {"fs_base", "int64", SEGMENTS, "system", K_BASE, 8, SEG_FS}, {"gs_base", "int64", SEGMENTS, "system", K_BASE, 8, SEG_GS},
    {"cs_base", "uint64", HIDDEN, "system", K_BASE, 8, SEG_CS}, {"cs_limit", "uint32", HIDDEN, "system", K_LIMIT, 4, SEG_CS},
    {"cs_rights", "uint32", HIDDEN, "system", K_RIGHTS, 4, SEG_CS},
    {"ss_base", "uint64", HIDDEN, "system", K_BASE, 8, SEG_SS}, {"ss_limit", "uint32", HIDDEN, "system", K_LIMIT, 4, SEG_SS},
    {"ss_rights", "uint32", HIDDEN, "system", K_RIGHTS, 4, SEG_SS},
    {"ds_base", "uint64", HIDDEN, "system", K_BASE, 8, SEG_DS}, {"ds_limit", "uint32", HIDDEN, "system", K_LIMIT, 4, SEG_DS},
    {"ds_rights", "uint32", HIDDEN, "system", K_RIGHTS, 4, SEG_DS},
    {"es_base", "uint64", HIDDEN, "system", K_BASE, 8, SEG_ES}, {"es_limit", "uint32", HIDDEN, "system", K_LIMIT, 4, SEG_ES},
    {"es_rights", "uint32", HIDDEN, "system", K_RIGHTS, 4, SEG_ES},
    {"fs_limit", "uint32", HIDDEN, "system", K_LIMIT, 4, SEG_FS}, {"fs_rights", "uint32", HIDDEN, "system", K_RIGHTS, 4, SEG_FS},
    {"gs_limit", "uint32", HIDDEN, "system", K_LIMIT, 4, SEG_GS}, {"gs_rights", "uint32", HIDDEN, "system", K_RIGHTS, 4, SEG_GS},
    {"ldtr", "uint32", HIDDEN, "system", K_SELECTOR, 4, SEG_LDTR}, {"ldtr_base", "uint64", HIDDEN, "system", K_BASE, 8, SEG_LDTR},
    {"ldtr_limit", "uint32", HIDDEN, "system", K_LIMIT, 4, SEG_LDTR}, {"ldtr_rights", "uint32", HIDDEN, "system", K_RIGHTS, 4, SEG_LDTR},
    {"tr", "uint32", HIDDEN, "system", K_SELECTOR, 4, SEG_TR}, {"tr_base", "uint64", HIDDEN, "system", K_BASE, 8, SEG_TR},
    {"tr_limit", "uint32", HIDDEN, "system", K_LIMIT, 4, SEG_TR}, {"tr_rights", "uint32", HIDDEN, "system", K_RIGHTS, 4, SEG_TR},
    {"gdtr_base", "uint64", HIDDEN, "system", K_GDTR_BASE, 8, 0}, {"gdtr_limit", "uint32", HIDDEN, "system", K_GDTR_LIMIT, 4, 0},
    {"idtr_base", "uint64", HIDDEN, "system", K_IDTR_BASE, 8, 0}, {"idtr_limit", "uint32", HIDDEN, "system", K_IDTR_LIMIT, 4, 0},
    {"cr0", "cr0_flags", CONTROL, "system", K_CR0, 8, 0}, {"cr2", "uint64", CONTROL, "system", K_CR2, 8, 0},
    {"cr3", "uint64", CONTROL, "system", K_CR3, 8, 0}, {"cr4", "cr4_flags", CONTROL, "system", K_CR4, 8, 0},
    {"cr8", "uint64", CONTROL, "system", K_CR8, 8, 0}, {"efer", "efer_flags", CONTROL, "system", K_EFER, 8, 0},
    {"xcr0", "uint64", CONTROL, "system", K_XCR0, 8, 0},
    {"dr0", "uint64", DEBUG, "system", K_DR, 8, 0}, {"dr1", "uint64", DEBUG, "system", K_DR, 8, 1},
    {"dr2", "uint64", DEBUG, "system", K_DR, 8, 2}, {"dr3", "uint64", DEBUG, "system", K_DR, 8, 3},
    {"dr6", "uint64", DEBUG, "system", K_DR, 8, 6}, {"dr7", "uint64", DEBUG, "system", K_DR, 8, 7},
    {"vmx_mode", "vmx_mode", VMX, "vmx", K_VMX_MODE, 4, 0}, {"vmcs_pointer", "uint64", VMX, "vmx", K_VMCS_POINTER, 8, 0},
};

static const struct { const char *feature, *text; } types[] = {
    {CORE, "<flags id=\"i386_eflags\" size=\"4\">"
           "<field name=\"CF\" start=\"0\" end=\"0\"/><field name=\"\" start=\"1\" end=\"1\"/><field name=\"PF\" start=\"2\" end=\"2\"/>"
           "<field name=\"AF\" start=\"4\" end=\"4\"/><field name=\"ZF\" start=\"6\" end=\"6\"/><field name=\"SF\" start=\"7\" end=\"7\"/>"
           "<field name=\"TF\" start=\"8\" end=\"8\"/><field name=\"IF\" start=\"9\" end=\"9\"/><field name=\"DF\" start=\"10\" end=\"10\"/>"
           "<field name=\"OF\" start=\"11\" end=\"11\"/><field name=\"NT\" start=\"14\" end=\"14\"/><field name=\"RF\" start=\"16\" end=\"16\"/>"
           "<field name=\"VM\" start=\"17\" end=\"17\"/><field name=\"AC\" start=\"18\" end=\"18\"/><field name=\"VIF\" start=\"19\" end=\"19\"/>"
           "<field name=\"VIP\" start=\"20\" end=\"20\"/><field name=\"ID\" start=\"21\" end=\"21\"/></flags>\n"},
    {SSE, "<vector id=\"v4f\" type=\"ieee_single\" count=\"4\"/><vector id=\"v2d\" type=\"ieee_double\" count=\"2\"/>"
          "<vector id=\"v16i8\" type=\"int8\" count=\"16\"/><vector id=\"v8i16\" type=\"int16\" count=\"8\"/>"
          "<vector id=\"v4i32\" type=\"int32\" count=\"4\"/><vector id=\"v2i64\" type=\"int64\" count=\"2\"/>"
          "<union id=\"vec128\"><field name=\"v4_float\" type=\"v4f\"/><field name=\"v2_double\" type=\"v2d\"/>"
          "<field name=\"v16_int8\" type=\"v16i8\"/><field name=\"v8_int16\" type=\"v8i16\"/><field name=\"v4_int32\" type=\"v4i32\"/>"
          "<field name=\"v2_int64\" type=\"v2i64\"/><field name=\"uint128\" type=\"uint128\"/></union>\n"
          "<flags id=\"i386_mxcsr\" size=\"4\"><field name=\"IE\" start=\"0\" end=\"0\"/><field name=\"DE\" start=\"1\" end=\"1\"/>"
          "<field name=\"ZE\" start=\"2\" end=\"2\"/><field name=\"OE\" start=\"3\" end=\"3\"/><field name=\"UE\" start=\"4\" end=\"4\"/>"
          "<field name=\"PE\" start=\"5\" end=\"5\"/><field name=\"DAZ\" start=\"6\" end=\"6\"/><field name=\"IM\" start=\"7\" end=\"7\"/>"
          "<field name=\"DM\" start=\"8\" end=\"8\"/><field name=\"ZM\" start=\"9\" end=\"9\"/><field name=\"OM\" start=\"10\" end=\"10\"/>"
          "<field name=\"UM\" start=\"11\" end=\"11\"/><field name=\"PM\" start=\"12\" end=\"12\"/><field name=\"FZ\" start=\"15\" end=\"15\"/></flags>\n"},
    {CONTROL, "<flags id=\"cr0_flags\" size=\"8\"><field name=\"PE\" start=\"0\" end=\"0\"/><field name=\"MP\" start=\"1\" end=\"1\"/>"
              "<field name=\"EM\" start=\"2\" end=\"2\"/><field name=\"TS\" start=\"3\" end=\"3\"/><field name=\"ET\" start=\"4\" end=\"4\"/>"
              "<field name=\"NE\" start=\"5\" end=\"5\"/><field name=\"WP\" start=\"16\" end=\"16\"/><field name=\"AM\" start=\"18\" end=\"18\"/>"
              "<field name=\"NW\" start=\"29\" end=\"29\"/><field name=\"CD\" start=\"30\" end=\"30\"/><field name=\"PG\" start=\"31\" end=\"31\"/></flags>\n"
              "<flags id=\"cr4_flags\" size=\"8\"><field name=\"VME\" start=\"0\" end=\"0\"/><field name=\"PVI\" start=\"1\" end=\"1\"/>"
              "<field name=\"TSD\" start=\"2\" end=\"2\"/><field name=\"DE\" start=\"3\" end=\"3\"/><field name=\"PSE\" start=\"4\" end=\"4\"/>"
              "<field name=\"PAE\" start=\"5\" end=\"5\"/><field name=\"MCE\" start=\"6\" end=\"6\"/><field name=\"PGE\" start=\"7\" end=\"7\"/>"
              "<field name=\"PCE\" start=\"8\" end=\"8\"/><field name=\"OSFXSR\" start=\"9\" end=\"9\"/><field name=\"OSXMMEXCPT\" start=\"10\" end=\"10\"/>"
              "<field name=\"UMIP\" start=\"11\" end=\"11\"/><field name=\"LA57\" start=\"12\" end=\"12\"/><field name=\"VMXE\" start=\"13\" end=\"13\"/>"
              "<field name=\"SMXE\" start=\"14\" end=\"14\"/><field name=\"FSGSBASE\" start=\"16\" end=\"16\"/><field name=\"PCIDE\" start=\"17\" end=\"17\"/>"
              "<field name=\"OSXSAVE\" start=\"18\" end=\"18\"/><field name=\"SMEP\" start=\"20\" end=\"20\"/><field name=\"SMAP\" start=\"21\" end=\"21\"/>"
              "<field name=\"PKE\" start=\"22\" end=\"22\"/><field name=\"CET\" start=\"23\" end=\"23\"/><field name=\"PKS\" start=\"24\" end=\"24\"/></flags>\n"
              "<flags id=\"efer_flags\" size=\"8\"><field name=\"SCE\" start=\"0\" end=\"0\"/><field name=\"LME\" start=\"8\" end=\"8\"/>"
              "<field name=\"LMA\" start=\"10\" end=\"10\"/><field name=\"NXE\" start=\"11\" end=\"11\"/></flags>\n"},
    {VMX, "<enum id=\"vmx_mode\" size=\"4\"><evalue name=\"OFF\" value=\"0\"/><evalue name=\"ROOT\" value=\"1\"/>"
          "<evalue name=\"GUEST\" value=\"2\"/></enum>\n"},
};
// clang-format on

// ---- the table and its description ----
static const char *const numbered_names[2][16] = {
#define SIXTEEN(a, b) \
    { \
        a "0" b, a "1" b, a "2" b, a "3" b, a "4" b, a "5" b, a "6" b, a "7" b, a "8" b, a "9" b, a "10" b, \
            a "11" b, a "12" b, a "13" b, a "14" b, a "15" b \
    }
    SIXTEEN("xmm", ""), SIXTEEN("ymm", "h")};

static void describe(struct gdb_registers *r, FILE *f)
{
    fputs("<?xml version=\"1.0\"?><!DOCTYPE target SYSTEM \"gdb-target.dtd\">\n"
          "<target><architecture>i386:x86-64</architecture>\n",
          f);
    const char *feature = NULL;
    for (unsigned i = 0; i < r->n; i++) {
        const struct gdb_register *g = &r->row[i];
        if (!feature || strcmp(feature, g->feature) != 0) {
            fprintf(f, "%s<feature name=\"%s\">\n", feature ? "</feature>\n" : "", g->feature);
            feature = g->feature;
            for (unsigned t = 0; t < ARRAY_LEN(types); t++)
                if (strcmp(types[t].feature, feature) == 0) fputs(types[t].text, f);
        }
        fprintf(f, "<reg name=\"%s\" bitsize=\"%u\" type=\"%s\" regnum=\"%u\" group=\"%s\"/>\n", g->name,
                g->bytes * 8u, g->type, i, g->group);
    }
    fputs("</feature></target>\n", f);
}

static void add_row(struct gdb_registers *r, struct gdb_register g)
{
    if (r->n == ARRAY_LEN(r->row)) panic("more registers than gdb_registers holds");
    r->row[r->n++] = g;
}

bool gdb_registers_make(struct gdb_registers *r, const struct vcpu *v)
{
    static const char *const integer[] = {[2] = "uint16", [4] = "uint32", [8] = "uint64"};
    for (unsigned i = 0; i < ARRAY_LEN(fixed); i++) add_row(r, fixed[i]);
    for (u16 i = 0; i < 16; i++)
        add_row(r, (struct gdb_register){numbered_names[0][i], "vec128", SSE, "vector", K_XMM, 16, i});
    add_row(r, (struct gdb_register){"mxcsr", "i386_mxcsr", SSE, "vector", K_MXCSR, 4, 0});
    for (u16 i = 0; i < 16; i++)
        add_row(r, (struct gdb_register){numbered_names[1][i], "uint128", AVX, "vector", K_YMMH, 16, i});
    for (unsigned i = 0; i < ARRAY_LEN(more); i++) add_row(r, more[i]);
    const struct vmx_caps *caps = vmx_capabilities((struct vcpu *)v);
    for (u16 i = 0; i < VMCS_FIELD_COUNT; i++) {
        const struct vmcs_field_row *f = &vmcs_field_rows[i];
        if (caps->exists[i])
            add_row(r, (struct gdb_register){f->name, integer[f->size], VMX, "vmx", K_FIELD, f->size, i});
    }
    FILE *f = open_memstream(&r->xml, &r->xml_size);
    if (!f) return false;
    describe(r, f);
    return fclose(f) == 0;
}

void gdb_registers_free(struct gdb_registers *r) { free(r->xml); }

// ---- reading ----
static u8 tpr_of(const struct vcpu *v) { return v->board ? v->board->tpr_get(v->board_opaque, v->index) : 0; }

static bool number(const struct view *w, const struct gdb_register *g, u64 *x)
{
    const struct vcpu_state *s = &w->v->s;
    const struct fpu_state *f = &s->fpu;
    switch ((enum kind)g->kind) {
    case K_GPR: return *x = w->gpr[g->n], w->gpr_known >> g->n & 1;
    case K_RIP: return *x = w->rip, true;
    case K_EIP: return *x = w->rip + w->seg[SEG_CS].base, true;
    case K_ESP: return *x = w->gpr[RSP] + w->seg[SEG_SS].base, true;
    case K_FLAGS: return *x = w->rflags, true;
    case K_SELECTOR: return *x = w->seg[g->n].sel, true;
    case K_BASE: return *x = w->seg[g->n].base, true;
    case K_LIMIT: return *x = w->seg[g->n].limit, true;
    case K_RIGHTS: return *x = w->seg[g->n].ar, true;
    case K_FCTRL: return *x = f->fcw, true;
    case K_FSTAT: return *x = f->fsw, true;
    case K_FTAG: return *x = f->ftw, true;
    case K_FISEG: return *x = f->fcs, true;
    case K_FIOFF: return *x = f->fip, true;
    case K_FOSEG: return *x = f->fds, true;
    case K_FOOFF: return *x = f->fdp, true;
    case K_FOP: return *x = f->fop, true;
    case K_MXCSR: return *x = s->mxcsr, true;
    case K_GDTR_BASE: return *x = w->gdtr.base, true;
    case K_GDTR_LIMIT: return *x = w->gdtr.limit, true;
    case K_IDTR_BASE: return *x = w->idtr.base, true;
    case K_IDTR_LIMIT: return *x = w->idtr.limit, true;
    case K_CR0: return *x = w->cr0, true;
    case K_CR2: return *x = w->cr2, w->cr2_known;
    case K_CR3: return *x = w->cr3, true;
    case K_CR4: return *x = w->cr4, true;
    case K_CR8: return *x = tpr_of(w->v) >> 4, true;
    case K_EFER: return *x = w->efer, true;
    case K_XCR0: return *x = s->xcr0, true;
    case K_DR: return *x = g->n == 7 ? w->dr7 : s->dr[g->n], true;
    case K_VMX_MODE:
        *x = w->level == LEVEL_ROOT ? 1 : w->level == LEVEL_GUEST ? 2 : s->vmx.guest ? 2 : s->vmx.on;
        return true;
    case K_VMCS_POINTER: return *x = w->vmcs, true;
    case K_FIELD:
        if (w->vmcs == VMX_NO_POINTER || !vmcs_region_at(w->v->phys, w->vmcs)) return false;
        return *x = vmcs_read(w->v->phys, w->vmcs, (enum vmcs_field)g->n), true;
    default: return false;
    }
}

static unsigned physical_st(const struct fpu_state *f, unsigned n) { return ((f->fsw >> 11 & 7) + n) & 7; }

bool gdb_register_read(const struct gdb_registers *r, const struct view *w, unsigned n, u8 *to)
{
    const struct gdb_register *g = &r->row[n];
    const struct vcpu_state *s = &w->v->s;
    u64 x = 0;
    switch (g->kind) {
    case K_ST:
        memcpy(to, &s->fpu.r[physical_st(&s->fpu, g->n)].m, 8);
        memcpy(to + 8, &s->fpu.r[physical_st(&s->fpu, g->n)].se, 2);
        return true;
    case K_XMM: memcpy(to, s->xmm[g->n], 16); return true;
    case K_YMMH: memcpy(to, s->ymm_high[g->n], 16); return true;
    default:
        if (!number(w, g, &x)) return false;
        memcpy(to, &x, g->bytes);
        return true;
    }
}

// ---- writing ----
struct saved { // what a write may have to take back
    u64 gpr[16], rip, rflags, cr0, cr2, cr3, cr4, efer, xcr0, dr[8];
    u16 fl;
    u32 mxcsr;
    struct segment seg[SEG_COUNT];
    struct dtable gdtr, idtr;
    struct fpu_state fpu;
};
static void save(const struct vcpu_state *s, struct saved *o)
{
    memcpy(o->gpr, s->gpr, sizeof o->gpr);
    memcpy(o->dr, s->dr, sizeof o->dr);
    memcpy(o->seg, s->seg, sizeof o->seg);
    o->rip = s->rip, o->rflags = s->rflags, o->fl = s->fl;
    o->cr0 = s->cr0, o->cr2 = s->cr2, o->cr3 = s->cr3, o->cr4 = s->cr4, o->efer = s->msr.efer,
    o->xcr0 = s->xcr0;
    o->mxcsr = s->mxcsr, o->gdtr = s->gdtr, o->idtr = s->idtr, o->fpu = s->fpu;
}
static void restore(struct vcpu_state *s, const struct saved *o)
{
    memcpy(s->gpr, o->gpr, sizeof o->gpr);
    memcpy(s->dr, o->dr, sizeof o->dr);
    memcpy(s->seg, o->seg, sizeof o->seg);
    s->rip = o->rip, s->rflags = o->rflags, s->fl = o->fl;
    s->cr0 = o->cr0, s->cr2 = o->cr2, s->cr3 = o->cr3, s->cr4 = o->cr4, s->msr.efer = o->efer,
    s->xcr0 = o->xcr0;
    s->mxcsr = o->mxcsr, s->gdtr = o->gdtr, s->idtr = o->idtr, s->fpu = o->fpu;
}

// Into v->s. False: nobody may write it.
static bool put(struct vcpu *v, const struct gdb_register *g, u64 x)
{
    struct vcpu_state *s = &v->s;
    struct fpu_state *f = &s->fpu;
    const u64 kept = FL_VM | 2; // of RFLAGS: the mode is not changed by hand
    switch ((enum kind)g->kind) {
    case K_GPR: return s->gpr[g->n] = x, true;
    case K_EIP: return s->rip = (u32)(x - s->seg[SEG_CS].base), true;
    case K_ESP: return s->gpr[RSP] = (u32)(x - s->seg[SEG_SS].base), true;
    case K_RIP: return s->rip = mode_long64(v->d.mode) ? x : (u32)x, true;
    case K_FLAGS: return cpu_set_rflags(v, (x & 0x3F7FD5 & ~kept) | (cpu_rflags(v) & kept)), true;
    case K_SELECTOR: return s->seg[g->n].sel = (u16)x, true;
    case K_BASE: return s->seg[g->n].base = x, true; // cpu_state_impossible looks at it
    case K_LIMIT: return s->seg[g->n].limit = (u32)x, true;
    case K_RIGHTS: return s->seg[g->n].ar = (u32)x & 0x1F0FF, true;
    case K_FCTRL: return f->fcw = (u16)x, true;
    case K_FSTAT: return f->fsw = (u16)x, true;
    case K_FTAG: return f->ftw = (u16)x, true;
    case K_FISEG: return f->fcs = (u16)x, true;
    case K_FIOFF: return f->fip = x, true;
    case K_FOSEG: return f->fds = (u16)x, true;
    case K_FOOFF: return f->fdp = x, true;
    case K_FOP: return f->fop = x & 0x7FF, true;
    case K_MXCSR: return s->mxcsr = x & 0xFFFF, true;
    case K_GDTR_BASE: return s->gdtr.base = x, cpu_canonical_max(v, x);
    case K_GDTR_LIMIT: return s->gdtr.limit = (u16)x, true;
    case K_IDTR_BASE: return s->idtr.base = x, cpu_canonical_max(v, x);
    case K_IDTR_LIMIT: return s->idtr.limit = (u16)x, true;
    case K_CR0: return s->cr0 = x, true;
    case K_CR2: return s->cr2 = x, true;
    case K_CR3: return s->cr3 = x, !(x >> v->features->maxphyaddr);
    case K_CR4: return s->cr4 = x, true;
    case K_EFER: return s->msr.efer = x, true;
    case K_DR: // with the bits that are fixed
        if (g->n == 6) x = (x & 0xE00F) | 0xFFFF0FF0;
        if (g->n == 7) x = (x & 0xFFFF2BFF) | 0x400;
        return s->dr[g->n] = x, true;
    default: return false;
    }
}

static bool write_whole(const struct gdb_register *g, struct vcpu *v, const u8 *from)
{
    struct vcpu_state *s = &v->s;
    u64 x = 0;
    if (g->kind == K_XMM || g->kind == K_YMMH) {
        memcpy(g->kind == K_XMM ? s->xmm[g->n] : s->ymm_high[g->n], from, 16);
        return true;
    }
    if (g->kind == K_ST) {
        memcpy(&s->fpu.r[physical_st(&s->fpu, g->n)].m, from, 8);
        memcpy(&s->fpu.r[physical_st(&s->fpu, g->n)].se, from + 8, 2);
        return true;
    }
    memcpy(&x, from, g->bytes);
    if (g->kind == K_FIELD) {
        if (s->vmx.vmcs_pointer == VMX_NO_POINTER || !vmcs_region_at(v->phys, s->vmx.vmcs_pointer))
            return false;
        vmcs_write(v->phys, v->index, s->vmx.vmcs_pointer, (enum vmcs_field)g->n, x);
        return true;
    }
    struct saved old;
    save(s, &old);
    if (!put(v, g, x) || cpu_state_impossible(v, s)) {
        restore(s, &old);
        return false;
    }
    if (s->cr0 != old.cr0 || s->cr3 != old.cr3 || s->cr4 != old.cr4 || s->msr.efer != old.efer) {
        tlb_reset(&s->itlb);
        tlb_reset(&s->dtlb);
    }
    cpu_drop_derived(v);
    cpu_mode_changed(v);
    cpu_attention(v);
    return true;
}

bool gdb_register_put(const struct gdb_registers *r, struct vcpu *v, const struct journal_event *e)
{
    u8 value[GDB_REGISTER_BYTES];
    struct view w;
    if (e->at >= r->n || e->first + e->n > r->row[e->at].bytes) return false;
    view_here(&w, v);
    if (!gdb_register_read(r, &w, (unsigned)e->at, value)) return false;
    memcpy(value + e->first, &e->value, e->n);
    return write_whole(&r->row[e->at], v, value);
}
