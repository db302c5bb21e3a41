/*
 * Task switches: by JMP, CALL, IRET and task gates, with 32- and 16-bit TSSs; what is saved and loaded; busy
 * bits, NT, link, CR0.TS, the T flag; each check of table 9-1 with the task that its fault belongs to (SDM
 * volume 3 chapter 9).
 *
 * A laboratory in 32-bit protected mode without paging switches from the kernel's task to a new one, which
 * runs at level 3; every vector leads back, and says in which task, where and with what registers it was.
 *
 * Bochs 2.7 passes all but two points with their EXT forms: of a new task whose CS and SS are both wrong it
 * names SS, where the order of table 9-1, which the manual calls that of the P6 family, has CS first.
 *
 * QEMU's TCG reports the faults of the new task at the old EIP (9.3: "prior to beginning execution of the new
 * task"), never sets EXT (7.13), has #NP for a stack segment that is not present (table 9-1: #SS), #TS for a
 * task gate that names the LDT (JMP, CALL, INT n: #GP), refuses a conforming CS of a DPL below its RPL, and
 * knows neither the T flag (19.3.1.5) nor RF in the TSS of a task that faulted (19.3.1.1).
 *
 * The manual does not say what a 16-bit TSS leaves in the upper halves of the registers, nor whether DR7.LE
 * is cleared.
 *
 * Missing: paging (CR3), virtual-8086 tasks, error codes on a new task's stack.
 */
#include "low.h"
#include "tap.h"

enum { /* linear addresses */
       CODE = 0xa000,
       NEW_CODE = 0xa800,
       OLD32_TSS = 0xc000,
       OLD16_TSS = 0xc100,
       NEW32_TSS = 0xc200,
       NEW16_TSS = 0xc300,
       NEW_LDT = 0xc400,
       HOME_TSS = 0xc500,
       NEW_STACK0 = 0x6c00,
       NEW_STACK = 0xb800,
};
enum { /* selectors */
       OLD32 = SEL_SPARE,
       OLD16 = 0x60,
       NEW32 = 0x68,
       NEW16 = 0x70,
       GATE32 = 0x78,
       GATE16 = 0x80,
       MORE = 0x88,
       LDT = 0x90,
       HOME = 0x98, /* a 32-bit TSS, without which there is no way back to IA-32e mode */
};
#define VECTOR 0x1f /* a task gate, of level 3 */

/* What the laboratory is told, and what it says, at LOW_DATA. */
struct lab {
    uint32_t tr, esp, flags, code;
    uint32_t vector, ds, eax, ecx, edx, ebx, ebp, esi, edi, es, fs, gs, tr_after, ldtr, cr0, esp_after,
        stack[8];
};
_Static_assert(offsetof(struct lab, vector) == 16 && offsetof(struct lab, stack) == 80,
               "its assembly knows these");

asm(".pushsection .text; .balign 16; lab: .code32;"
    "pusha; mov %esp, 0x7004; mov 0x7000, %eax; ltr %ax; pushl 0x7008; popf;"
    "mov $0x11223300, %eax; lea 1(%eax), %ecx; lea 2(%eax), %edx; lea 3(%eax), %ebx; lea 5(%eax), %ebp;"
    "lea 6(%eax), %esi; lea 7(%eax), %edi; jmp *0x700c;"
    ".balign 8; lab_stubs: .set vector, 0; .rept 32; .balign 8; push $vector; jmp lab_entry;"
    ".set vector, vector + 1; .endr;"
    "lab_entry: push %eax; push %ds; mov $0x10, %eax; mov %eax, %ds; popl 0x7014; popl 0x7018; popl 0x7010;"
    "mov %ecx, 0x701c; mov %edx, 0x7020; mov %ebx, 0x7024; mov %ebp, 0x7028; mov %esi, 0x702c; mov %edi, "
    "0x7030;"
    "mov %es, %eax; mov %eax, 0x7034; mov %fs, %eax; mov %eax, 0x7038; mov %gs, %eax; mov %eax, 0x703c;"
    "str %eax; mov %eax, 0x7040; sldt %eax; mov %eax, 0x7044; mov %cr0, %eax; mov %eax, 0x7048; mov %esp, "
    "0x704c;"
    "mov $0x10, %eax; mov %eax, %es; mov %esp, %esi; mov $0x7050, %edi; mov $8, %ecx; cld; rep movsl;"
    "xor %eax, %eax; lldt %ax; clts; mov $0x98, %eax; ltr %ax; mov $0x10, %eax; mov %eax, %ss; mov 0x7004, "
    "%esp;"
    "pushf; andl $~0x4100, (%esp); popf; popa; ret; lab_end: .code64; .popsection");
