/*
 * The guest's program: a few instructions of the kind that hypervisors look at, in the guest's mode, and a
 * VMCALL. What an instruction needs in registers is loaded before it.
 *
 * None of them reads time or depends on what the machine holds outside the case, but where marked: behind
 * those, RAX and RDX are loaded anew.
 */
#include "fuzz.h"

enum load {
    NOTHING,
    MSR,
    MSR_WRITE,
    PORT,
    CR0,
    CR3,
    CR4,
    CR8,
    DR,
    LMSW,
    SELECTOR,
    TYPE,
    XCR,
    ZERO,
    FIELD,
    COUNT
};
enum {
    MEMORY = 1,    /* takes a ModRM byte for [RBX], with `reg` */
    IMMEDIATE = 2, /* an 8-bit immediate: a port or a vector */
    TIME = 4,
    WIDE = 8,    /* with REX.W in 64-bit mode */
    FAR = 16,    /* a far pointer */
    CHANCE = 32, /* leaves a random number in RCX, for a moment */
};

#define ON_1C(bit)  (W_1C << 8 | (bit))
#define ON_7B(bit)  (W_7B << 8 | (bit))
#define ON_7C(bit)  (W_7C << 8 | (bit))
#define ON_E1D(bit) (W_E1D << 8 | (bit))
#define ALWAYS      0

struct instruction {
    const char *name, *bytes;
    unsigned length, reg, flags;
    enum load load;
    unsigned feature; /* without it: #UD, if neither machine has it */
};
#define I(name, bytes, reg, flags, load, feature) \
    { \
        name, bytes, sizeof(bytes) - 1, reg, flags, load, feature \
    }

