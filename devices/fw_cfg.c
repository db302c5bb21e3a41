// clang-format off
// fw_cfg. Source: QEMU's documentation of the device's interface (docs/specs/fw_cfg).
//
//   510h  selector (16 bits, write)      511h  data (8 bits, read)      514h/518h  DMA address, high and low, big-endian
//   DMA structure in memory, big-endian: control (32), length (32), address (64)
//   control: 31:16 key to select, 0 error, 1 read, 2 skip, 3 select, 4 write
//
// Not here: items that can be written (a DMA write sets the error bit), call-backs on selection.
// clang-format on
#include "devices/fw_cfg.h"

#include <string.h>

enum { REGION_SELECT, REGION_DMA };
enum { DMA_ERROR = 1, DMA_READ = 2, DMA_SKIP = 4, DMA_SELECT = 8, DMA_WRITE = 16 };

static const struct fw_cfg_item *selected(const struct fw_cfg *f)
{
    for (unsigned i = 0; i < f->items_n; i++)
        if (f->item[i].key == f->st.key) return &f->item[i];
    return NULL;
}

static const u8 *bytes_of(const struct fw_cfg_item *i) { return i->data ? i->data : i->small; }

static void select_key(struct fw_cfg *f, u16 key)
{
    f->st.key = key;
    f->st.offset = 0;
}

static u8 next_byte(struct fw_cfg *f)
{
    const struct fw_cfg_item *i = selected(f);
    return i && f->st.offset < i->size ? bytes_of(i)[f->st.offset++] : 0;
}

static void run_dma(struct fw_cfg *f)
{
    u64 at = f->st.dma_address;
    u8 desc[16];
    f->st.dma_address = 0;
    phys_read(f->phys, 0, at, desc, sizeof desc);
    u32 control, length;
    u64 to;
    memcpy(&control, desc, 4);
    memcpy(&length, desc + 4, 4);
    memcpy(&to, desc + 8, 8);
    control = __builtin_bswap32(control);
    length = __builtin_bswap32(length);
    to = __builtin_bswap64(to);

    u32 result = 0;
    const char *outer = phys_writer_begin(f->phys, "device fw_cfg");
    if (control & DMA_SELECT) select_key(f, (u16)(control >> 16));
    const struct fw_cfg_item *i = selected(f);
    u32 left = i && f->st.offset < i->size ? i->size - f->st.offset : 0, n = length < left ? length : left;
    if (control & DMA_READ) {
        if (n) phys_write(f->phys, 0, to, bytes_of(i) + f->st.offset, n);
        static const u8 zeros[4096];
        for (u64 done = n; done < length;) { // beyond the item's end there are zeros
            u32 piece = length - done < sizeof zeros ? (u32)(length - done) : (u32)sizeof zeros;
            if (!phys_is_ram(f->phys, to + done)) break;
            phys_write(f->phys, 0, to + done, zeros, piece);
            done += piece;
        }
        f->st.offset += n;
    } else if (control & DMA_WRITE) {
        result = DMA_ERROR;
    } else if (control & DMA_SKIP) {
        f->st.offset += n;
    }
    phys_write32(f->phys, 0, at, __builtin_bswap32(result));
    phys_writer_end(f->phys, outer);
}

static u64 fw_cfg_read(struct device *d, unsigned region, u64 offset, unsigned size)
{
    struct fw_cfg *f = (struct fw_cfg *)d;
    if (region == REGION_DMA) // the signature tells that DMA is there: "QEMU CFG"
        return __builtin_bswap64(0x51454D5520434647ull) >> offset * 8;
    return offset == 1 && size == 1 ? next_byte(f) : 0;
}

static void fw_cfg_write(struct device *d, unsigned region, u64 offset, unsigned size, u64 value)
{
    struct fw_cfg *f = (struct fw_cfg *)d;
    if (region == REGION_SELECT) {
        if (offset == 0 && size == 2) select_key(f, (u16)value);
        return;
    }
    if (size != 4) return;
    u64 half = __builtin_bswap32((u32)value);
    if (offset == 0) {
        f->st.dma_address = half << 32;
    } else if (offset == 4) {
        f->st.dma_address = (f->st.dma_address & ~0xFFFFFFFFull) | half;
        run_dma(f);
    }
}

static struct fw_cfg_item *new_item(struct fw_cfg *f, u16 key, const void *data, u32 size)
{
    struct fw_cfg_item *i = f->item;
    while (i < f->item + f->items_n && i->key != key) i++; // a loader that runs again replaces its items
    if (i == f->item + f->items_n && f->items_n++ == FW_CFG_ITEMS)
        panic("fw_cfg: more than %d items", FW_CFG_ITEMS);
    *i = (struct fw_cfg_item){.key = key, .size = size, .data = data};
    return i;
}

void fw_cfg_add(struct fw_cfg *f, u16 key, const void *data, u32 size) { new_item(f, key, data, size); }

static void add_small(struct fw_cfg *f, u16 key, const void *v, u32 size)
{
    memcpy(new_item(f, key, NULL, size)->small, v, size);
}
void fw_cfg_add_u16(struct fw_cfg *f, u16 key, u16 v) { add_small(f, key, &v, sizeof v); }
void fw_cfg_add_u32(struct fw_cfg *f, u16 key, u32 v) { add_small(f, key, &v, sizeof v); }
void fw_cfg_add_u64(struct fw_cfg *f, u16 key, u64 v) { add_small(f, key, &v, sizeof v); }

// Directory: count (32), then per file size (32), key (16), reserved (16), name (56); numbers are big-endian.
void fw_cfg_add_file(struct fw_cfg *f, const char *name, const void *data, u32 size)
{
    struct fw_cfg_item *i = new_item(f, (u16)(FW_CFG_FILE_FIRST + f->files_n), data, size);
    strncpy(i->name, name, FW_CFG_NAME - 1);
    u8 *e = f->directory + 4 + 64 * f->files_n++;
    u32 size_be = __builtin_bswap32(size), n_be = __builtin_bswap32(f->files_n);
    u16 key_be = __builtin_bswap16(i->key);
    memcpy(e, &size_be, 4);
    memcpy(e + 4, &key_be, 2);
    memcpy(e + 8, i->name, FW_CFG_NAME);
    memcpy(f->directory, &n_be, 4);
}

static void fw_cfg_reset(struct device *d) { ((struct fw_cfg *)d)->st = (struct fw_cfg_state){0}; }

// clang-format off
static const struct device_ops fw_cfg_ops = {
    .name = "fw_cfg", .state_version = 1, .max_size = 4, .reset = fw_cfg_reset, .read = fw_cfg_read, .write = fw_cfg_write};
// clang-format on

void fw_cfg_init(struct fw_cfg *f, struct bus *b, struct clock *c, struct phys *phys)
{
    memset(f, 0, sizeof *f);
    f->dev = (struct device){.ops = &fw_cfg_ops, .clock = c, .state = &f->st, .state_size = sizeof f->st};
    f->phys = phys;
    add_small(f, FW_CFG_SIGNATURE, "QEMU", 4);
    fw_cfg_add_u32(f, FW_CFG_ID, 3); // the port interface and DMA
    fw_cfg_add(f, FW_CFG_FILE_DIR, f->directory, sizeof f->directory);
    bus_map_port(b, &f->dev, REGION_SELECT, 0x510, 2);
    bus_map_port(b, &f->dev, REGION_DMA, 0x514, 8);
}