extern const uint8_t lab[], lab_stubs[], lab_end[];

static volatile struct lab *const m = (volatile struct lab *)LOW_DATA;

/* Offsets in a TSS of 32 and of 16 bits. */
struct offsets {
    uint8_t width, eip, eflags, gpr, segments, step, count;
};
static const struct offsets wide = {4, 0x20, 0x24, 0x28, 0x48, 4, 6},
                            narrow = {2, 0x0e, 0x10, 0x12, 0x22, 2, 4};

static uint16_t beyond(void) { return (uint16_t)((rt_gdt_end - rt_gdt) * 8); }

static void put(uint32_t at, uint32_t x, unsigned n) { memcpy((void *)(uintptr_t)at, &x, n); }
static uint32_t get(uint32_t at, unsigned n)
{
    uint32_t x = 0;
    memcpy(&x, (const void *)(uintptr_t)at, n);
    return x;
}
static void descriptor(uint16_t sel, uint32_t base, uint32_t limit, unsigned ar)
{
    rt_gdt[sel / 8] = (limit & 0xffff) | (uint64_t)(base & 0xffffff) << 16 | (uint64_t)(ar & 0xf0ff) << 40 |
                      (uint64_t)(limit >> 16) << 48 | (uint64_t)(base >> 24) << 56;
}
static unsigned access_byte(uint16_t sel) { return rt_gdt[sel / 8] >> 40 & 0xff; }
static uint64_t task_gate(uint16_t tss, unsigned ar) { return (uint64_t)tss << 16 | (uint64_t)ar << 40; }
static void idt_task_gate(unsigned vector, uint16_t tss, unsigned ar)
{
    uint64_t gate = task_gate(tss, ar);
    memcpy((void *)(uintptr_t)(LOW_IDT + 8 * vector), &gate, 8);
}

#define FLAGS_NEW (RFLAGS_CF | RFLAGS_FIXED)
static void new_task(uint32_t tss, const struct offsets *o)
{
    static const uint16_t sel[] = {SEL_USER_DATA,     SEL_USER_CODE32, SEL_USER_DATA, SEL_USER_DATA, 0,
                                   SEL_USER_DATA & ~3};
    memset((void *)(uintptr_t)tss, 0, 0x68);
    put(tss + (o == &wide ? 4 : 2), NEW_STACK0, o->width);
    put(tss + (o == &wide ? 8 : 4), SEL_DATA, 2);
    put(tss + o->eip, NEW_CODE, o->width);
    put(tss + o->eflags, FLAGS_NEW, o->width);
    for (unsigned i = 0; i < 8; i++)
        put(tss + o->gpr + o->width * i, i == 4 ? NEW_STACK : 0xa1b2c300 + i, o->width);
    for (unsigned i = 0; i < o->count; i++) put(tss + o->segments + o->step * i, sel[i], 2);
}

