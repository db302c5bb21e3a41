/*
 * A guest that means no good: what no software does on purpose, one thing a run. Nothing is asserted here;
 * the machine it runs on must live through it (tests/hostile).
 *
 * Words: case=NAME (without it the names are listed), seed=N for the cases that draw.
 */
#include "apic.h"
#include "rt.h"
#include "smp.h"
#include "trap.h"
#include "vmcs.h"
#include "vmx.h"

#define LAPIC  0xfee00000ull
#define IOAPIC 0xfec00000ull
#define HPET   0xfed00000ull

static uint64_t seed;

static uint64_t draw(void) /* splitmix64 */
{
    uint64_t z = seed += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}
static uint64_t below(uint64_t n) { return draw() % n; }

/* Pages where nothing of the kind should be; the machine has 64 MiB. */
static uint64_t shared[2]; /* pages of RAM that several structures get */
static uint64_t bad_page(void)
{
    static const uint64_t places[] = {
        0,           LAPIC,          IOAPIC,          HPET,         0xa0000,    0xb8000,
        0xf0000,     0xff000,        0x3fff000,       0x4000000,    0x3ffe000,  0xfffff000,
        0x100000000, 0xfffffffff000, 0xffffffffff000, 0x8000000000, 0xfeefff000};
    uint64_t n = below(sizeof places / sizeof *places + 6);
    if (n < sizeof places / sizeof *places) return places[n];
    if (n % 2) return shared[n / 2 % 2];
    return n % 4 ? (uint64_t)rt_pml4 : (uint64_t)page_alloc(1);
}

static uint8_t *io(uint64_t at) { return (uint8_t *)at; }
static void store(uint64_t at, uint64_t value) { *(volatile uint64_t *)at = value; }
static void store32(uint64_t at, uint64_t value) { *(volatile uint32_t *)at = (uint32_t)value; }

static bool acknowledge(struct trap_frame *f)
{
    (void)f;
    outb(0x20, 0x20), outb(0xa0, 0x20);
    apic_eoi();
    return true;
}
static void interrupts_on(void)
{
    for (unsigned i = 32; i < 256; i++) trap_on(i, acknowledge);
    apic_enable();
    outb(0x20, 0x11), outb(0x21, 0x20), outb(0x21, 4), outb(0x21, 1), outb(0x21, 0);
    outb(0xa0, 0x11), outb(0xa1, 0x28), outb(0xa1, 2), outb(0xa1, 1), outb(0xa1, 0);
    sti();
}
static void spin(unsigned n)
{
    for (volatile unsigned i = 0; i < n; i++) {}
}

/* ---- VT-x with structures where none can be ---- */
static void on_region(uint64_t at, uint64_t unused)
{
    (void)unused;
    bool cf, zf;
    asm volatile("vmxon %2" : "=@ccc"(cf), "=@ccz"(zf) : "m"(at) : "memory");
    asm volatile("vmxoff" : "=@ccc"(cf), "=@ccz"(zf)::"memory");
}
static void case_vmxon(void)
{
    vmx_on();
    uint32_t revision = (uint32_t)rdmsr(IA32_VMX_BASIC);
    vmx_off();
    for (unsigned i = 0; i < 200; i++) {
        uint64_t at = bad_page() + (below(8) ? 0 : below(4096));
        if (at >> 12 != (uint64_t)rt_pml4 >> 12 && at > 0xfff) trap_catch(store32, at, revision);
        write_cr4(read_cr4() | CR4_VMXE);
        trap_catch(on_region, at, 0);
    }
}

