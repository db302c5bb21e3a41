// The devices that can be added to the board, as data: what each is called, which properties it takes and of
// what type, and how it is made. -device, its lists and its errors go by these rows, and so does the wiring
// of the board.
//
// A row stands in its device's own file; device_list.def has a line for each. A configuration is a row with
// values for its properties; the machine makes the device from it on the bus that the row names, in the order
// of the configurations.
#ifndef DEVICES_DEVICE_TABLE_H
#define DEVICES_DEVICE_TABLE_H

#include "devices/bus.h"
#include "devices/chardev.h"

struct pci_bus;

#define DEVICE_PROPERTIES 8 // of a device, at most
#define DEVICE_CHOICES    4
#define DEVICE_RANGES     4

enum property_type {
    PROPERTY_END, // behind the last
    PROPERTY_BOOL,
    PROPERTY_U8,
    PROPERTY_U16,
    PROPERTY_U32,
    PROPERTY_U64,
    PROPERTY_SIZE, // bytes; a suffix is taken: 64K, 1.5M
    PROPERTY_PORT, // an I/O port
    PROPERTY_STRING,
    PROPERTY_CHARDEV, // a line to the outside, by its id
};

struct device_property {
    const char *name;
    enum property_type type;
    const char *help;
    bool needed;                // has no default
    u64 standard;               // the default; a string's is NULL
    u64 least, most;            // most 0: as much as the type holds
    u64 choice[DEVICE_CHOICES]; // the values that there are, 0 behind the last; none: all in the range
};

struct property_value {
    u64 n;              // 0 or 1, a number, bytes, or a port
    const char *text;   // a string, or a line's id; whoever gave it keeps it
    struct chardev chr; // the line. Nothing here finds it by the id: whoever made the line writes it here
};

// What the board offers to a device while it is made.
struct device_board {
    struct bus *bus;
    struct clock *clock;
    struct pci_bus *pci;
    void *to; // of the functions below
    // each part of a device that has a reset or a state, in order
    void (*add)(void *to, struct device *d);
    void (*test_irq)(void *to, unsigned n, bool level); // input n of the interrupt controllers
    void (*end)(void *to, u32 status, const char *who); // the run ends, with this status
    void (*drop_derived)(void *to);
};

struct port_range {
    u32 first, n;
};
enum device_bus { DEVICE_ON_ISA, DEVICE_ON_PCI, DEVICE_BUSES };
extern const char *const device_buses[DEVICE_BUSES];

struct device_row {
    const char *name, *help;
    enum device_bus bus;
    const char *option; // the only option that makes it; NULL: -device does
    unsigned most;      // of them in a machine
    u32 size;           // of its struct, which comes to `create` filled with zeros
    struct device_property property[DEVICE_PROPERTIES + 1];
    // The ports that it will claim, which no other device of the table may; how many ranges. NULL: it claims
    // none.
    unsigned (*ports)(const struct property_value *v, struct port_range *r);
    // v[i] is of property[i]
    void (*create)(void *self, const struct device_board *b, const struct property_value *v);
    void (*firmware)(void *self); // what firmware leaves in it, after each reset; may be NULL
};

#define DEVICE(row) extern const struct device_row row;
#include "devices/device_list.def"
#undef DEVICE
extern const struct device_row *const device_rows[];
extern const unsigned device_rows_n;

struct device_config {
    const struct device_row *row;
    struct property_value value[DEVICE_PROPERTIES]; // by its number in the row
    u32 given;                                      // a bit a property: not the default
};

const struct device_row *device_row_find(const char *name);              // NULL: there is none
int device_row_property(const struct device_row *row, const char *name); // its number; -1: there is none
// What there is to say about a property: help, what it takes, its default.
void device_property_text(const struct device_property *p, char *text, size_t size);

// all properties have their defaults
void device_config_begin(struct device_config *c, const struct device_row *row);
// Gives a property a value. False: it cannot have it, and `why` says so.
bool device_config_set(struct device_config *c, unsigned property, const char *value, char *why,
                       size_t why_size);
// needed and not given; NULL: none
const struct device_property *device_config_missing(const struct device_config *c);
// Whether the ports of all of them exist and each is of one device only. False: `why` names two devices and a
// port.
bool device_config_ports(const struct device_config *c, unsigned n, char *why, size_t why_size);

#endif