static void prepare(bool from16)
{
    for (unsigned i = SEL_SPARE / 8; i < (unsigned)(rt_gdt_end - rt_gdt); i++) rt_gdt[i] = 0;
    memset((void *)OLD32_TSS, 0, 0x200);
    descriptor(OLD32, OLD32_TSS, 0x67, 0x89), descriptor(OLD16, OLD16_TSS, 0x2b, 0x81);
    descriptor(NEW32, NEW32_TSS, 0x67, 0x89), descriptor(NEW16, NEW16_TSS, 0x2b, 0x81);
    rt_gdt[GATE32 / 8] = task_gate(NEW32, 0x85), rt_gdt[GATE16 / 8] = task_gate(NEW16, 0x85);
    descriptor(LDT, NEW_LDT, 0x1f, 0x82), descriptor(HOME, HOME_TSS, 0x67, 0x89);
    new_task(NEW32_TSS, &wide), new_task(NEW16_TSS, &narrow);
    for (unsigned v = 0; v < 32; v++) low_gate(v, LOW_SNIPPET + (uint32_t)(lab_stubs - lab) + 8 * v, 0xe);
    idt_task_gate(VECTOR, NEW32, 0xe5);
    put(NEW_CODE, 0x0b0f, 2); /* the new task's program: UD2 */
    m->tr = from16 ? OLD16 : OLD32;
    m->flags = RFLAGS_FIXED | RFLAGS_ZF;
    m->code = CODE;
}

enum how { BY_JMP, BY_CALL, BY_INT, BY_IRET, BY_UD };
static void go(enum how how, uint16_t sel)
{
    put(CODE, 0x0b0f90f4, 4);
    switch (how) {
    case BY_JMP:
    case BY_CALL:
        put(CODE, how == BY_JMP ? 0xea : 0x9a, 1); /* the offset says nothing */
        put(CODE + 1, 0x99999999, 4), put(CODE + 5, sel, 2);
        break;
    case BY_INT: put(CODE, 0xcd | VECTOR << 8, 2); break;
    case BY_IRET:
        put(CODE, 0xcf, 1);
        m->flags |= RFLAGS_NT;
        break;
    case BY_UD: put(CODE, 0x0b0f, 2); break;
    }
    m->vector = 0xffff;
    write_dr6(0xffff0ff0);
    low_run(LOW_PROTECTED32, lab, lab_end);
    rt_gdt[SEL_TSS / 8] &= ~(2ul << 40); /* not busy */
    asm volatile("ltr %w0" ::"r"(SEL_TSS));
}

static bool has_error_code(unsigned vector)
{
    return vector == 8 || (vector >= 10 && vector <= 14) || vector == 17;
}
enum { EIP, CS, EFLAGS, ESP, SS };
static uint32_t frame(unsigned item) { return m->stack[has_error_code(m->vector) + item]; }

/* ---- what is saved and loaded ---- */
static const char *const names[] = {"JMP", "CALL", "INT n", "IRET"};

