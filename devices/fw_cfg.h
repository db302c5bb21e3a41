// QEMU's firmware configuration device: numbered blobs and a directory of named files, by port or by DMA.
#ifndef DEVICES_FW_CFG_H
#define DEVICES_FW_CFG_H

#include "devices/bus.h"
#include "mmu/phys.h"

// clang-format off
enum {
    FW_CFG_SIGNATURE = 0x00, FW_CFG_ID = 0x01, FW_CFG_RAM_SIZE = 0x03, FW_CFG_NB_CPUS = 0x05,
    FW_CFG_KERNEL_ADDR = 0x07, FW_CFG_KERNEL_SIZE = 0x08, FW_CFG_INITRD_ADDR = 0x0A, FW_CFG_INITRD_SIZE = 0x0B,
    FW_CFG_BOOT_MENU = 0x0E, FW_CFG_MAX_CPUS = 0x0F, FW_CFG_KERNEL_DATA = 0x11, FW_CFG_INITRD_DATA = 0x12,
    FW_CFG_CMDLINE_ADDR = 0x13, FW_CFG_CMDLINE_SIZE = 0x14, FW_CFG_CMDLINE_DATA = 0x15, FW_CFG_FILE_DIR = 0x19,
    FW_CFG_FILE_FIRST = 0x20, FW_CFG_IRQ0_OVERRIDE = 0x8002,
};
// clang-format on

#define FW_CFG_ITEMS 48
#define FW_CFG_SMALL 16
#define FW_CFG_NAME  56

STATE_BEGIN
struct fw_cfg_state {
    u64 dma_address;
    u32 offset; // into the selected item
    u16 key;
    u8 unused[2];
};
STATE_END

struct fw_cfg {
    struct device dev;
    struct fw_cfg_state st;
    struct phys *phys;
    struct fw_cfg_item { // made at wiring time and never changed
        u16 key;
        u32 size;
        const u8 *data; // borrowed; NULL: in `small`
        u8 small[FW_CFG_SMALL];
        char name[FW_CFG_NAME]; // of a file; empty otherwise
    } item[FW_CFG_ITEMS];
    unsigned items_n, files_n;
    u8 directory[4 + 64 * FW_CFG_ITEMS];
};

void fw_cfg_init(struct fw_cfg *f, struct bus *b, struct clock *c, struct phys *phys);
void fw_cfg_add(struct fw_cfg *f, u16 key, const void *data, u32 size); // data must outlive the machine
void fw_cfg_add_u16(struct fw_cfg *f, u16 key, u16 v);
void fw_cfg_add_u32(struct fw_cfg *f, u16 key, u32 v);
void fw_cfg_add_u64(struct fw_cfg *f, u16 key, u64 v);
void fw_cfg_add_file(struct fw_cfg *f, const char *name, const void *data, u32 size); // in alphabetical order

#endif