static const struct instruction instructions[] = {
    // clang-format off
    I("cpuid", "\x0f\xa2", 0, 0, ZERO, ALWAYS), I("cpuid", "\x0f\xa2", 0, 0, ZERO, ALWAYS),
    I("hlt", "\xf4", 0, 0, NOTHING, ALWAYS), I("hlt", "\xf4", 0, 0, NOTHING, ALWAYS),
    I("pause", "\xf3\x90", 0, 0, NOTHING, ALWAYS),
    I("rdtsc", "\x0f\x31", 0, TIME, NOTHING, ALWAYS),
    I("rdtscp", "\x0f\x01\xf9", 0, TIME, NOTHING, ON_E1D(27)),
    I("rdpmc", "\x0f\x33", 0, 0, MSR, ALWAYS),
    I("rdmsr", "\x0f\x32", 0, 0, MSR, ALWAYS), I("rdmsr", "\x0f\x32", 0, 0, MSR, ALWAYS),
    I("wrmsr", "\x0f\x30", 0, 0, MSR_WRITE, ALWAYS), I("wrmsr", "\x0f\x30", 0, 0, MSR_WRITE, ALWAYS),
    I("in al,imm", "\xe4", 0, IMMEDIATE, PORT, ALWAYS), I("in al,dx", "\xec", 0, 0, PORT, ALWAYS),
    I("in eax,dx", "\xed", 0, 0, PORT, ALWAYS), I("in ax,dx", "\x66\xed", 0, 0, PORT, ALWAYS),
    I("out imm,eax", "\xe7", 0, IMMEDIATE, PORT, ALWAYS), I("out dx,al", "\xee", 0, 0, PORT, ALWAYS),
    I("out dx,eax", "\xef", 0, 0, PORT, ALWAYS),
    I("insb", "\x6c", 0, 0, PORT, ALWAYS), I("rep insw", "\xf3\x66\x6d", 0, 0, PORT, ALWAYS),
    I("outsb", "\x6e", 0, 0, PORT, ALWAYS), I("rep outsd", "\xf3\x6f", 0, 0, PORT, ALWAYS),
    I("es outsb", "\x26\x6e", 0, 0, PORT, ALWAYS), I("addr outsb", "\x67\x6e", 0, 0, PORT, ALWAYS),
    I("addr insd", "\x67\x6d", 0, 0, PORT, ALWAYS),
    I("mov cr0,rax", "\x0f\x22\xc0", 0, 0, CR0, ALWAYS), I("mov cr0,rax", "\x0f\x22\xc0", 0, 0, CR0, ALWAYS),
    I("mov cr3,rax", "\x0f\x22\xd8", 0, 0, CR3, ALWAYS), I("mov cr3,rax", "\x0f\x22\xd8", 0, 0, CR3, ALWAYS),
    I("mov cr4,rax", "\x0f\x22\xe0", 0, 0, CR4, ALWAYS), I("mov cr4,rax", "\x0f\x22\xe0", 0, 0, CR4, ALWAYS),
    I("mov cr8,rax", "\x44\x0f\x22\xc0", 0, 0, CR8, ALWAYS),
    I("mov cr2,rax", "\x0f\x22\xd0", 0, 0, CR0, ALWAYS), I("mov cr1,rax", "\x0f\x22\xc8", 0, 0, CR0, ALWAYS),
    I("mov rcx,cr0", "\x0f\x20\xc1", 0, 0, NOTHING, ALWAYS), I("mov rdx,cr3", "\x0f\x20\xda", 0, 0, NOTHING, ALWAYS),
    I("mov rsp,cr3", "\x0f\x20\xdc", 0, 0, NOTHING, ALWAYS),
    I("mov rsi,cr4", "\x0f\x20\xe6", 0, 0, NOTHING, ALWAYS), I("mov rdi,cr8", "\x44\x0f\x20\xc7", 0, 0, NOTHING, ALWAYS),
    I("clts", "\x0f\x06", 0, 0, NOTHING, ALWAYS), I("clts", "\x0f\x06", 0, 0, NOTHING, ALWAYS),
    I("lmsw ax", "\x0f\x01\xf0", 0, 0, LMSW, ALWAYS), I("lmsw m", "\x0f\x01", 6, MEMORY, LMSW, ALWAYS),
    I("smsw ax", "\x0f\x01\xe0", 0, 0, NOTHING, ALWAYS), I("smsw m", "\x0f\x01", 4, MEMORY, NOTHING, ALWAYS),
    I("mov dr0,rax", "\x0f\x23\xc0", 0, 0, DR, ALWAYS), I("mov dr7,rax", "\x0f\x23\xf8", 0, 0, DR, ALWAYS),
    I("mov dr6,rax", "\x0f\x23\xf0", 0, 0, DR, ALWAYS), I("mov dr4,rax", "\x0f\x23\xe0", 0, 0, DR, ALWAYS),
    I("mov rax,dr7", "\x0f\x21\xf8", 0, 0, NOTHING, ALWAYS), I("mov rdx,dr1", "\x0f\x21\xca", 0, 0, NOTHING, ALWAYS),
    I("invlpg m", "\x0f\x01", 7, MEMORY, NOTHING, ALWAYS), I("invd", "\x0f\x08", 0, 0, NOTHING, ALWAYS),
    I("wbinvd", "\x0f\x09", 0, 0, NOTHING, ALWAYS),
    I("xsetbv", "\x0f\x01\xd1", 0, 0, XCR, ON_1C(26)), I("xgetbv", "\x0f\x01\xd0", 0, 0, ZERO, ON_1C(26)),
    I("vmcall", "\x0f\x01\xc1", 0, 0, NOTHING, ALWAYS), I("vmlaunch", "\x0f\x01\xc2", 0, 0, NOTHING, ALWAYS),
    I("vmresume", "\x0f\x01\xc3", 0, 0, NOTHING, ALWAYS), I("vmxoff", "\x0f\x01\xc4", 0, 0, NOTHING, ALWAYS),
    I("vmxon m", "\xf3\x0f\xc7", 6, MEMORY, NOTHING, ALWAYS), I("vmclear m", "\x66\x0f\xc7", 6, MEMORY, NOTHING, ALWAYS),
    I("vmptrld m", "\x0f\xc7", 6, MEMORY, NOTHING, ALWAYS), I("vmptrst m", "\x0f\xc7", 7, MEMORY, NOTHING, ALWAYS),
    I("vmread m,rax", "\x0f\x78", 0, MEMORY, FIELD, ALWAYS), I("vmread rcx,rax", "\x0f\x78\xc1", 0, 0, FIELD, ALWAYS),
    I("vmwrite rax,m", "\x0f\x79", 0, MEMORY, FIELD, ALWAYS), I("vmwrite rax,rcx", "\x0f\x79\xc1", 0, 0, FIELD, ALWAYS),
    I("invept", "\x66\x0f\x38\x80", 0, MEMORY, TYPE, ALWAYS), I("invvpid", "\x66\x0f\x38\x81", 0, MEMORY, TYPE, ALWAYS),
    I("invpcid", "\x66\x0f\x38\x82", 0, MEMORY, TYPE, ON_7B(10)), I("vmfunc", "\x0f\x01\xd4", 0, 0, ZERO, ALWAYS),
    I("rsm", "\x0f\xaa", 0, 0, NOTHING, ALWAYS), I("getsec", "\x0f\x37", 0, 0, NOTHING, ALWAYS),
    I("int 21h", "\xcd\x21", 0, 0, NOTHING, ALWAYS), I("int imm", "\xcd", 0, IMMEDIATE, NOTHING, ALWAYS),
    I("int3", "\xcc", 0, 0, NOTHING, ALWAYS), I("into", "\xce", 0, 0, NOTHING, ALWAYS), I("int1", "\xf1", 0, 0, NOTHING, ALWAYS),
    I("ud2", "\x0f\x0b", 0, 0, NOTHING, ALWAYS), I("iret", "\xcf", 0, 0, NOTHING, ALWAYS), I("iretq", "\xcf", 0, WIDE, NOTHING, ALWAYS),
    I("pushf", "\x9c", 0, 0, NOTHING, ALWAYS), I("popf", "\x9d", 0, 0, NOTHING, ALWAYS),
    I("push 0x302; popf", "\x68\x02\x03\x00\x00\x9d", 0, 0, NOTHING, ALWAYS),
    I("sti", "\xfb", 0, 0, NOTHING, ALWAYS), I("sti", "\xfb", 0, 0, NOTHING, ALWAYS), I("cli", "\xfa", 0, 0, NOTHING, ALWAYS),
    I("mov ss,ax", "\x8e\xd0", 0, 0, SELECTOR, ALWAYS), I("mov ss,cx", "\x8c\xd1\x8e\xd1", 0, 0, NOTHING, ALWAYS),
    I("mov ds,ax", "\x8e\xd8", 0, 0, SELECTOR, ALWAYS), I("mov es,ax", "\x8e\xc0", 0, 0, SELECTOR, ALWAYS),
    I("mov fs,ax", "\x8e\xe0", 0, 0, SELECTOR, ALWAYS), I("push ss; pop ss", "\x16\x17", 0, 0, NOTHING, ALWAYS),
    I("lgdt m", "\x0f\x01", 2, MEMORY, NOTHING, ALWAYS), I("lidt m", "\x0f\x01", 3, MEMORY, NOTHING, ALWAYS),
    I("sgdt m", "\x0f\x01", 0, MEMORY, NOTHING, ALWAYS), I("sidt m", "\x0f\x01", 1, MEMORY, NOTHING, ALWAYS),
    I("lldt ax", "\x0f\x00\xd0", 0, 0, SELECTOR, ALWAYS), I("lldt m", "\x0f\x00", 2, MEMORY, NOTHING, ALWAYS),
    I("ltr ax", "\x0f\x00\xd8", 0, 0, SELECTOR, ALWAYS), I("sldt ax", "\x0f\x00\xc0", 0, 0, NOTHING, ALWAYS),
    I("str m", "\x0f\x00", 1, MEMORY, NOTHING, ALWAYS), I("str ecx", "\x0f\x00\xc9", 0, 0, NOTHING, ALWAYS),
    I("lsl", "\x0f\x03\xc8", 0, 0, SELECTOR, ALWAYS), I("verw ax", "\x0f\x00\xe8", 0, 0, SELECTOR, ALWAYS),
    I("jmp far", "\xea", 0, FAR, SELECTOR, ALWAYS), I("call far", "\x9a", 0, FAR, SELECTOR, ALWAYS),
    I("jmp far m", "\xff", 5, MEMORY, NOTHING, ALWAYS), I("retf", "\xcb", 0, 0, NOTHING, ALWAYS),
    I("mov ecx,[rbx]", "\x8b", 1, MEMORY, NOTHING, ALWAYS), I("mov [rbx],ecx", "\x89", 1, MEMORY, NOTHING, ALWAYS),
    I("mov [rbx],ecx", "\x89", 1, MEMORY, NOTHING, ALWAYS), I("add [rbx],ecx", "\x01", 1, MEMORY, NOTHING, ALWAYS),
    I("lock inc [rbx]", "\xf0\xff", 0, MEMORY, NOTHING, ALWAYS), I("xchg [rbx],edx", "\x87", 2, MEMORY, NOTHING, ALWAYS),
    I("push", "\x50", 0, 0, NOTHING, ALWAYS), I("pop", "\x5a", 0, 0, NOTHING, ALWAYS), I("call [rbx]", "\xff", 2, MEMORY, NOTHING, ALWAYS),
    I("movsb", "\xa4", 0, 0, NOTHING, ALWAYS), I("rep movsd", "\xf3\xa5", 0, 0, COUNT, ALWAYS), I("rep stosb", "\xf3\xaa", 0, 0, COUNT, ALWAYS),
    I("ret", "\xc3", 0, 0, NOTHING, ALWAYS), I("jmp +0", "\xeb\x00", 0, 0, NOTHING, ALWAYS),
    I("swapgs", "\x0f\x01\xf8", 0, 0, NOTHING, ALWAYS), I("syscall", "\x0f\x05", 0, 0, NOTHING, ALWAYS),
    I("sysenter", "\x0f\x34", 0, 0, NOTHING, ALWAYS), I("sysexit", "\x0f\x35", 0, 0, NOTHING, ALWAYS),
    I("rdrand ecx", "\x0f\xc7\xf1", 0, CHANCE, NOTHING, ON_1C(30)), I("rdseed ecx", "\x0f\xc7\xf9", 0, CHANCE, NOTHING, ON_7B(18)),
    I("monitor", "\x0f\x01\xc8", 0, 0, ZERO, ON_1C(3)), I("mwait", "\x0f\x01\xc9", 0, 0, ZERO, ON_1C(3)),
    I("div 0", "\x31\xc9\xf7\xf1", 0, 0, NOTHING, ALWAYS), I("fwait", "\x9b", 0, 0, NOTHING, ALWAYS), I("fnop", "\xd9\xd0", 0, 0, NOTHING, ALWAYS),
    I("wrfsbase", "\xf3\x48\x0f\xae\xd0", 0, 0, NOTHING, ON_7B(0)), I("nop", "\x90", 0, 0, NOTHING, ALWAYS),
    I("clac", "\x0f\x01\xca", 0, 0, NOTHING, ON_7B(20)), I("bound", "\x62", 0, MEMORY, NOTHING, ALWAYS),
    // clang-format on
};
#define COUNT_OF(list) (sizeof(list) / sizeof((list)[0]))