static void switches(void)
{
    for (unsigned from16 = 0; from16 < 2; from16++)
        for (unsigned to16 = 0; to16 < 2; to16++)
            for (enum how how = BY_JMP; how <= BY_IRET; how++) {
                const struct offsets *f = from16 ? &narrow : &wide;
                uint16_t old = from16 ? OLD16 : OLD32, sel = to16 ? NEW16 : NEW32;
                uint32_t from = from16 ? OLD16_TSS : OLD32_TSS, to = to16 ? NEW16_TSS : NEW32_TSS;
                bool nested = how == BY_CALL || how == BY_INT;
                prepare(from16);
                if (to16) idt_task_gate(VECTOR, NEW16, 0xe5);
                if (how == BY_IRET) put(from, sel, 2), rt_gdt[sel / 8] |= 2ull << 40;
                go(how, sel);
                tap_note("%s from a %s-bit TSS to a %s-bit one", names[how], from16 ? "16" : "32",
                         to16 ? "16" : "32");
                ok(m->vector == 6 && frame(EIP) == NEW_CODE && m->tr_after == sel, "  runs the new task");
                unsigned wrong = 0;
                const uint32_t got[] = {m->eax, m->ecx, m->edx, m->ebx, frame(ESP), m->ebp, m->esi, m->edi};
                for (unsigned i = 0; i < 8; i++) {
                    uint32_t x = i == 4 ? NEW_STACK : 0xa1b2c300 + i;
                    wrong += (to16 ? (uint16_t)got[i] : got[i]) != (to16 ? (uint16_t)x : x);
                }
                is(wrong, 0, "  with its registers");
                is(frame(EFLAGS) & ~RFLAGS_RF, FLAGS_NEW | (nested ? RFLAGS_NT : 0), "  its EFLAGS%s",
                   nested ? " and NT" : "");
                ok((uint16_t)frame(CS) == SEL_USER_CODE32 && (uint16_t)frame(SS) == SEL_USER_DATA &&
                       (uint16_t)m->ds == SEL_USER_DATA && m->es == SEL_USER_DATA && m->fs == 0 &&
                       m->gs == (to16 ? 0 : SEL_USER_DATA & ~3),
                   "  its segments");
                ok(m->cr0 & CR0_TS, "  CR0.TS");
                is(get(from + f->eip, f->width),
                   CODE + (how == BY_IRET  ? 1
                           : how == BY_INT ? 2
                                           : 7),
                   "  EIP behind the instruction is saved");
                is(get(from + f->eflags, f->width), RFLAGS_FIXED | RFLAGS_ZF, "  EFLAGS%s",
                   how == BY_IRET ? ", without NT" : "");
                wrong = 0;
                for (unsigned i = 0; i < 8; i++)
                    if (i != 4)
                        wrong += get(from + f->gpr + f->width * i, f->width) !=
                                 (from16 ? 0x3300 + i : 0x11223300 + i);
                for (unsigned i = 0; i < f->count; i++)
                    wrong += get(from + f->segments + f->step * i, 2) != (i == 1 ? SEL_CODE32 : SEL_DATA);
                is(wrong, 0, "  the registers and segments");
                is(access_byte(old), (from16 ? 0x81 : 0x89) | (nested ? 2 : 0), "  the old task is %s",
                   nested ? "busy" : "not busy");
                is(access_byte(sel), to16 ? 0x83 : 0x8b, "  the new one is");
                is(get(to, 2), nested ? old : 0, "  its link");
            }
}

/* ---- faults ---- */
static void in_old(unsigned vector, uint32_t error, const char *name)
{
    if (!ok(m->vector == vector && m->stack[0] == error && frame(EIP) == CODE && m->tr_after == OLD32 &&
                m->eax == 0x11223300 && !(m->cr0 & CR0_TS) && access_byte(OLD32) == 0x8b,
            "%s", name))
        tap_note("  vector %x (want %x), error code %x (want %x), eip %x, TR %x, eax %x", m->vector, vector,
                 m->stack[0], error, frame(EIP), m->tr_after, m->eax);
}
static void in_new(unsigned vector, uint32_t error, const char *name)
{
    if (!ok(m->vector == vector && m->stack[0] == error && frame(EIP) == NEW_CODE && m->tr_after == NEW32 &&
                m->eax == 0xa1b2c300 && m->cr0 & CR0_TS && access_byte(NEW32) == 0x8b,
            "%s", name))
        tap_note("  vector %x (want %x), error code %x (want %x), eip %x, TR %x, eax %x", m->vector, vector,
                 m->stack[0], error, frame(EIP), m->tr_after, m->eax);
}