static struct vmx_vcpu v;
static void current(uint64_t at, uint64_t value)
{
    bool cf, zf;
    asm volatile("vmclear %2" : "=@ccc"(cf), "=@ccz"(zf) : "m"(at) : "memory");
    store32(at, value);
    asm volatile("vmptrld %2" : "=@ccc"(cf), "=@ccz"(zf) : "m"(at) : "memory");
}
static void fill(uint64_t unused, uint64_t unused2)
{
    (void)unused, (void)unused2;
    for (unsigned i = 0; i < 64; i++)
        vmwrite_status(below(4) << 13 | below(4) << 10 | below(40) << 1 | below(2), draw() >> below(64));
    uint64_t x = 0;
    for (unsigned i = 0; i < 64; i++) vmread_status(below(4) << 13 | below(4) << 10 | below(40) << 1, &x);
    bool cf, zf;
    asm volatile("vmlaunch" : "=@ccc"(cf), "=@ccz"(zf)::"memory");
}
static void case_vmcs(void)
{
    vmx_on();
    for (unsigned i = 0; i < 300; i++) {
        trap_catch(current, bad_page(), rdmsr(IA32_VMX_BASIC) & 0x7fffffff);
        trap_catch(fill, 0, 0);
    }
}

asm(".pushsection .text; .balign 16; hostile_guest: 1: movq (%rdi), %rax; movq %rax, 0x80(%rdi); cpuid; mov "
    "%rax, %cr3; mov %rax, %cr8; movl $0, 0xb0(%rdi);"
    "int $3; hlt; wrmsr; vmcall; xor %ecx, %ecx; vmfunc; push %rax; jmp 1b; .popsection");
extern const char hostile_guest[];

static void structures(uint64_t unused, uint64_t unused2)
{
    (void)unused, (void)unused2;
    static const uint16_t addresses[] = {ADDRESS_OF_IO_BITMAP_A,
                                         ADDRESS_OF_IO_BITMAP_B,
                                         ADDRESS_OF_MSR_BITMAPS,
                                         VM_EXIT_MSR_STORE_ADDRESS,
                                         VM_EXIT_MSR_LOAD_ADDRESS,
                                         VM_ENTRY_MSR_LOAD_ADDRESS,
                                         PML_ADDRESS,
                                         VIRTUAL_APIC_ADDRESS,
                                         APIC_ACCESS_ADDRESS,
                                         POSTED_INTERRUPT_DESCRIPTOR_ADDRESS,
                                         EPTP_LIST_ADDRESS,
                                         VMREAD_BITMAP_ADDRESS,
                                         VMWRITE_BITMAP_ADDRESS,
                                         VIRTUALIZATION_EXCEPTION_INFORMATION_ADDRESS,
                                         PID_POINTER_TABLE_ADDRESS,
                                         VMCS_LINK_POINTER,
                                         0x2030 /* sub-page table */,
                                         0x2040 /* HLATP */};
    for (unsigned i = 0; i < sizeof addresses / sizeof *addresses; i++)
        vmwrite_status(addresses[i], bad_page());
    vmwrite_status(0x4000, vmx_adjust(IA32_VMX_PINBASED_CTLS, (uint32_t)draw() & ~(uint32_t)below(2)));
    vmwrite_status(0x4002, vmx_adjust(IA32_VMX_PROCBASED_CTLS, (uint32_t)draw() | 1u << 31) &
                               ~(uint32_t)(below(2) << 27));
    uint64_t can = rdmsr(IA32_VMX_PROCBASED_CTLS2) >> 32;
    vmwrite_status(0x401e, (draw() | 2) & can);
    if (below(4)) vmwrite_status(EPTP, bad_page() | 6 | (below(8) ? 3 << 3 : 4 << 3) | below(2) << 6);
    if (!below(3)) vmwrite_status(GUEST_CR3, bad_page());
    if (!below(3))
        vmwrite_status(0x400e, below(600)), vmwrite_status(0x4010, below(600)),
            vmwrite_status(0x4014, below(600)); /* counts of MSRs */
    if (!below(3)) vmwrite_status(0x681c /* GUEST_RSP */, bad_page() + 2048);
    if (!below(3))
        vmwrite_status(0x6816 /* GUEST_GDTR_BASE */, bad_page()), vmwrite_status(0x6818, bad_page());
    if (!below(3)) vmwrite_status(0x4016, 0x80000000 | below(0x1000));
    v.regs.gpr[RDI] = bad_page();
    for (unsigned i = 0; i < 20; i++) {
        struct vmx_exit e = vmx_run(&v);
        if (e.status != VMX_SUCCEED) break;
        vmx_skip_instruction();
    }
}
static void case_structures(void)
{
    vmx_on();
    /* A page that is a table of itself, at each level of each kind. */
    for (unsigned k = 0; k < 2; k++) {
        uint64_t *p = page_alloc(1);
        shared[k] = (uint64_t)p;
        for (unsigned i = 0; i < 512; i++) p[i] = (uint64_t)p | (k ? 0x37 : 0x107) | (i & 1) << 7;
    }
    for (unsigned i = 0; i < 400; i++) {
        vmx_vcpu_init(&v, (uint64_t)hostile_guest, (uint64_t)page_alloc(1) + 4096);
        if (!below(3)) current(shared[below(2)], rdmsr(IA32_VMX_BASIC) & 0x7fffffff);
        trap_catch(structures, 0, 0);
    }
}
/* EPT whose every entry leads to the root again: guest-physical memory is the tables. */
static void case_ept_of_itself(void)
{
    vmx_on();
    uint64_t *p = page_alloc(1);
    vmx_vcpu_init(&v, (uint64_t)hostile_guest, (uint64_t)page_alloc(1) + 4096);
    for (unsigned i = 0; i < 512; i++) p[i] = (uint64_t)p | 0x37;
    vmwrite(EPTP, ept_pointer((uint64_t)p) | 1 << 6);
    vmx_set_proc2(PROC2_ENABLE_EPT);
    vmwrite(GUEST_CR3, 0);
    for (unsigned i = 0; i < 100; i++)
        if (vmx_run(&v).status != VMX_SUCCEED) break;
}

