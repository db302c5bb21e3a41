// What options.c and options_values.c share.
#ifndef FRONTEND_OPTIONS_PARSE_H
#define FRONTEND_OPTIONS_PARSE_H

#include "devices/text.h"
#include "frontend/options_table.h"

#define CHARDEVS_MAX 16

struct chardev_option {
    const char *id;
    enum serial_kind kind;
    const char *path;
    bool append, mux, used;
};
struct parser {
    struct options *o;
    char *why;
    size_t why_size;
    struct chardev_option chardev[CHARDEVS_MAX];
    unsigned chardevs;
    const char *serial[MACHINE_SERIAL]; // as given; a line may be named before it is made
    unsigned serials;
    // of o->line: its name, and the option that has it
    struct {
        const char *text, *option;
    } line[MACHINE_DEVICES_MAX];
    const char *device_id[MACHINE_DEVICES_MAX];
    unsigned device_ids;
    bool debugcon;
    const char *may_have_value;      // the option just before, which may have one in its own word
    const char *accelerator_refused; // the last that was
    bool accelerator_found;
};

// returns false
bool options_fail(struct parser *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
// a copy that lives as long as p->o; NULL with a reason: no room
const char *options_keep(struct parser *p, const char *text);

// The values of options. Each returns false with a reason.
bool options_memory(struct parser *p, const char *text);
bool options_smp(struct parser *p, const char *text);
bool options_rtc(struct parser *p, const char *text);
bool options_log(struct parser *p, const char *text);
bool options_trace(struct parser *p, const char *text);
bool options_explain(struct parser *p, const char *text); // NULL: no value
bool options_accelerator(struct parser *p, const char *text);
bool options_machine(struct parser *p, const char *text);
bool options_action(struct parser *p, const char *text);
bool options_record(struct parser *p, const char *text);
bool options_global(struct parser *p, const char *text);
bool options_chardev(struct parser *p, const char *text);
bool options_device(struct parser *p, const char *text);
bool options_debugcon(struct parser *p, const char *text);
bool options_usb(struct parser *p);   // at the end: whether there is a controller
bool options_lines(struct parser *p); // at the end: what -serial, -debugcon and the lines of -device name
bool options_ports(struct parser *p); // at the end: no two devices at one port

// One of "a=1,b=2"; a value holds a comma as ",,".
struct property {
    char key[64];
    char value[4096];
    bool has_value; // false: only the key
};
// The next one of *text: 1; 0 at its end; -1, with a reason, for a word that is too long.
int options_property(struct parser *p, const char *option, const char **text, struct property *out);

#endif