static void wrong_tss(void)
{
    static const struct {
        const char *name;
        enum how how;
        uint16_t sel, change, limit;
        uint8_t ar;
        unsigned vector;
        uint16_t error;
    } c[] = {
        {"JMP to a TSS: RPL above its DPL", BY_JMP, NEW32 | 3, 0, 0, 0, 13, NEW32},
        {"CALL", BY_CALL, NEW32 | 1, 0, 0, 0, 13, NEW32},
        {"JMP to a busy TSS", BY_JMP, NEW32, NEW32, 0x67, 0x8b, 13, NEW32},
        {"CALL", BY_CALL, NEW32, NEW32, 0x67, 0x8b, 13, NEW32},
        {"JMP to its own TSS", BY_JMP, OLD32, 0, 0, 0, 13, OLD32},
        {"JMP to a TSS that is not present", BY_JMP, NEW32, NEW32, 0x67, 0x09, 11, NEW32},
        {"CALL", BY_CALL, NEW32, NEW32, 0x67, 0x09, 11, NEW32},
        {"JMP to a TSS that is too small", BY_JMP, NEW32, NEW32, 0x66, 0x89, 10, NEW32},
        {"CALL", BY_CALL, NEW32, NEW32, 0x66, 0x89, 10, NEW32},
        {"JMP to a 16-bit TSS that is too small", BY_JMP, NEW16, NEW16, 0x2a, 0x81, 10, NEW16},
        {"JMP through a task gate: RPL above its DPL", BY_JMP, GATE32 | 3, 0, 0, 0, 13, GATE32},
        {"JMP through one to a busy TSS", BY_JMP, GATE32, NEW32, 0x67, 0x8b, 13, NEW32},
        {"CALL through one to a TSS that is not present", BY_CALL, GATE32, NEW32, 0x67, 0x09, 11, NEW32},
        {"CALL through one to a TSS that is too small", BY_CALL, GATE32, NEW32, 0x66, 0x89, 10, NEW32},
        {"INT n to a busy TSS", BY_INT, 0, NEW32, 0x67, 0x8b, 13, NEW32},
        {"INT n to a TSS that is not present", BY_INT, 0, NEW32, 0x67, 0x09, 11, NEW32},
        {"INT n to a TSS that is too small", BY_INT, 0, NEW32, 0x66, 0x89, 10, NEW32},
        {"IRET to a NULL link", BY_IRET, 0, 0, 0, 0, 10, 0},
        {"IRET to a link into the LDT", BY_IRET, NEW32 | 4, 0, 0, 0, 10, NEW32 | 4},
        {"IRET to a TSS that is not busy", BY_IRET, NEW32, 0, 0, 0, 10, NEW32},
        {"IRET to a TSS that is not present", BY_IRET, NEW32, NEW32, 0x67, 0x0b, 11, NEW32},
        {"IRET to a TSS that is too small", BY_IRET, NEW32, NEW32, 0x66, 0x8b, 10, NEW32},
        {"IRET to what is no TSS", BY_IRET, SEL_DATA, 0, 0, 0, 10, SEL_DATA},
    };
    for (unsigned i = 0; i < sizeof(c) / sizeof(c[0]); i++) {
        prepare(false);
        if (c[i].change)
            descriptor(c[i].change, c[i].change == NEW32 ? NEW32_TSS : NEW16_TSS, c[i].limit, c[i].ar);
        put(OLD32_TSS, c[i].sel, 2);
        go(c[i].how, c[i].sel);
        in_old(c[i].vector, c[i].error, c[i].name);
    }
    prepare(false);
    go(BY_JMP, beyond());
    in_old(13, beyond(), "JMP beyond the GDT");
    prepare(false);
    put(OLD32_TSS, beyond(), 2);
    go(BY_IRET, 0);
    in_old(10, beyond(), "IRET to a link beyond the GDT");
    static const uint16_t named[] = {NEW32 | 4, SEL_DATA, LDT, GATE32};
    for (unsigned i = 0; i < sizeof(named) / 2; i++)
        for (unsigned n = 0; n < 2; n++) {
            prepare(false);
            rt_gdt[GATE32 / 8] = task_gate(named[i], 0x85);
            idt_task_gate(VECTOR, named[i], 0xe5);
            go(n ? BY_INT : BY_CALL, GATE32);
            in_old(13, named[i] & ~3, n ? "  by INT n" : "a task gate that names no TSS of the GDT");
        }
    prepare(false);
    rt_gdt[GATE32 / 8] = task_gate(NEW32, 0x05);
    go(BY_JMP, GATE32);
    in_old(11, GATE32, "a task gate that is not present");
    prepare(false);
    idt_task_gate(VECTOR, NEW32, 0x65);
    go(BY_INT, 0);
    in_old(11, VECTOR * 8 + 2, "  in the IDT");
}