/* ---- memory that is none ---- */
static void load_cr3(uint64_t at, uint64_t unused)
{
    (void)unused;
    write_cr3(at);
    asm volatile("int3");
}
static void case_cr3(void)
{
    load_cr3(bad_page(), 0);
    spin(1000);
}
static void case_tables(void) /* in a page table that is MMIO: accessed flags are set there */
{
    uint64_t *p = page_alloc(2);
    memcpy(p, rt_pml4, 4096);
    for (unsigned i = 1; i < 512; i++) p[i] = bad_page() | 7 | (below(4) ? 0 : 0x80);
    p[0] = rt_pml4[0];
    write_cr3((uint64_t)p);
    for (unsigned i = 0; i < 500; i++) trap_catch(store, draw() & 0xffffffffffff8, draw());
}
static void jump(uint64_t at, uint64_t unused)
{
    (void)unused;
    ((void (*)(void))at)();
}
static void case_code(void)
{
    for (unsigned i = 0; i < 60; i++) {
        uint64_t at = bad_page() + (below(2) ? below(4096) : 4090);
        if (at > 0x100000 && at < 0x3f00000) continue;
        trap_catch(jump, at, 0);
    }
}
static void stack(uint64_t at, uint64_t what)
{
    asm volatile("mov %%rsp, %%rbx; mov %0, %%rsp; push %%rax; pushfq; pop %%rax; cmp $1, %1; je 1f; jb 2f; "
                 "call 3f; 3: jmp 2f;"
                 "1: enter $64, $31; 2: mov %%rbx, %%rsp" ::"r"(at),
                 "r"(what)
                 : "rax", "rbx", "rbp", "memory", "cc");
}
static void case_stack(void)
{
    for (unsigned i = 0; i < 200; i++) trap_catch(stack, bad_page() + below(4096), below(3));
    rt_tss.ist[0] = LAPIC + 0x400; /* exceptions are delivered there */
    asm volatile("ud2");
}
PROBE(operands, "mov %rsi, %rcx; rep movsb; fxsave64 (%rdi); fxrstor64 (%rdi); lock cmpxchg16b (%rdi); lock "
                "xaddq %rax, (%rdi); sgdt 3(%rdi); sidt (%rdi); xchg %eax, 1(%rdi);"
                "mov $0x3f8, %edx; mov $9, %ecx; insl; mov $5, %ecx; mov %rdi, %rsi; rep outsb; movdqu "
                "(%rdi), %xmm0; movntdq %xmm0, (%rdi); maskmovdqu %xmm0, %xmm0; monitor; clflush (%rdi);"
                "lar (%rdi), %eax; bts %rax, (%rdi); fnsave (%rdi); frstor (%rdi); lss (%rdi), %eax");
