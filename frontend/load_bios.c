// What a boot loader's kernel finds of a BIOS when it goes back to real mode and calls one: an interrupt-vector table whose
// every service returns with the carry flag set ("not supported"). Xen's real-mode start asks several.
//
// Missing: every service itself.
#include "frontend/load.h"

#define STUB_SEGMENT 0xF000
#define STUB_OFFSET  0xFF00

static const u8 stub[] = {
    0x55,                   // push bp
    0x89, 0xE5,             // mov bp, sp
    0x80, 0x4E, 0x06, 0x01, // or byte [bp+6], 1: CF of the flags image
    0x5D,                   // pop bp
    0xCF,                   // iret
};

void load_bios(struct load_request *r)
{
    struct phys *p = r->phys;
    for (paddr a = 0; a < 0x400; a += 8)
        if (phys_read64(p, 0, a)) return; // the image itself lies there
    for (unsigned i = 0; i < 256; i++) phys_write32(p, 0, 4 * i, STUB_SEGMENT << 16 | STUB_OFFSET);
    phys_write(p, 0, STUB_SEGMENT * 16 + STUB_OFFSET, stub, sizeof stub);
}