static void wrong_segments(void)
{
    enum { ES = 0x48, CS_ = 0x4c, SS_ = 0x50, DS = 0x54, FS = 0x58, GS = 0x5c, LDTR = 0x60, BEYOND = 0xffff };
    static const struct {
        const char *name;
        uint8_t field;
        uint16_t sel;
        unsigned vector;
        uint16_t error, more; /* the access rights of MORE */
    } c[] = {
        {"LDT: selector of an LDT", LDTR, LDT | 4, 10, LDT | 4, 0},
        {"  beyond the GDT", LDTR, BEYOND, 10, 0, 0},
        {"  no LDT", LDTR, SEL_DATA, 10, SEL_DATA, 0},
        {"  not present", LDTR, MORE, 10, MORE, 0x02},
        {"CS: NULL", CS_, 3, 10, 0, 0},
        {"  beyond the GDT", CS_, BEYOND, 10, 0, 0},
        {"  in an LDT, which there is none of", CS_, 7, 10, 4, 0},
        {"  a data segment", CS_, SEL_USER_DATA, 10, SEL_USER_DATA & ~3, 0},
        {"  a system descriptor", CS_, LDT | 3, 10, LDT, 0},
        {"  DPL below RPL", CS_, SEL_CODE32 | 3, 10, SEL_CODE32, 0},
        {"  DPL above RPL", CS_, (SEL_USER_CODE32 & ~3) | 1, 10, SEL_USER_CODE32 & ~3, 0},
        {"  conforming, DPL above RPL", CS_, MORE | 1, 10, MORE, 0x40fe},
        {"  not present", CS_, MORE | 3, 11, MORE, 0x407a},
        {"SS: NULL", SS_, 0, 10, 0, 0},
        {"  beyond the GDT", SS_, BEYOND, 10, 0, 0},
        {"  a code segment", SS_, SEL_USER_CODE32, 10, SEL_USER_CODE32 & ~3, 0},
        {"  not writable", SS_, MORE | 3, 10, MORE, 0x40f0},
        {"  not present", SS_, MORE | 3, 12, MORE, 0x4072},
        {"  DPL below CPL", SS_, SEL_DATA | 3, 10, SEL_DATA, 0},
        {"  RPL below CPL", SS_, SEL_USER_DATA & ~3, 10, SEL_USER_DATA & ~3, 0},
        {"DS: beyond the GDT", DS, BEYOND, 10, 0, 0},
        {"  a system descriptor", DS, LDT, 10, LDT, 0},
        {"  not readable", DS, MORE | 3, 10, MORE, 0x40f8},
        {"  not present", DS, MORE | 3, 11, MORE, 0x4072},
        {"  DPL below CPL", DS, SEL_DATA, 10, SEL_DATA, 0},
        {"ES: DPL below CPL", ES, SEL_DATA | 3, 10, SEL_DATA, 0},
        {"FS: not present", FS, MORE | 3, 11, MORE, 0x4072},
        {"GS: beyond the GDT", GS, BEYOND, 10, 0, 0},
    };
    for (unsigned i = 0; i < sizeof(c) / sizeof(c[0]); i++) {
        uint16_t sel = c[i].sel == BEYOND ? beyond() | (c[i].field == LDTR ? 0 : 3) : c[i].sel;
        uint16_t error = c[i].sel == BEYOND ? beyond() : c[i].error;
        prepare(false);
        descriptor(MORE, 0, 0xffff, c[i].more);
        put(NEW32_TSS + c[i].field, sel, 2);
        go(BY_JMP, NEW32);
        in_new(c[i].vector, error, c[i].name);
        prepare(false);
        descriptor(MORE, 0, 0xffff, c[i].more);
        put(NEW32_TSS + c[i].field, sel, 2);
        idt_task_gate(6, NEW32, 0x85);
        go(BY_UD, 0);
        in_new(c[i].vector, error | 1, "    delivering an exception: with EXT");
    }
    static const struct {
        const char *name;
        uint8_t field;
        uint16_t sel, more;
    } good[] = {
        {"DS may be NULL with any RPL", DS, 2, 0},
        {"  a conforming code segment of level 0", DS, MORE | 3, 0x409e},
        {"LDT may be NULL", LDTR, 3, 0},
        {"  or one", LDTR, LDT, 0},
        {"CS may be conforming, of a DPL below RPL", CS_, MORE | 3, 0x409e},
    };
    for (unsigned i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        prepare(false);
        descriptor(MORE, 0, 0xfffff, good[i].more | 0x8000);
        put(NEW32_TSS + good[i].field, good[i].sel, 2);
        go(BY_JMP, NEW32);
        ok(m->vector == 6 && frame(EIP) == NEW_CODE && m->tr_after == NEW32, "%s", good[i].name);
    }
    prepare(false);
    descriptor(MORE, 0, NEW_CODE - 1, 0x40fa);
    put(NEW32_TSS + CS_, MORE | 3, 2);
    go(BY_CALL, NEW32);
    in_new(13, 0, "EIP beyond the limit of CS: #GP(0) of the new task");
    prepare(false);
    descriptor(MORE, 0, NEW_CODE - 1, 0x40fa);
    put(NEW32_TSS + CS_, MORE | 3, 2);
    idt_task_gate(6, NEW32, 0x85);
    go(BY_UD, 0);
    in_new(13, 1, "  delivering an exception: #GP(EXT)");
}