PROBE(tables, "lgdt (%rdi); lidt (%rdi); lldt (%rdi); ltr (%rdi); int $0x20");
static void case_operands(void)
{
    write_cr4(read_cr4() | CR4_OSFXSR);
    for (unsigned i = 0; i < 150; i++) {
        uint64_t at = bad_page() + (below(2) ? below(4096) : 4088);
        if (at > 0x100000 && at < 0x3f00000) continue;
        if (at < 0x8000) continue;
        trap_catch(operands, at, below(100));
    }
    trap_catch(tables, bad_page(), 0);
}
static void case_descriptors(void)
{
    struct {
        uint16_t limit;
        uint64_t base;
    } __attribute__((packed)) d = {0xffff, bad_page()};
    if (below(2))
        asm volatile("lidt %0; int $0x30" ::"m"(d));
    else
        asm volatile("lgdt %0; mov %1, %%ds; push $8; push $0; lretq" ::"m"(d), "r"(0x10));
}

/* ---- devices ---- */
static void case_ports(void)
{
    for (unsigned i = 0; i < 20000; i++) {
        uint16_t port = below(4) ? (uint16_t)below(0x1000) : (uint16_t)draw();
        if (port == 0xf4 || port == 0xf5 || port == 0xf6 || port == 0xf7 || (port & 0xfff8) == 0x3f8)
            continue;
        switch (below(6)) {
        case 0: outb(port, (uint8_t)draw()); break;
        case 1: outw(port, (uint16_t)draw()); break;
        case 2: outl(port, (uint32_t)draw()); break;
        case 3: inb(port); break;
        case 4: inw(port); break;
        default: inl(port);
        }
        if (i == 1000) interrupts_on();
    }
}
static void access(uint64_t at, uint64_t value)
{
    switch (value & 7) {
    case 0: *(volatile uint8_t *)at = (uint8_t)(value >> 8); break;
    case 1: *(volatile uint16_t *)at = (uint16_t)(value >> 8); break;
    case 2:
    case 3: *(volatile uint32_t *)at = (uint32_t)(value >> 8); break;
    case 4: *(volatile uint64_t *)at = value >> 8; break;
    case 5: (void)*(volatile uint64_t *)at; break;
    default: (void)*(volatile uint32_t *)at;
    }
}
static void case_mmio(void)
{
    static const uint64_t bases[] = {LAPIC, IOAPIC, HPET, HPET, LAPIC};
    interrupts_on();
    for (unsigned i = 0; i < 20000; i++) {
        uint64_t at = bases[below(5)] + (below(2) ? below(0x400) & ~15ull : below(4096));
        trap_catch(access, at, draw() >> below(56));
    }
}
static void case_ioapic(void) /* each entry at random, level, to whoever; lines go up and down */
{
    interrupts_on();
    for (unsigned i = 0; i < 3000; i++) {
        store32(IOAPIC, 0x10 + below(48));
        store32(IOAPIC + 0x10, draw() & ~(below(2) << 16));
        if (!below(8)) outb(0x43, (uint8_t)draw()), outb(0x40, 1), outb(0x40, 0);
        if (!below(8)) store32(LAPIC + 0xb0, 0);
        if (!below(8)) outb(0x3f9, (uint8_t)draw());
        if (!below(8)) store32(IOAPIC + 0x40, draw());
    }
}
static void case_hpet(void)
{
    interrupts_on();
    for (unsigned i = 0; i < 3; i++) {
        store(HPET + 0x108 + 0x20 * i, 1);
        store(HPET + 0x100 + 0x20 * i, 0x4c | below(32) << 9 | below(2) << 1);
        store(HPET + 0x108 + 0x20 * i, below(3));
        store(HPET + 0x110 + 0x20 * i, (bad_page() << 32) | draw() >> 32);
    }
    store(HPET + 0x10, 1 | below(2) << 1);
    store(IOAPIC, 0x14), store32(IOAPIC + 0x10, 0x40);
    for (unsigned i = 0; i < 200; i++) store(HPET + 0x108, below(4)), store(HPET + 0xf0, draw()), spin(50);
}
static void case_timers(void)
{
    interrupts_on();
    outb(0x43, 0x34), outb(0x40, 1), outb(0x40, 0);
    store32(LAPIC + 0x3e0, 0xb), store32(LAPIC + 0x320, 0x20040), store32(LAPIC + 0x380, 1);
    outb(0x70, 0xa), outb(0x71, 0x23), outb(0x70, 0xb), outb(0x71, 0x72), outb(0x70, 0xc), inb(0x71);
    store32(IOAPIC, 0x14), store32(IOAPIC + 0x10, 0x41);
    for (unsigned i = 0; i < 1000; i++) {
        store32(LAPIC + 0x380, below(3));
        outb(0x43, (uint8_t)draw()), outb(0x40, (uint8_t)below(3)), outb(0x40, 0);
        if (i % 16 == 0) asm volatile("sti; hlt");
        wrmsr(IA32_TSC_DEADLINE, rdtsc() - below(3));
    }
}
static void case_apic_base(void)
{
    static const uint64_t places[] = {0x100000, 0x0,       IOAPIC,      HPET,     0x3fff000, 0xb8000,
                                      0xf0000,  0x4000000, 0xffffff000, 0x101000, 0x110000};
    for (unsigned i = 0; i < 300; i++) {
        trap_catch(wrmsr, IA32_APIC_BASE,
                   places[below(sizeof places / sizeof *places)] | 0x900 | (below(4) ? 0 : 0x400));
        trap_catch(access, LAPIC + 0x20, draw());
        trap_catch(access, 0x3fff020, draw());
        if (!below(4)) trap_catch(wrmsr, IA32_APIC_BASE, 0x100);
        if (!below(8)) trap_catch(wrmsr, IA32_APIC_BASE, below(2) ? LAPIC | 0x900 : draw());
    }
}
static void case_msrs(void)
{
    static const uint32_t starts[] = {0,          0x100,      0x170, 0x200, 0x480, 0x6c0, 0x800,
                                      0xc0000080, 0xc0000100, 0x1d0, 0x277, 0xd90, 0x560, 0x40000000};
    for (unsigned i = 0; i < 20000; i++) {
        uint32_t msr = starts[below(sizeof starts / sizeof *starts)] + (uint32_t)below(160);
        if (below(2))
            trap_catch(wrmsr, msr, draw() >> below(64) << below(64));
        else
            trap_catch(rdmsr, msr, 0);
    }
}
static void case_pci(void)
{
    for (unsigned i = 0; i < 3000; i++) {
        uint32_t at =
            0x80000000u | (uint32_t)below(2) << 16 | (uint32_t)below(256) << 8 | (uint32_t)below(64) << 2;
        if (below(2))
            at = 0x80000000u | (uint32_t)below(4) << 8 | 0x800u * (uint32_t)below(4) |
                 (uint32_t[]){4, 0x10, 0x20, 0x18, 0x30, 0x40, 0x58, 0x80}[below(8)];
        outl(0xcf8, at);
        switch (below(4)) {
        case 0: outl(0xcfc, (uint32_t)(bad_page() | below(16))); break;
        case 1: outl(0xcfc, (uint32_t)draw()); break;
        case 2: outb((uint16_t)(0xcfc + below(4)), (uint8_t)draw()); break;
        default: inl(0xcfc);
        }
        trap_catch(access, bad_page() + below(4096) / 8 * 8, 5 + below(2));
        inb((uint16_t)draw());
    }
}
static void case_fw_cfg(void)
{
    static const uint64_t sizes[] = {0, 1, 16, 4096, 0xffffffff, 0x80000000, 64 << 20};
    for (unsigned i = 0; i < 500; i++) {
        outw(0x510, (uint16_t)(below(4) ? below(0x40) : draw()));
        for (unsigned k = 0; k < 20; k++) inb(0x511);
        outb(0x511, (uint8_t)draw());
        uint32_t *d = (uint32_t *)(0x3f00000 + below(0xffff0));
        if (!below(4)) d = (uint32_t *)(0x4000000 - 16 + below(16));
        uint64_t to = below(3) ? bad_page() + below(4096) : (uint64_t)d;
        if (to < 0x3e00000 && to > 0x100000) to = 0x4000000 - below(100);
        uint32_t control = below(2) ? 2 : (uint32_t)(draw() & 0xffff001f);
        trap_catch(store32, d, __builtin_bswap32(control | (uint32_t)below(0x30) << 16 | 8));
        trap_catch(store32, d + 1,
                   __builtin_bswap32((uint32_t)(below(3) ? sizes[below(3)] : sizes[below(7)])));
        trap_catch(store32, d + 2, __builtin_bswap32((uint32_t)(to >> 32)));
        trap_catch(store32, d + 3, __builtin_bswap32((uint32_t)to));
        outl(0x514, below(4) ? 0 : (uint32_t)draw());
        outl(0x518, __builtin_bswap32((uint32_t)(below(4) ? (uint64_t)d : bad_page())));
    }
}

