// What firmware would have left behind: chip-set registers, memory types, ACPI tables, the BIOS data area,
// and interrupt vectors that lead to something which returns. Boot programs enter real mode to ask a BIOS for
// memory, disks and video: here every service answers "not supported" (carry set, AH = 86h), but for INT 11h
// and 12h, so they fall back on what their boot protocol told them.
//
// Interrupts are as a PC's BIOS leaves them: the 8254 ticks at 18.2 Hz, the 8259 pair lets through what a
// BIOS serves, so a program in real mode can HLT for a tick; INT 08h counts it at 40:6Ch and calls INT 1Ch.
// What is open, and in which mode the 8254 runs, is what SeaBIOS leaves behind.
//
// Not here: BIOS services, option ROMs, SMBIOS, the code at the reset vector.
#include "devices/firmware.h"
#include "devices/mp_tables.h"

#include "cpu/system/system.h"

#define BIOS_SEGMENT 0xF000u
#define AT_IGNORE    0xFF53u // where the IBM PC's BIOS has its IRET
#define AT_REFUSE    0xFF60u
#define AT_EQUIPMENT 0xFF70u
#define AT_MEMORY    0xFF80u
#define AT_TICK      0xFEA5u // and INT 08h's handler
#define AT_EOI       0xFF90u
#define AT_EOI_BOTH  0xFFA0u

#define EQUIPMENT    0x0406u // coprocessor, PS/2 mouse, two serial ports

static const u8 ignore[] = {0xCF};                   // iret
static const u8 refuse[] = {0x55, 0x89, 0xE5,        // push bp; mov bp, sp
                            0x80, 0x4E, 0x06, 0x01,  // or byte [bp + 6], 1: CF of the caller's flags
                            0x5D, 0xB4, 0x86, 0xCF}; // pop bp; mov ah, 86h; iret
static const u8 equipment[] = {0xB8, EQUIPMENT & 0xFF, EQUIPMENT >> 8, 0xCF}; // mov ax, equipment; iret
static const u8 memory[] = {0xB8, 0x7F, 0x02, 0xCF};                          // mov ax, 639; iret
static const u8 eoi[] = {0x50, 0xB0, 0x20, 0xE6, 0x20,      // push ax; mov al, 20h; out 20h, al
                         0x58, 0xCF};                       // pop ax; iret
static const u8 eoi_both[] = {0x50, 0xB0, 0x20, 0xE6, 0xA0, // the same for both chips
                              0xE6, 0x20, 0x58, 0xCF};

// Counts to 24 hours (1800B0h ticks), then from 0 again with the flag at 40:70h.
static const u8 tick[] = {
    0x1E, 0x50, 0x52,                   // push ds; push ax; push dx
    0xB8, 0x40, 0x00, 0x8E, 0xD8,       // mov ax, 40h; mov ds, ax
    0xFF, 0x06, 0x6C, 0x00, 0x75, 0x04, // inc word [6Ch]; jnz +4
    0xFF, 0x06, 0x6E, 0x00,             // inc word [6Eh]
    0x83, 0x3E, 0x6E, 0x00, 0x18,       // cmp word [6Eh], 18h
    0x75, 0x18,                         // jne to the INT
    0x81, 0x3E, 0x6C, 0x00, 0xB0, 0x00, // cmp word [6Ch], B0h
    0x75, 0x10,                         // jne to the INT
    0xC7, 0x06, 0x6C, 0x00, 0x00, 0x00, // mov word [6Ch], 0
    0xC7, 0x06, 0x6E, 0x00, 0x00, 0x00, // mov word [6Eh], 0
    0xFE, 0x06, 0x70, 0x00,             // inc byte [70h]
    0xCD, 0x1C,                         // int 1Ch: whoever wants a tick
    0xFA, 0xB0, 0x20, 0xE6, 0x20,       // cli; mov al, 20h; out 20h, al
    0x5A, 0x58, 0x1F, 0xCF,             // pop dx; pop ax; pop ds; iret
};

static void vector(struct phys *p, unsigned n, u32 offset)
{
    phys_write32(p, 0, n * 4, BIOS_SEGMENT << 16 | offset);
}