static uint8_t *at;

static void put(const void *bytes, unsigned n)
{
    memcpy(at, bytes, n);
    at += n;
}

static bool wide_code(void) { return kase.mode == LONG || kase.mode == LONG_USER; }
static bool small_code(void) { return kase.mode == REAL || kase.mode == V86 || kase.mode == PROTECTED16; }

/* mov r, value: as wide as the mode lets it be. */
static void load(unsigned reg, uint64_t value)
{
    uint8_t b[10] = {0x66, (uint8_t)(0xb8 + reg)};
    if (wide_code() && value >> 32) {
        b[0] = 0x48;
        memcpy(b + 2, &value, 8);
        put(b, 10);
    } else {
        memcpy(b + 2, &value, 4);
        put(small_code() ? b : b + 1, small_code() ? 6 : 5);
    }
}

static const uint32_t msrs[] = {
    IA32_SYSENTER_CS, IA32_SYSENTER_ESP, IA32_SYSENTER_EIP,   IA32_PAT, IA32_STAR,  IA32_LSTAR, IA32_FMASK,
    IA32_FS_BASE,     IA32_GS_BASE,      IA32_KERNEL_GS_BASE, 0x2000,   0xc0002000, 0x1fff,     0xbfffffff};

static void load_for(enum load what)
{
    static const uint64_t values[] = {
        0, 1, 0x10, 0xffffffff, 0x1234, 0x7fff00000000, 0x8000000000000000, 0x06060606};
    static const uint16_t ports[] = {0xec, 0xe4, 0x1234, 0x1234, 0x7fff, 0x7ffe, 0x8000, 0xfffc, 0xfff0};
    static const uint16_t selectors[] = {
        0,     8,           0x10,        0x18,   0x20,     0x28,        0x33,           0x3b,         0x48,
        S_LDT, S_CALL_GATE, S_TASK_GATE, S_TSS2, S_ABSENT, S_READ_ONLY, S_EXECUTE_ONLY, S_CONFORMING, 4,
        0xc,   0x11,        0xfff8,      0x4c};
    static const uint32_t cr0_bits[] = {CR0_PE, CR0_MP, CR0_EM, CR0_TS, CR0_NE,  CR0_WP,
                                        CR0_AM, CR0_NW, CR0_CD, CR0_PG, 1u << 20};
    static const uint32_t cr4_bits[] = {1,        2,        CR4_TSD,    CR4_DE,      CR4_PSE,     CR4_PAE,
                                        CR4_PGE,  CR4_PCE,  CR4_OSFXSR, CR4_OSXSAVE, CR4_VMXE,    CR4_PCIDE,
                                        CR4_SMEP, CR4_SMAP, CR4_UMIP,   1u << 31,    CR4_FSGSBASE};
    static const uint64_t cr3_bits[] = {0, 0, PTE_PCD, PTE_PWT, 1ul << 63, 1ul << 52, 1ul << 41, 1};
    static const uint64_t debug[] = {0,     0x400,   0x2000,     A_DATA, 0x100000000,
                                     0x401, 0xf0402, 0xffff0ff0, 0x2400};
    static const uint16_t words[] = {0, 1, 2, 8, 9, 0xe, 0xfff0, 0xffff};
    static const uint32_t vmcs[] = {0x6800, 0x4402, 0, 0x8000, 0x2801, 0x681e};
    uint64_t v = PICK(values), port = PICK(ports), selector = PICK(selectors), msr = PICK(msrs),
             b3 = PICK(cr3_bits), d = PICK(debug);
    uint32_t b0 = PICK(cr0_bits), b0b = odds(3) ? PICK(cr0_bits) : 0, b4 = PICK(cr4_bits), n = below(4);
    unsigned word = PICK(words), field = PICK(vmcs);
    bool supported = (offer.have[W_CR4] | offer.lack[W_CR4]) & b4;
    switch (what) {
    case MSR: load(RCX, msr); break;
    case MSR_WRITE:
        load(RCX, msr);
        if (msr == IA32_PAT) v &= 0x0707070707070707;
        load(RAX, v & 0xffffffff), load(RDX, v >> 32);
        break;
    case PORT: load(RDX, port), load(RCX, n); break;
    case CR0: load(RAX, kase.f[F_GUEST_CR0] ^ b0 ^ b0b); break;
    case CR3: load(RAX, kase.f[F_GUEST_CR3] ^ b3); break;
    case CR4: load(RAX, kase.f[F_GUEST_CR4] ^ (supported ? b4 : 0)); break;
    case CR8: load(RAX, word); break;
    case DR: load(RAX, d); break;
    case LMSW: load(RAX, word); break;
    case SELECTOR: load(RAX, selector); break;
    case TYPE: load(RAX, n), load(RCX, n + 1); break;
    case XCR: load(RAX, 1 | (word & 6)), load(RDX, 0), load(RCX, n & 1); break;
    case ZERO: load(RAX, 0), load(RCX, n & 1), load(RDX, 0); break;
    case FIELD: load(RAX, field); break;
    case COUNT: load(RCX, n); break;
    case NOTHING: break;
    }
}

