/*
 * A DOS-like program under a monitor of virtual-8086 mode (SDM volume 3 chapter 22), once without and once
 * with CR4.VME: IN and OUT by the TSS's bitmap, INT n reflected through the program's own vectors, CLI, STI,
 * PUSHF, POPF and IRET below IOPL 3, the ticks of a real timer brought into it, paging under it. The monitor
 * is dos-monitor.c, the program dos-program.S. What it prints is what an 8086 makes of it; which instructions
 * the monitor is asked for is tables 22-1 and 22-2.
 *
 * Bochs 2.7 and QEMU's TCG pass all of it.
 */
#include "dos.h"
#include "low.h"
#include "tap.h"

extern const uint8_t dos_program[], dos_program_end[], dos_monitor[], dos_monitor_end[];
LOW_CODE(call_monitor, 32, "mov $0x20000, %eax; call *%eax");

static volatile struct dos_report *const r = (volatile struct dos_report *)DOS_REPORT;
static const char text[] = "Hello, DOS 5 "
                           "3200 3000 7AD5 " /* flags after STI, after CLI, from POPF */
                           "3200 3000 3200 " /* those that INT n pushes, those that its handler runs with */
                           "LH-+++m0 "       /* ticks */
                           "8372 hello!fw";

static void run(bool vme)
{
    static const struct {
        uint8_t vector;
        uint16_t segment, offset;
    } vectors[] = {{8, 0x1100, 0},
                   {0x1c, 0x1100, 0x3f},
                   {0x21, 0x1100, 0x40},
                   {DOS_VECTOR, 0x1100, 0xc0},
                   {0x61, 0x1100, 0xc0}};
    memset((void *)DOS_REPORT, 0, sizeof *r);
    memset((void *)DOS_SCREEN, 0, 16);
    memcpy((void *)DOS_PROGRAM, dos_program, (size_t)(dos_program_end - dos_program));
    memcpy((void *)DOS_MONITOR, dos_monitor, (size_t)(dos_monitor_end - dos_monitor));
    for (unsigned i = 0; i < sizeof vectors / sizeof vectors[0]; i++)
        low_vector(vectors[i].vector, vectors[i].segment, vectors[i].offset);
    r->vme = vme;
    LOW_RUN(LOW_PROTECTED32, call_monitor);
    outb(0x21, 0xff);
    rt_gdt[SEL_TSS / 8] &= ~(2ul << 40); /* not busy */
    asm volatile("ltr %w0" ::"r"(SEL_TSS));
}

static void results(bool vme)
{
    const char *how = vme ? "VME" : "no VME";
    char got[sizeof r->text + 1];
    memcpy(got, (const void *)r->text, sizeof r->text);
    got[r->printed < sizeof r->text ? r->printed : sizeof r->text] = 0;
    if (!ok(r->done == 1, "%s: the program ends by itself", how))
        tap_note("  vector %x, error code %x at %x:%x, byte %x", r->vector, r->error, r->cs, r->eip, r->byte);
    is(r->exit_code, 0x2a, "  with its exit code");
    bool same = r->printed == sizeof text - 1;
    for (unsigned i = 0; same && i < sizeof text - 1; i++) same = got[i] == text[i];
    if (!ok(same, "  and has printed what it should")) tap_note("  got \"%s\"", got);
    same = true;
    for (unsigned i = 0; i < 8; i++) same &= ((const volatile char *)DOS_SCREEN)[i] == "V.8.6..."[i];
    ok(same, "  its screen is where the page tables have it");
    ok(r->ticks >= r->delivered && r->delivered >= 11, "  ticks came to it");
    ok(r->hlt >= 1, "  HLT: #GP");
    ok(r->out > sizeof text - 1, "  OUT to ports of the bitmap: #GP");
    ok(r->in > 12, "  IN: #GP");
    if (vme) {
        is(r->cli + r->pushf, 0, "  CLI and PUSHF are not the monitor's");
        is(r->intn, 1, "  nor is INT n, but for the one that is not redirected");
        is(r->sti + r->popf + r->iret, r->with_vip, "  nor are STI, POPF and IRET while VIP is 0");
        ok(r->sti >= 1 && r->popf >= 1 && r->iret >= 1, "  with VIP they are, each");
    } else {
        ok(r->cli >= 4 && r->pushf >= 4 && r->sti > r->cli, "  CLI, STI and PUSHF: #GP");
        ok(r->popf >= 3, "  POPF: #GP");
        ok(r->intn > sizeof text - 1, "  INT n: #GP");
        is(r->iret, r->intn + r->delivered,
           "  IRET: #GP; one for each INT n but the last, and each tick"); /* 4Ch does not return, one IRET is
                                                                              the program's own */
    }
    ok(r->held >= 3, "  ticks were held back");
}

int rom_main(void)
{
    tap_begin("a DOS-like program in virtual-8086 mode");
    run(false);
    results(false);
    if (cpuid(1, 0).edx & 1u << 1) {
        run(true);
        results(true);
    } else {
        skip(13, "no VME");
    }
    return tap_end();
}