/* ---- processors ---- */
static void interrupt_command(uint64_t high, uint64_t low)
{
    store32(LAPIC + 0x310, high);
    store32(LAPIC + 0x300, low);
}
/* Each processor that starts sends INIT and SIPI to all others, and halts. */
asm(".pushsection .text; .balign 16; hostile_start: .code16; cli; xor %ax, %ax; mov %ax, %ds; lidtl "
    "%cs:(0x40); 1: inc %cx; mov $0x1b, %ecx; rdmsr; int $3; hlt; jmp 1b; .code64; .popsection");
extern const char hostile_start[];
static void case_storm(void)
{
    apic_enable();
    memcpy(io(0x8000), hostile_start, 64);
    for (unsigned i = 0; i < 1500; i++) {
        uint64_t low = below(4) ? (below(2) ? 0xc4500 : 0xc4600 | (below(2) ? 8 : below(256)))
                                : draw() & 0xfffff & ~0x40000ull;
        interrupt_command(draw(), low);
        if (!below(4)) spin((unsigned)below(200));
    }
}
static void case_self(void) /* INIT, NMI and lowest priority to oneself too */
{
    interrupts_on();
    for (unsigned i = 0; i < 2000; i++) interrupt_command(draw(), (draw() & 0xcfff) | below(4) << 18);
}
static void case_triple(void)
{
    asm volatile("lidt %0; ud2" ::"m"(*(const char(*)[10]) "\0\0\0\0\0\0\0\0\0"));
}

#define CASE(name) \
    { \
#name, case_##name \
    }
static const struct {
    const char *name;
    void (*run)(void);
} cases[] = {CASE(vmxon),  CASE(vmcs),  CASE(structures), CASE(ept_of_itself), CASE(cr3),   CASE(tables),
             CASE(code),   CASE(stack), CASE(operands),   CASE(descriptors),   CASE(ports), CASE(mmio),
             CASE(ioapic), CASE(hpet),  CASE(timers),     CASE(apic_base),     CASE(msrs),  CASE(pci),
             CASE(fw_cfg), CASE(storm), CASE(self),       CASE(triple)};

int rom_main(void)
{
    const char *name = cmdline_text("case");
    seed = cmdline_number("seed", 1);
    for (unsigned i = 0; i < 2; i++) shared[i] = (uint64_t)page_alloc(1);
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (!name) print("%s\n", cases[i].name);
        size_t n = 0;
        while (cases[i].name[n]) n++;
        if (name && !memcmp(name, cases[i].name, n) && (name[n] == ' ' || !name[n])) cases[i].run();
    }
    return 0;
}