/* ---- flags ---- */
static void flags(void)
{
    prepare(false);
    put(NEW32_TSS + 0x64, 1, 1);
    go(BY_JMP, NEW32);
    ok(m->vector == 1 && frame(EIP) == NEW_CODE && m->tr_after == NEW32,
       "T: #DB before the first instruction");
    is(read_dr6() & 0xe00f, 1u << 15, "  DR6.BT");
    prepare(false);
    put(NEW32_TSS + 0x24, RFLAGS_FIXED | RFLAGS_TF, 4);
    put(NEW_CODE, 0x0b0f90, 3);
    go(BY_JMP, NEW32);
    ok(m->vector == 1 && frame(EIP) == NEW_CODE + 1,
       "TF in the new EFLAGS: #DB behind the first instruction");
    prepare(false);
    idt_task_gate(6, NEW32, 0x85);
    go(BY_UD, 0);
    is(get(OLD32_TSS + 0x20, 4), CODE, "a fault saves the address of its instruction");
    is(get(OLD32_TSS + 0x24, 4) & RFLAGS_RF, RFLAGS_RF, "  and RF");
    write_dr7(0x7ff);
    prepare(false);
    go(BY_JMP, NEW32);
    is(read_dr7() & ~0x100ul, 0x6aa, "L0 to L3 of DR7 are cleared");
    write_dr7(0x400);
}

/* CALL, IRET back, and CALL again: each task goes on where it was. */
static void there_and_back(void)
{
    prepare(false);
    put(NEW32_TSS + 0x4c, SEL_CODE32, 2), put(NEW32_TSS + 0x50, SEL_DATA, 2);
    put(NEW_CODE, 0xcf40cf40, 4); /* inc eax; iret; inc eax; iret */
    put(CODE + 7, 0x9a, 1), put(CODE + 8, 0, 4), put(CODE + 12, NEW32, 2), put(CODE + 14, 0x0b0f, 2);
    go(BY_CALL, NEW32);
    ok(m->vector == 6 && frame(EIP) == CODE + 14 && m->tr_after == OLD32, "CALL and IRET, twice");
    is(m->eax, 0x11223300, "  the old task has its registers");
    is(get(NEW32_TSS + 0x28, 4), 0xa1b2c302, "  the new one went on behind its IRET");
    is(get(NEW32_TSS + 0x20, 4), NEW_CODE + 4, "  and stands behind the second");
    is(get(NEW32_TSS + 0x24, 4) & RFLAGS_NT, 0, "  without NT");
    is(access_byte(NEW32), 0x89, "  and not busy");
}

int rom_main(void)
{
    tap_begin("task switches");
    flags();
    there_and_back();
    switches();
    wrong_tss();
    wrong_segments();
    return tap_end();
}