static void emit(const struct instruction *i)
{
    static const uint8_t vectors[] = {0x80, 0x84, 0x21, 0x90, 0x91, 0x92, 3, 0xff}, ports[] = {0xec, 0xe4};
    static const uint16_t targets[] = {8, 0x18, S_CALL_GATE, S_TSS2, S_TASK_GATE, 0x10, 0, 0x33};
    uint8_t vector = PICK(vectors), port = PICK(ports), immediate = i->load == PORT ? port : vector;
    uint16_t target = PICK(targets);
    load_for(i->load);
    if (i->flags & WIDE && wide_code()) put("\x48", 1);
    put(i->bytes, i->length);
    if (i->flags & MEMORY) put((uint8_t[]){(uint8_t)(i->reg << 3 | (small_code() ? 7 : 3))}, 1);
    if (i->flags & IMMEDIATE) put(&immediate, 1);
    if (i->flags & FAR) {
        uint32_t offset = A_STUBS + 8 * 80;
        put(&offset, small_code() ? 2 : 4);
        put(&target, 2);
    }
    if (i->flags & CHANCE) {
        kase.chance = true;
        load(RCX, 0x33);
    }
    if (i->flags & TIME) {
        kase.time = true;
        load(RAX, 0x11), load(RDX, 0x22);
    }
}

static bool comparable(const struct instruction *i)
{
    if (!i->feature) return true;
    uint32_t bit = 1u << (i->feature & 31);
    enum word w = i->feature >> 8;
    return (offer.have[w] | offer.lack[w]) & bit;
}

void program_make(void)
{
    uint8_t code[512];
    unsigned count = 1 + below(5), edge = below(12);
    at = code;
    for (unsigned n = 0; n < count; n++) {
        const struct instruction *i = &PICK(instructions);
        uint8_t *before = at;
        emit(i);
        if (!comparable(i) || !step("instruction ", i->name, n)) at = before;
    }
    put("\x0f\x01\xc1\xcc\xcc\xcc\xcc\xcc\xcc\xcc\xcc\xcc\xcc\xcc\xcc\xcc", 16);
    /* Sometimes across the end of a page, or at its very end. */
    uint32_t where = A_CODE + (edge == 0 ? 0xffe : edge == 1 ? 0xffb : 0x800);
    memcpy(arena_at(where), code, (size_t)(at - code));
    kase.f[F_GUEST_RIP] = where;
}