static void vectors(struct phys *p)
{
    // clang-format off
    const struct {
        u32 at;
        const u8 *code;
        u32 n;
    } stub[] = {
        {AT_IGNORE, ignore, sizeof ignore},          {AT_REFUSE, refuse, sizeof refuse},
        {AT_EQUIPMENT, equipment, sizeof equipment}, {AT_MEMORY, memory, sizeof memory},
        {AT_EOI, eoi, sizeof eoi},                   {AT_EOI_BOTH, eoi_both, sizeof eoi_both},
        {AT_TICK, tick, sizeof tick},
    };
    // clang-format on
    for (unsigned i = 0; i < ARRAY_LEN(stub); i++)
        phys_write(p, 0, BIOS_SEGMENT * 16 + stub[i].at, stub[i].code, stub[i].n);
    for (unsigned n = 0; n < 256; n++) vector(p, n, AT_IGNORE);
    for (unsigned n = 0x08; n < 0x10; n++) vector(p, n, AT_EOI); // IRQ 0-7 and 8-15 as a BIOS places them
    vector(p, 0x08, AT_TICK);
    for (unsigned n = 0x70; n < 0x78; n++) vector(p, n, AT_EOI_BOTH);
    for (unsigned n = 0x10; n < 0x1B; n++) vector(p, n, AT_REFUSE);
    vector(p, 0x11, AT_EQUIPMENT);
    vector(p, 0x12, AT_MEMORY);
}

static u8 rtc(struct bus *b, u8 index)
{
    bus_port_write(b, 0x70, 1, index);
    u8 bcd = (u8)bus_port_read(b, 0x71, 1);
    return (u8)((bcd >> 4) * 10 + (bcd & 15));
}

static u32 ticks_of_the_day(struct bus *b)
{
    u32 seconds = rtc(b, 4) * 3600u + rtc(b, 2) * 60u + rtc(b, 0);
    return (u32)((u64)seconds * PIT_HZ >> 16);
}

static void data_area(struct phys *p, struct bus *b)
{
    phys_write16(p, 0, 0x400, 0x3F8); // serial ports
    phys_write16(p, 0, 0x402, 0x2F8);
    phys_write16(p, 0, 0x40E, 0x9FC0); // segment of the extended area
    phys_write16(p, 0, 0x410, EQUIPMENT);
    phys_write16(p, 0, 0x413, 639);  // KiB of memory below it
    phys_write16(p, 0, 0x41A, 0x1E); // the keyboard's buffer is empty: head, tail, first, last
    phys_write16(p, 0, 0x41C, 0x1E);
    phys_write16(p, 0, 0x480, 0x1E);
    phys_write16(p, 0, 0x482, 0x3E);
    phys_write32(p, 0, 0x46C, ticks_of_the_day(b));
    phys_write16(p, 0, 0x47C, 0x0A0A); // time-outs of the serial ports
    phys_write8(p, 0, 0x496, 0x10);    // a keyboard of 101 keys
    phys_write8(p, 0, 0x9FC00, 1);     // size of the extended area in KiB
}

// The 8254 before the 8259s, whose ICW1 forgets the edge of its output. Then vectors 08h and 70h; open are
// the tick, the keyboard and the cascade, the real-time clock, the mouse and the coprocessor.
static void interrupts(struct bus *b)
{
    static const u8 first[] = {0x08, 0x04, 0x01, 0xF8}, second[] = {0x70, 0x02, 0x01, 0xCE};
    bus_port_write(b, 0x43, 1, 0x34); // channel 0, mode 2
    bus_port_write(b, 0x40, 1, 0);    // 65536
    bus_port_write(b, 0x40, 1, 0);
    bus_port_write(b, 0x20, 1, 0x11);
    bus_port_write(b, 0xA0, 1, 0x11);
    for (unsigned i = 0; i < 4; i++) {
        bus_port_write(b, 0x21, 1, first[i]);
        bus_port_write(b, 0xA1, 1, second[i]);
    }
}

void firmware_leave(struct machine *m)
{
    interrupts(&m->bus);
    piix_firmware(&m->piix);
    for (unsigned i = 0; i < m->config.devices; i++)
        if (m->config.device[i].row->firmware) m->config.device[i].row->firmware(m->added[i]);
    if (!m->config.acpi_off) acpi_pm_firmware(&m->pm);
    lapic_virtual_wire(&m->lapic[0]);
    for (unsigned i = 0; i < m->cpus_n; i++) msr_firmware_defaults(m->cpu[i]); // memory types
    u32 apic_id[MACHINE_CPUS_MAX];
    for (unsigned i = 0; i < m->cpus_n; i++) apic_id[i] = m->cpu[i]->apic_id;
    if (!m->config.acpi_off) m->acpi = acpi_build(&m->phys, apic_id, m->cpus_n, !m->config.hpet_off);
    mp_tables_build(m);
    vectors(&m->phys);
    data_area(&m->phys, &m->bus);
}
